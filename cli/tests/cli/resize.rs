//! `workspace resize`: until the node holds the new caps, unless it is told not to wait.

use warren_proto::{
    Method,
    pb::{admin::v1 as pb, node::v1 as node},
};

use crate::support::{
    Bench,
    data::{steps, web},
    fake::Follow,
};

const GIB: u64 = 1 << 30;

/// acme/web with a home of `asked` GiB in its spec, held to `held` GiB by its node.
fn resized(asked: u64, held: u64, why: &str) -> pb::Workspace {
    let mut workspace = web(pb::Phase::Active, node::RunState::Running, steps());
    let resources = workspace.spec.as_mut().and_then(|spec| spec.resources.as_mut());
    let resources = resources.expect("resources");
    resources.disk_bytes = asked * GIB;
    let seen = workspace.observed.as_mut().expect("seen");
    seen.caps.as_mut().expect("caps").disk_bytes = held * GIB;
    seen.caps_reason = why.to_owned();
    workspace
}

fn seen(workspace: pb::Workspace) -> Follow {
    Follow::Seen(Box::new(workspace))
}

/// The node holds 20 GiB, and its coordinator tells this of it after a resize.
fn bench(told: impl IntoIterator<Item = pb::Workspace>) -> Bench {
    let bench = Bench::new();
    let mut state = bench.fake.state();
    state.workspaces[0] = resized(20, 20, "");
    state.follow.extend(told.into_iter().map(seen));
    drop(state);
    bench
}

const COMMAND: [&str; 5] = ["ws", "resize", "acme/web", "--disk", "40G"];

#[test]
fn it_waits_until_the_node_says_that_it_holds_the_new_caps() {
    // the first is of a coordinator that has not applied it yet
    let mut late = resized(20, 20, "");
    late.revision -= 1;
    let busy = resized(40, 20, "the engine is busy");
    let bench = bench([late, busy.clone(), busy, resized(40, 40, "")]);
    let run = bench.warren(&COMMAND);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.ends_with("home 40 GiB\n"), "{run:?}");
    let note = "  n1: the engine is busy; it tries again\n";
    assert_eq!(run.stderr, format!("note: the home holds more\n{note}"), "once: {run:?}");
}

#[test]
fn programs_read_the_workspace_as_it_was_seen_last() {
    let bench = bench([resized(40, 20, ""), resized(40, 40, "")]);
    let run = bench.warren(&[&COMMAND[..], &["-o", "json"]].concat());
    let shown: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(shown["observed"]["caps"]["disk_bytes"], 40 * GIB, "{run:?}");
    assert_eq!(shown["spec"]["resources"]["disk_bytes"], 40 * GIB, "{run:?}");
    assert_eq!(shown["observed"]["caps_reason"], serde_json::Value::Null);
}

#[test]
fn a_node_that_does_not_come_to_hold_them_is_told_with_its_reason() {
    let timed = |bench: &Bench| bench.warren(&[&["--timeout", "1s"], &COMMAND[..]].concat());
    let run = timed(&bench([resized(40, 20, "it holds more")]));
    assert_eq!(run.code, 6, "{run:?}");
    let error = "error: acme/web is not held to its new caps after 1s\n";
    assert!(run.stderr.contains(error), "{run:?}");
    assert!(run.stderr.contains("  why: n1: it holds more; it tries again\n"), "{run:?}");

    let mut silent = resized(40, 40, "");
    silent.observed_live = false;
    let run = timed(&bench([silent]));
    assert_eq!(run.code, 6, "what a silent node said is the past: {run:?}");
    assert!(run.stderr.contains("  why: n1 is silent since "), "{run:?}");

    let run = timed(&bench([resized(40, 20, "")]));
    let untold = "  why: n1 has not told that it holds them\n";
    assert!(run.code == 6 && run.stderr.contains(untold), "it does tell: {run:?}");

    let mut old = resized(40, 20, "");
    old.observed.as_mut().expect("seen").caps = None;
    let run = timed(&bench([old]));
    assert!(run.code == 6 && run.stderr.contains("an older node agent never does"), "{run:?}");
}

#[test]
fn what_is_not_tried_again_is_not_said_to_be() {
    let mut failed = resized(40, 20, "image x is missing");
    failed.phase = pb::Phase::Failed.into();
    failed.observed.as_mut().expect("seen").state = node::RunState::Failed.into();
    let run = bench([failed]).warren(&COMMAND);
    assert_eq!(run.code, 0, "its next start is held to them: {run:?}");
    assert!(run.stderr.ends_with("  n1: image x is missing\n"), "{run:?}");
}

#[test]
fn who_resizes_it_meanwhile_ends_the_wait() {
    let run = bench([resized(60, 20, "")]).warren(&COMMAND);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.stderr.contains("error: acme/web was resized meanwhile\n"), "{run:?}");
}

#[test]
fn nothing_is_waited_for_where_it_is_told_not_to_or_nobody_holds_it() {
    let bench = bench([]);
    let run = bench.warren(&[&COMMAND[..], &["--no-wait"]].concat());
    assert_eq!((run.code, bench.fake.calls(Method::WorkspaceFollowWorkspace)), (0, 0), "{run:?}");
    assert!(run.stdout.ends_with("home 40 GiB\n"), "{run:?}");
    for phase in [pb::Phase::Queued, pb::Phase::Failed] {
        let mut workspace = resized(20, 20, "");
        workspace.phase = phase.into();
        if phase == pb::Phase::Queued {
            (workspace.node, workspace.observed) = (String::new(), None);
        }
        bench.fake.state().workspaces[0] = workspace;
        let run = bench.warren(&COMMAND);
        assert_eq!(run.code, 0, "{run:?}");
    }
    assert_eq!(bench.fake.calls(Method::WorkspaceFollowWorkspace), 0);
}
