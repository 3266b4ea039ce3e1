//! What applying a command answers: the object it concerned, or a refusal with a sentence.

use serde::{Deserialize, Serialize};
use warren_common::{ClientId, NodeId, ReplicaId, Revision, TokenId, WorkspaceId};

use crate::{audit::AuditRecord, event::Event};

/// Everything that applying one command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The answer for the caller.
    pub result: Result<Applied, Refusal>,
    /// One record where the command changed something; none for refusals, repeats and commands
    /// that found everything as they ask.
    pub audit: Option<AuditRecord>,
    /// What happened, in its order; empty where nothing changed.
    pub events: Vec<Event>,
}

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
    /// A coordinator joined.
    Replica(ReplicaId),
    /// This version of a template was pushed or activated, or was the active one.
    Template(u32),
    /// The session that was made at this revision.
    Session {
        /// Where.
        workspace: WorkspaceId,
        /// The revision.
        life: u64,
    },
    /// This version of a secret was set, or was the last one.
    Secret(u64),
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

impl Refusal {
    /// Makes a refusal; the sentence is lower case, without a full stop, and names its objects.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
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
    /// The request id is no UUID of version 7, or was minted in the future.
    RequestIdInvalid,
    /// The certificate, or its holder, was revoked.
    CertificateRevoked,
    /// The expired certificate is not the newest on record.
    CertificateReplaced,
    /// Another agent acts with this identity.
    IdentityConflict,
    /// The node still has workspaces.
    NodeNotEmpty,
}

impl RefusalCode {
    /// Returns the stable reason of the wire and of scripts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyInitialised => "ALREADY_INITIALISED",
            Self::NotInitialised => "NOT_INITIALISED",
            Self::NameTaken => "NAME_TAKEN",
            Self::NotFound => "NOT_FOUND",
            Self::RevisionMismatch => "REVISION_MISMATCH",
            Self::ClientNotEmpty => "CLIENT_NOT_EMPTY",
            Self::TokenInvalid => "TOKEN_INVALID",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::TokenUsed => "TOKEN_USED",
            Self::InvalidSpec => "INVALID_SPEC",
            Self::NoNodeFits => "NO_NODE_FITS",
            Self::WrongState => "WRONG_STATE",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::LimitReached => "LIMIT_REACHED",
            Self::RequestReused => "REQUEST_REUSED",
            Self::RequestIdTooOld => "REQUEST_ID_TOO_OLD",
            Self::RequestIdInvalid => "REQUEST_ID_INVALID",
            Self::CertificateRevoked => "CERTIFICATE_REVOKED",
            Self::CertificateReplaced => "CERTIFICATE_REPLACED",
            Self::IdentityConflict => "IDENTITY_CONFLICT",
            Self::NodeNotEmpty => "NODE_NOT_EMPTY",
        }
    }
}
