//! `workspace create` and the other waits: once, whatever happens to the connection.

use tonic::{Code, Status};
use warren_proto::{
    ApiError, Method,
    error::reason,
    pb::{admin::v1 as pb, node::v1 as node},
};

use crate::support::{
    Bench,
    data::{failed_steps, steps, web},
    fake::Follow,
};

const ID: &str = "0199a0b2-7f00-7000-8000-000000000042";

fn seen(workspace: pb::Workspace) -> Follow {
    Follow::Seen(Box::new(workspace))
}

fn running() -> pb::Workspace {
    web(pb::Phase::Active, node::RunState::Running, steps())
}

/// The create answers acme/web as it is before it runs.
fn committed(bench: &Bench) {
    let mut state = bench.fake.state();
    state.workspaces[0] = web(pb::Phase::Assigned, node::RunState::Absent, Vec::new());
}

#[test]
fn a_create_is_repeated_with_its_request_id_until_it_is_answered() {
    let bench = Bench::new();
    committed(&bench);
    bench.fake.fail(Method::WorkspaceCreateWorkspace, Status::unavailable("reset"));
    let unknown = ApiError::new(Code::DeadlineExceeded, reason::OUTCOME_UNKNOWN, "who knows");
    bench.fake.fail(Method::WorkspaceCreateWorkspace, unknown);
    bench.fake.state().follow.push_back(seen(running()));
    let run = bench.warren(&["ws", "create", "acme/web", "--memory", "4G", "--session", "main=x"]);
    assert_eq!(run.code, 0, "{run:?}");
    let created = &bench.fake.state().created;
    assert_eq!(created.len(), 3);
    let id = created[0].mutation.clone().expect("a mutation").request_id;
    assert_eq!(id.as_bytes()[14], b'7', "a UUID of version 7: {id}");
    assert!(created.iter().all(|request| *request == created[0]), "the same request each time");
    let resources = created[0].resources.expect("resources");
    assert_eq!(resources.memory_bytes, Some(4 << 30));
    assert_eq!(resources.swap_bytes, None, "what was not said is the template's");
}

#[test]
fn options_are_parameters_and_the_setup_is_read_from_stdin() {
    let bench = Bench::new();
    let arguments = [
        "ws",
        "create",
        "acme/web",
        "--repo",
        "https://git.example/acme/web.git",
        "--branch",
        "main",
        "--setup",
        "@-",
        "--image",
        "img:1",
        "--git-name",
        "Ann",
        "--git-email",
        "ann@example",
        "--param",
        "extra=1",
        "--pin",
        "n1",
        "--no-queue",
        "--failover",
        "manual",
        "--wait=none",
        "--request-id",
        ID,
    ];
    let run = bench.warren_with(&arguments, b"make setup\n");
    assert_eq!(run.code, 0, "{run:?}");
    let state = bench.fake.state();
    let created = &state.created[0];
    let mut parameters: Vec<String> =
        created.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parameters.sort();
    assert_eq!(
        parameters,
        [
            "branch=main",
            "extra=1",
            "git_email=ann@example",
            "git_name=Ann",
            "image=img:1",
            "repo=https://git.example/acme/web.git",
            "setup=make setup\n",
        ]
    );
    assert_eq!(created.mutation.clone().expect("a mutation").request_id, ID);
    assert_eq!((created.pin_node.as_str(), created.no_queue), ("n1", true));
    assert_eq!(created.failover(), node::Failover::Manual);
}

#[test]
fn a_browser_sandbox_is_said_on_or_off_or_left_to_the_template() {
    let said = |arguments: &[&str]| {
        let bench = Bench::new();
        let whole = [&["ws", "create", "acme/web", "--wait=none"][..], arguments].concat();
        let run = bench.warren(&whole);
        assert_eq!(run.code, 0, "{run:?}");
        let state = bench.fake.state();
        state.created[0].labels.get("warren.browser-sandbox").cloned()
    };
    assert_eq!(said(&[]), None);
    assert_eq!(said(&["--browser-sandbox"]).as_deref(), Some("on"));
    assert_eq!(said(&["--browser-sandbox=false"]).as_deref(), Some("off"));
    let run = Bench::new().warren(&["ws", "create", "acme/web", "--browser-sandbox=maybe"]);
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn an_unreachable_coordinator_leaves_the_request_id_to_try_again() {
    let bench = Bench::new();
    bench.point_at("127.0.0.1:1");
    let run = bench.warren(&["--timeout", "500ms", "ws", "create", "acme/web", "--request-id", ID]);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains(&format!("--request-id {ID}")), "{run:?}");
}

#[test]
fn progress_survives_a_broken_stream_and_says_each_step_once() {
    let bench = Bench::new();
    committed(&bench);
    let part = web(pb::Phase::Preparing, node::RunState::Preparing, steps()[..2].to_vec());
    let mut state = bench.fake.state();
    state.follow.extend([seen(part.clone()), Follow::Break, seen(part), seen(running())]);
    drop(state);
    let run = bench.warren(&["ws", "create", "acme/web"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.stderr.matches("home volume").count(), 1, "{run:?}");
    assert_eq!(run.stderr.lines().count(), 6, "placed and five steps: {run:?}");
    assert!(run.stdout.starts_with("acme/web is running. Next:\n"), "{run:?}");
}

#[test]
fn a_failed_step_is_an_error_with_its_output() {
    let bench = Bench::new();
    committed(&bench);
    let failed = web(pb::Phase::Active, node::RunState::Running, failed_steps());
    bench.fake.state().follow.push_back(seen(failed));
    let run = bench.warren(&["ws", "create", "acme/web"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("    | fatal: repository not found\n"), "{run:?}");
    assert!(run.stderr.contains("  why: git clone ended with exit code 128\n"), "{run:?}");
}

#[test]
fn a_wait_that_takes_too_long_says_what_holds_it_up() {
    let bench = Bench::new();
    let mut queued = bench.fake.state().workspaces[1].clone();
    queued.name = "web".to_owned();
    queued.id = bench.fake.state().workspaces[0].id.clone();
    bench.fake.state().workspaces[0] = queued.clone();
    bench.fake.state().explanation = pb::Explanation::default();
    bench.fake.state().follow.push_back(seen(queued));
    let run = bench.warren(&["--timeout", "1s", "ws", "create", "acme/web"]);
    assert_eq!(run.code, 6, "{run:?}");
    assert_eq!(run.stderr.matches("  queued: no node has 64 GiB free").count(), 1, "{run:?}");
    assert!(run.stderr.contains("error: acme/web is not running after 1s\n"), "{run:?}");
}

#[test]
fn stop_waits_and_delete_asks() {
    let bench = Bench::new();
    let mut stopped = web(pb::Phase::Stopped, node::RunState::Stopped, Vec::new());
    stopped.run = pb::DesiredRun::Stopped.into();
    let mut stopping = running();
    stopping.run = pb::DesiredRun::Stopped.into();
    stopping.phase = pb::Phase::Stopping.into();
    bench.fake.state().workspaces[0] = stopping.clone();
    bench.fake.state().follow.extend([seen(stopping), seen(stopped)]);
    let run = bench.warren(&["ws", "stop", "acme/web"]);
    assert_eq!((run.code, run.stdout.contains("acme/web is stopped")), (0, true), "{run:?}");
    let run = bench.warren(&["ws", "delete", "acme/web"]);
    assert_eq!(run.code, 2, "nobody is asked over a pipe: {run:?}");
    assert!(bench.fake.state().deleted.is_empty());
    bench.fake.state().follow.push_back(Follow::Gone);
    let run = bench.warren(&["ws", "delete", "acme/web", "--yes"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, "acme/web is deleted\n"), "{run:?}");
    assert_eq!(bench.fake.state().deleted.len(), 1);
}

#[test]
fn someone_who_stops_it_meanwhile_ends_the_wait() {
    let bench = Bench::new();
    committed(&bench);
    let mut stopped = running();
    stopped.run = pb::DesiredRun::Stopped.into();
    stopped.phase = pb::Phase::Stopping.into();
    bench.fake.state().follow.push_back(seen(stopped));
    let run = bench.warren(&["ws", "restart", "acme/web"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.stderr.contains("error: acme/web was stopped meanwhile\n"), "{run:?}");
}
