//! What applying a command answers.

use serde::{Deserialize, Serialize};
use warren_common::{ClientId, NodeId, Revision, TokenId, WorkspaceId};

/// The answer to a command that took effect, or that an earlier request with its id did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Revision of the state with the effect in it.
    pub revision: Revision,
    /// The object concerned.
    pub outcome: Outcome,
    /// The request id had been applied before; nothing happened now.
    pub repeated: bool,
}

/// The object a command concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing to name.
    Done,
    /// A client was made or removed.
    Client(ClientId),
    /// A token was issued.
    Token(TokenId),
    /// A node joined, registered or changed.
    Node(NodeId),
    /// A workspace was made or changed.
    Workspace(WorkspaceId),
}

/// A command that the state does not allow: a value for its caller, never a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of refusal it is.
    pub code: RefusalCode,
    /// One sentence for people, naming the objects.
    pub message: String,
}

/// The kinds of refusal; the API maps each to a status code and a stable reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalCode {
    /// The cluster was made before.
    AlreadyInitialised,
    /// The cluster was not made yet.
    NotInitialised,
    /// The name is taken.
    NameTaken,
    /// No object of this id.
    NotFound,
    /// The object has changed since `if_revision`.
    RevisionMismatch,
    /// The client still has workspaces.
    ClientNotEmpty,
    /// Token unknown or secret wrong.
    TokenInvalid,
    /// Token past its time.
    TokenExpired,
    /// Token spent by another key.
    TokenUsed,
    /// The spec breaks a rule.
    InvalidSpec,
    /// No node can hold it.
    NoNodeFits,
    /// The command is stale or illegal in the object's state.
    WrongState,
    /// The principal may not ask this.
    NotAllowed,
    /// A bound of `Limits` is reached.
    LimitReached,
    /// The request id belongs to another command.
    RequestReused,
    /// The request is older than what is remembered.
    RequestIdTooOld,
}
