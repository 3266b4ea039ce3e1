//! Other caps for a workspace, wherever it stands: its node applies them to what runs.

use std::sync::Arc;

use warren_common::{MilliCpus, spec::Resources};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::ResizeWorkspace,
    event::EventKind,
    plan::resize::grown,
    state::{
        ClusterState, Desired, recovery,
        workspace::{missing, wrong},
    },
};

pub(crate) fn resize(
    state: &mut ClusterState,
    context: &Context,
    command: &ResizeWorkspace,
) -> Result<Change, Refusal> {
    let id = command.workspace;
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    let label = state.workspace_label(id);
    context.unchanged_since(workspace.revision, || format!("workspace {label}"))?;
    if workspace.desired == Desired::Deleted {
        return Err(wrong(format!("workspace {label} is being deleted")));
    }
    let before = workspace.spec.resources.clone();
    let after = command.applied_to(&before);
    after.validate().map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))?;
    if before == after {
        return Ok(Change::none(Outcome::Workspace(id)));
    }
    recovery::refuse(state, "nothing is resized")?;
    let placed = workspace.assignment.as_ref().map(|assignment| assignment.node);
    if let Some(node) = placed.and_then(|node| state.nodes.get(&node)) {
        grown(node, &state.load(node.id), &before, &after).map_err(|misfit| {
            let (name, detail) = (&node.name, misfit.detail);
            let message = format!("node {name} has no room for workspace {label}: {detail}");
            Refusal::new(RefusalCode::NoNodeFits, message)
        })?;
    }
    let workspace = Arc::make_mut(state.workspaces.get_mut(&id).ok_or_else(|| missing(id))?);
    workspace.spec.resources = after.clone();
    workspace.revision = context.revision;
    if state.restored.is_some() {
        state.resized.insert(id);
    }
    if let Some(node) = placed {
        state.weigh(node);
    }
    Ok(Change::new("workspace.resize", Outcome::Workspace(id))
        .object(&label, &id)
        .detail(told(&before, &after))
        .event(EventKind::WorkspaceResized(id)))
}

/// Says what changed: "memory 4 GiB to 8 GiB, disk 20 GiB to 40 GiB".
fn told(before: &Resources, after: &Resources) -> String {
    let cpus =
        |cap: Option<MilliCpus>| cap.map_or_else(|| "none".to_owned(), |cap| cap.to_string());
    let all = [
        ("memory", before.memory.to_string(), after.memory.to_string()),
        ("swap", before.swap.to_string(), after.swap.to_string()),
        ("reserve", before.reserve.to_string(), after.reserve.to_string()),
        ("cpus", cpus(before.cpus), cpus(after.cpus)),
        ("disk", before.disk.to_string(), after.disk.to_string()),
    ];
    let changed = all.iter().filter(|(_, old, new)| old != new);
    let changed: Vec<String> =
        changed.map(|(name, old, new)| format!("{name} {old} to {new}")).collect();
    match changed.is_empty() {
        // amounts that read alike
        true => "caps".to_owned(),
        false => changed.join(", "),
    }
}
