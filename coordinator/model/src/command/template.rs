//! What is done to templates.

use serde::{Deserialize, Serialize};
use warren_common::TemplateName;

/// Everything that is done to one template, as one command. Variants are only ever added at the
/// end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TemplateCommand {
    /// Adds a version, of a new template or of one that is there.
    Push(PushTemplate),
    /// Has new workspaces made from another version.
    Activate(ActivateTemplate),
    /// Removes a template with its versions; workspaces made from it stay.
    Delete(DeleteTemplate),
}

impl TemplateCommand {
    /// Returns the command's name for logs and counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Push(_) => "push-template",
            Self::Activate(_) => "activate-template",
            Self::Delete(_) => "delete-template",
        }
    }
}

/// See [`TemplateCommand::Push`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushTemplate {
    /// Which template.
    pub template: TemplateName,
    /// The document; whoever sends the command has checked it.
    pub text: String,
    /// What changed, for people.
    pub message: String,
    /// Has new workspaces made from it at once; the first version of a template always is.
    pub activate: bool,
}

/// See [`TemplateCommand::Activate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivateTemplate {
    /// Which template.
    pub template: TemplateName,
    /// Which version; the one that was active before where there is none.
    pub version: Option<u32>,
}

/// See [`TemplateCommand::Delete`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTemplate {
    /// Which template.
    pub template: TemplateName,
}
