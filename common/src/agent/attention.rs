//! Who needs a person first.

use std::cmp::Reverse;

use super::state::{AgentState, AgentStatus, StateName};
use crate::Timestamp;

/// How much an agent needs a person, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attention {
    /// It ended well.
    Ended,
    /// At the prompt, and a person knows.
    Idle,
    /// It starts.
    Starting,
    /// It wakes by itself.
    Background,
    /// It works.
    Working,
    /// Nobody knows.
    Unknown,
    /// It works and nothing moves.
    Stalled,
    /// It finished and nobody has looked.
    Finished,
    /// Its process ended badly.
    Crashed,
    /// Its turn ended by an error.
    Error,
    /// It waits for a person.
    Waiting,
}

impl Attention {
    /// Returns how much the agent of `status` needs a person.
    pub fn of(status: &AgentStatus) -> Self {
        match &status.state {
            AgentState::Waiting(_) => Self::Waiting,
            AgentState::Error(_) => Self::Error,
            AgentState::Exited(exit) if exit.is_bad() => Self::Crashed,
            AgentState::Exited(_) => Self::Ended,
            AgentState::Idle if status.flags.unseen => Self::Finished,
            AgentState::Idle => Self::Idle,
            AgentState::Working { .. } if status.flags.stalled => Self::Stalled,
            AgentState::Working { .. } => Self::Working,
            AgentState::Unknown { .. } => Self::Unknown,
            AgentState::Background { .. } => Self::Background,
            AgentState::Starting => Self::Starting,
        }
    }

    /// Returns whether a person should look: it moves no further, or not as it should.
    pub fn needs_person(self) -> bool {
        self >= Self::Stalled
    }

    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Background => "background",
            Self::Working => "working",
            Self::Unknown => "unknown",
            Self::Stalled => "stalled",
            Self::Finished => "finished",
            Self::Crashed => "crashed",
            Self::Error => "error",
            Self::Waiting => "waiting",
        }
    }
}

impl AgentStatus {
    /// Returns which stay in which state this is: the same for as long as the agent stays in it, and
    /// never the same again.
    pub const fn stay(&self) -> (StateName, Timestamp) {
        match &self.state {
            AgentState::Waiting(wait) => (StateName::Waiting, wait.since),
            other => (other.name(), self.since),
        }
    }
}

/// The order of lists and roll-ups: the largest key needs a person first, and of equals the one
/// that has for longest. The key of a worktree, workspace, node or fleet is the largest within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttentionKey {
    /// How much.
    pub attention: Attention,
    /// Since when, the longest last.
    pub since: Reverse<Timestamp>,
}

impl AttentionKey {
    /// Returns the key of one agent.
    pub fn of(status: &AgentStatus) -> Self {
        Self { attention: Attention::of(status), since: Reverse(status.since) }
    }

    /// Returns the key of a group; none where it is empty.
    pub fn roll_up(keys: impl IntoIterator<Item = Self>) -> Option<Self> {
        keys.into_iter().max()
    }
}
