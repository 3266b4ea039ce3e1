//! Looks into workspaces: they change nothing and are on record.

use crate::{
    answer::{Outcome, Refusal},
    apply::Change,
    command::NoteView,
    state::{ClusterState, workspace::missing},
};

/// Notes that somebody looks into a workspace or connects to what listens in it; nothing else
/// changes.
pub(crate) fn note(state: &ClusterState, command: &NoteView) -> Result<Change, Refusal> {
    let NoteView { workspace: id, target } = *command;
    if !state.workspaces.contains_key(&id) {
        return Err(missing(id));
    }
    Ok(Change::new("workspace.open", Outcome::Workspace(id))
        .object(&state.workspace_label(id), &id)
        .detail(target.to_string()))
}
