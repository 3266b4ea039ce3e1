//! The live view's merging rules and what is said of silent nodes.

use warren_common::{Bytes, NodeEpoch, Timestamp, status::RunState};
use warren_model::{
    Command, LiveView, Liveness, Report, Standing, command::RegisterNode, is_heard, liveness,
    standing,
};

use crate::make::{START, World, create_workspace, facts, node, observed, spec, workspace};

fn report(epoch: u64, sequence: u64, full: bool, seen: &[u8]) -> Report {
    let workspaces = seen.iter().map(|n| observed(*n, 1, RunState::Running)).collect();
    Report { epoch: NodeEpoch(epoch), sequence, received: START, full, workspaces }
}

#[test]
fn late_and_superseded_reports_are_refused() {
    let mut live = LiveView::new(START);
    assert!(live.report(node(1), report(2, 5, true, &[1])));
    assert!(!live.report(node(1), report(2, 5, true, &[])), "a repeated sequence");
    assert!(!live.report(node(1), report(2, 4, true, &[])), "an earlier one");
    assert!(!live.report(node(1), report(1, 9, true, &[])), "an earlier registration");
    assert!(live.observed(node(1), workspace(1)).is_some());
    assert!(live.report(node(1), report(3, 1, false, &[2])), "a later registration");
    assert!(live.observed(node(1), workspace(1)).is_none(), "it replaces everything");
    assert!(!live.nodes[&node(1)].inventory, "and has not told everything yet");
}

fn register(world: &mut World) {
    let register = RegisterNode { node: node(1), facts: facts(Bytes::gib(8), 1) };
    world.must(Command::RegisterNode(register));
}

#[test]
fn what_a_node_said_before_it_registered_anew_is_told_until_it_told_everything() {
    let mut live = LiveView::new(START);
    let later = Timestamp(START.0 + 1000);
    live.report(node(1), report(1, 1, true, &[1, 2]));
    let said = |live: &LiveView| [1, 2, 3].map(|n| live.last_said(node(1), workspace(n)).is_some());
    assert!(live.seen(node(1), NodeEpoch(2), START));
    assert!(live.observed(node(1), workspace(1)).is_none(), "nothing is decided by it");
    assert_eq!(said(&live), [true, true, false]);
    live.report(node(1), Report { received: later, ..report(3, 1, false, &[1, 3]) });
    assert_eq!(live.nodes[&node(1)].said_at(), START, "not all of it was said since");
    live.seen(node(1), NodeEpoch(4), later);
    assert_eq!(said(&live), [true; 3], "however often it does");
    let received = live.last_said(node(1), workspace(1)).map(|seen| seen.received);
    assert_eq!((received, live.nodes[&node(1)].said_at()), (Some(later), START));
    live.clock_set(START, Timestamp(START.0 + 5000));
    let received = live.last_said(node(1), workspace(2)).map(|seen| seen.received);
    let moved = Some(Timestamp(START.0 + 5000));
    assert_eq!((received, Some(live.nodes[&node(1)].said_at())), (moved, moved));
    live.report(node(1), report(4, 1, true, &[2]));
    assert_eq!(said(&live), [false, true, false]);
    assert_eq!(live.nodes[&node(1)].said_at(), live.nodes[&node(1)].last_seen);
}

#[test]
fn a_node_that_registered_a_moment_ago_and_is_yet_to_report_is_heard() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let judge = |world: &World, ms| {
        let one = world.state.nodes.get(&node(1)).expect("there");
        let now = Timestamp(START.0 + ms);
        (liveness(one, &world.live, now).liveness, is_heard(one, &world.live, now))
    };
    world.report(1, true, vec![observed(1, 1, RunState::Running)]);
    assert_eq!(judge(&world, 0), (Liveness::Ready, true));
    register(&mut world);
    assert_eq!(judge(&world, 2000), (Liveness::Joining, true), "it said what it holds just now");
    assert_eq!(judge(&world, 12_000), (Liveness::Suspect, false));
    // one that registers again and again and never reports
    world.now = Timestamp(START.0 + 60_000);
    register(&mut world);
    assert_eq!(judge(&world, 61_000), (Liveness::Joining, false), "that was long ago");
    for _ in 0..2 {
        let epoch = world.state.nodes[&node(1)].epoch;
        assert!(world.live.seen(node(1), epoch, world.now));
        assert_eq!(judge(&world, 61_000), (Liveness::Joining, false), "and a sign of life no word");
        register(&mut world);
    }
}

#[test]
fn a_full_report_replaces_and_a_partial_one_adds() {
    let mut live = LiveView::new(START);
    live.report(node(1), report(1, 1, true, &[1, 2]));
    live.report(node(1), report(1, 2, false, &[3]));
    assert_eq!(live.nodes[&node(1)].workspaces.len(), 3);
    live.report(node(1), report(1, 3, true, &[3]));
    assert_eq!(live.nodes[&node(1)].workspaces.len(), 1);
}

#[test]
fn a_node_is_ready_suspect_and_unreachable_by_its_silence() {
    let world = World::with_nodes(&[Bytes::gib(8)]);
    let at = |ms| {
        let one = world.state.nodes.get(&node(1)).expect("there");
        liveness(one, &world.live, Timestamp(START.0 + ms))
    };
    let cases = [
        (0, Liveness::Ready, Some(12_000)),
        (11_999, Liveness::Ready, Some(12_000)),
        (12_000, Liveness::Suspect, Some(30_000)),
        (29_999, Liveness::Suspect, Some(30_000)),
        (30_000, Liveness::Unreachable, None),
    ];
    for (ms, expected, changes) in cases {
        let standing = at(ms);
        assert_eq!(standing.liveness, expected, "after {ms} ms");
        assert_eq!(standing.changes_at, changes.map(|ms: u64| Timestamp(START.0 + ms)));
    }
    assert_eq!(at(45_000).reason, "not heard from for 45 s");
}

#[test]
fn a_node_is_joining_until_it_has_told_what_it_holds() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    register(&mut world);
    let judged = |world: &World| {
        liveness(world.state.nodes.get(&node(1)).expect("there"), &world.live, world.now).liveness
    };
    assert_eq!(judged(&world), Liveness::Joining, "the reports are of the registration before");
    world.report(1, false, Vec::new());
    assert_eq!(judged(&world), Liveness::Joining, "that was not everything");
    world.report(1, true, Vec::new());
    assert_eq!(judged(&world), Liveness::Ready);
}

#[test]
fn a_coordinator_that_just_began_to_listen_calls_nobody_unreachable() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.wait(3_600_000);
    let live = LiveView::new(world.now);
    let one = world.state.nodes.get(&node(1)).expect("there");
    assert_eq!(liveness(one, &live, world.now).liveness, Liveness::Joining);
    let later = Timestamp(world.now.0 + 30_000);
    assert_eq!(liveness(one, &live, later).liveness, Liveness::Unreachable);
}

#[test]
fn a_silence_lasts_as_long_as_it_does_whatever_the_clock_is_set_to() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.report(1, false, vec![observed(1, 1, RunState::Running)]);
    let one = world.state.nodes.get(&node(1)).expect("there").clone();
    let hour = 3_600_000;
    let now = world.now.0;
    for to in [now - hour, now + hour, now + 2 * hour, now] {
        let mut live = world.live.clone();
        live.clock_set(Timestamp(now), Timestamp(to));
        assert_eq!(live.nodes[&node(1)].last_seen, Timestamp(to), "it was heard now");
        let seen = live.observed(node(1), workspace(1)).expect("kept");
        assert_eq!(seen.received, Timestamp(to));
        for (silent, expected) in
            [(0, Liveness::Ready), (12_000, Liveness::Suspect), (30_000, Liveness::Unreachable)]
        {
            let judged = liveness(&one, &live, Timestamp(to + silent));
            assert_eq!(judged.liveness, expected, "silent for {silent} ms, set to {to}");
        }
        live.clock_set(Timestamp(to), Timestamp(now));
        assert_eq!(live, world.live, "there and back");
    }
}

#[test]
fn a_silent_nodes_workspace_is_never_called_running() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    let said = |world: &World| {
        standing(&world.state, &world.live, workspace(1), world.now).expect("there")
    };
    assert_eq!(said(&world), Standing::Unplaced);
    world.settle();
    assert_eq!(said(&world), Standing::Awaited { node: node(1) });
    world.report(1, false, vec![observed(1, 1, RunState::Running)]);
    assert!(matches!(said(&world), Standing::Live { .. }));
    world.wait(12_000);
    match said(&world) {
        Standing::Silent { node: on, last_seen: Some(last), observed: Some(observed) } => {
            assert_eq!((on, last, &observed.state), (node(1), START, &RunState::Running));
        }
        other => panic!("it says {other:?}"),
    }
}
