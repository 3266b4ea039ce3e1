//! What is taken of reports, who is woken by them, and clocks that are set.

use uuid::Uuid;
use warren_common::{
    BootId, Bytes, Generation, MilliCpus,
    spec::Labels,
    status::{RunState, Usage, WorkspaceObserved},
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
        volume: None,
        caps: None,
        caps_reason: String::new(),
        services: Vec::new(),
        kills: Vec::new(),
        browsers: Vec::new(),
    }
}

fn take(live: &Live, epoch: u64, sequence: u64, workspaces: Vec<WorkspaceObserved>) -> bool {
    let epoch = NodeEpoch(epoch);
    let report = |received| Report { epoch, sequence, received, full: true, workspaces };
    live.take(node(), report, Beside::default())
}

fn woken(receiver: &mut watch::Receiver<u64>) -> bool {
    let changed = receiver.has_changed().expect("open");
    receiver.mark_unchanged();
    changed
}

fn facts() -> NodeFacts {
    NodeFacts {
        hostname: "host".to_owned(),
        boot: BootId::new(Uuid::from_u128(1)),
        allocatable_memory: Bytes::gib(1),
        swap: Bytes(0),
        cpus: MilliCpus(8000),
        disk: Bytes::gib(1),
        version: String::new(),
        engine: String::new(),
        kernel: String::new(),
        cgroup: 2,
        labels: Labels::new(),
        findings: Vec::new(),
    }
}

#[test]
fn an_older_epoch_or_sequence_changes_nothing() {
    let live = Live::new(Reading::now);
    let running = || vec![observed(1, RunState::Running)];
    assert!(take(&live, 2, 5, running()));
    let (now, _) = live.snapshot();
    let mut changes = live.changes();
    assert!(!take(&live, 1, 9, Vec::new()) && !take(&live, 2, 5, Vec::new()));
    assert!(!woken(&mut changes));
    assert!(take(&live, 3, 1, Vec::new()));
    assert!(woken(&mut changes));
    assert!(live.snapshot().0.observed(node(), workspace(1)).is_none(), "a full report replaces");
    assert!(now.observed(node(), workspace(1)).is_some(), "a snapshot stays as it was");
}

#[test]
fn only_followers_of_what_changed_are_woken() {
    let live = Live::new(Reading::now);
    let (mut one, mut two) = (live.follow(workspace(1)), live.follow(workspace(2)));
    let mut planner = live.changes();
    let seen = || vec![observed(1, RunState::Running)];
    take(&live, 1, 1, seen());
    assert!(woken(&mut one) && woken(&mut planner) && !woken(&mut two));
    take(&live, 1, 2, seen());
    assert!(!woken(&mut one) && !woken(&mut planner), "nothing changed");
    take(&live, 1, 3, Vec::new());
    assert!(woken(&mut one) && woken(&mut planner), "going away is a change");
    take(&live, 2, 1, seen());
    assert!(woken(&mut one) && woken(&mut planner), "a new registration is one");
}

#[test]
fn what_is_used_does_not_wake_the_planner() {
    let live = Live::new(Reading::now);
    take(&live, 1, 1, vec![observed(1, RunState::Running)]);
    let (mut follower, mut planner) = (live.follow(workspace(1)), live.changes());
    let usage = Usage { pids: 7, ..Usage::default() };
    take(&live, 1, 2, vec![WorkspaceObserved { usage, ..observed(1, RunState::Running) }]);
    assert!(woken(&mut follower) && !woken(&mut planner));
}

#[test]
fn whose_sessions_moved_is_told_by_number_and_the_planner_sleeps() {
    use warren_common::status::{SessionObserved, SessionState};
    let session = |viewers, active| SessionObserved {
        name: "main".parse().expect("a name"),
        command: String::new(),
        state: SessionState::Running,
        started: Timestamp(1),
        active: Timestamp(active),
        viewers,
        panes: Vec::new(),
        killed: None,
        agent: None,
        run: None,
    };
    let seen = |n, viewers, active| WorkspaceObserved {
        sessions: vec![session(viewers, active)],
        ..observed(n, RunState::Running)
    };
    let live = Live::new(Reading::now);
    take(&live, 1, 1, vec![seen(1, 0, 1), seen(2, 0, 1)]);
    let (first, moved) = live.moved_since(0);
    assert_eq!(moved, Some([workspace(1), workspace(2)].into()));
    let (mut planner, mut moves) = (live.changes(), live.moves());
    take(&live, 1, 2, vec![seen(1, 0, 7), seen(2, 0, 1)]);
    assert!(!woken(&mut moves), "that something moves in a terminal is no news");
    take(&live, 1, 3, vec![seen(1, 0, 7), seen(2, 1, 9)]);
    assert!(woken(&mut moves) && !woken(&mut planner));
    let (second, moved) = live.moved_since(first);
    assert_eq!(moved, Some([workspace(2)].into()));
    take(&live, 1, 4, vec![seen(1, 0, 7)]);
    assert_eq!(live.moved_since(second).1, Some([workspace(2)].into()), "it is gone");
}

#[test]
fn a_node_that_comes_under_pressure_wakes_the_planner_and_so_does_its_end() {
    let live = Live::new(Reading::now);
    let report = |sequence, full_60| {
        let report = |received| Report {
            epoch: NodeEpoch(1),
            sequence,
            received,
            full: true,
            workspaces: Vec::new(),
        };
        let memory_pressure = Some(Pressure { full_60, ..Pressure::default() }.into());
        let usage = NodeUsage { memory_pressure, ..NodeUsage::default() };
        assert!(live.take(node(), report, Beside { usage: Some(usage), ..Beside::default() }));
        live.snapshot().0.nodes[&node()].pressed
    };
    assert_eq!(report(1, 10), None);
    let mut planner = live.changes();
    assert_eq!((report(2, 60), woken(&mut planner)), (Some(60), true));
    assert_eq!((report(3, 70), woken(&mut planner)), (Some(70), false), "nothing new");
    assert_eq!((report(4, 0), woken(&mut planner)), (None, true));
}

#[test]
fn the_first_sign_of_life_of_a_registration_wakes_the_planner() {
    let live = Live::new(Reading::now);
    let mut planner = live.changes();
    live.seen(node(), NodeEpoch(1));
    assert!(woken(&mut planner));
    live.seen(node(), NodeEpoch(1));
    assert!(!woken(&mut planner));
}

#[test]
fn a_registration_that_empties_a_node_tells_who_follows_its_workspaces() {
    let seen = |live: &Live, epoch| live.seen(node(), epoch);
    let told = |live: &Live, epoch| live.facts(node(), epoch, facts());
    for enter in [seen as fn(&Live, NodeEpoch), told] {
        let live = Live::new(Reading::now);
        take(&live, 1, 1, vec![observed(1, RunState::Running)]);
        let (mut follower, (from, _)) = (live.follow(workspace(1)), live.moved_since(0));
        enter(&live, NodeEpoch(1));
        assert!(!woken(&mut follower), "the registration is known");
        enter(&live, NodeEpoch(2));
        assert!(woken(&mut follower));
        let (from, moved) = live.moved_since(from);
        assert_eq!(moved, Some([workspace(1)].into()));
        // it was told as before until the node has told what it holds
        assert!(take(&live, 2, 1, Vec::new()) && woken(&mut follower));
        assert_eq!(live.moved_since(from).1, Some([workspace(1)].into()));
    }
}

/// Clocks that stand still until they are told.
fn clocks() -> (Arc<Mutex<Reading>>, Live) {
    let shown = Arc::new(Mutex::new(Reading::now()));
    let read = shown.clone();
    (shown, Live::new(move || *locked(&read)))
}

fn silence(live: &Live) -> Duration {
    let (view, now) = live.snapshot();
    now.since(view.nodes[&node()].last_seen)
}

#[test]
fn a_clock_that_is_set_makes_nobody_silent_or_heard() {
    const HOUR: u64 = 3_600_000;
    let set: [fn(u64) -> u64; 3] = [|now| now - HOUR, |now| now + HOUR, |_| 60_000];
    for to in set {
        let (shown, live) = clocks();
        let pass = |seconds| {
            let mut shown = locked(&shown);
            shown.steady += Duration::from_secs(seconds);
            shown.wall = shown.wall.plus(Duration::from_secs(seconds));
        };
        assert!(take(&live, 1, 1, vec![observed(1, RunState::Running)]));
        pass(5);
        let before = locked(&shown).wall.0;
        locked(&shown).wall = Timestamp(to(before));
        assert_eq!(silence(&live), Duration::from_secs(5), "as before");
        pass(40);
        assert_eq!(silence(&live), Duration::from_secs(45), "a dead node is seen to be dead");
        assert!(take(&live, 1, 2, Vec::new()));
        assert_eq!(silence(&live), Duration::ZERO, "and one that reports is not");
    }
}

#[test]
fn a_clock_that_is_slewed_is_left_alone() {
    let (shown, live) = clocks();
    live.seen(node(), NodeEpoch(1));
    locked(&shown).wall.0 -= 400;
    assert_eq!(silence(&live), Duration::ZERO);
    locked(&shown).wall.0 += 800;
    assert_eq!(silence(&live), Duration::from_millis(400));
}
