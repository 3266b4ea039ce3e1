//! The runs of a workspace: what people ask for, and what the planner derives from reports.
//!
//! Every run has a serial. What was seen of another run, or of another generation, is refused, so
//! a late report never moves a workspace. A permit is for one run in one boot and goes with it.

use std::{sync::Arc, time::Duration};

use warren_common::{
    Limits, Timestamp, WorkspaceId, spec::Permit, status::reason_applied as one_line,
};

use crate::{
    answer::{Outcome, Refusal},
    apply::{Change, Context},
    command::{Advance, RunRequest, SetRun, Step},
    event::EventKind,
    state::{
        ClusterState, Desired, Node, PhaseKind, Workspace,
        workspace::{missing, remove, wrong},
    },
};

/// A run that lasted this long was a good one: the back-off starts again.
pub const RUN_WELL: Duration = Duration::from_secs(10 * 60);
const BACK_OFF_LEAST: Duration = Duration::from_secs(1);
const BACK_OFF_MOST: Duration = Duration::from_secs(5 * 60);

/// Returns how long to wait after `failed_runs` runs in a row ended by themselves: 1 s, doubling to
/// 5 min; nothing after none.
pub fn back_off(failed_runs: u32) -> Duration {
    let Some(doublings) = failed_runs.checked_sub(1) else { return Duration::ZERO };
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    BACK_OFF_LEAST.saturating_mul(factor.max(1)).min(BACK_OFF_MOST)
}

pub(crate) fn set_run(
    state: &mut ClusterState,
    context: &Context,
    command: &SetRun,
) -> Result<Change, Refusal> {
    let SetRun { workspace: id, run } = *command;
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    let label = state.workspace_label(id);
    context.unchanged_since(workspace.revision, || format!("workspace {label}"))?;
    let deleted = workspace.desired == Desired::Deleted;
    let failed = matches!(workspace.phase.kind, PhaseKind::Failed { .. });
    match run {
        RunRequest::Delete if deleted => Ok(Change::none(Outcome::Workspace(id))),
        RunRequest::Start | RunRequest::Stop | RunRequest::Restart if deleted => {
            Err(wrong(format!("workspace {label} is being deleted")))
        }
        RunRequest::Delete if workspace.assignment.is_none() => {
            Ok(remove(state, id, "workspace.delete").more("it had no node"))
        }
        RunRequest::Delete => change(state, context, (id, "workspace.delete"), |one, at| {
            one.desired = Desired::Deleted;
            revoke(one);
            one.enter(PhaseKind::Stopping, "being deleted", at);
        }),
        RunRequest::Stop if workspace.desired == Desired::Stopped => {
            Ok(Change::none(Outcome::Workspace(id)))
        }
        RunRequest::Stop => change(state, context, (id, "workspace.stop"), stop),
        RunRequest::Start if workspace.desired == Desired::Running && !failed => {
            Ok(Change::none(Outcome::Workspace(id)))
        }
        RunRequest::Start => {
            change(state, context, (id, "workspace.start"), |one, at| run_anew(one, "started", at))
        }
        RunRequest::Restart => change(state, context, (id, "workspace.restart"), |one, at| {
            run_anew(one, "restart requested", at);
        }),
    }
}

fn stop(workspace: &mut Workspace, at: Timestamp) {
    workspace.desired = Desired::Stopped;
    revoke(workspace);
    match workspace.assignment {
        Some(_) => workspace.enter(PhaseKind::Stopping, "stop requested", at),
        None => workspace.enter(PhaseKind::Stopped, "stopped before it was placed", at),
    }
}

/// Has a workspace run, as a new run where it has a node.
pub(crate) fn run_anew(workspace: &mut Workspace, why: &str, at: Timestamp) {
    workspace.desired = Desired::Running;
    workspace.failed_runs = 0;
    revoke(workspace);
    match workspace.assignment {
        Some(_) => {
            workspace.run_serial = workspace.run_serial.saturating_add(1);
            workspace.enter(PhaseKind::Preparing, why, at);
        }
        None => workspace.enter(PhaseKind::Queued, "waiting for a node", at),
    }
}

/// Takes the right to start back, and the wait for the next one.
fn revoke(workspace: &mut Workspace) {
    workspace.not_before = None;
    if let Some(assignment) = &mut workspace.assignment {
        assignment.permit = None;
    }
}

/// Changes one workspace and tells how its phase moved.
pub(crate) fn change(
    state: &mut ClusterState,
    context: &Context,
    (id, action): (WorkspaceId, &'static str),
    how: impl FnOnce(&mut Workspace, Timestamp),
) -> Result<Change, Refusal> {
    let label = state.workspace_label(id);
    let workspace = Arc::make_mut(state.workspaces.get_mut(&id).ok_or_else(|| missing(id))?);
    let from = Some(workspace.phase.kind.clone());
    how(workspace, context.at);
    workspace.revision = context.revision;
    let to = workspace.phase.kind.clone();
    let detail =
        format!("run {}, {}: {}", workspace.run_serial, to.as_str(), workspace.phase.reason);
    Ok(Change::new(action, Outcome::Workspace(id))
        .object(&label, &id)
        .detail(detail)
        .event(EventKind::WorkspacePhase { workspace: id, from, to }))
}

pub(crate) fn advance(
    state: &mut ClusterState,
    context: &Context,
    command: &Advance,
) -> Result<Change, Refusal> {
    let id = command.workspace;
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    let label = state.workspace_label(id);
    let (generation, serial) = (workspace.generation, workspace.run_serial);
    if workspace.assignment.is_none() || generation != command.generation {
        let seen = command.generation;
        return Err(wrong(format!("workspace {label} is at generation {generation}, not {seen}")));
    }
    if serial != command.run_serial {
        let seen = command.run_serial;
        return Err(wrong(format!("workspace {label} is at run {serial}, not {seen}")));
    }
    legal(state, workspace, context.at, &command.step).map_err(|why| {
        let (kind, step) = (workspace.phase.kind.as_str(), command.step.as_str());
        wrong(format!("workspace {label} is {kind}, it cannot become {step}: {why}"))
    })?;
    let action = command.step.action();
    change(state, context, (id, action), |one, at| take(one, &command.step, at))
}

/// Says why a step does not follow from where the workspace stands; nothing where it does.
fn legal(
    state: &ClusterState,
    workspace: &Workspace,
    at: Timestamp,
    step: &Step,
) -> Result<(), &'static str> {
    use PhaseKind::{Active, Assigned, Preparing, StartPermitted, Stopping};
    let kind = &workspace.phase.kind;
    let wanted = match step {
        Step::Stopped => Desired::Stopped,
        Step::Preparing
        | Step::Permit { .. }
        | Step::Active
        | Step::Ended { .. }
        | Step::Fail { .. } => Desired::Running,
    };
    if workspace.desired != wanted {
        return Err("another run state was asked for");
    }
    let follows = match step {
        Step::Preparing => matches!(kind, Assigned),
        Step::Permit { boot } => {
            let assignment = workspace.assignment.as_ref();
            let node = assignment.and_then(|one| state.nodes.get(&one.node));
            if node.is_none_or(|node: &Arc<Node>| node.facts.boot != *boot) {
                return Err("its node is in another boot");
            }
            if workspace.not_before.is_some_and(|end| at < end) {
                return Err("its back-off is not over");
            }
            let permit = assignment.and_then(|one| one.permit);
            let moved = permit.is_some_and(|permit| permit.boot != *boot);
            matches!(kind, Assigned | Preparing) || (matches!(kind, StartPermitted) && moved)
        }
        Step::Active => matches!(kind, StartPermitted),
        Step::Stopped => matches!(kind, Stopping),
        Step::Ended { .. } | Step::Fail { .. } => {
            matches!(kind, Assigned | Preparing | StartPermitted | Active)
        }
    };
    if follows { Ok(()) } else { Err("that does not follow") }
}

fn take(workspace: &mut Workspace, step: &Step, at: Timestamp) {
    match step {
        Step::Preparing => {
            workspace.enter(PhaseKind::Preparing, "its node makes volume and container", at);
        }
        Step::Permit { boot } => {
            let permit = Permit { run_serial: workspace.run_serial, boot: *boot };
            workspace.not_before = None;
            if let Some(assignment) = &mut workspace.assignment {
                assignment.permit = Some(permit);
            }
            workspace.enter(PhaseKind::StartPermitted, "its node may start it", at);
        }
        Step::Active => workspace.enter(PhaseKind::Active, "it runs", at),
        Step::Stopped => workspace.enter(PhaseKind::Stopped, "stopped as asked", at),
        Step::Ended { reason } => ended(workspace, reason, at),
        Step::Fail { code, reason } => {
            revoke(workspace);
            let mut code = code.clone();
            code.retain(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            code.truncate(Limits::NAME_BYTES);
            let code = if code.is_empty() { "UNKNOWN".to_owned() } else { code };
            let why = one_line(reason);
            let why = if why.trim().is_empty() { code.clone() } else { why };
            workspace.enter(PhaseKind::Failed { code: code.into() }, &why, at);
        }
    }
}

fn ended(workspace: &mut Workspace, how: &str, at: Timestamp) {
    let active = workspace.phase.kind == PhaseKind::Active;
    if active && at.since(workspace.phase.since) >= RUN_WELL {
        workspace.failed_runs = 0;
    }
    workspace.failed_runs = workspace.failed_runs.saturating_add(1);
    workspace.run_serial = workspace.run_serial.saturating_add(1);
    revoke(workspace);
    let wait = back_off(workspace.failed_runs);
    workspace.not_before = Some(at.plus(wait));
    let how = one_line(how);
    let how = if how.trim().is_empty() { "it ended by itself" } else { &how };
    let why = format!("{how}; it starts again after {} s", wait.as_secs());
    workspace.enter(PhaseKind::Preparing, &why, at);
}
