//! One event with the object it is about, as it was then.
//!
//! Objects of the state are shared, not copied; names are copied, because an object may outlive
//! those it names.

use std::{collections::BTreeSet, sync::Arc};

use warren_common::{ClientId, NodeId, RequestId, WorkspaceId, spec::Destination};
use warren_model::{
    ClusterState, Command, Event, EventKind,
    state::{Client, ClusterInfo, Node, Replica, Workspace},
};

/// One event, ready to be told.
#[derive(Debug, Clone)]
pub struct Record {
    /// What happened.
    pub event: Event,
    /// Which of its revision's events it is.
    pub index: u32,
    /// What it happened to, as it was after it; as it was before where it is gone.
    pub subject: Subject,
}

/// The object of an event.
#[derive(Debug, Clone)]
pub enum Subject {
    /// No object, or one that the event itself names.
    None,
    /// The cluster.
    Cluster(Box<ClusterInfo>),
    /// A coordinator.
    Replica(Box<Replica>),
    /// A client.
    Client(Box<Client>, BTreeSet<Destination>),
    /// A node.
    Node(Arc<Node>),
    /// A workspace.
    Workspace(Box<Placed>),
}

/// A workspace with the names it goes by.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The workspace.
    pub workspace: Arc<Workspace>,
    /// Its client's name.
    pub client: String,
    /// Its node's name; empty where it has none.
    pub node: String,
    /// The request that last asked for its run.
    pub origin: Option<RequestId>,
    /// The node it was on before the event.
    pub left: Option<NodeId>,
}

/// The records of one batch, gathered while it is applied.
#[derive(Debug, Default)]
pub(crate) struct Gathered(Vec<Record>);

impl Gathered {
    /// Returns the workspace that a command is about, as it is before.
    pub(crate) fn before(state: &ClusterState, command: &Command) -> Option<Arc<Workspace>> {
        let id = command.workspace()?;
        state.workspaces.get(&id).cloned()
    }

    /// Takes the events of one command that was applied; `before` is the workspace it changed.
    pub(crate) fn take(
        &mut self,
        state: &ClusterState,
        before: Option<&Arc<Workspace>>,
        events: Vec<Event>,
    ) {
        for (index, event) in (0..).zip(events) {
            let subject = subject(state, before, &event.kind);
            self.0.push(Record { event, index, subject });
        }
    }

    /// Returns what was gathered, in the order in which it took effect.
    pub(crate) fn into_records(self) -> Vec<Record> {
        self.0
    }
}

fn subject(state: &ClusterState, before: Option<&Arc<Workspace>>, kind: &EventKind) -> Subject {
    match kind {
        EventKind::ClusterInitialised | EventKind::IncarnationBegun(_) => {
            boxed(&state.cluster, Subject::Cluster)
        }
        EventKind::ClientCreated(id, _) | EventKind::ClientUpdated(id, _) => {
            let allowed = state.allowed.get(id).cloned().unwrap_or_default();
            boxed(&state.clients.get(id).cloned(), |client| Subject::Client(client, allowed))
        }
        EventKind::ReplicaSet(id) | EventKind::ReplicaJoined(id) => {
            boxed(&state.replicas.get(id).cloned(), Subject::Replica)
        }
        EventKind::NodeJoined(id, _)
        | EventKind::NodeRegistered(id, _)
        | EventKind::NodeFactsChanged(id)
        | EventKind::NodeAccounted(id)
        | EventKind::NodeAvailability(id, _) => {
            state.nodes.get(id).map_or(Subject::None, |node| Subject::Node(Arc::clone(node)))
        }
        EventKind::WorkspaceCreated(id, _)
        | EventKind::WorkspacePhase { workspace: id, .. }
        | EventKind::WorkspaceResized(id)
        | EventKind::WorkspaceRemoved(id, _) => workspace(state, before, *id),
        EventKind::ClientDeleted(..)
        | EventKind::TokenIssued(_)
        | EventKind::CertificateRevoked(_)
        | EventKind::RecoveryEnded
        | EventKind::PersonInvited(_)
        | EventKind::PersonEnrolled(_)
        | EventKind::PersonRevoked(_)
        | EventKind::CertificateIssued(_)
        | EventKind::ReplicaRemoved(_) => Subject::None,
    }
}

fn boxed<T: Clone>(object: &Option<T>, subject: impl FnOnce(Box<T>) -> Subject) -> Subject {
    object.clone().map_or(Subject::None, |object| subject(Box::new(object)))
}

fn workspace(state: &ClusterState, before: Option<&Arc<Workspace>>, id: WorkspaceId) -> Subject {
    let before = before.filter(|before| before.id == id);
    let Some(workspace) = state.workspaces.get(&id).or(before) else { return Subject::None };
    let on = |one: &Arc<Workspace>| one.assignment.as_ref().map(|assignment| assignment.node);
    let client = state.clients.get(&workspace.client);
    Subject::Workspace(Box::new(Placed {
        client: client.map(|client| client.name.to_string()).unwrap_or_default(),
        node: on(workspace).map(|node| state.node_label(node)).unwrap_or_default(),
        origin: state.origins.get(&id).copied(),
        left: before.and_then(on),
        workspace: Arc::clone(workspace),
    }))
}

impl Record {
    /// Returns the client it concerns.
    pub fn client(&self) -> Option<ClientId> {
        match (&self.event.kind, &self.subject) {
            (
                EventKind::ClientCreated(id, _)
                | EventKind::ClientDeleted(id, _)
                | EventKind::ClientUpdated(id, _),
                _,
            ) => Some(*id),
            (_, Subject::Workspace(placed)) => Some(placed.workspace.client),
            (
                _,
                Subject::None
                | Subject::Cluster(_)
                | Subject::Replica(_)
                | Subject::Client(..)
                | Subject::Node(_),
            ) => None,
        }
    }

    /// Returns the workspace it concerns.
    pub fn workspace(&self) -> Option<WorkspaceId> {
        match &self.event.kind {
            EventKind::WorkspaceCreated(id, _)
            | EventKind::WorkspacePhase { workspace: id, .. }
            | EventKind::WorkspaceResized(id)
            | EventKind::WorkspaceRemoved(id, _) => Some(*id),
            EventKind::ClusterInitialised
            | EventKind::ReplicaSet(_)
            | EventKind::ClientCreated(..)
            | EventKind::ClientDeleted(..)
            | EventKind::TokenIssued(_)
            | EventKind::NodeJoined(..)
            | EventKind::NodeRegistered(..)
            | EventKind::NodeFactsChanged(_)
            | EventKind::NodeAvailability(..)
            | EventKind::CertificateRevoked(_)
            | EventKind::IncarnationBegun(_)
            | EventKind::NodeAccounted(_)
            | EventKind::RecoveryEnded
            | EventKind::PersonInvited(_)
            | EventKind::PersonEnrolled(_)
            | EventKind::PersonRevoked(_)
            | EventKind::CertificateIssued(_)
            | EventKind::ClientUpdated(..)
            | EventKind::ReplicaJoined(_)
            | EventKind::ReplicaRemoved(_) => None,
        }
    }

    /// Whether it concerns this node, or a workspace that was or is placed there.
    pub fn concerns_node(&self, id: NodeId) -> bool {
        match &self.subject {
            Subject::Node(node) => node.id == id,
            Subject::Workspace(placed) => {
                let on = placed.workspace.assignment.as_ref().map(|assignment| assignment.node);
                on == Some(id) || placed.left == Some(id)
            }
            Subject::None | Subject::Cluster(_) | Subject::Replica(_) | Subject::Client(..) => {
                false
            }
        }
    }

    /// Returns about how many bytes are held for it: what has no fixed length is counted.
    pub fn weight(&self) -> usize {
        let own = size_of::<Self>() + 64;
        own + match &self.subject {
            Subject::None => 0,
            Subject::Cluster(cluster) => size_of::<ClusterInfo>() + cluster.name.len(),
            Subject::Replica(replica) => {
                size_of::<Replica>() + replica.api_address.len() + replica.raft_address.len()
            }
            Subject::Client(client, allowed) => {
                let allowed = allowed.len() * size_of::<Destination>();
                size_of::<Client>() + labels(&client.labels) + allowed
            }
            Subject::Node(node) => {
                let findings = node.facts.findings.iter();
                let findings = findings.map(|one| one.code.len() + one.message.len() + 96);
                size_of::<Node>() + labels(&node.facts.labels) + findings.sum::<usize>() + 256
            }
            Subject::Workspace(placed) => {
                let Workspace { spec, phase, .. } = placed.workspace.as_ref();
                size_of::<Workspace>() + spec.weight() + phase.reason.len() + 256
            }
        }
    }
}

fn labels(labels: &warren_common::spec::Labels) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len() + 64).sum()
}
