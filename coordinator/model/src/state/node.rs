//! Nodes and the tokens they join with.

use serde::{Deserialize, Serialize};
use warren_common::{NodeEpoch, NodeId, NodeName, Revision, Timestamp, TokenId, status::NodeFacts};

use crate::command::Availability;

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// What the operator wants of it.
    pub availability: Availability,
    /// Counts its registrations; zero until the first.
    pub epoch: NodeEpoch,
    /// What it is and has, as it last said.
    pub facts: NodeFacts,
    /// When it joined.
    pub joined: Timestamp,
    /// When it last registered.
    pub registered: Option<Timestamp>,
    /// The mutation that last changed it.
    pub revision: Revision,
}

/// A single-use right to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// The name the node must take.
    pub node_name: Option<NodeName>,
    /// After this it is refused.
    pub expires: Timestamp,
    /// Set once it is spent: which key took which node.
    pub spent: Option<([u8; 32], NodeId)>,
}
