//! What a workspace is made of, changed after it was made.

use serde::{Deserialize, Serialize};
use warren_common::WorkspaceId;

/// See [`crate::Command::UpdateWorkspace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateWorkspace {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// What changes.
    pub update: Update,
}

/// What changes of a workspace. Variants are only ever added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    /// Its container is made from this image.
    Image(String),
    /// Its container is made from the image that it had before the last update.
    ImageBefore,
}
