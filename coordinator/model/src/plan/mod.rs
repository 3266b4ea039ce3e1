//! The planner: state and observation in, commands and their reasons out.
//!
//! Pure and without memory: whoever runs it may be killed between any two commands, and the next
//! round decides again from what is there. Filters are in [`fit`], the choice in [`place`] and
//! [`score`], the phases that follow from reports in [`phases`], the sentences in [`text`].

pub mod fit;
pub mod phases;
pub mod place;
pub mod resize;
pub mod score;
pub mod text;
pub mod update;

use std::{collections::BTreeMap, time::Duration};

use warren_common::{
    ClientId, Limits, NodeId, Timestamp, WorkspaceId, spec::WorkspaceSpec, status::NodeFacts,
};

use crate::{
    command::{Assign, Command, EndRecovery, UpdateNodeFacts},
    live::LiveView,
    liveness::{NodeStanding, liveness},
    state::{ClusterState, Desired, PhaseKind, Workspace},
};

pub use place::{Candidate, Explanation, FilterCount};
pub use score::ScorePart;

use fit::{Load, Need};
use place::Nowhere;

/// What is queued is looked at again after this time even if nothing woke the planner.
pub const RESCAN: Duration = Duration::from_secs(60);

/// Candidates kept of each decision of a round; [`explain`] has them all.
const KEPT: usize = 3;

/// What to do now, why, and when to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be proposed in this order; at most [`Limits::PLAN_COMMANDS`].
    pub commands: Vec<Command>,
    /// What was decided and what was not.
    pub report: PlanReport,
    /// When something will be due if nothing happens before; none where nothing will be.
    pub wake_at: Option<Timestamp>,
}

/// The reasons of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanReport {
    /// What is placed now, in queue order.
    pub placed: Vec<(WorkspaceId, Explanation)>,
    /// What stays queued, in queue order; an explanation's position says the place in the queue.
    pub queued: Vec<(WorkspaceId, Explanation)>,
    /// How many more of the queue the round did not come to: it had decided enough.
    pub unread: usize,
    /// What takes longer than it should, by workspace, with the reason.
    pub overdue: Vec<(WorkspaceId, String)>,
    /// How each node is heard from, by node; retired ones are left out.
    pub nodes: Vec<(NodeId, NodeStanding)>,
}

/// A workspace that does not exist yet, for [`preview`].
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Whose it would be.
    pub client: ClientId,
    /// What is asked for.
    pub spec: &'a WorkspaceSpec,
}

/// What a round knows: computed once, then only the loads move as it places.
pub(crate) struct Round<'a> {
    pub(crate) state: &'a ClusterState,
    pub(crate) live: &'a LiveView,
    pub(crate) now: Timestamp,
    pub(crate) standings: BTreeMap<NodeId, NodeStanding>,
    pub(crate) loads: BTreeMap<NodeId, Load>,
}

impl<'a> Round<'a> {
    fn new(state: &'a ClusterState, live: &'a LiveView, now: Timestamp) -> Self {
        let there = || state.nodes.values().filter(|node| place::counts(node));
        let standings = there().map(|node| (node.id, liveness(node, live, now))).collect();
        let mut loads: BTreeMap<NodeId, Load> =
            there().map(|node| (node.id, Load::default())).collect();
        // one walk over all of them: asking node by node takes a search for each workspace
        for workspace in state.workspaces.values() {
            let on = workspace.assignment.as_ref().map(|assignment| assignment.node);
            if let Some(load) = on.and_then(|node| loads.get_mut(&node)) {
                load.add(workspace.client, &workspace.spec.resources);
            }
        }
        Self { state, live, now, standings, loads }
    }
}

/// Decides what is to be done now.
pub fn plan(state: &ClusterState, live: &LiveView, now: Timestamp) -> Plan {
    let mut round = Round::new(state, live, now);
    let mut plan = Plan::default();
    let mut wake = Wake { now, at: None };
    plan.commands.extend(changed_facts(&round));
    for workspace in state.workspaces.values() {
        let next = phases::next(&round, workspace);
        next.wake_at.into_iter().for_each(|at| wake.at(at));
        plan.commands.extend(next.command);
        if let Some(reason) = next.overdue {
            plan.report.overdue.push((workspace.id, reason));
        }
    }
    if let Some(recovery) = &state.recovery {
        match recovery.over_at() {
            Some(at) if now >= at => {
                let end = EndRecovery { node: None, early: false };
                plan.commands.push(Command::EndRecovery(end));
            }
            at => at.into_iter().for_each(|at| wake.at(at)),
        }
    }
    place_queued(&mut round, &mut plan, Upto::Commands(Limits::PLAN_COMMANDS));
    if !plan.report.queued.is_empty() {
        wake.at(now.plus(RESCAN));
    }
    for standing in round.standings.values() {
        standing.changes_at.into_iter().for_each(|at| wake.at(at));
    }
    if plan.commands.len() > Limits::PLAN_COMMANDS || plan.report.unread > 0 {
        plan.commands.truncate(Limits::PLAN_COMMANDS);
        wake.at = Some(now);
    }
    plan.report.nodes = round.standings.into_iter().collect();
    plan.wake_at = wake.at;
    plan
}

/// Whether [`plan`] reads the same of two states, so that it decides the same at the same moment.
/// It may say no of equal ones. Of a client only the name is read, which never changes.
pub fn reads_alike(one: &ClusterState, other: &ClusterState) -> bool {
    one.nodes.ptr_eq(&other.nodes)
        && one.workspaces.ptr_eq(&other.workspaces)
        && one.placed.ptr_eq(&other.placed)
        && one.recovery == other.recovery
}

/// Explains where a workspace is or would go, or why it goes nowhere; none where there is no such
/// workspace. For a placed one the filters and scores tell how the nodes stand now, as if it were
/// placed again.
pub fn explain(
    state: &ClusterState,
    live: &LiveView,
    workspace: WorkspaceId,
    now: Timestamp,
) -> Option<Explanation> {
    let workspace = state.workspaces.get(&workspace)?;
    let mut round = Round::new(state, live, now);
    if let Some(assignment) = &workspace.assignment {
        if let Some(load) = round.loads.get_mut(&assignment.node) {
            // its own share is free for itself
            *load = Load::default();
            for other in state.workspaces_on(assignment.node).filter(|one| one.id != workspace.id) {
                load.add(other.client, &other.spec.resources);
            }
        }
        let mut explanation = place::choose(&round, &need(state, workspace)?);
        explanation.node = Some(assignment.node);
        explanation.summary = assignment.reason.to_string();
        return Some(explanation);
    }
    // those before it are placed first
    let mut before = Plan::default();
    place_queued(&mut round, &mut before, Upto::End(Some(workspace.id)));
    let PlanReport { placed, queued, .. } = before.report;
    let mut all = placed.into_iter().chain(queued);
    let found = all.find(|(id, _)| *id == workspace.id).map(|(_, explanation)| explanation);
    match found {
        Some(explanation) => Some(explanation),
        None => {
            let mut explanation = place::choose(&round, &need(state, workspace)?);
            explanation.node = None;
            explanation.summary = workspace.phase.reason.to_string();
            Some(explanation)
        }
    }
}

/// Explains where a workspace that does not exist yet would go now; `node` is none where nothing
/// fits or where others wait before it. The API calls it for `no_queue`, before it proposes:
/// `apply` has no live view and queues whatever is valid. None where there is no such client.
pub fn preview(
    state: &ClusterState,
    live: &LiveView,
    ask: &Ask<'_>,
    now: Timestamp,
) -> Option<Explanation> {
    let mut round = Round::new(state, live, now);
    let mut before = Plan::default();
    place_queued(&mut round, &mut before, Upto::End(None));
    let client = state.clients.get(&ask.client)?;
    let need = Need::asked(client, ask.spec);
    let mut explanation = place::choose(&round, &need);
    hold_back(state, &mut explanation);
    if explanation.node.is_none() {
        explanation.position = u32::try_from(before.report.queued.len() + 1).ok();
    }
    Some(explanation)
}

/// Nothing is placed while the cluster recovers: what is found later may need the room.
fn hold_back(state: &ClusterState, explanation: &mut Explanation) {
    if let Some(recovery) = &state.recovery {
        explanation.node = None;
        explanation.summary = recovery.holds_back(state);
    }
}

fn need<'a>(state: &'a ClusterState, workspace: &'a Workspace) -> Option<Need<'a>> {
    let client = state.clients.get(&workspace.client)?;
    Some(Need::of(client, workspace))
}

/// How much of the queue is placed.
#[derive(Clone, Copy)]
enum Upto {
    /// Until the plan has so many commands: what comes after them is left for the next round.
    Commands(usize),
    /// All of it; of the decision on this one every candidate is kept.
    End(Option<WorkspaceId>),
}

/// Places what is queued, oldest first; a small one may pass a large one that fits nowhere. Of each
/// decision only the first candidates are kept.
fn place_queued(round: &mut Round<'_>, plan: &mut Plan, upto: Upto) {
    let state = round.state;
    let (most, whole) = match upto {
        Upto::Commands(most) => (most, None),
        Upto::End(whole) => (usize::MAX, whole),
    };
    let waiting =
        |one: &&Workspace| one.phase.kind == PhaseKind::Queued && one.desired == Desired::Running;
    let mut queue: Vec<&Workspace> =
        state.workspaces.values().map(AsRef::as_ref).filter(waiting).collect();
    queue.sort_by_key(|one| (one.created, one.id));
    let mut nowhere = Nowhere::default();
    for (at, workspace) in queue.iter().enumerate() {
        if plan.commands.len() >= most {
            plan.report.unread = queue.len() - at;
            break;
        }
        let Some(need) = need(state, workspace) else { continue };
        let kept = if whole == Some(workspace.id) {
            nowhere = Nowhere::default();
            usize::MAX
        } else {
            KEPT
        };
        let mut explanation = nowhere.or_judge(&need, || {
            let mut explanation = place::choose(round, &need);
            hold_back(state, &mut explanation);
            explanation.candidates.truncate(kept);
            explanation
        });
        let Some(node) = explanation.node else {
            explanation.position = u32::try_from(plan.report.queued.len() + 1).ok();
            plan.report.queued.push((workspace.id, explanation));
            continue;
        };
        if let Some(load) = round.loads.get_mut(&node) {
            load.add(workspace.client, &workspace.spec.resources);
        }
        plan.commands.push(Command::Assign(Assign {
            workspace: workspace.id,
            node,
            previous: workspace.generation,
            reason: explanation.summary.clone(),
        }));
        plan.report.placed.push((workspace.id, explanation));
    }
}

/// Facts that nodes sent after they registered and that matter to placement or to people.
fn changed_facts(round: &Round<'_>) -> Vec<Command> {
    let mut commands = Vec::new();
    for (id, live) in &round.live.nodes {
        let Some(node) = round.state.nodes.get(id).filter(|node| place::counts(node)) else {
            continue;
        };
        let Some(facts) = live.facts.as_ref().filter(|_| live.epoch == node.epoch) else {
            continue;
        };
        let labels = round.state.effective_labels(*id, &facts.labels);
        let seen = NodeFacts { labels, ..NodeFacts::clone(facts) };
        if facts.boot == node.facts.boot && matters(&node.facts, &seen) {
            let facts = NodeFacts::clone(facts);
            commands.push(Command::UpdateNodeFacts(UpdateNodeFacts { node: *id, facts }));
        }
    }
    commands
}

/// Free disk moves all the time: a change below a twentieth is left alone.
fn matters(known: &NodeFacts, said: &NodeFacts) -> bool {
    let moved = known.disk.0.abs_diff(said.disk.0);
    let same = NodeFacts { disk: known.disk, ..said.clone() } == *known;
    !same || moved > known.disk.0 / 20
}

/// The earliest of the times still to come.
struct Wake {
    now: Timestamp,
    at: Option<Timestamp>,
}

impl Wake {
    fn at(&mut self, at: Timestamp) {
        if at > self.now {
            self.at = Some(self.at.map_or(at, |earlier| earlier.min(at)));
        }
    }
}
