//! The one document a node receives: what it is to run, at which generation.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    BootId, ClientId, Generation, RequestId, Revision, WorkspaceAddress, WorkspaceId,
    spec::{Destination, SessionOrder, WorkspaceSpec},
};

/// Everything one node is to do, level-triggered: the newest replaces any older.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Incarnation of the cluster that decided it; a node refuses a lower one than it has seen.
    pub incarnation: u32,
    /// Raft term of the leader that sent it.
    pub term: u64,
    /// Revision of the state it was made from.
    pub revision: Revision,
    /// One order per workspace assigned to the node, by workspace id.
    pub workspaces: Vec<WorkspaceOrder>,
    /// The cluster came back from a backup and may know less than the node: the node touches
    /// nothing that is not named here, and removes nothing at all.
    #[serde(default)]
    pub recovering: bool,
    /// What the clients of these workspaces may reach although it is closed to others; those that
    /// have none are not named.
    #[serde(default)]
    pub allowed: BTreeMap<ClientId, BTreeSet<Destination>>,
    /// A number of each workspace that has secrets, which changes with them; the values are fetched.
    #[serde(default)]
    pub secrets: BTreeMap<WorkspaceId, u64>,
}

impl NodeSpec {
    /// Returns what orders documents: a node keeps the highest it has applied.
    pub const fn rank(&self) -> (u32, u64, Revision) {
        (self.incarnation, self.term, self.revision)
    }
}

/// What a node is to do with one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceOrder {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// The client it belongs to.
    pub client: ClientId,
    /// Its address, for labels and messages.
    pub address: WorkspaceAddress,
    /// The generation of the assignment; a node refuses a lower one than it has seen.
    pub generation: Generation,
    /// What is to happen to it.
    pub run: Run,
    /// Counts the runs asked for: a container of a lower run is stopped, and only then a new one started.
    pub run_serial: u64,
    /// The right to start this run, once; without it a node prepares and waits.
    pub permit: Option<Permit>,
    /// What to run.
    pub spec: WorkspaceSpec,
    /// The request that last asked for its run, for logs and labels; nothing is decided by it.
    #[serde(default)]
    pub request: Option<RequestId>,
    /// Every session it is to have, and those of the spec that it is not to have any more; empty
    /// where they are as the spec has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionOrder>,
    /// Whoever gave the order knows of sessions: none above means that they are as the spec has them,
    /// and not that nothing was said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sessions_told: bool,
}

/// What a node was last told of one workspace and what it began: told to a coordinator that may
/// know less, because it came back from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOrder {
    /// The order as it stands in the node's ledger.
    pub order: WorkspaceOrder,
    /// The newest run of that generation whose start was begun; zero where none was.
    pub started_run: u64,
}

/// What is to happen to a workspace on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Run {
    /// Volume and container are kept ready and, once permitted, running.
    Running,
    /// The container is stopped, the volume kept.
    Stopped,
    /// Container, network and volume are removed for good.
    Removed,
}

/// The right to start one run of a workspace in one boot of its node (lease rule R7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Permit {
    /// The run it is for.
    pub run_serial: u64,
    /// The boot it is good in: after a reboot a new permit is needed.
    pub boot: BootId,
}
