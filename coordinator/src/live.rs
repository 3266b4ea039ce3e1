//! The live view: what nodes reported last, as far as this coordinator has heard.
//!
//! Soft state, fed by the Status streams of every node and never replicated. The newest report per
//! workspace and node is kept, with the moment it came by *this* coordinator's clock. What a report
//! may speak for is decided when it is read ([`LiveState::observed`] asks for the assignment's
//! generation), because a report may be ahead of what this coordinator has applied.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;
use warren_common::{
    Bytes, Limits, NodeEpoch, NodeId, Timestamp, WorkspaceId, status::WorkspaceObserved,
};

use crate::sync::locked;

/// What one node said of itself and its workspaces, as far as it was heard here.
#[derive(Debug, Clone, Default)]
pub struct NodeReport {
    /// Registration the newest report belongs to.
    pub epoch: NodeEpoch,
    /// Its number within the registration.
    pub sequence: u64,
    /// When it came, by this coordinator's clock.
    pub received: Timestamp,
    /// What the node has free; none before the first report that says it.
    pub usage: Option<NodeUsage>,
    /// Its workspaces, each with when it was last reported.
    pub workspaces: BTreeMap<WorkspaceId, (WorkspaceObserved, Timestamp)>,
}

/// What a node has free at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeUsage {
    /// Memory the kernel would give without swapping.
    pub memory_available: Bytes,
    /// Free space where homes are kept.
    pub disk_available: Bytes,
    /// One-minute load, thousandths.
    pub load_milli: u32,
}

/// One report as it came in.
#[derive(Debug, Clone)]
pub struct Report {
    /// Registration it belongs to.
    pub epoch: NodeEpoch,
    /// Its number within the registration.
    pub sequence: u64,
    /// All workspaces the node knows, not only those that changed.
    pub full: bool,
    /// The workspaces it speaks of.
    pub workspaces: Vec<WorkspaceObserved>,
    /// What the node has free.
    pub usage: Option<NodeUsage>,
}

/// Why a report is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// A newer registration of the node has reported.
    #[error("the report is of an older registration")]
    OldEpoch,
    /// A newer report of the registration came before.
    #[error("the report is older than one taken before")]
    OldSequence,
    /// It would make the node known for more workspaces than a node may have.
    #[error("the report names more than {limit} workspaces", limit = Limits::WORKSPACES_PER_NODE)]
    TooMany,
}

/// All reports at one moment: cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LiveState {
    nodes: BTreeMap<NodeId, Arc<NodeReport>>,
}

/// Takes reports and tells of changes.
pub struct Live {
    state: Mutex<LiveState>,
    changes: watch::Sender<u64>,
    followers: Mutex<BTreeMap<WorkspaceId, watch::Sender<u64>>>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            followers: Mutex::default(),
        }
    }
}

impl LiveState {
    /// Every node that was heard of.
    pub const fn nodes(&self) -> &BTreeMap<NodeId, Arc<NodeReport>> {
        &self.nodes
    }

    /// What `node` reported last; none when it was never heard here.
    pub fn node(&self, node: NodeId) -> Option<&NodeReport> {
        self.nodes.get(&node).map(Arc::as_ref)
    }

    /// What `node` last said of `workspace`, and when; whatever generation it spoke of.
    pub fn observed(
        &self,
        node: NodeId,
        workspace: WorkspaceId,
    ) -> Option<&(WorkspaceObserved, Timestamp)> {
        self.nodes.get(&node)?.workspaces.get(&workspace)
    }
}

impl Live {
    /// Takes a report that came in at `received`, and wakes those who wait for what changed in it.
    ///
    /// # Errors
    /// Older reports are dropped and change nothing.
    pub fn take(&self, node: NodeId, report: Report, received: Timestamp) -> Result<(), Dropped> {
        let changed = {
            let mut state = locked(&self.state);
            let slot = state.nodes.entry(node).or_default();
            let mut next = NodeReport::clone(slot);
            let changed = next.absorb(report, received)?;
            *slot = Arc::new(next);
            changed
        };
        self.wake(&changed);
        Ok(())
    }

    /// Forgets what nodes reported that are no longer among `known`.
    pub fn retain(&self, known: impl Fn(NodeId) -> bool) {
        locked(&self.state).nodes.retain(|node, _| known(*node));
    }

    /// Returns all reports as they are now.
    pub fn snapshot(&self) -> LiveState {
        locked(&self.state).clone()
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

    fn wake(&self, changed: &Changed) {
        if changed.standing {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
        let followers = locked(&self.followers);
        for workspace in &changed.workspaces {
            if let Some(sender) = followers.get(workspace) {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }
}

#[derive(Default)]
struct Changed {
    /// A workspace stands elsewhere, or it is the first report of a registration.
    standing: bool,
    /// Those of which anything changed.
    workspaces: Vec<WorkspaceId>,
}

impl NodeReport {
    fn absorb(&mut self, report: Report, received: Timestamp) -> Result<Changed, Dropped> {
        let known = self.received != Timestamp::default();
        if known && report.epoch < self.epoch {
            return Err(Dropped::OldEpoch);
        }
        let first = !known || report.epoch > self.epoch;
        if !first && report.sequence <= self.sequence {
            return Err(Dropped::OldSequence);
        }
        let kept = if report.full { 0 } else { self.workspaces.len() };
        if kept.saturating_add(report.workspaces.len()) > Limits::WORKSPACES_PER_NODE {
            return Err(Dropped::TooMany);
        }
        let mut before = BTreeMap::new();
        if report.full {
            before = std::mem::take(&mut self.workspaces);
        }
        let mut changed = Changed { standing: first, ..Changed::default() };
        for observed in report.workspaces {
            let id = observed.workspace;
            let earlier = before.remove(&id).or_else(|| self.workspaces.remove(&id));
            if earlier.as_ref().is_none_or(|(earlier, _)| *earlier != observed) {
                changed.workspaces.push(id);
            }
            changed.standing |= earlier.is_none_or(|(earlier, _)| !stands_alike(&earlier, &observed));
            self.workspaces.insert(id, (observed, received));
        }
        changed.standing |= !before.is_empty();
        changed.workspaces.extend(before.into_keys());
        self.epoch = report.epoch;
        self.sequence = report.sequence;
        self.received = received;
        self.usage = report.usage.or(self.usage);
        Ok(changed)
    }
}

/// Whether the two say the same to the planner: what is used and shown aside.
fn stands_alike(one: &WorkspaceObserved, other: &WorkspaceObserved) -> bool {
    one.generation == other.generation
        && one.run_serial == other.run_serial
        && one.state == other.state
        && one.reason == other.reason
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use warren_common::{
        Generation,
        status::{RunState, Usage},
    };

    use super::*;

    fn workspace(n: u128) -> WorkspaceId {
        WorkspaceId::new(Uuid::from_u128(n))
    }

    fn node() -> NodeId {
        NodeId::new(Uuid::from_u128(1))
    }

    fn observed(n: u128, state: RunState) -> WorkspaceObserved {
        WorkspaceObserved {
            workspace: workspace(n),
            generation: Generation::new(1, 1),
            run_serial: 1,
            state,
            reason: "as it is".to_owned(),
            since: Timestamp(1),
            pid: None,
            steps: Vec::new(),
            sessions: Vec::new(),
            usage: Usage::default(),
        }
    }

    fn report(epoch: u64, sequence: u64, workspaces: Vec<WorkspaceObserved>) -> Report {
        Report { epoch: NodeEpoch(epoch), sequence, full: true, workspaces, usage: None }
    }

    #[test]
    fn an_older_epoch_or_sequence_changes_nothing() {
        let live = Live::default();
        let running = || vec![observed(1, RunState::Running)];
        live.take(node(), report(2, 5, running()), Timestamp(10)).expect("first");
        let old = live.take(node(), report(1, 9, Vec::new()), Timestamp(11));
        assert_eq!(old, Err(Dropped::OldEpoch));
        let old = live.take(node(), report(2, 5, Vec::new()), Timestamp(12));
        assert_eq!(old, Err(Dropped::OldSequence));
        let now = live.snapshot();
        assert_eq!(now.observed(node(), workspace(1)).map(|(_, at)| *at), Some(Timestamp(10)));
        live.take(node(), report(3, 1, Vec::new()), Timestamp(13)).expect("a new registration");
        assert!(live.snapshot().observed(node(), workspace(1)).is_none(), "a full report replaces");
        assert!(now.observed(node(), workspace(1)).is_some(), "a snapshot stays as it was");
    }

    #[test]
    fn a_partial_report_keeps_what_it_does_not_name() {
        let live = Live::default();
        let first = report(1, 1, vec![observed(1, RunState::Running), observed(2, RunState::Running)]);
        live.take(node(), first, Timestamp(1)).expect("first");
        let part = report(1, 2, vec![observed(2, RunState::Stopping)]);
        live.take(node(), Report { full: false, ..part }, Timestamp(2)).expect("second");
        let now = live.snapshot();
        let state = |n| now.observed(node(), workspace(n)).map(|(seen, at)| (seen.state.as_str(), at.0));
        assert_eq!(state(1), Some(("running", 1)));
        assert_eq!(state(2), Some(("stopping", 2)));
    }

    #[test]
    fn only_followers_of_what_changed_are_woken() {
        let live = Live::default();
        let (mut one, mut two) = (live.follow(workspace(1)), live.follow(workspace(2)));
        let all = live.changes();
        let seen = || vec![observed(1, RunState::Running)];
        live.take(node(), report(1, 1, seen()), Timestamp(1)).expect("first");
        assert!(one.has_changed().expect("open") && all.has_changed().expect("open"));
        assert!(!two.has_changed().expect("open"));
        one.mark_unchanged();
        two.mark_unchanged();
        live.take(node(), report(1, 2, seen()), Timestamp(2)).expect("the same again");
        assert!(!one.has_changed().expect("open"), "nothing changed");
        live.take(node(), report(1, 3, Vec::new()), Timestamp(3)).expect("gone");
        assert!(one.has_changed().expect("open"), "going away is a change");
    }

    #[test]
    fn what_is_used_does_not_wake_the_planner() {
        let live = Live::default();
        let first = vec![observed(1, RunState::Running)];
        live.take(node(), report(1, 1, first), Timestamp(1)).expect("first");
        let (follower, planner) = (live.follow(workspace(1)), live.changes());
        let usage = Usage { pids: 7, ..Usage::default() };
        let busy = WorkspaceObserved { usage, ..observed(1, RunState::Running) };
        live.take(node(), report(1, 2, vec![busy]), Timestamp(2)).expect("second");
        assert!(follower.has_changed().expect("open"));
        assert!(!planner.has_changed().expect("open"));
    }

    #[test]
    fn a_node_speaks_for_a_bounded_number_of_workspaces() {
        let live = Live::default();
        let many = |count| (0..count as u128).map(|n| observed(n, RunState::Absent)).collect();
        let most = report(1, 1, many(Limits::WORKSPACES_PER_NODE));
        live.take(node(), most, Timestamp(1)).expect("at the bound");
        let past = report(1, 2, many(Limits::WORKSPACES_PER_NODE + 1));
        assert_eq!(live.take(node(), past, Timestamp(2)), Err(Dropped::TooMany));
    }
}
