//! The same rules once more, as plainly as possible: lists, loops and no cleverness.
//!
//! It answers only what a caller would notice (allowed or which refusal) and keeps only what can be
//! compared. It shares no code with the model but the types of the commands.

use warren_common::{Bytes, ClientId, NodeId, Timestamp, TokenId, WorkspaceId};
use warren_model::{
    Command, Envelope, Principal, RefusalCode,
    command::{
        Advance, Assign, Availability, CreateClient, CreateWorkspace, JoinNode, ResizeWorkspace,
        RunRequest, SetNodeAvailability, SetRun, Step, Update, UpdateClient, UpdateNodeFacts,
        UpdateWorkspace,
    },
};

use crate::naive_replicas::NaiveReplicas;

#[derive(Debug, Default)]
pub(crate) struct Naive {
    pub(crate) made: bool,
    pub(crate) changes: u64,
    pub(crate) clients: Vec<NaiveClient>,
    pub(crate) nodes: Vec<NaiveNode>,
    pub(crate) tokens: Vec<NaiveToken>,
    pub(crate) workspaces: Vec<NaiveWorkspace>,
    pub(crate) replicas: NaiveReplicas,
    answers: Vec<(Envelope, Result<(), RefusalCode>)>,
}

#[derive(Debug)]
pub(crate) struct NaiveClient {
    pub(crate) id: ClientId,
    name: String,
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct NaiveNode {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) availability: Availability,
    pub(crate) registrations: u64,
    pub(crate) facts: warren_common::status::NodeFacts,
}

#[derive(Debug)]
pub(crate) struct NaiveToken {
    id: TokenId,
    secret: [u8; 32],
    expires: Timestamp,
    spent: Option<[u8; 32]>,
}

#[derive(Debug)]
pub(crate) struct NaiveWorkspace {
    pub(crate) id: WorkspaceId,
    pub(crate) client: ClientId,
    pub(crate) name: String,
    pub(crate) memory: Bytes,
    /// The newest last; the one before it where there was an update.
    pub(crate) images: Vec<String>,
    pub(crate) wanted: &'static str,
    pub(crate) phase: &'static str,
    pub(crate) run: u64,
    pub(crate) generation: u32,
    pub(crate) node: Option<NodeId>,
    pub(crate) permit: Option<warren_common::BootId>,
    crashes: u32,
    since: Timestamp,
    not_before: Timestamp,
}

pub(crate) type Answer = Result<bool, RefusalCode>;
use RefusalCode::{
    ClientNotEmpty, InvalidSpec, NameTaken, NoNodeFits, NotAllowed, NotFound, TokenExpired,
    TokenInvalid, TokenUsed, WrongState,
};

impl Naive {
    /// Answers, and remembers the answer for a repeat.
    pub(crate) fn ask(&mut self, envelope: &Envelope) -> Result<(), RefusalCode> {
        let guarded = !matches!(envelope.principal, Principal::Coordinator(_));
        let known = self.answers.iter().find(|(one, _)| one == envelope && guarded);
        if let Some((_, answer)) = known {
            return *answer;
        }
        let answer = self.mutate(envelope).map(|changed| self.changes += u64::from(changed));
        self.answers.push((envelope.clone(), answer));
        answer
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each command")]
    fn mutate(&mut self, envelope: &Envelope) -> Answer {
        let at = envelope.at;
        let by_coordinator = matches!(envelope.principal, Principal::Coordinator(_));
        let derived = matches!(
            envelope.command,
            Command::Assign(_)
                | Command::Advance(_)
                | Command::Forget(_)
                | Command::RegisterNode(_)
                | Command::UpdateNodeFacts(_)
        );
        if derived && !by_coordinator {
            return Err(NotAllowed);
        }
        let making = matches!(envelope.command, Command::InitCluster(_));
        if making == self.made {
            let wrong = [RefusalCode::NotInitialised, RefusalCode::AlreadyInitialised];
            return Err(wrong[usize::from(making)]);
        }
        match &envelope.command {
            Command::RevokeCertificate(_)
            | Command::InvitePerson(_)
            | Command::EnrolPerson(_)
            | Command::RecordCertificate(_)
            | Command::RevokePerson(_)
            | Command::BeginIncarnation(_)
            | Command::AdoptNode(_)
            | Command::AdoptWorkspace(_)
            | Command::AccountNode(_)
            | Command::EndRecovery(_)
            | Command::NoteBackup(_)
            | Command::NoteView(_)
            | Command::ChangeAllowed(_)
            | Command::Template(_)
            | Command::Session(_)
            | Command::Secret(_)
            | Command::MakeWorkspace(_)
            | Command::Node(_) => unreachable!("not asked"),
            Command::SetReplica(one) => self.replicas.set(one),
            Command::IssueCoordinatorToken(one) => self.replicas.issue(one, at),
            Command::JoinReplica(one) => self.replicas.join(one, at),
            Command::RemoveReplica(one) => self.replicas.remove(one.replica),
            Command::InitCluster(_) => {
                self.made = true;
                Ok(true)
            }
            Command::CreateClient(one) => self.create_client(one),
            Command::DeleteClient(one) => self.delete_client(one.client),
            Command::UpdateClient(one) => self.update_client(one),
            Command::IssueToken(one) => {
                if self.tokens.iter().any(|other| other.id == one.token) {
                    return Err(WrongState);
                }
                self.tokens.retain(|other| other.expires.0 + 900_000 > at.0);
                let (id, secret, expires) = (one.token, one.secret_hash, one.expires);
                self.tokens.push(NaiveToken { id, secret, expires, spent: None });
                Ok(true)
            }
            Command::JoinNode(one) => self.join(one, at),
            Command::RegisterNode(one) => {
                let node = self.node(one.node)?;
                if node.availability == Availability::Retired {
                    return Err(WrongState);
                }
                node.registrations += 1;
                node.facts = one.facts.clone();
                Ok(true)
            }
            Command::UpdateNodeFacts(one) => self.update_facts(one),
            Command::SetNodeAvailability(one) => self.set_availability(one),
            Command::CreateWorkspace(one) => self.create_workspace(one, at),
            Command::SetRun(one) => self.set_run(one, at),
            Command::ResizeWorkspace(one) => self.resize(one),
            Command::UpdateWorkspace(one) => self.update(one, at),
            Command::Assign(one) => self.assign(one, at),
            Command::Advance(one) => self.advance(one, at),
            Command::Forget(one) => {
                let workspace = self.workspace(one.workspace)?;
                let same = workspace.generation == one.generation.counter();
                if workspace.wanted != "deleted" || !same {
                    return Err(WrongState);
                }
                self.workspaces.retain(|other| other.id != one.workspace);
                Ok(true)
            }
        }
    }

    fn create_client(&mut self, one: &CreateClient) -> Answer {
        if self.clients.iter().any(|other| other.name == one.name.as_str()) {
            return Err(NameTaken);
        }
        if self.clients.iter().any(|other| other.id == one.client) {
            return Err(WrongState);
        }
        let labels = one.labels.clone().into_iter().collect();
        self.clients.push(NaiveClient { id: one.client, name: one.name.to_string(), labels });
        Ok(true)
    }

    fn delete_client(&mut self, client: ClientId) -> Answer {
        if !self.clients.iter().any(|other| other.id == client) {
            return Err(NotFound);
        }
        if self.workspaces.iter().any(|other| other.client == client) {
            return Err(ClientNotEmpty);
        }
        self.clients.retain(|other| other.id != client);
        Ok(true)
    }

    fn update_client(&mut self, one: &UpdateClient) -> Answer {
        let client = self.clients.iter_mut().find(|other| other.id == one.client);
        let client = client.ok_or(NotFound)?;
        let mut labels = client.labels.clone();
        for key in &one.remove_labels {
            if one.set_labels.contains_key(key) {
                return Err(InvalidSpec);
            }
            labels.retain(|(other, _)| other != key);
        }
        for (key, value) in &one.set_labels {
            labels.retain(|(other, _)| other != key);
            labels.push((key.clone(), value.clone()));
        }
        labels.sort();
        if labels.len() > 32 || labels.iter().any(|(key, value)| key.len().max(value.len()) > 256) {
            return Err(InvalidSpec);
        }
        let changed = labels != client.labels;
        client.labels = labels;
        Ok(changed)
    }

    fn update_facts(&mut self, one: &UpdateNodeFacts) -> Answer {
        let node = self.node(one.node)?;
        if node.availability == Availability::Retired {
            return Err(WrongState);
        }
        if node.facts == one.facts {
            return Ok(false);
        }
        if node.registrations == 0 || node.facts.boot != one.facts.boot {
            return Err(WrongState);
        }
        node.facts = one.facts.clone();
        Ok(true)
    }

    fn set_availability(&mut self, one: &SetNodeAvailability) -> Answer {
        let busy = self.workspaces.iter().any(|other| other.node == Some(one.node));
        let node = self.node(one.node)?;
        if node.availability == one.availability {
            return Ok(false);
        }
        let retiring = one.availability == Availability::Retired;
        if node.availability == Availability::Retired || (retiring && busy) {
            return Err(WrongState);
        }
        node.availability = one.availability;
        Ok(true)
    }

    fn create_workspace(&mut self, one: &CreateWorkspace, at: Timestamp) -> Answer {
        if !self.clients.iter().any(|other| other.id == one.client) {
            return Err(NotFound);
        }
        let same =
            |other: &NaiveWorkspace| other.client == one.client && other.name == one.name.as_str();
        if self.workspaces.iter().any(same) {
            return Err(NameTaken);
        }
        if self.workspaces.iter().any(|other| other.id == one.workspace) {
            return Err(WrongState);
        }
        if one.spec.resources.memory < Bytes::mib(64) {
            return Err(InvalidSpec);
        }
        self.workspaces.push(NaiveWorkspace {
            id: one.workspace,
            client: one.client,
            name: one.name.to_string(),
            memory: one.spec.resources.memory,
            images: vec![one.spec.image.clone()],
            wanted: "running",
            phase: "queued",
            run: 1,
            generation: 0,
            node: None,
            permit: None,
            crashes: 0,
            since: at,
            not_before: Timestamp(0),
        });
        Ok(true)
    }

    fn join(&mut self, one: &JoinNode, at: Timestamp) -> Answer {
        let name = one.name.to_string();
        let taken = self.nodes.iter().any(|other| other.name == name);
        let token = self.tokens.iter_mut().find(|token| token.id == one.token);
        let Some(token) = token.filter(|token| token.secret == one.secret_hash) else {
            return Err(TokenInvalid);
        };
        match token.spent {
            Some(key) if key == one.key_hash => return Ok(false),
            Some(_) => return Err(TokenUsed),
            None if at > token.expires => return Err(TokenExpired),
            None if taken => return Err(NameTaken),
            None => token.spent = Some(one.key_hash),
        }
        self.nodes.push(NaiveNode {
            id: one.node,
            name,
            availability: Availability::Active,
            registrations: 0,
            facts: one.facts.clone(),
        });
        Ok(true)
    }

    fn node(&mut self, id: NodeId) -> Result<&mut NaiveNode, RefusalCode> {
        self.nodes.iter_mut().find(|node| node.id == id).ok_or(NotFound)
    }

    fn workspace(&mut self, id: WorkspaceId) -> Result<&mut NaiveWorkspace, RefusalCode> {
        self.workspaces.iter_mut().find(|workspace| workspace.id == id).ok_or(NotFound)
    }

    fn set_run(&mut self, one: &SetRun, at: Timestamp) -> Answer {
        let workspace = self.workspace(one.workspace)?;
        let placed = workspace.node.is_some();
        let (wanted, phase) = match (one.run, workspace.wanted) {
            (RunRequest::Delete, "deleted") => return Ok(false),
            (_, "deleted") => return Err(WrongState),
            (RunRequest::Delete, _) if !placed => {
                self.workspaces.retain(|other| other.id != one.workspace);
                return Ok(true);
            }
            (RunRequest::Delete, _) => ("deleted", "stopping"),
            (RunRequest::Stop, "stopped") => return Ok(false),
            (RunRequest::Stop, _) => ("stopped", if placed { "stopping" } else { "stopped" }),
            (RunRequest::Start, "running") if workspace.phase != "failed" => return Ok(false),
            (RunRequest::Start | RunRequest::Restart, _) => {
                workspace.run += u64::from(placed);
                workspace.crashes = 0;
                ("running", if placed { "preparing" } else { "queued" })
            }
        };
        workspace.wanted = wanted;
        workspace.enter(phase, at);
        workspace.permit = None;
        workspace.not_before = Timestamp(0);
        Ok(true)
    }

    fn assign(&mut self, one: &Assign, at: Timestamp) -> Answer {
        let workspace = self.workspace(one.workspace)?;
        let same = workspace.generation == one.previous.counter();
        if workspace.phase != "queued" || !same {
            return Err(WrongState);
        }
        let memory = workspace.memory.0;
        let held: u64 = self
            .workspaces
            .iter()
            .filter(|other| other.node == Some(one.node))
            .map(|other| other.memory.0)
            .sum();
        let node = self.node(one.node)?;
        // half of it is reserved and nothing else differs, so rule B decides alone
        let fits = held + memory <= node.facts.allocatable_memory.0;
        if node.availability != Availability::Active || node.registrations == 0 || !fits {
            return Err(NoNodeFits);
        }
        let workspace = self.workspace(one.workspace)?;
        workspace.generation += 1;
        workspace.node = Some(one.node);
        workspace.enter("assigned", at);
        Ok(true)
    }

    /// Memory alone is asked for, of which half stays reserved: rule B decides alone.
    fn resize(&mut self, one: &ResizeWorkspace) -> Answer {
        let memory = one.memory.expect("memory is asked for");
        let workspace = self.workspace(one.workspace)?;
        if workspace.wanted == "deleted" {
            return Err(WrongState);
        }
        if memory < Bytes::mib(64) {
            return Err(InvalidSpec);
        }
        let (old, on) = (workspace.memory, workspace.node);
        if old == memory {
            return Ok(false);
        }
        if let Some(on) = on.filter(|_| memory > old) {
            let placed = self.workspaces.iter().filter(|other| other.node == Some(on));
            let held: u64 = placed.map(|other| other.memory.0).sum();
            if held - old.0 + memory.0 > self.node(on)?.facts.allocatable_memory.0 {
                return Err(NoNodeFits);
            }
        }
        self.workspace(one.workspace)?.memory = memory;
        Ok(true)
    }

    /// As if it was told to run anew where it is to run.
    fn update(&mut self, one: &UpdateWorkspace, at: Timestamp) -> Answer {
        let workspace = self.workspace(one.workspace)?;
        let images = &mut workspace.images;
        if workspace.wanted == "deleted" {
            return Err(WrongState);
        }
        match &one.update {
            Update::Image(image) if images.last() == Some(image) => return Ok(false),
            Update::Image(image) => {
                images.drain(..images.len() - 1);
                images.push(image.clone());
            }
            Update::ImageBefore if images.len() < 2 => return Err(WrongState),
            Update::ImageBefore => drop(images.pop()),
            Update::Template(_) | Update::TemplateRules(_) => unreachable!("not asked"),
        }
        if workspace.wanted == "running" {
            let run = RunRequest::Restart;
            return self.set_run(&SetRun { workspace: one.workspace, run }, at);
        }
        Ok(true)
    }

    fn advance(&mut self, one: &Advance, at: Timestamp) -> Answer {
        let workspace = self.workspace(one.workspace)?;
        let current =
            workspace.generation == one.generation.counter() && workspace.run == one.run_serial;
        let Some(node) = workspace.node.filter(|_| current) else { return Err(WrongState) };
        let (phase, wanted) = (workspace.phase, workspace.wanted);
        let boot = self.node(node)?.facts.boot;
        let workspace = self.workspace(one.workspace)?;
        let before = ["assigned", "preparing"].contains(&phase);
        let going = before || ["start permitted", "active"].contains(&phase);
        let running = wanted == "running";
        match &one.step {
            Step::Preparing if running && phase == "assigned" => workspace.enter("preparing", at),
            Step::Permit { boot: permit } => {
                let again = phase == "start permitted" && workspace.permit != Some(*permit);
                let early = at < workspace.not_before;
                if !running || *permit != boot || early || !(before || again) {
                    return Err(WrongState);
                }
                workspace.permit = Some(*permit);
                workspace.not_before = Timestamp(0);
                workspace.enter("start permitted", at);
            }
            Step::Active if running && phase == "start permitted" => {
                workspace.enter("active", at);
            }
            Step::Stopped if wanted == "stopped" && phase == "stopping" => {
                workspace.enter("stopped", at);
            }
            Step::Ended { .. } if running && going => {
                let well = phase == "active" && at.0 - workspace.since.0 >= 600_000;
                workspace.crashes = if well { 1 } else { workspace.crashes + 1 };
                let wait = [1, 2, 4, 8, 16, 32, 64, 128, 256]
                    .get(workspace.crashes as usize - 1)
                    .copied()
                    .unwrap_or(300_u64);
                workspace.not_before = Timestamp(at.0 + wait * 1000);
                workspace.run += 1;
                workspace.permit = None;
                workspace.enter("preparing", at);
            }
            Step::Fail { .. } if running && going => {
                workspace.permit = None;
                workspace.not_before = Timestamp(0);
                workspace.enter("failed", at);
            }
            Step::Preparing
            | Step::Active
            | Step::Stopped
            | Step::Ended { .. }
            | Step::Fail { .. } => return Err(WrongState),
        }
        Ok(true)
    }
}

impl NaiveWorkspace {
    fn enter(&mut self, phase: &'static str, at: Timestamp) {
        (self.phase, self.since) = (phase, at);
    }
}
