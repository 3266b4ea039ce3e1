//! The replicated state of a cluster: what it holds and how its objects are found.
//!
//! One file per noun holds the type and its mutations; [`ClusterState::apply`] is the only way in.
//! Every map is persistent, so a clone is O(1); nodes and workspaces are shared behind `Arc`, so a
//! mutation copies one of them and not its neighbours.

pub(crate) mod adopt;
pub mod allowed;
pub mod certificate;
pub mod client;
pub(crate) mod cluster;
mod nested;
pub mod node;
pub(crate) mod node_end;
pub mod person;
pub mod recipe;
pub mod recovery;
pub mod replica;
pub mod requests;
pub(crate) mod resize;
pub mod seat;
pub mod secret;
pub mod session;
mod session_orders;
mod spec;
pub mod template;
pub mod token;
pub mod update;
pub(crate) mod view;
pub mod workspace;
mod workspace_run;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use warren_common::{
    ClientId, ClientName, ClusterId, NodeId, NodeName, PersonName, ReplicaId, RequestId, Revision,
    SessionName, TemplateName, Timestamp, TokenId, WorkspaceAddress, WorkspaceId, WorkspaceName,
    spec::Destination,
};

use crate::{audit::AuditHead, command::Principal};

pub use certificate::Certificate;
pub use client::Client;
pub use nested::Nested;
pub use node::Node;
pub use node_end::NodeLabels;
pub use person::{Invitation, Person};
pub use recipe::Recipe;
pub use recovery::Recovery;
pub use replica::CoordinatorToken;
pub use requests::RequestTable;
pub use seat::{Rival, Seat};
pub use secret::{SecretRecord, Secrets, ValueId, ValueMark, Vault};
pub use session::SessionRecord;
pub use spec::Spec;
pub use template::{Template, TemplateVersion};
pub use token::JoinToken;
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
    pub nodes: OrdMap<NodeId, Arc<Node>>,
    /// Their names.
    pub node_names: OrdMap<NodeName, NodeId>,
    /// Join tokens by id, spent and expired ones until they are swept.
    pub tokens: OrdMap<TokenId, JoinToken>,
    /// Workspaces by id.
    pub workspaces: OrdMap<WorkspaceId, Arc<Workspace>>,
    /// Their names.
    pub workspace_names: Nested<ClientId, WorkspaceName, WorkspaceId>,
    /// Which workspaces are assigned to which node.
    pub placed: Nested<NodeId, WorkspaceId, ()>,
    /// Serials that are refused although their certificates have not expired, with when they would.
    pub revoked: OrdMap<Vec<u8>, Timestamp>,
    /// The answers that are given again where a request is repeated.
    pub requests: RequestTable,
    /// The end of the audit chain.
    pub audit: AuditHead,
    /// People, by name.
    pub people: OrdMap<PersonName, Person>,
    /// Invitations by id, spent and expired ones until they are swept.
    pub invitations: OrdMap<TokenId, Invitation>,
    /// Issued certificates by holder and serial, until nobody can use or renew them.
    pub certificates: OrdMap<(Principal, Vec<u8>), Certificate>,
    /// Set from a restore until every node has told what it holds.
    pub recovery: Option<Recovery>,
    /// The mutation that began the present incarnation, where that was a restore: what is older
    /// may be behind what nodes were told.
    pub restored: Option<Revision>,
    /// Join tokens for coordinators by id, spent and expired ones until they are swept.
    pub coordinator_tokens: OrdMap<TokenId, CoordinatorToken>,
    /// The highest id a coordinator ever had, because none is used twice; zero in states of
    /// before there was one, see [`Self::highest_replica`].
    pub last_replica: u64,
    /// New coordinators, each with the one that goes once the new one has its vote.
    pub replacing: OrdMap<ReplicaId, ReplicaId>,
    /// The request that last asked for each workspace's run: what people follow to its container.
    pub origins: OrdMap<WorkspaceId, RequestId>,
    /// Which agent acts as each node; none of nodes that have not registered with a claim.
    pub seats: OrdMap<NodeId, Seat>,
    /// The operator's labels of nodes that have any.
    pub node_labels: OrdMap<NodeId, NodeLabels>,
    /// What clients may reach although it is closed to others; none of clients that have none.
    pub allowed: OrdMap<ClientId, BTreeSet<Destination>>,
    /// Workspaces that were resized since the restore: what their nodes were told before is over.
    pub resized: OrdSet<WorkspaceId>,
    /// Clients that may reach what they might when the backup was made, until somebody has looked:
    /// what was closed after it is open again, and nobody knows of it.
    pub unreviewed: OrdSet<ClientId>,
    /// What workspaces are made from, by name.
    pub templates: OrdMap<TemplateName, Arc<Template>>,
    /// What was asked of sessions since their workspaces were made; none of workspaces whose
    /// sessions are as the spec has them.
    pub sessions: OrdMap<WorkspaceId, Arc<BTreeMap<SessionName, SessionRecord>>>,
    /// What each vault holds, without the values; none of empty ones.
    pub secrets: OrdMap<Vault, Arc<Secrets>>,
    /// The images that workspaces had before their last update; none of those that had no update,
    /// or went back.
    pub images_before: OrdMap<WorkspaceId, Arc<str>>,
    /// Workspaces that were updated since the restore: of what they were made before is over.
    pub updated: OrdSet<WorkspaceId>,
    /// What workspaces were made from; none of those of the template that is built in, of before
    /// this was kept, or found after a restore.
    pub recipes: OrdMap<WorkspaceId, Arc<Recipe>>,
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

impl ClusterState {
    /// Returns the client of this name.
    pub fn client_named(&self, name: &ClientName) -> Option<&Client> {
        self.clients.get(self.client_names.get(name)?)
    }

    /// Returns the node of this name.
    pub fn node_named(&self, name: &NodeName) -> Option<&Arc<Node>> {
        self.nodes.get(self.node_names.get(name)?)
    }

    /// Returns the workspace at this address.
    pub fn workspace_at(&self, address: &WorkspaceAddress) -> Option<&Arc<Workspace>> {
        let client = *self.client_names.get(&address.client)?;
        let id = self.workspace_names.get(&(client, address.workspace.clone()))?;
        self.workspaces.get(id)
    }

    /// Returns `client/workspace` of a workspace; none where its client is unknown, which no
    /// applied state has.
    pub fn address_of(&self, workspace: &Workspace) -> Option<WorkspaceAddress> {
        let client = self.clients.get(&workspace.client)?.name.clone();
        Some(WorkspaceAddress { client, workspace: workspace.name.clone() })
    }

    /// Returns the node's name for people, or its id where there is no such node.
    pub fn node_label(&self, node: NodeId) -> String {
        self.nodes.get(&node).map_or_else(|| node.to_string(), |node| node.name.to_string())
    }

    /// Returns the workspace's address for people, or its id where there is no such workspace.
    pub fn workspace_label(&self, workspace: WorkspaceId) -> String {
        let found = self.workspaces.get(&workspace).and_then(|one| self.address_of(one));
        found.map_or_else(|| workspace.to_string(), |address| address.to_string())
    }

    /// Returns the workspaces assigned to `node`, by id.
    pub fn workspaces_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Workspace>> {
        self.placed.of(&node).filter_map(|(id, ())| self.workspaces.get(id))
    }

    /// Returns the workspaces of `client`, by name.
    pub fn workspaces_of(&self, client: ClientId) -> impl Iterator<Item = &Arc<Workspace>> {
        self.workspace_names.of(&client).filter_map(|(_, id)| self.workspaces.get(id))
    }
}
