//! What is done to sessions after their workspace was made.

use serde::{Deserialize, Serialize};
use warren_common::{
    Generation, NodeId, Revision, SessionName, WorkspaceId,
    spec::{SessionOrder, SessionProgram},
};

/// Everything that is done to one session, as one command. Variants are only ever added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionCommand {
    /// Makes one.
    Create(CreateSession),
    /// Ends whatever runs in it; it can be run again.
    Stop(NamedSession),
    /// Runs it anew, whether it runs or not.
    Restart(RestartSession),
    /// Ends it for good; its worktree stays.
    Delete(NamedSession),
    /// As [`Self::TakeOver`], of before a node's word said of which incarnation it is; only in logs.
    Adopt(AdoptSessions),
    /// Takes over what a node was told of them, where it knows more than the state.
    TakeOver(TakeOverSessions),
}

impl SessionCommand {
    /// Returns the command's name for logs and counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create-session",
            Self::Stop(_) => "stop-session",
            Self::Restart(_) => "restart-session",
            Self::Delete(_) => "delete-session",
            Self::Adopt(_) => "adopt-sessions",
            Self::TakeOver(_) => "take-over-sessions",
        }
    }

    /// Returns the workspace it is in.
    pub const fn workspace(&self) -> WorkspaceId {
        match self {
            Self::Create(create) => create.workspace,
            Self::Stop(named) | Self::Delete(named) => named.workspace,
            Self::Restart(restart) => restart.workspace,
            Self::Adopt(adopt) => adopt.workspace,
            Self::TakeOver(take) => take.adopt.workspace,
        }
    }
}

/// See [`SessionCommand::Create`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSession {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its name; a free one after its agent without it.
    pub name: Option<SessionName>,
    /// What runs in it. Without a branch it gets one of its own, `main` and the first aside.
    pub program: SessionProgram,
}

/// One session by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedSession {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which.
    pub name: SessionName,
}

/// See [`SessionCommand::Restart`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartSession {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which.
    pub name: SessionName,
    /// With a new conversation, and not the one it had.
    pub fresh: bool,
}

/// See [`SessionCommand::Adopt`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptSessions {
    /// Where.
    pub workspace: WorkspaceId,
    /// The node that tells it.
    pub node: NodeId,
    /// Of the node's order.
    pub generation: Generation,
    /// Of the document that the node was told last.
    pub told: Revision,
    /// As the cluster told the node before it was restored: every one there was, and those of the
    /// spec that were deleted.
    pub sessions: Vec<SessionOrder>,
}

/// See [`SessionCommand::TakeOver`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOverSessions {
    /// Of the cluster that told the node.
    pub incarnation: u32,
    /// What it told.
    pub adopt: AdoptSessions,
}
