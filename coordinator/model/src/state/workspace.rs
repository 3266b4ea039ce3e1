//! Workspaces and their assignments.

use serde::{Deserialize, Serialize};
use warren_common::{
    ClientId, Generation, NodeId, Revision, Timestamp, WorkspaceId, WorkspaceName,
    spec::{Permit, WorkspaceSpec},
};

/// One workspace: what was asked, what was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Whose it is.
    pub client: ClientId,
    /// Its name, unique within the client.
    pub name: WorkspaceName,
    /// What was asked for.
    pub spec: WorkspaceSpec,
    /// Whether it should run.
    pub desired: Desired,
    /// Counts the runs asked for or granted again; starts at 1.
    pub run_serial: u64,
    /// The highest generation ever given; kept when the assignment goes.
    pub generation: Generation,
    /// Where it was placed; none while queued.
    pub assignment: Option<Assignment>,
    /// Where it stands.
    pub phase: Phase,
    /// Runs that ended by themselves since it last ran well for a while; sets the back-off.
    pub failed_runs: u32,
    /// When it was made.
    pub created: Timestamp,
    /// The mutation that last changed it.
    pub revision: Revision,
}

/// What was last asked of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Desired {
    /// It should run.
    Running,
    /// It should be stopped.
    Stopped,
    /// It should be gone, home and all.
    Deleted,
}

/// A decision: this node, at this generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Where to.
    pub node: NodeId,
    /// The fencing number.
    pub generation: Generation,
    /// The right to start the current run.
    pub permit: Option<Permit>,
    /// Why there.
    pub reason: String,
}

/// Where a workspace stands, why, since when and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Which phase.
    pub kind: PhaseKind,
    /// Why, for people; never empty.
    pub reason: String,
    /// When it was entered.
    pub since: Timestamp,
    /// By when it should have ended; none for the phases that may last.
    pub deadline: Option<Timestamp>,
}

/// The phases of DESIGN §8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhaseKind {
    /// No node yet.
    Queued,
    /// A node was chosen and has not said anything yet.
    Assigned,
    /// The node makes volume, network and container.
    Preparing,
    /// The node may start it.
    StartPermitted,
    /// It runs.
    Active,
    /// It is being stopped.
    Stopping,
    /// It is stopped.
    Stopped,
    /// Its node is silent: nobody knows.
    Unconfirmed,
    /// Its old node is being fenced.
    Fencing,
    /// Its home is being restored.
    Restoring,
    /// It moves to another node.
    Migrating,
    /// It cannot run; the code says why.
    Failed {
        /// Stable code such as `IMAGE_MISSING`.
        code: String,
    },
}
