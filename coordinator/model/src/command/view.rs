//! What people look at in workspaces, as far as it is on record.

use serde::{Deserialize, Serialize};
use warren_common::WorkspaceId;

/// See [`super::Command::NoteView`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteView {
    /// Into which workspace.
    pub workspace: WorkspaceId,
    /// What of it.
    pub target: ViewTarget,
}

/// What in a workspace somebody looks at or connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ViewTarget {
    /// A TCP port on its own loopback.
    Port(u16),
    /// The page with a session's terminal, to type in.
    Terminal,
    /// The editor.
    Editor,
    /// The display, to look at.
    Display,
    /// The display, keys and pointer included.
    DisplayControl,
}

impl std::fmt::Display for ViewTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Terminal => f.write_str("terminal"),
            Self::Editor => f.write_str("editor"),
            Self::Display => f.write_str("display, view only"),
            Self::DisplayControl => f.write_str("display, with control"),
        }
    }
}
