//! [`ClusterState::apply`]: one command in, one effect out.
//!
//! Total and deterministic: the same envelopes in the same order give the same bytes of state on
//! every replica. A refused command changes nothing but the memory of having been refused. The
//! mutations themselves stand with their nouns under [`crate::state`].

use std::fmt::Display;

use warren_common::{ReplicaId, Revision, Timestamp};

use crate::{
    answer::{Applied, Effect, Outcome, Refusal, RefusalCode},
    audit::{AuditHead, AuditObject, AuditRecord},
    command::{Command, Envelope, NodeCommand, Principal, SessionCommand},
    event::{Event, EventKind},
    state::{
        ClusterState, adopt, allowed, certificate, client, cluster, node, person, recipe, recovery,
        replica, requests::Known, resize, secret, session, template, token, update, view,
        workspace,
    },
};

/// What a mutation may know beyond its command.
#[derive(Debug)]
pub(crate) struct Context {
    /// The command's time.
    pub(crate) at: Timestamp,
    /// The revision that this mutation will have.
    pub(crate) revision: Revision,
    if_revision: Option<Revision>,
}

impl Context {
    /// Refuses where the caller saw an older revision of the object than the one it has.
    pub(crate) fn unchanged_since(
        &self,
        revision: Revision,
        object: impl FnOnce() -> String,
    ) -> Result<(), Refusal> {
        match self.if_revision {
            Some(seen) if revision > seen => {
                let object = object();
                let message = format!("{object} has changed: revision {revision} is after {seen}");
                Err(Refusal::new(RefusalCode::RevisionMismatch, message))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What a mutation did.
#[derive(Debug)]
pub(crate) struct Change {
    outcome: Outcome,
    /// None where everything was as asked: no revision, no record.
    record: Option<Recorded>,
    events: Vec<EventKind>,
}

#[derive(Debug)]
struct Recorded {
    action: &'static str,
    address: String,
    id: String,
    detail: String,
}

impl Change {
    /// A mutation took place.
    pub(crate) fn new(action: &'static str, outcome: Outcome) -> Self {
        let (address, id, detail) = Default::default();
        let record = Some(Recorded { action, address, id, detail });
        Self { outcome, record, events: Vec::new() }
    }

    /// Everything was as asked.
    pub(crate) fn none(outcome: Outcome) -> Self {
        Self { outcome, record: None, events: Vec::new() }
    }

    /// Names the object for the audit record.
    pub(crate) fn object(mut self, address: &impl Display, id: &impl Display) -> Self {
        if let Some(record) = &mut self.record {
            (record.address, record.id) = (address.to_string(), id.to_string());
        }
        self
    }

    /// Adds what a reader of the audit log wants to know.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        if let Some(record) = &mut self.record {
            record.detail = detail.into();
        }
        self
    }

    /// Adds to what is told there, in front of it.
    pub(crate) fn more(mut self, detail: &str) -> Self {
        if let Some(record) = &mut self.record {
            record.detail = match record.detail.is_empty() {
                true => detail.to_owned(),
                false => format!("{detail}, {}", record.detail),
            };
        }
        self
    }

    /// Adds to what is told there, behind it.
    pub(crate) fn and(mut self, detail: &str) -> Self {
        if let Some(record) = &mut self.record {
            if !record.detail.is_empty() {
                record.detail.push_str(", ");
            }
            record.detail.push_str(detail);
        }
        self
    }

    /// Returns what is told for a reader of the audit log.
    pub(crate) fn told(&self) -> &str {
        self.record.as_ref().map_or("", |record| &record.detail)
    }

    /// Adds an event.
    pub(crate) fn event(mut self, kind: EventKind) -> Self {
        self.events.push(kind);
        self
    }
}

impl ClusterState {
    /// Applies one command: the only way in which this state changes.
    pub fn apply(&mut self, envelope: &Envelope) -> Effect {
        let intent = match self.requests.look_up(envelope) {
            Known::Answered(result) => return Effect { result, audit: None, events: Vec::new() },
            Known::Unguarded => None,
            Known::New(intent) => Some(intent),
        };
        let effect = match self.mutate(envelope) {
            Ok(change) => self.commit(envelope, change),
            Err(refusal) => Effect { result: Err(refusal), audit: None, events: Vec::new() },
        };
        if let Some(intent) = intent {
            self.requests.remember(envelope, intent, &effect.result);
        }
        debug_assert_eq!(crate::invariants::check(self), Ok(()), "after {envelope:?}");
        effect
    }

    fn mutate(&mut self, envelope: &Envelope) -> Result<Change, Refusal> {
        let context = Context {
            at: envelope.at,
            revision: self.revision.next(),
            if_revision: envelope.if_revision,
        };
        permitted(&envelope.principal, &envelope.command)?;
        let making = matches!(envelope.command, Command::InitCluster(_));
        if self.cluster.is_none() && !making {
            let message = "the cluster is not initialised";
            return Err(Refusal::new(RefusalCode::NotInitialised, message));
        }
        match &envelope.command {
            Command::InitCluster(command) => cluster::init(self, &context, command),
            Command::SetReplica(command) => replica::set(self, command),
            Command::CreateClient(command) => client::create(self, &context, command),
            Command::DeleteClient(command) => client::delete(self, &context, command),
            Command::IssueToken(command) => token::issue(self, &context, command),
            Command::JoinNode(command) => token::join(self, &context, command),
            Command::RegisterNode(command) => node::register(self, &context, command),
            Command::UpdateNodeFacts(command) => node::update_facts(self, &context, command),
            Command::SetNodeAvailability(command) => {
                node::set_availability(self, &context, command)
            }
            Command::CreateWorkspace(command) => workspace::create(self, &context, command),
            Command::MakeWorkspace(command) => recipe::make(self, &context, command),
            Command::SetRun(command) => workspace::set_run(self, &context, command),
            Command::Assign(command) => workspace::assign(self, &context, command),
            Command::Advance(command) => workspace::advance(self, &context, command),
            Command::Forget(command) => workspace::forget(self, &context, command),
            Command::RevokeCertificate(command) => cluster::revoke(self, &context, command),
            Command::InvitePerson(command) => person::invite(self, &context, command),
            Command::EnrolPerson(command) => person::enrol(self, &context, command),
            Command::RecordCertificate(command) => certificate::record(self, &context, command),
            Command::RevokePerson(command) => person::revoke(self, &context, command),
            Command::BeginIncarnation(command) => recovery::begin(self, &context, command),
            Command::AdoptNode(command) => adopt::node(self, &context, command),
            Command::AdoptWorkspace(command) => adopt::workspace(self, &context, command),
            Command::AccountNode(command) => recovery::account(self, &context, command),
            Command::EndRecovery(command) => recovery::end(self, &context, *command),
            Command::UpdateClient(command) => client::update(self, &context, command),
            Command::IssueCoordinatorToken(command) => replica::issue(self, &context, command),
            Command::JoinReplica(command) => replica::join(self, &context, command),
            Command::RemoveReplica(command) => replica::remove(self, command),
            Command::NoteBackup(command) => recovery::note_backup(self, *command),
            Command::NoteView(command) => view::note(self, command),
            Command::Node(command) => node::command(self, &context, command),
            Command::ResizeWorkspace(command) => resize::resize(self, &context, command),
            Command::ChangeAllowed(command) => allowed::change(self, &context, command),
            Command::Template(command) => {
                template::command(self, &context, (command, &envelope.principal))
            }
            Command::UpdateWorkspace(command) => update::update(self, &context, command),
            Command::Session(command) => {
                session::command(self, &context, (command, &envelope.principal))
            }
            Command::Secret(command) => {
                secret::command(self, &context, (command, &envelope.principal))
            }
        }
    }

    /// Counts the mutation, seals its record and dates its events.
    fn commit(&mut self, envelope: &Envelope, change: Change) -> Effect {
        let Change { outcome, record, events } = change;
        if record.is_some() {
            self.revision = self.revision.next();
            self.originate(envelope);
        }
        let (revision, at) = (self.revision, envelope.at);
        let audit = record.map(|record| {
            let mut record = AuditRecord {
                sequence: self.audit.sequence.saturating_add(1),
                at,
                principal: envelope.principal.clone(),
                request: envelope.request,
                revision,
                action: record.action.to_owned(),
                object: AuditObject { address: record.address, id: record.id },
                detail: record.detail,
                previous_hash: self.audit.hash,
                hash: [0; 32],
            };
            record.hash = record.seal();
            self.audit = AuditHead { sequence: record.sequence, hash: record.hash };
            record
        });
        let result = Ok(Applied { revision, outcome, repeated: false });
        let events = events.into_iter().map(|kind| Event { revision, at, kind }).collect();
        Effect { result, audit, events }
    }
}

impl ClusterState {
    /// Remembers which request asked for a workspace's run; a repeated or idle one changed nothing
    /// and never comes here.
    fn originate(&mut self, envelope: &Envelope) {
        let asked = if let Command::CreateWorkspace(create) = &envelope.command {
            create.workspace
        } else if let Command::MakeWorkspace(make) = &envelope.command {
            make.create.workspace
        } else if let Command::SetRun(set) = &envelope.command {
            set.workspace
        } else if let Command::UpdateWorkspace(update) = &envelope.command {
            update.workspace
        } else {
            return;
        };
        if self.workspaces.contains_key(&asked) {
            self.origins.insert(asked, envelope.request);
        }
    }
}

/// The coarse rule of who may ask what; roles are the edge's, which knows certificates.
fn permitted(principal: &Principal, command: &Command) -> Result<(), Refusal> {
    let own = |node| *principal == Principal::Node(node);
    let coordinator = matches!(principal, Principal::Coordinator(ReplicaId(_)));
    let allowed = match command {
        Command::Assign(_)
        | Command::Advance(_)
        | Command::Forget(_)
        | Command::EnrolPerson(_)
        | Command::RecordCertificate(_)
        | Command::BeginIncarnation(_)
        | Command::AdoptNode(_)
        | Command::AdoptWorkspace(_)
        | Command::AccountNode(_) => coordinator,
        Command::RegisterNode(command) => coordinator || own(command.node),
        Command::UpdateNodeFacts(command) => coordinator || own(command.node),
        Command::Node(command) => match &**command {
            NodeCommand::Enter(enter) => coordinator || own(enter.node),
            NodeCommand::NoteRival(_) => coordinator,
            NodeCommand::Rejoin(_) | NodeCommand::Label(_) | NodeCommand::Remove(_) => {
                !matches!(principal, Principal::Node(_))
            }
        },
        Command::Session(command) => match &**command {
            SessionCommand::Adopt(_) | SessionCommand::TakeOver(_) => coordinator,
            SessionCommand::Create(_)
            | SessionCommand::Stop(_)
            | SessionCommand::Restart(_)
            | SessionCommand::Delete(_) => !matches!(principal, Principal::Node(_)),
        },
        Command::JoinNode(_) | Command::JoinReplica(_) => true,
        Command::InitCluster(_)
        | Command::SetReplica(_)
        | Command::CreateClient(_)
        | Command::DeleteClient(_)
        | Command::IssueToken(_)
        | Command::SetNodeAvailability(_)
        | Command::CreateWorkspace(_)
        | Command::MakeWorkspace(_)
        | Command::SetRun(_)
        | Command::RevokeCertificate(_)
        | Command::InvitePerson(_)
        | Command::RevokePerson(_)
        | Command::EndRecovery(_)
        | Command::UpdateClient(_)
        | Command::IssueCoordinatorToken(_)
        | Command::RemoveReplica(_)
        | Command::NoteBackup(_)
        | Command::NoteView(_)
        | Command::ResizeWorkspace(_)
        | Command::ChangeAllowed(_)
        | Command::Template(_)
        | Command::UpdateWorkspace(_)
        | Command::Secret(_) => !matches!(principal, Principal::Node(_)),
    };
    if allowed {
        return Ok(());
    }
    let who = match principal {
        Principal::Person(name) => format!("{name} is a person and"),
        Principal::Node(id) => format!("node {id}"),
        Principal::Coordinator(id) => format!("coordinator {id}"),
    };
    Err(Refusal::new(RefusalCode::NotAllowed, format!("{who} may not ask this")))
}
