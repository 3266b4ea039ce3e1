//! The live view: what nodes reported last, as far as this coordinator has heard.
//!
//! Soft state, fed by the Status streams of every node and never replicated. How reports merge is
//! the model's ([`LiveView`]); here is the lock around it, what nodes have free, and who is woken
//! by a change. What a node may speak for is decided by the reader, who compares generations with
//! the assignment, because a report may be ahead of what this coordinator has applied.
//!
//! Times are minted here, under the lock, and move along when the wall clock is set ([`Reading`]).

mod clock;
mod moves;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

pub use clock::Reading;
use clock::{Clock, Set};
use imbl::OrdMap;
use moves::Moves;
use tokio::sync::watch;
use tracing::warn;
use warren_common::{
    Limits, NodeEpoch, NodeId, NodeName, ReplicaId, Timestamp, WorkspaceId, measure::Pressure,
    status::NodeFacts,
};
use warren_model::{
    ClusterState, LiveView, NodeLive, NodeStanding, Observed, Opinion, Report, Seen,
    command::Availability, is_heard, liveness, state::Node,
};
use warren_proto::pb::node::v1::NodeUsage;

use crate::sync::locked;

/// How nodes are heard from, by id, with their names.
pub type Standings = Arc<BTreeMap<NodeId, (NodeName, NodeStanding)>>;

/// Takes reports and tells of changes.
pub struct Live {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    /// How each node was heard from when that was last looked at.
    standings: watch::Sender<Standings>,
    followers: Mutex<BTreeMap<WorkspaceId, watch::Sender<u64>>>,
    /// Whose sessions or browsers stood otherwise.
    moves: Mutex<Moves>,
    moved: watch::Sender<u64>,
    /// How the sessions of each node were told when that was last looked at.
    told_as: Mutex<BTreeMap<NodeId, ToldAs>>,
}

struct State {
    clock: Clock,
    view: LiveView,
    usage: BTreeMap<NodeId, NodeUsage>,
    /// By how much each node's clock is ahead of ours, milliseconds.
    offsets: BTreeMap<NodeId, i64>,
}

/// What came with a report beside what it says of workspaces.
#[derive(Debug, Default)]
pub struct Beside {
    /// What the node has free.
    pub usage: Option<NodeUsage>,
    /// How long ago the renewal was sent that was last confirmed.
    pub lease_age: Option<Duration>,
    /// What the node's own clock showed; zero where it does not tell.
    pub sent: Timestamp,
}

/// What decides how the sessions of a node are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ToldAs {
    /// What it said stands for the present.
    heard: bool,
    /// What its agents do is known, and not only what they did.
    known: bool,
}

#[derive(Default)]
struct Changed {
    /// The planner may decide otherwise.
    standing: bool,
    /// Workspaces of which anything changed.
    workspaces: Vec<WorkspaceId>,
    /// Those whose sessions or browsers stand otherwise.
    sessions: Vec<WorkspaceId>,
}

impl Live {
    /// Makes an empty view that listens from now on, by these clocks.
    pub fn new(clocks: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        let clock = Clock::new(clocks);
        let view = LiveView::new(clock.since());
        Self {
            state: Mutex::new(State {
                clock,
                view,
                usage: BTreeMap::new(),
                offsets: BTreeMap::new(),
            }),
            changes: watch::Sender::new(0),
            standings: watch::Sender::default(),
            followers: Mutex::default(),
            moves: Mutex::default(),
            moved: watch::Sender::new(0),
            told_as: Mutex::default(),
        }
    }

    /// Takes the report that came now, and wakes those who wait for what changed in it. Returns
    /// whether it was taken: an older registration or sequence is not.
    pub fn take(
        &self,
        node: NodeId,
        report: impl FnOnce(Timestamp) -> Report,
        beside: Beside,
    ) -> bool {
        let (mut state, now) = self.now();
        let report = report(now);
        let named: Vec<WorkspaceId> = report.workspaces.iter().map(|one| one.workspace).collect();
        let before = state.view.nodes.get(&node).cloned();
        let epoch = report.epoch;
        if !state.view.report(node, report) {
            return false;
        }
        if let Some(age) = beside.lease_age {
            state.view.lease(node, epoch, earlier(now, age));
        }
        if beside.sent != Timestamp(0) {
            let offset = i128::from(beside.sent.0) - i128::from(now.0);
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            state.offsets.insert(node, offset);
        }
        if let Some(usage) = beside.usage {
            let waits = usage.memory_pressure.map(Pressure::from).unwrap_or_default();
            state.view.pressure(node, epoch, waits);
            state.usage.insert(node, usage);
        }
        let changed =
            state.view.nodes.get(&node).map(|after| compare(before.as_ref(), after, named));
        drop(state);
        self.wake(&changed.unwrap_or_default());
        true
    }

    /// Takes facts that came now, outside a registration.
    pub fn facts(&self, node: NodeId, epoch: NodeEpoch, facts: NodeFacts) {
        let (mut state, now) = self.now();
        let emptied = emptied(&state.view, node, epoch);
        let taken = state.view.facts(node, epoch, (facts, now));
        drop(state);
        if taken {
            let changed = Changed { standing: true, ..Changed::default() };
            self.wake(&emptied.unwrap_or(changed));
        }
    }

    /// Notes a sign of life that came now; the first of a registration wakes the planner.
    pub fn seen(&self, node: NodeId, epoch: NodeEpoch) {
        let (mut state, now) = self.now();
        let emptied = emptied(&state.view, node, epoch);
        let taken = state.view.seen(node, epoch, now);
        drop(state);
        if let Some(changed) = emptied.filter(|_| taken) {
            self.wake(&changed);
        }
    }

    /// Returns the whole view as it is now, and the time that silences are counted to: O(1).
    pub fn snapshot(&self) -> (LiveView, Timestamp) {
        let (state, now) = self.now();
        (state.view.clone(), now)
    }

    /// Returns what `node` last said it has free.
    pub fn usage(&self, node: NodeId) -> Option<NodeUsage> {
        locked(&self.state).usage.get(&node).cloned()
    }

    /// Returns by how much `node`'s clock was ahead of ours when it last reported, milliseconds.
    pub fn clock_offset(&self, node: NodeId) -> Option<i64> {
        locked(&self.state).offsets.get(&node).copied()
    }

    /// Notes what another coordinator heard of `node`: `silent` ago, with its lease confirmed
    /// `lease_age` ago.
    pub fn heard_elsewhere(
        &self,
        (node, epoch): (NodeId, NodeEpoch),
        by: ReplicaId,
        (silent, lease_age): (Duration, Option<Duration>),
    ) {
        let (mut state, now) = self.now();
        let lease = lease_age.map(|age| earlier(now, age));
        state.view.opinion(node, Opinion { epoch, by, at: earlier(now, silent), lease });
    }

    /// Tells how nodes are heard from, whenever that changes.
    pub fn standings(&self) -> watch::Receiver<Standings> {
        self.standings.subscribe()
    }

    /// Looks at how every node of `state` is heard from now, and tells where it changed.
    pub fn look(&self, state: &ClusterState) {
        let (view, now) = self.snapshot();
        let there = state.nodes.values().filter(|one| one.availability != Availability::Retired);
        let standing = |node: &Arc<Node>| (node.name.clone(), liveness(node, &view, now));
        let seen: BTreeMap<_, _> = there.map(|node| (node.id, standing(node))).collect();
        let alike = |told: &Standings| {
            let liveness =
                |(id, (_, one)): (&NodeId, &(NodeName, NodeStanding))| (*id, one.liveness);
            told.iter().map(liveness).eq(seen.iter().map(liveness))
        };
        self.standings.send_if_modified(|told| {
            let differs = !alike(told);
            // the reasons and times of today, whether anybody is told or not
            *told = Arc::new(seen.clone());
            differs
        });
        self.look_at_sessions(state, &view, (&seen, now));
    }

    /// Notes the workspaces of nodes whose sessions are to be told otherwise because nothing is heard:
    /// as the past, or as nobody knows.
    fn look_at_sessions(
        &self,
        state: &ClusterState,
        view: &LiveView,
        (seen, now): (&BTreeMap<NodeId, (NodeName, NodeStanding)>, Timestamp),
    ) {
        let told_as = |id: &NodeId| {
            let last = view.nodes.get(id).map(NodeLive::said_at);
            ToldAs {
                heard: state.nodes.get(id).is_some_and(|node| is_heard(node, view, now)),
                known: last.is_some_and(|last| now.since(last) < Limits::AGENT_UNHEARD),
            }
        };
        let fresh: BTreeMap<NodeId, ToldAs> = seen.keys().map(|id| (*id, told_as(id))).collect();
        let before = std::mem::replace(&mut *locked(&self.told_as), fresh.clone());
        let other = fresh.iter().filter(|(id, now)| before.get(*id) != Some(*now));
        let workspaces: Vec<WorkspaceId> =
            other.filter_map(|(id, _)| view.nodes.get(id)).flat_map(NodeLive::said).collect();
        locked(&self.moves).keep(|id| state.workspaces.contains_key(&id));
        self.note(&workspaces);
    }

    /// Tells whenever sessions or browsers stand otherwise, with a number that grows.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Returns the workspaces whose sessions or browsers stood otherwise after `from`, and up to
    /// where that goes; none where that is too long ago to be known.
    pub fn moved_since(&self, from: u64) -> (u64, Option<BTreeSet<WorkspaceId>>) {
        locked(&self.moves).since(from)
    }

    fn note(&self, workspaces: &[WorkspaceId]) {
        if !workspaces.is_empty() {
            let newest = locked(&self.moves).note(workspaces);
            self.moved.send_if_modified(|told| {
                let later = newest > *told;
                *told = newest.max(*told);
                later
            });
        }
    }

    /// Tells of every report after which the planner may decide otherwise: a workspace stands
    /// elsewhere on its node, or a registration spoke for the first time.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells of changes in what is reported of one workspace; costs nothing for the others.
    pub fn follow(&self, workspace: WorkspaceId) -> watch::Receiver<u64> {
        let mut followers = locked(&self.followers);
        followers.retain(|_, sender| sender.receiver_count() > 0);
        followers.entry(workspace).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Returns the state with its times in those of the wall clock, and what that shows.
    fn now(&self) -> (MutexGuard<'_, State>, Timestamp) {
        let mut state = locked(&self.state);
        let (now, set) = state.clock.now();
        if let Some(Set { from, to }) = set {
            warn!(%from, %to, "the clock was set; silences are counted on");
            state.view.clock_set(from, to);
        }
        (state, now)
    }

    fn wake(&self, changed: &Changed) {
        if changed.standing {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
        self.note(&changed.sessions);
        let followers = locked(&self.followers);
        for workspace in &changed.workspaces {
            if let Some(sender) = followers.get(workspace) {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }
}

/// Returns the moment `age` before `now`.
fn earlier(now: Timestamp, age: Duration) -> Timestamp {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Timestamp(now.0.saturating_sub(age))
}

/// What changes with the first word of another registration that says nothing of workspaces; none
/// where it is of the one that is known.
fn emptied(view: &LiveView, node: NodeId, epoch: NodeEpoch) -> Option<Changed> {
    let before = view.nodes.get(&node);
    if before.is_some_and(|before| before.epoch == epoch) {
        return None;
    }
    let workspaces: Vec<_> = before.into_iter().flat_map(NodeLive::said).collect();
    Some(Changed { standing: true, sessions: workspaces.clone(), workspaces })
}

/// What a report that named these workspaces changed.
fn compare(before: Option<&NodeLive>, after: &NodeLive, named: Vec<WorkspaceId>) -> Changed {
    let Some(before) = before.filter(|before| before.epoch == after.epoch) else {
        let mut workspaces = named;
        workspaces.extend(before.into_iter().flat_map(NodeLive::said));
        return Changed { standing: true, sessions: workspaces.clone(), workspaces };
    };
    let strained = before.pressed.is_some() != after.pressed.is_some();
    let standing = before.inventory != after.inventory || strained;
    let mut changed = Changed { standing, ..Changed::default() };
    for workspace in named {
        let old = before.workspaces.get(&workspace).map(|seen| seen.observed.as_ref());
        let new = after.workspaces.get(&workspace).map(|seen| seen.observed.as_ref());
        if old != new {
            changed.workspaces.push(workspace);
            changed.standing |= !stands_alike(old, new);
            if !shown_alike(old, new) {
                changed.sessions.push(workspace);
            }
        }
    }
    let gone = |had: &OrdMap<WorkspaceId, Seen>| -> Vec<WorkspaceId> {
        had.keys().filter(|id| !after.workspaces.contains_key(*id)).copied().collect()
    };
    if before.workspaces.len() + changed.workspaces.len() > after.workspaces.len() {
        let gone = gone(&before.workspaces);
        changed.standing |= !gone.is_empty();
        changed.lose(&gone);
    }
    if before.inventory != after.inventory {
        // what it held in earlier registrations, and no more
        changed.lose(&gone(&before.before));
    }
    changed
}

impl Changed {
    /// Notes workspaces of which nothing is said any more.
    fn lose(&mut self, gone: &[WorkspaceId]) {
        self.workspaces.extend_from_slice(gone);
        self.sessions.extend_from_slice(gone);
    }
}

/// Whether the two say the same to the planner: what is used and shown aside.
fn stands_alike(one: Option<&Observed>, other: Option<&Observed>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            one.generation == other.generation
                && one.run_serial == other.run_serial
                && one.state == other.state
                && one.reason == other.reason
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether the two tell the same sessions and browsers of the same generation.
fn shown_alike(one: Option<&Observed>, other: Option<&Observed>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            one.generation == other.generation
                && one.sessions_alike(other)
                && one.browsers_alike(other)
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
