//! What is done to nodes beside their first joining: who may act as one, its labels, its end.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use warren_common::{NodeId, WorkspaceId, spec::Labels, status::NodeFacts};

/// Everything that is done to one node, as one command. Variants are only ever added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeCommand {
    /// A node agent connected and says which agent it is: raises the node's epoch, takes its facts.
    Enter(Box<EnterNode>),
    /// Another agent showed the node's identity and was not let in.
    NoteRival(NoteRival),
    /// Lets the next agent in that shows the node's identity, whichever it is.
    Rejoin(RejoinNode),
    /// Changes the operator's labels of a node.
    Label(LabelNode),
    /// Takes a node out of the cluster for good.
    Remove(RemoveNode),
}

impl NodeCommand {
    /// Returns the command's name for logs and counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Enter(_) => "enter-node",
            Self::NoteRival(_) => "note-rival",
            Self::Rejoin(_) => "rejoin-node",
            Self::Label(_) => "label-node",
            Self::Remove(_) => "remove-node",
        }
    }
}

/// 16 random bytes that one registration is known by afterwards.
pub type Claim = [u8; 16];

/// Which agent a registration comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// What tells this machine from others, hashed; empty where it is not told.
    pub machine: String,
    /// The claim of the agent's last registration that was answered; none before the first.
    pub held: Option<Claim>,
    /// The claim of this one, kept on the agent's disk before it is sent; a registration whose
    /// answer was lost is repeated with the same.
    pub asked: Claim,
}

/// See [`NodeCommand::Enter`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnterNode {
    /// Which node.
    pub node: NodeId,
    /// What it is and has now.
    pub facts: NodeFacts,
    /// Which agent it is; none from an agent of before there were claims.
    pub claims: Option<Claims>,
}

/// See [`NodeCommand::NoteRival`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRival {
    /// Which node.
    pub node: NodeId,
    /// Where the other agent is and why it was not let in, for people.
    pub reason: String,
}

/// See [`NodeCommand::Rejoin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejoinNode {
    /// Which node.
    pub node: NodeId,
}

/// See [`NodeCommand::Label`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelNode {
    /// Which node.
    pub node: NodeId,
    /// Labels to add or to overwrite.
    pub set_labels: Labels,
    /// Keys of the operator's labels to take away.
    pub remove_labels: BTreeSet<String>,
}

/// See [`NodeCommand::Remove`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveNode {
    /// Which node.
    pub node: NodeId,
    /// Workspaces on it that the operator gives up: each must be named.
    pub lost: BTreeSet<WorkspaceId>,
}
