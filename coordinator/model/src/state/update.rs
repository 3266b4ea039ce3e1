//! Another image for a workspace, or another version of its template. One that runs begins a new run
//! in the same entry where it has to: what runs is never of another spec than its order.

use std::sync::Arc;

use warren_common::{WorkspaceId, spec::WorkspaceSpec};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{TemplateUpdate, Update, UpdateWorkspace},
    event::EventKind,
    plan::{
        fit,
        resize::grown,
        update::{UpdatePlan, updated, updated_rules},
    },
    state::{
        ClusterState, Desired, Recipe, Spec, Workspace, node, recovery, secret, session,
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
        Update::Template(update) => {
            return template(state, context, (id, update), (updated, may_become));
        }
        Update::TemplateRules(update) => {
            return template(state, context, (id, update), (updated_rules, may_be_ruled));
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

/// How an update is decided, and what it may not come to.
type Decision = (fn(Option<&WorkspaceSpec>, &WorkspaceSpec, &WorkspaceSpec) -> UpdatePlan, May);

/// Decides whether a workspace can be of another spec.
pub type May = fn(&ClusterState, &Workspace, &WorkspaceSpec) -> Result<(), Refusal>;

/// Another version of the template: what it changes, and nothing of what people changed beside it.
fn template(
    state: &mut ClusterState,
    context: &Context,
    (id, update): (WorkspaceId, &TemplateUpdate),
    (decide, may): Decision,
) -> Result<Change, Refusal> {
    let TemplateUpdate { from, base, to, new } = update;
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    let label = state.workspace_label(id);
    let recipe = state.recipes.get(&id).map(AsRef::as_ref);
    if recipe != from.as_ref() {
        return Err(wrong(format!("workspace {label} was updated by somebody else meanwhile")));
    }
    let before = workspace.spec.whole();
    let plan = decide(base.as_ref(), new, &before);
    if !may_update(state, workspace, (to, &plan.spec), may)? {
        return Ok(Change::none(Outcome::Workspace(id)));
    }
    let placed = workspace.assignment.as_ref().map(|assignment| assignment.node);
    let client = workspace.client;
    remember(state, (id, &before), &plan.spec);
    state.recipes.insert(id, Arc::new(to.clone()));
    let detail = format!("template {} to {}: {}", before.template, to.reference(), plan.told());
    let UpdatePlan { spec, restarts, .. } = plan;
    let resized = spec.resources != before.resources;
    let changed = workspace_run::change(state, context, (id, "workspace.update"), |one, at| {
        one.spec = Spec::from(spec);
        if restarts && one.desired == Desired::Running {
            workspace_run::run_anew(one, "its template was changed", at);
        }
    });
    if let Some(node) = placed {
        state.weigh(node);
    }
    let change = changed?.detail(detail);
    let change = secret::told(change, &secret::leave_spec(state, client, &before));
    Ok(match resized {
        true => change.event(EventKind::WorkspaceResized(id)),
        false => change,
    })
}

/// Decides whether a workspace can be made from another recipe, and be of another spec where it is;
/// returns whether anything changes by that. A plan asks it as well as whoever updates.
///
/// # Errors
/// The parameters are more than is kept, or as `may`.
pub fn may_update(
    state: &ClusterState,
    workspace: &Workspace,
    (to, after): (&Recipe, &WorkspaceSpec),
    may: May,
) -> Result<bool, Refusal> {
    to.check()?;
    let from = state.recipes.get(&workspace.id).map(AsRef::as_ref);
    if *after == workspace.spec.whole() && from == Some(to) {
        return Ok(false);
    }
    may(state, workspace, after).map(|()| true)
}

/// Decides whether a workspace can be of another spec where it is.
///
/// # Errors
/// The spec breaks a rule, the workspace is being deleted, its node has no room for what grows, its
/// sessions would be too many, or the cluster recovers.
pub fn may_become(
    state: &ClusterState,
    workspace: &Workspace,
    after: &WorkspaceSpec,
) -> Result<(), Refusal> {
    let label = state.workspace_label(workspace.id);
    if workspace.desired == Desired::Deleted {
        return Err(wrong(format!("workspace {label} is being deleted")));
    }
    after.validate().map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))?;
    recovery::refuse(state, "nothing is updated")?;
    session::fit(state, workspace, after)?;
    let placed = workspace.assignment.as_ref().and_then(|one| state.nodes.get(&one.node));
    let Some(node) = placed else { return Ok(()) };
    let (load, before) = (state.load(node.id), &workspace.spec.resources);
    grown(node, &load, before, &after.resources).map_err(|misfit| {
        let (name, detail) = (&node.name, misfit.detail);
        let message = format!("node {name} has no room for workspace {label}: {detail}");
        Refusal::new(RefusalCode::NoNodeFits, message)
    })
}

/// Decides the same where rules change too: nothing moves by an update, so its node must be one that
/// they allow.
///
/// # Errors
/// As [`may_become`], or its node is none of those.
pub fn may_be_ruled(
    state: &ClusterState,
    workspace: &Workspace,
    after: &WorkspaceSpec,
) -> Result<(), Refusal> {
    may_become(state, workspace, after)?;
    let rules = &after.placement;
    if let Some(pin) = rules.pin
        && !state.nodes.contains_key(&pin)
    {
        return Err(node::missing(pin));
    }
    let placed = workspace.assignment.as_ref().and_then(|one| state.nodes.get(&one.node));
    let Some((node, client)) = placed.zip(state.clients.get(&workspace.client)) else {
        return Ok(());
    };
    if *rules == *workspace.spec.placement() {
        return Ok(());
    }
    fit::allows(node, client, after).map_err(|misfit| {
        let (label, name, why) = (state.workspace_label(workspace.id), &node.name, misfit.detail);
        wrong(format!("workspace {label} is on node {name}, and nothing moves by an update: {why}"))
    })
}

/// Keeps what goes with an update: the image of before, what a restore may not undo, and no record of
/// a session that the spec does not name any more.
fn remember(
    state: &mut ClusterState,
    (id, before): (WorkspaceId, &WorkspaceSpec),
    after: &WorkspaceSpec,
) {
    if before.image != after.image {
        state.images_before.insert(id, Arc::from(before.image.as_str()));
    }
    if state.restored.is_some() {
        state.updated.insert(id);
        if before.resources != after.resources {
            state.resized.insert(id);
        }
    }
    session::forget_others(state, id, after);
}
