//! What brings a cluster back from a backup or from one survivor.

use serde::{Deserialize, Serialize};
use warren_common::{NodeId, NodeName, Revision, WorkspaceId, spec::HeldOrder, status::NodeFacts};

use super::SetReplica;

/// See [`super::Command::BeginIncarnation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginIncarnation {
    /// Higher than every one before: `max(old + 1, unix seconds)`.
    pub incarnation: u32,
    /// The only coordinator from now on, under an id that never was before.
    pub replica: SetReplica,
    /// Why, for people: "restored from the backup of 2026-11-24 15:00".
    pub reason: String,
}

/// See [`super::Command::AdoptNode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptNode {
    /// From its certificate.
    pub node: NodeId,
    /// The name it had; another where that is taken.
    pub name: NodeName,
    /// What it is and has.
    pub facts: NodeFacts,
}

/// See [`super::Command::AdoptWorkspace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptWorkspace {
    /// Which node says so.
    pub node: NodeId,
    /// Revision of the document the node was told last, by the cluster as it was.
    pub revision: Revision,
    /// What it was told of the workspace, and what it began.
    pub held: HeldOrder,
}

/// See [`super::Command::AccountNode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountNode {
    /// Which node.
    pub node: NodeId,
    /// Revision of the document it was told last, by the cluster as it was; zero where it never was.
    pub revision: Revision,
    /// Every workspace it holds.
    pub holds: Vec<WorkspaceId>,
}

/// See [`super::Command::NoteBackup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteBackup {
    /// What the caller had seen of the cluster; the backup holds at least that.
    pub revision: Revision,
}

/// See [`super::Command::EndRecovery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecovery {
    /// Stop waiting for this node alone; none ends the recovery.
    pub node: Option<NodeId>,
    /// Although nodes are still awaited.
    pub early: bool,
}
