//! Who coordinates: letting one in, taking one out.

use serde::{Deserialize, Serialize};
use warren_common::{ReplicaId, Timestamp, TokenId};

/// See [`super::Command::IssueCoordinatorToken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueCoordinatorToken {
    /// Minted at the edge; stands in the token's clear part.
    pub token: TokenId,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// After this it is refused.
    pub expires: Timestamp,
    /// The coordinator that goes once the new one has its vote.
    pub replaces: Option<ReplicaId>,
}

/// See [`super::Command::JoinReplica`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReplica {
    /// Which token.
    pub token: TokenId,
    /// SHA-256 of the secret that was shown.
    pub secret_hash: [u8; 32],
    /// SHA-256 of the public key that asks: a retry with the same key gets the same id.
    pub key_hash: [u8; 32],
    /// host:port of its API as nodes and people will reach it.
    pub api_address: String,
    /// host:port of its Raft listener as coordinators will reach it.
    pub raft_address: String,
}

/// See [`super::Command::RemoveReplica`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveReplica {
    /// Which coordinator.
    pub replica: ReplicaId,
}
