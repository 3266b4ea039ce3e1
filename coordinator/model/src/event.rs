//! What happened, as typed values derived where it happened: the source of every watch stream.

use serde::{Deserialize, Serialize};
use warren_common::{
    ClientId, ClientName, NodeEpoch, NodeId, NodeName, PersonName, ReplicaId, Revision, Timestamp,
    TokenId, WorkspaceAddress, WorkspaceId,
};

use crate::{command::Availability, state::PhaseKind};

/// One thing that happened to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Revision of the state with it in.
    pub revision: Revision,
    /// The command's time.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What can happen. Variants are only ever added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The cluster was made.
    ClusterInitialised,
    /// A coordinator's addresses were set.
    ReplicaSet(ReplicaId),
    /// A client was made.
    ClientCreated(ClientId, ClientName),
    /// A client was removed.
    ClientDeleted(ClientId, ClientName),
    /// A join token was issued.
    TokenIssued(TokenId),
    /// A token was spent: there is a new node.
    NodeJoined(NodeId, NodeName),
    /// A node agent registered.
    NodeRegistered(NodeId, NodeEpoch),
    /// A node's facts changed.
    NodeFactsChanged(NodeId),
    /// The operator opened or closed a node.
    NodeAvailability(NodeId, Availability),
    /// A workspace was made.
    WorkspaceCreated(WorkspaceId, WorkspaceAddress),
    /// A workspace entered a phase, or the same phase for another reason.
    WorkspacePhase {
        /// Which workspace.
        workspace: WorkspaceId,
        /// The phase it was in; none where it is new.
        from: Option<PhaseKind>,
        /// The phase it is in.
        to: PhaseKind,
    },
    /// A workspace is gone.
    WorkspaceRemoved(WorkspaceId, WorkspaceAddress),
    /// A certificate is refused from now on.
    CertificateRevoked(Vec<u8>),
    /// A person was invited.
    PersonInvited(PersonName),
    /// A person was let in.
    PersonEnrolled(PersonName),
    /// A person's certificates are refused from now on.
    PersonRevoked(PersonName),
    /// A certificate of this serial was issued.
    CertificateIssued(Vec<u8>),
    /// The cluster goes on from a backup or a survivor, in this incarnation.
    IncarnationBegun(u32),
    /// A node has told what it holds, or is not waited for any more.
    NodeAccounted(NodeId),
    /// The recovery is over.
    RecoveryEnded,
    /// A client's labels changed.
    ClientUpdated(ClientId, ClientName),
    /// A token was spent: there is a new coordinator, which has no vote yet.
    ReplicaJoined(ReplicaId),
    /// A coordinator was taken out of the cluster.
    ReplicaRemoved(ReplicaId),
    /// A workspace has other caps.
    WorkspaceResized(WorkspaceId),
}
