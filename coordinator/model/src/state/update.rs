//! Another image for a workspace. One that runs begins a new run in the same entry: what runs is
//! never of another spec than its order.

use std::sync::Arc;

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{Update, UpdateWorkspace},
    state::{
        ClusterState, Desired, Spec, recovery,
        workspace::{missing, wrong},
        workspace_run,
    },
};

pub(crate) fn update(
    state: &mut ClusterState,
    context: &Context,
    command: &UpdateWorkspace,
) -> Result<Change, Refusal> {
    let id = command.workspace;
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    let label = state.workspace_label(id);
    context.unchanged_since(workspace.revision, || format!("workspace {label}"))?;
    if workspace.desired == Desired::Deleted {
        return Err(wrong(format!("workspace {label} is being deleted")));
    }
    let mut spec = workspace.spec.whole();
    let image = match &command.update {
        Update::Image(image) => image.clone(),
        Update::ImageBefore => {
            let before = state.images_before.get(&id);
            let why = || wrong(format!("workspace {label} had no image before {}", spec.image));
            before.ok_or_else(why)?.to_string()
        }
    };
    let back = command.update == Update::ImageBefore;
    let before = std::mem::replace(&mut spec.image, image.clone());
    spec.validate().map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))?;
    if before == image {
        return Ok(Change::none(Outcome::Workspace(id)));
    }
    recovery::refuse(state, "nothing is updated")?;
    let detail = format!("image {before} to {image}");
    // who goes back twice does not end where he began
    match back {
        true => drop(state.images_before.remove(&id)),
        false => drop(state.images_before.insert(id, Arc::from(before))),
    }
    if state.restored.is_some() {
        state.updated.insert(id);
    }
    workspace_run::change(state, context, (id, "workspace.update"), |one, at| {
        one.spec = Spec::from(spec);
        if one.desired == Desired::Running {
            workspace_run::run_anew(one, "its image was changed", at);
        }
    })
    .map(|change| change.detail(detail))
}
