//! The replicated state of a cluster, and the one function that changes it.

pub mod client;
pub mod node;
pub mod workspace;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use warren_common::{
    ClientId, ClientName, ClusterId, NodeId, NodeName, ReplicaId, Revision, Timestamp, TokenId,
    WorkspaceId, WorkspaceName,
};

pub use client::Client;
pub use node::{JoinToken, Node};
pub use workspace::{Assignment, Desired, Phase, PhaseKind, Workspace};

/// Everything the coordinators agree on. Cloning it is O(1): the maps share their structure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Set by the first command of a cluster.
    pub cluster: Option<ClusterInfo>,
    /// Counts applied mutations.
    pub revision: Revision,
    /// Addresses of the coordinators.
    pub replicas: OrdMap<ReplicaId, Replica>,
    /// Clients by id.
    pub clients: OrdMap<ClientId, Client>,
    /// Their names.
    pub client_names: OrdMap<ClientName, ClientId>,
    /// Nodes by id.
    pub nodes: OrdMap<NodeId, Node>,
    /// Their names.
    pub node_names: OrdMap<NodeName, NodeId>,
    /// Join tokens by id, spent and expired ones until they are swept.
    pub tokens: OrdMap<TokenId, JoinToken>,
    /// Workspaces by id.
    pub workspaces: OrdMap<WorkspaceId, Workspace>,
    /// Their names.
    pub workspace_names: OrdMap<(ClientId, WorkspaceName), WorkspaceId>,
    /// Serials that are refused although their certificates have not expired, with when they would.
    pub revoked: OrdMap<Vec<u8>, Timestamp>,
}

/// What a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// Kept across restores.
    pub id: ClusterId,
    /// The operator's name for it.
    pub name: String,
    /// Upper half of every generation; raised by a restore.
    pub incarnation: u32,
    /// When it was made.
    pub created: Timestamp,
}

/// Where one coordinator is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// host:port of its API.
    pub api_address: String,
    /// host:port of its Raft listener.
    pub raft_address: String,
}
