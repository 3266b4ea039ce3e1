//! The mutations: everything that can change a cluster, as values.
//!
//! A command carries its own ids and timestamps; [`crate::ClusterState::apply`] reads no clock and
//! draws no number. The encoding is the Raft log's: variants are only ever added at the end, and
//! `tests/golden` holds yesterday's.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use warren_common::{
    BootId, ClientId, ClientName, ClusterId, Generation, NodeId, NodeName, PersonName, ReplicaId,
    RequestId, Revision, Role, Timestamp, TokenId, WorkspaceId, WorkspaceName,
    spec::{Labels, WorkspaceSpec},
    status::NodeFacts,
};

mod allowed;
mod named;
pub mod node;
mod recovery;
mod replica;
mod resize;
pub mod secret;
pub mod session;
pub mod template;
mod update;
mod view;

pub use allowed::ChangeAllowed;
pub use named::Touched;
pub use node::NodeCommand;
pub use recovery::{
    AccountNode, AdoptNode, AdoptWorkspace, BeginIncarnation, EndRecovery, NoteBackup,
};
pub use replica::{IssueCoordinatorToken, JoinReplica, RemoveReplica};
pub use resize::ResizeWorkspace;
pub use secret::SecretCommand;
pub use session::SessionCommand;
pub use template::TemplateCommand;
pub use update::{MakeWorkspace, TemplateUpdate, Update, UpdateWorkspace};
pub use view::{NoteView, ViewTarget};

/// One log entry: a command with who asks, when, and as which request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Minted by the caller; the same id of the same principal takes effect once.
    pub request: RequestId,
    /// Who asks.
    pub principal: Principal,
    /// When the edge took the request: the only clock the model sees.
    pub at: Timestamp,
    /// Refuse where the object has changed since this revision.
    pub if_revision: Option<Revision>,
    /// What is asked.
    pub command: Command,
}

/// Who asks, as certificates say it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Principal {
    /// A person or their automation, by the name in their certificate.
    Person(String),
    /// A node.
    Node(NodeId),
    /// A coordinator acting on its own: controllers and start-up.
    Coordinator(ReplicaId),
}

/// Everything that can change a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// First entry of every cluster.
    InitCluster(InitCluster),
    /// Adds or changes the addresses of one coordinator.
    SetReplica(SetReplica),
    /// Makes a client.
    CreateClient(CreateClient),
    /// Removes a client that has no workspaces.
    DeleteClient(DeleteClient),
    /// Remembers the hash of a join token.
    IssueToken(IssueToken),
    /// Spends a join token and makes the node it names.
    JoinNode(JoinNode),
    /// A node agent connected: raises its epoch, takes its facts.
    RegisterNode(RegisterNode),
    /// A registered node's facts changed.
    UpdateNodeFacts(UpdateNodeFacts),
    /// Opens or closes a node to placement.
    SetNodeAvailability(SetNodeAvailability),
    /// Makes a workspace, queued; the planner places it.
    CreateWorkspace(Box<CreateWorkspace>),
    /// Asks for a run state.
    SetRun(SetRun),
    /// Places a workspace: the planner's choice, checked again for fit.
    Assign(Assign),
    /// A phase change the planner derived from what nodes report.
    Advance(Advance),
    /// Removes the record of a workspace whose node reports it gone, or that never had one.
    Forget(Forget),
    /// Puts a certificate's serial on the deny-list.
    RevokeCertificate(RevokeCertificate),
    /// Remembers the hash of a person's invitation.
    InvitePerson(InvitePerson),
    /// Spends an invitation: the person is let in.
    EnrolPerson(EnrolPerson),
    /// A coordinator issued a certificate: it is on record before its holder gets it.
    RecordCertificate(Box<RecordCertificate>),
    /// Puts every certificate of a person on the deny-list, and drops their invitations.
    RevokePerson(RevokePerson),
    /// The cluster goes on from a backup or from one survivor: a new incarnation, one coordinator,
    /// and a recovery.
    BeginIncarnation(BeginIncarnation),
    /// Takes a node back that joined after the backup.
    AdoptNode(AdoptNode),
    /// Takes over what a node says of a workspace, where it knows more than the state.
    AdoptWorkspace(Box<AdoptWorkspace>),
    /// A node has told everything it holds.
    AccountNode(AccountNode),
    /// Ends the recovery, or stops waiting for one node.
    EndRecovery(EndRecovery),
    /// Changes a client's labels.
    UpdateClient(UpdateClient),
    /// Remembers the hash of a join token for another coordinator.
    IssueCoordinatorToken(IssueCoordinatorToken),
    /// Spends such a token and gives the new coordinator its id.
    JoinReplica(JoinReplica),
    /// Takes a coordinator out of the cluster; its id never returns.
    RemoveReplica(RemoveReplica),
    /// Somebody is about to be handed a backup: changes nothing, and is on record before a byte of
    /// it leaves.
    NoteBackup(NoteBackup),
    /// What is done to one node beside its joining.
    Node(Box<NodeCommand>),
    /// Gives a workspace other caps, wherever it stands.
    ResizeWorkspace(ResizeWorkspace),
    /// Changes what a client's workspaces may reach although it is closed to others.
    ChangeAllowed(ChangeAllowed),
    /// What is done to templates.
    Template(Box<TemplateCommand>),
    /// Changes what a workspace is made of; one that runs starts again.
    UpdateWorkspace(UpdateWorkspace),
    /// What is done to sessions after their workspace was made.
    Session(Box<SessionCommand>),
    /// What is done to secrets.
    Secret(Box<SecretCommand>),
    /// Somebody is about to look into a workspace or to connect to what listens in it: changes
    /// nothing, and is on record before a byte passes.
    NoteView(Box<NoteView>),
    /// Makes a workspace from a template, and remembers with which parameters.
    MakeWorkspace(Box<MakeWorkspace>),
}

/// See [`Command::InitCluster`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitCluster {
    /// Minted once.
    pub cluster: ClusterId,
    /// The operator's name for it.
    pub name: String,
    /// Unix seconds at init: upper half of every generation.
    pub incarnation: u32,
}

/// See [`Command::SetReplica`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetReplica {
    /// Which coordinator.
    pub replica: ReplicaId,
    /// host:port of its API as nodes and people reach it.
    pub api_address: String,
    /// host:port of its Raft listener as coordinators reach it.
    pub raft_address: String,
}

/// See [`Command::CreateClient`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateClient {
    /// Minted at the edge.
    pub client: ClientId,
    /// Unique in the cluster.
    pub name: ClientName,
    /// The operator's labels.
    pub labels: Labels,
}

/// See [`Command::DeleteClient`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteClient {
    /// Which client.
    pub client: ClientId,
}

/// See [`Command::IssueToken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueToken {
    /// Minted at the edge; stands in the token's clear part.
    pub token: TokenId,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// The name the node must take; any free one without it.
    pub node_name: Option<NodeName>,
    /// After this it is refused.
    pub expires: Timestamp,
}

/// See [`Command::JoinNode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinNode {
    /// Which token.
    pub token: TokenId,
    /// SHA-256 of the secret that was shown.
    pub secret_hash: [u8; 32],
    /// SHA-256 of the public key that asks: a retry with the same key gets the same node.
    pub key_hash: [u8; 32],
    /// Minted at the edge; used where the token was not spent before.
    pub node: NodeId,
    /// The name the node wants.
    pub name: NodeName,
    /// What it is and has.
    pub facts: NodeFacts,
}

/// See [`Command::RegisterNode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterNode {
    /// Which node.
    pub node: NodeId,
    /// What it is and has now.
    pub facts: NodeFacts,
}

/// See [`Command::UpdateNodeFacts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateNodeFacts {
    /// Which node.
    pub node: NodeId,
    /// What it is and has now.
    pub facts: NodeFacts,
}

/// See [`Command::SetNodeAvailability`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetNodeAvailability {
    /// Which node.
    pub node: NodeId,
    /// What the operator wants of it.
    pub availability: Availability,
}

/// What the operator wants of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Availability {
    /// Takes workspaces.
    #[default]
    Active,
    /// Keeps what it has, takes nothing new.
    Cordoned,
    /// Is being emptied.
    Draining,
    /// Never comes back.
    Retired,
}

impl Availability {
    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Retired => "retired",
        }
    }
}

/// See [`Command::CreateWorkspace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateWorkspace {
    /// Minted at the edge.
    pub workspace: WorkspaceId,
    /// Whose it is.
    pub client: ClientId,
    /// Unique within the client.
    pub name: WorkspaceName,
    /// Complete and validated; `apply` validates again.
    pub spec: WorkspaceSpec,
    /// Refuse instead of queueing where no node fits.
    pub no_queue: bool,
}

/// See [`Command::SetRun`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRun {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// What is asked for.
    pub run: RunRequest,
}

/// What is asked of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunRequest {
    /// Run; nothing happens where it already should.
    Start,
    /// Stop, keep the home.
    Stop,
    /// Stop and run again, as a new run.
    Restart,
    /// Remove for good, home and all.
    Delete,
}

/// See [`Command::Assign`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// Which workspace; it must be queued.
    pub workspace: WorkspaceId,
    /// Where to.
    pub node: NodeId,
    /// The generation it had when the planner looked; a changed one refuses.
    pub previous: Generation,
    /// Why there: "placed on n2 (11.2 GiB free, 0 workspaces of acme)".
    pub reason: String,
}

/// See [`Command::Advance`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// The generation the observation belongs to; another refuses.
    pub generation: Generation,
    /// The run the observation belongs to; another refuses.
    pub run_serial: u64,
    /// What the planner saw.
    pub step: Step,
}

/// The phase changes that observations lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The node makes volume, network and container.
    Preparing,
    /// The node is ready and may start this run in this boot.
    Permit {
        /// The boot the permit is good in.
        boot: BootId,
    },
    /// The container runs.
    Active,
    /// The container is stopped as asked.
    Stopped,
    /// The container ended by itself; it is run again, as a new run, after the back-off that
    /// `apply` computes.
    Ended {
        /// How it ended, for people.
        reason: String,
    },
    /// The node cannot do what is asked, and trying again without a change is of no use.
    Fail {
        /// Stable code such as `IMAGE_MISSING`.
        code: String,
        /// What happened and what to do.
        reason: String,
    },
}

impl Step {
    /// Returns the word for people: what a workspace becomes by it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Permit { .. } => "start permitted",
            Self::Active => "active",
            Self::Stopped => "stopped",
            Self::Ended { .. } => "ended",
            Self::Fail { .. } => "failed",
        }
    }

    /// Returns the name of the action in the audit log.
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Preparing => "workspace.preparing",
            Self::Permit { .. } => "workspace.permit",
            Self::Active => "workspace.active",
            Self::Stopped => "workspace.stopped",
            Self::Ended { .. } => "workspace.ended",
            Self::Fail { .. } => "workspace.fail",
        }
    }
}

/// See [`Command::Forget`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// Which workspace; it must be asked to be deleted.
    pub workspace: WorkspaceId,
    /// The generation the observation belongs to.
    pub generation: Generation,
}

/// See [`Command::RevokeCertificate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeCertificate {
    /// The serial, big-endian.
    pub serial: Vec<u8>,
    /// Whose it was, for the audit log.
    pub subject: String,
    /// When it would have expired: the row can go once it could not renew any more.
    pub expires: Timestamp,
}

/// See [`Command::InvitePerson`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitePerson {
    /// Minted at the edge; stands in the token's clear part.
    pub token: TokenId,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// Who; unique in the cluster.
    pub name: PersonName,
    /// What they will be.
    pub role: Role,
    /// After this it is refused.
    pub expires: Timestamp,
}

/// See [`Command::EnrolPerson`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolPerson {
    /// Which invitation.
    pub token: TokenId,
    /// SHA-256 of the secret that was shown.
    pub secret_hash: [u8; 32],
    /// SHA-256 of the public key that asks: a retry with the same key is let in again.
    pub key_hash: [u8; 32],
}

/// See [`Command::RecordCertificate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCertificate {
    /// Whose it is.
    pub holder: Principal,
    /// What a person is by it; none for nodes and coordinators.
    pub role: Option<Role>,
    /// Its serial, big-endian.
    pub serial: Vec<u8>,
    /// SHA-256 of its public key.
    pub key_hash: [u8; 32],
    /// From when it is good.
    pub issued: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// Why it was given.
    pub occasion: Occasion,
}

/// Why a certificate was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Occasion {
    /// On the coordinator's own machine: to itself, or to an administrator by `cluster init`.
    Local,
    /// A join token was spent.
    Joined,
    /// This invitation was spent, by the certificate's own key.
    Invited(TokenId),
    /// Another certificate was shown.
    Renewed {
        /// Its serial.
        serial: Vec<u8>,
        /// Until when it was good.
        expires: Timestamp,
    },
}

/// See [`Command::RevokePerson`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokePerson {
    /// Who.
    pub name: PersonName,
}

/// See [`Command::UpdateClient`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateClient {
    /// Which client.
    pub client: ClientId,
    /// Labels to add or to overwrite.
    pub set_labels: Labels,
    /// Keys of labels to take away; one that the client does not carry is no fault.
    pub remove_labels: BTreeSet<String>,
}
