//! From reports to phases: which step, if any, follows for one workspace.
//!
//! Only reports of the current registration, generation and run count. Facts that are final for a
//! run (it stopped, it failed) count however old they are; what gives a right (a permit) needs a
//! node that is heard from now.

use std::time::Duration;

use warren_common::{NodeId, Timestamp, status::RunState};

use crate::{
    command::{Advance, Command, Forget, Step},
    live::Seen,
    liveness::{Liveness, span},
    observed::Observed,
    plan::Round,
    state::{Assignment, Desired, PhaseKind, Workspace},
};

/// A running workspace that its node no longer knows must be reported so for this long after it
/// became active: a report that was on its way before does not count.
pub const LOST_AFTER: Duration = Duration::from_secs(30);

/// What follows for one workspace.
#[derive(Debug, Default)]
pub(crate) struct Next {
    pub(crate) command: Option<Command>,
    pub(crate) overdue: Option<String>,
    pub(crate) wake_at: Option<Timestamp>,
}

pub(crate) fn next(round: &Round<'_>, workspace: &Workspace) -> Next {
    let Some(assignment) = &workspace.assignment else { return Next::default() };
    let recovery = round.state.recovery.as_ref();
    if recovery.is_some_and(|recovery| recovery.awaited.contains(&assignment.node)) {
        return Next::default();
    }
    let seen = current(round, workspace, assignment);
    let mut next = Next::default();
    if let Some(seen) = seen {
        next.command = match workspace.desired {
            Desired::Deleted if recovery.is_some() => None,
            Desired::Deleted => forget(workspace, &seen.observed),
            Desired::Stopped => stopped(workspace, &seen.observed),
            Desired::Running => running(round, workspace, (assignment, seen)),
        };
    }
    let prepared = seen.is_some_and(|seen| seen.observed.state == RunState::Prepared);
    if prepared && workspace.desired == Desired::Running {
        next.wake_at = workspace.not_before;
    }
    if let Some(deadline) = workspace.phase.deadline.filter(|_| next.command.is_none()) {
        if round.now > deadline {
            next.overdue = Some(overdue(round, workspace, (assignment.node, seen)));
        } else {
            // the first moment past it
            let late = deadline.plus(Duration::from_millis(1));
            next.wake_at = Some(next.wake_at.map_or(late, |at| at.min(late)));
        }
    }
    next
}

/// The newest report of the current registration, generation and run.
fn current<'a>(
    round: &'a Round<'_>,
    workspace: &Workspace,
    assignment: &Assignment,
) -> Option<&'a Seen> {
    let node = round.state.nodes.get(&assignment.node)?;
    let live = round.live.nodes.get(&node.id).filter(|live| live.epoch == node.epoch)?;
    let seen = live.workspaces.get(&workspace.id)?;
    let same = seen.observed.generation == assignment.generation
        && seen.observed.run_serial == workspace.run_serial;
    same.then_some(seen)
}

fn forget(workspace: &Workspace, observed: &Observed) -> Option<Command> {
    let gone = observed.state == RunState::Absent;
    gone.then(|| {
        let generation = workspace.generation;
        Command::Forget(Forget { workspace: workspace.id, generation })
    })
}

fn stopped(workspace: &Workspace, observed: &Observed) -> Option<Command> {
    let stopped = match observed.state {
        RunState::Stopped { .. } | RunState::Absent => true,
        RunState::Preparing
        | RunState::Prepared
        | RunState::Starting
        | RunState::Running
        | RunState::Stopping
        | RunState::Failed { .. } => false,
    };
    (stopped && workspace.phase.kind == PhaseKind::Stopping)
        .then(|| advance(workspace, Step::Stopped))
}

fn running(
    round: &Round<'_>,
    workspace: &Workspace,
    (assignment, seen): (&Assignment, &Seen),
) -> Option<Command> {
    use PhaseKind::{Active, Assigned, Preparing, StartPermitted};
    let kind = &workspace.phase.kind;
    if !matches!(kind, Active | Assigned | Preparing | StartPermitted) {
        return None;
    }
    let observed = &seen.observed;
    let step = match &observed.state {
        RunState::Stopped { exit_code, oom } => {
            Some(Step::Ended { reason: how_it_ended(*exit_code, *oom) })
        }
        RunState::Failed { code, retry: false } => {
            Some(Step::Fail { code: code.clone(), reason: observed.reason.to_string() })
        }
        RunState::Starting | RunState::Running => (*kind == StartPermitted).then_some(Step::Active),
        RunState::Preparing | RunState::Prepared | RunState::Absent if *kind == Active => {
            lost(workspace, seen)
        }
        RunState::Prepared => {
            let preparing = (*kind == Assigned).then_some(Step::Preparing);
            permit(round, workspace, assignment).or(preparing)
        }
        RunState::Preparing | RunState::Failed { retry: true, .. } => {
            (*kind == Assigned).then_some(Step::Preparing)
        }
        RunState::Absent | RunState::Stopping => None,
    };
    step.map(|step| advance(workspace, step))
}

/// The permit to start in its node's boot: the node is heard from, the back-off is over, and there is no
/// such permit yet.
fn permit(round: &Round<'_>, workspace: &Workspace, assignment: &Assignment) -> Option<Step> {
    let boot = round.state.nodes.get(&assignment.node)?.facts.boot;
    let ready = round.standings.get(&assignment.node)?.liveness == Liveness::Ready;
    let waited = workspace.not_before.is_none_or(|end| round.now >= end);
    let permitted = assignment.permit.is_some_and(|permit| permit.boot == boot);
    (ready && waited && !permitted).then_some(Step::Permit { boot })
}

/// A node that lost its ledger prepares a run that had been running: that run is over.
fn lost(workspace: &Workspace, seen: &Seen) -> Option<Step> {
    let settled = seen.received.since(workspace.phase.since) >= LOST_AFTER;
    settled.then(|| Step::Ended { reason: "its node lost the running container".to_owned() })
}

fn how_it_ended(exit_code: Option<i32>, oom: bool) -> String {
    match (oom, exit_code) {
        (true, _) => "it was killed for memory".to_owned(),
        (false, Some(0)) => "it ended by itself".to_owned(),
        (false, Some(code)) => format!("it ended with exit code {code}"),
        (false, None) => "it is not running any more".to_owned(),
    }
}

fn advance(workspace: &Workspace, step: Step) -> Command {
    Command::Advance(Advance {
        workspace: workspace.id,
        generation: workspace.generation,
        run_serial: workspace.run_serial,
        step,
    })
}

/// What it waits for, and for how long it should not have.
fn overdue(
    round: &Round<'_>,
    workspace: &Workspace,
    (node, seen): (NodeId, Option<&Seen>),
) -> String {
    let since = span(round.now.since(workspace.phase.since));
    let (kind, name) = (workspace.phase.kind.as_str(), round.state.node_label(node));
    let standing = round.standings.get(&node);
    let silent = standing.filter(|standing| standing.liveness != Liveness::Ready);
    let waits = match (silent, seen) {
        (Some(standing), _) => format!("waiting for node {name}: {}", standing.reason),
        (None, Some(seen)) if !seen.observed.reason.is_empty() => {
            let (state, why) = (seen.observed.state.as_str(), &seen.observed.reason);
            format!("node {name} reports {state}: {why}")
        }
        (None, Some(seen)) => format!("node {name} reports {}", seen.observed.state.as_str()),
        (None, None) => format!("node {name} has not reported on it"),
    };
    format!("{kind} for {since}; {waits}")
}
