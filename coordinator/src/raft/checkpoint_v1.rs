//! The state as version 1 of a checkpoint holds it: a copy of the layout, which never changes.
//!
//! postcard writes no field names, so a struct with one more field at its end cannot be read from a
//! file that ends before it.

use std::sync::Arc;

use imbl::OrdMap;
use serde::Deserialize;
use warren_common::{
    ClientId, ClientName, NodeId, NodeName, ReplicaId, Revision, Timestamp, TokenId, WorkspaceId,
    WorkspaceName,
};
use warren_model::{
    AuditHead, ClusterState,
    state::{Client, ClusterInfo, JoinToken, Nested, Node, Replica, RequestTable, Workspace},
};

#[derive(Deserialize)]
pub(super) struct StateV1 {
    cluster: Option<ClusterInfo>,
    revision: Revision,
    replicas: OrdMap<ReplicaId, Replica>,
    clients: OrdMap<ClientId, Client>,
    client_names: OrdMap<ClientName, ClientId>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    node_names: OrdMap<NodeName, NodeId>,
    tokens: OrdMap<TokenId, JoinToken>,
    workspaces: OrdMap<WorkspaceId, Arc<Workspace>>,
    workspace_names: Nested<ClientId, WorkspaceName, WorkspaceId>,
    placed: Nested<NodeId, WorkspaceId, ()>,
    revoked: OrdMap<Vec<u8>, Timestamp>,
    requests: RequestTable,
    audit: AuditHead,
}

impl From<StateV1> for ClusterState {
    /// What version 1 did not know is as in a cluster that never used it.
    #[allow(clippy::needless_update, reason = "the state of a day may have no new fields")]
    fn from(old: StateV1) -> Self {
        Self {
            cluster: old.cluster,
            revision: old.revision,
            replicas: old.replicas,
            clients: old.clients,
            client_names: old.client_names,
            nodes: old.nodes,
            node_names: old.node_names,
            tokens: old.tokens,
            workspaces: old.workspaces,
            workspace_names: old.workspace_names,
            placed: old.placed,
            revoked: old.revoked,
            requests: old.requests,
            audit: old.audit,
            ..Self::default()
        }
    }
}
