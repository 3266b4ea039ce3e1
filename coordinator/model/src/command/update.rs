//! What a workspace is made of, changed after it was made.

use serde::{Deserialize, Serialize};
use warren_common::{
    WorkspaceId,
    spec::{Failover, PlacementRules, WorkspaceSpec},
};

use super::CreateWorkspace;
use crate::state::Recipe;

/// See [`crate::Command::MakeWorkspace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeWorkspace {
    /// The workspace.
    pub create: CreateWorkspace,
    /// What its spec was made from.
    pub recipe: Recipe,
}

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
    /// It is made from another version of its template, or from another one.
    Template(Box<TemplateUpdate>),
    /// The same where a version says where the workspace may run, or what happens when its node dies:
    /// these change too. By [`Update::Template`] they stay.
    TemplateRules(Box<TemplateUpdate>),
}

impl Update {
    /// Returns the update to another version: versions that say nothing of rules are written as they
    /// were before there was more.
    pub fn template(update: TemplateUpdate) -> Self {
        let usual = |spec: &WorkspaceSpec| {
            spec.placement == PlacementRules::default() && spec.failover == Failover::default()
        };
        match usual(&update.new) && update.base.as_ref().is_none_or(usual) {
            true => Self::Template(Box::new(update)),
            false => Self::TemplateRules(Box::new(update)),
        }
    }
}

/// See [`Update::Template`]. What becomes of the workspace is decided where it is applied, by
/// [`crate::plan::update`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateUpdate {
    /// What it is made from by now; another one refuses. None where nobody knows it.
    pub from: Option<Recipe>,
    /// What that comes to; none where it is not known, or that version is not kept any more.
    pub base: Option<WorkspaceSpec>,
    /// What it is made from then.
    pub to: Recipe,
    /// What that comes to: complete and validated.
    pub new: WorkspaceSpec,
}
