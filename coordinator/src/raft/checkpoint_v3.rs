//! The state as version 3 of a checkpoint holds it: a copy of the layout, which never changes.
//!
//! `checkpoint_v1` says why.

use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, OrdSet};
use serde::Deserialize;
use warren_common::{
    ClientId, ClientName, NodeId, NodeName, PersonName, ReplicaId, RequestId, Revision,
    TemplateName, Timestamp, TokenId, WorkspaceId, WorkspaceName, spec::Destination,
};
use warren_model::{
    AuditHead, ClusterState, Principal,
    state::{
        Certificate, Client, ClusterInfo, CoordinatorToken, Invitation, JoinToken, Nested, Node,
        NodeLabels, Person, Recovery, Replica, RequestTable, Seat, Template, Workspace,
    },
};

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct StateV3 {
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
    people: OrdMap<PersonName, Person>,
    invitations: OrdMap<TokenId, Invitation>,
    certificates: OrdMap<(Principal, Vec<u8>), Certificate>,
    recovery: Option<Recovery>,
    restored: Option<Revision>,
    coordinator_tokens: OrdMap<TokenId, CoordinatorToken>,
    last_replica: u64,
    replacing: OrdMap<ReplicaId, ReplicaId>,
    origins: OrdMap<WorkspaceId, RequestId>,
    seats: OrdMap<NodeId, Seat>,
    node_labels: OrdMap<NodeId, NodeLabels>,
    allowed: OrdMap<ClientId, BTreeSet<Destination>>,
    resized: OrdSet<WorkspaceId>,
    unreviewed: OrdSet<ClientId>,
    templates: OrdMap<TemplateName, Arc<Template>>,
}

impl From<StateV3> for ClusterState {
    /// What version 3 did not know is as in a cluster that never used it.
    fn from(old: StateV3) -> Self {
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
            people: old.people,
            invitations: old.invitations,
            certificates: old.certificates,
            recovery: old.recovery,
            restored: old.restored,
            coordinator_tokens: old.coordinator_tokens,
            last_replica: old.last_replica,
            replacing: old.replacing,
            origins: old.origins,
            seats: old.seats,
            node_labels: old.node_labels,
            allowed: old.allowed,
            resized: old.resized,
            unreviewed: old.unreviewed,
            templates: old.templates,
            ..Self::default()
        }
    }
}

#[cfg(test)]
impl From<ClusterState> for StateV3 {
    fn from(new: ClusterState) -> Self {
        Self {
            cluster: new.cluster,
            revision: new.revision,
            replicas: new.replicas,
            clients: new.clients,
            client_names: new.client_names,
            nodes: new.nodes,
            node_names: new.node_names,
            tokens: new.tokens,
            workspaces: new.workspaces,
            workspace_names: new.workspace_names,
            placed: new.placed,
            revoked: new.revoked,
            requests: new.requests,
            audit: new.audit,
            people: new.people,
            invitations: new.invitations,
            certificates: new.certificates,
            recovery: new.recovery,
            restored: new.restored,
            coordinator_tokens: new.coordinator_tokens,
            last_replica: new.last_replica,
            replacing: new.replacing,
            origins: new.origins,
            seats: new.seats,
            node_labels: new.node_labels,
            allowed: new.allowed,
            resized: new.resized,
            unreviewed: new.unreviewed,
            templates: new.templates,
        }
    }
}
