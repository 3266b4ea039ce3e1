//! The live view: what nodes report, as one coordinator holds it. Soft state, never in Raft.
//!
//! The coordinator fills it through [`LiveView::report`], [`LiveView::facts`] and
//! [`LiveView::seen`], which hold the merging rules; the planner and the edges only read it. Its
//! times are one clock's that never goes back: whoever fills it says so where that clock was set
//! ([`LiveView::clock_set`]).
//! Cloning is O(1).

use std::sync::Arc;

use imbl::OrdMap;
use warren_common::{
    Limits, NodeEpoch, NodeId, ReplicaId, Timestamp, WorkspaceId,
    measure::Pressure,
    status::{NodeFacts, WorkspaceObserved},
};

use crate::observed::Observed;

/// What all nodes report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveView {
    /// When this coordinator began to listen: a node not heard from is silent since then at most.
    pub started: Timestamp,
    /// By node; a node that was never heard from has none.
    pub nodes: OrdMap<NodeId, NodeLive>,
    /// What another coordinator heard of nodes that this one hears nothing of, or never did.
    pub opinions: OrdMap<NodeId, Opinion>,
}

/// What one node reports, all of it in one registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLive {
    /// The registration the reports belong to.
    pub epoch: NodeEpoch,
    /// The highest report taken in this epoch.
    pub sequence: u64,
    /// When anything last came from it, by this coordinator's clock.
    pub last_seen: Timestamp,
    /// It has told all its workspaces in this epoch; before that it takes nothing new.
    pub inventory: bool,
    /// Its newest facts where they came outside a registration.
    pub facts: Option<Arc<NodeFacts>>,
    /// It is short of memory now, so it takes nothing new (rule C): how much of the last minute all
    /// its processes waited for memory, per mille.
    pub pressed: Option<u32>,
    /// Its workspaces.
    pub workspaces: OrdMap<WorkspaceId, Seen>,
    /// What it said in earlier registrations, until it has told all its workspaces in this one: for
    /// people, who are to see a workspace run on while its node registers anew, and for nothing else.
    pub before: OrdMap<WorkspaceId, Seen>,
    /// When anything last came in the registration that `before` stood in.
    pub stood: Timestamp,
    /// When the renewal was sent that a leader last confirmed, as the node says it (lease rule R1).
    pub lease: Option<Timestamp>,
}

/// A second opinion: another coordinator hears the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opinion {
    /// The registration that it hears.
    pub epoch: NodeEpoch,
    /// Which coordinator.
    pub by: ReplicaId,
    /// When it last heard it, by this coordinator's clock.
    pub at: Timestamp,
    /// When the renewal was sent that was last confirmed, as far as anybody else knows.
    pub lease: Option<Timestamp>,
}

/// One observation and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it came, by this coordinator's clock.
    pub received: Timestamp,
    /// What the node said.
    pub observed: Arc<Observed>,
}

/// One report as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The registration it belongs to.
    pub epoch: NodeEpoch,
    /// Counts reports within the epoch, over all streams.
    pub sequence: u64,
    /// When it came, by this coordinator's clock.
    pub received: Timestamp,
    /// All workspaces the node knows, or those that changed.
    pub full: bool,
    /// What it says of them.
    pub workspaces: Vec<WorkspaceObserved>,
}

impl NodeLive {
    /// Returns when all that people are told of its workspaces was last true, as far as is known.
    pub fn said_at(&self) -> Timestamp {
        if self.before.is_empty() { self.last_seen } else { self.stood.min(self.last_seen) }
    }

    /// Returns what is to be told of a registration that has ended, and when that last stood.
    fn left(&self) -> (OrdMap<WorkspaceId, Seen>, Timestamp) {
        let all = self.workspaces.clone().union(self.before.clone());
        let before = match all.len() <= Limits::OBSERVED_PER_NODE {
            true => all,
            false => self.workspaces.clone(),
        };
        (before, self.said_at())
    }

    /// Names the workspaces of which people are told what it said.
    pub fn said(&self) -> impl Iterator<Item = WorkspaceId> {
        self.workspaces.keys().chain(self.before.keys()).copied()
    }

    fn new(epoch: NodeEpoch, at: Timestamp) -> Self {
        Self {
            epoch,
            sequence: 0,
            last_seen: at,
            inventory: false,
            facts: None,
            pressed: None,
            workspaces: OrdMap::new(),
            before: OrdMap::new(),
            stood: at,
            lease: None,
        }
    }
}

/// A node where all processes waited for memory during this share of the last minute (per mille) is
/// under pressure, and stays so until it waits for less than [`PRESSURE_OVER`].
pub const PRESSURE: u32 = 50;
/// Below this it is over: between the two nothing changes, so that a node does not flap.
pub const PRESSURE_OVER: u32 = 20;

impl LiveView {
    /// Makes an empty view that listens from `started` on.
    pub fn new(started: Timestamp) -> Self {
        Self { started, ..Self::default() }
    }

    /// Returns the newest observation of `workspace` by `node`.
    pub fn observed(&self, node: NodeId, workspace: WorkspaceId) -> Option<&Seen> {
        self.nodes.get(&node)?.workspaces.get(&workspace)
    }

    /// Returns what `node` last said of `workspace`, in whichever registration: what people are told.
    pub fn last_said(&self, node: NodeId, workspace: WorkspaceId) -> Option<&Seen> {
        let live = self.nodes.get(&node)?;
        live.workspaces.get(&workspace).or_else(|| live.before.get(&workspace))
    }

    /// Takes a report. A higher epoch replaces everything known; a lower epoch, or a sequence not
    /// above the last one, is refused. Returns whether it was taken.
    pub fn report(&mut self, node: NodeId, report: Report) -> bool {
        let Some(live) = self.enter(node, report.epoch, report.received) else {
            return false;
        };
        if live.sequence >= report.sequence {
            return false;
        }
        live.sequence = report.sequence;
        if report.full {
            live.inventory = true;
            live.before = OrdMap::new();
            let kept = |id: &WorkspaceId| report.workspaces.iter().any(|one| one.workspace == *id);
            live.workspaces = live.workspaces.iter().filter(|(id, _)| kept(id)).map(own).collect();
        }
        for observed in report.workspaces {
            let id = observed.workspace;
            let room = live.workspaces.len() < Limits::OBSERVED_PER_NODE;
            if room || live.workspaces.contains_key(&id) {
                let seen = Seen { received: report.received, observed: Arc::new(observed.into()) };
                live.workspaces.insert(id, seen);
            }
        }
        true
    }

    /// Takes facts that came outside a registration. Returns whether they were taken.
    pub fn facts(
        &mut self,
        node: NodeId,
        epoch: NodeEpoch,
        (facts, at): (NodeFacts, Timestamp),
    ) -> bool {
        match self.enter(node, epoch, at) {
            Some(live) => {
                live.facts = Some(Arc::new(facts));
                true
            }
            None => false,
        }
    }

    /// Takes what a node says of how its processes waited for memory. Returns whether it counts.
    pub fn pressure(&mut self, node: NodeId, epoch: NodeEpoch, memory: Pressure) -> bool {
        let live = self.nodes.get_mut(&node).filter(|live| live.epoch == epoch);
        let Some(live) = live else { return false };
        let floor = if live.pressed.is_some() { PRESSURE_OVER } else { PRESSURE };
        live.pressed = (memory.full_60 >= floor).then_some(memory.full_60);
        true
    }

    /// Notes a sign of life, such as a lease renewal. Returns whether it counts.
    pub fn seen(&mut self, node: NodeId, epoch: NodeEpoch, at: Timestamp) -> bool {
        self.enter(node, epoch, at).is_some()
    }

    /// Notes when the lease was last confirmed, as the node says it in this epoch. An older word
    /// changes nothing.
    pub fn lease(&mut self, node: NodeId, epoch: NodeEpoch, confirmed: Timestamp) {
        if let Some(live) = self.nodes.get_mut(&node).filter(|live| live.epoch == epoch) {
            live.lease = live.lease.max(Some(confirmed));
        }
    }

    /// Returns when the renewal was sent that was last confirmed, as far as anybody told.
    pub fn confirmed(&self, node: NodeId) -> Option<Timestamp> {
        let own = self.nodes.get(&node).and_then(|live| live.lease);
        own.max(self.opinions.get(&node).and_then(|opinion| opinion.lease))
    }

    /// Notes that another coordinator hears the node. That nothing of this registration came here
    /// makes it no less true; an older registration or an older word changes nothing.
    pub fn opinion(&mut self, node: NodeId, told: Opinion) {
        let known = self.opinions.get(&node).copied();
        let lease = known.and_then(|known| known.lease).max(told.lease);
        let newest = match known {
            Some(known) if (known.epoch, known.at) > (told.epoch, told.at) => known,
            Some(_) | None => told,
        };
        self.opinions.insert(node, Opinion { lease, ..newest });
    }

    /// Moves every time along where the clock that they were read from was set: it would show `from`
    /// and shows `to`. What was heard a second ago stays a second ago.
    pub fn clock_set(&mut self, from: Timestamp, to: Timestamp) {
        let moved = |at: Timestamp| match to >= from {
            true => at.plus(to.since(from)),
            false => Timestamp(at.0.saturating_sub(from.0 - to.0)),
        };
        let seen = |(id, seen): (&WorkspaceId, &Seen)| {
            (*id, Seen { received: moved(seen.received), ..seen.clone() })
        };
        let node = |(id, live): (&NodeId, &NodeLive)| {
            let workspaces = live.workspaces.iter().map(seen).collect();
            let before = live.before.iter().map(seen).collect();
            let lease = live.lease.map(moved);
            let [last_seen, stood] = [live.last_seen, live.stood].map(moved);
            (*id, NodeLive { last_seen, workspaces, before, stood, lease, ..live.clone() })
        };
        let opinion = |(id, one): (&NodeId, &Opinion)| {
            (*id, Opinion { at: moved(one.at), lease: one.lease.map(moved), ..*one })
        };
        self.started = moved(self.started);
        self.nodes = self.nodes.iter().map(node).collect();
        self.opinions = self.opinions.iter().map(opinion).collect();
    }

    /// The node's entry for `epoch`, made or replaced where that is newer; none where it is older.
    fn enter(&mut self, node: NodeId, epoch: NodeEpoch, at: Timestamp) -> Option<&mut NodeLive> {
        let known = self.nodes.get(&node);
        if known.is_some_and(|known| known.epoch > epoch) {
            return None;
        }
        if known.is_none_or(|known| known.epoch != epoch) {
            let (before, stood) = known.map_or((OrdMap::new(), at), NodeLive::left);
            self.nodes.insert(node, NodeLive { before, stood, ..NodeLive::new(epoch, at) });
        }
        let live = self.nodes.get_mut(&node)?;
        live.last_seen = live.last_seen.max(at);
        Some(live)
    }
}

fn own((id, seen): (&WorkspaceId, &Seen)) -> (WorkspaceId, Seen) {
    (*id, seen.clone())
}
