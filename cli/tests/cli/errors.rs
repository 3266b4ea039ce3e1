//! Exit codes and texts of failures.

use std::process::Stdio;

use tonic::{Code, Status};
use warren_proto::{ApiError, Method, error::reason};

use crate::support::Bench;

#[test]
fn each_kind_has_its_exit_code() {
    let bench = Bench::new();
    for (code, reason, exit) in [
        (Code::InvalidArgument, reason::INVALID_SPEC, 2),
        (Code::NotFound, reason::NOT_FOUND, 3),
        (Code::FailedPrecondition, reason::WRONG_STATE, 4),
        (Code::AlreadyExists, reason::NAME_TAKEN, 4),
        (Code::ResourceExhausted, reason::NO_NODE_FITS, 4),
        (Code::PermissionDenied, reason::NOT_PERMITTED, 7),
        (Code::Unauthenticated, reason::CERTIFICATE_REVOKED, 7),
        (Code::Internal, reason::INTERNAL, 1),
    ] {
        let error = ApiError::new(code, reason, "it was refused").why("because").next("do this");
        bench.fake.fail(Method::ClientGetClient, error);
        let run = bench.warren(&["client", "show", "acme"]);
        assert_eq!(run.code, exit, "{reason}: {run:?}");
        let text = "error: it was refused\n  why: because\n  next: do this\n";
        // a fault of ours is looked up in the logs, so it names the request too
        let (told, rest) = run.stderr.split_at(text.len().min(run.stderr.len()));
        assert_eq!((told, run.stdout.as_str()), (text, ""), "{reason}");
        let named = rest.starts_with("  request: ");
        assert_eq!(named, reason == reason::INTERNAL, "{reason}: {rest}");
        assert!(named || rest.is_empty(), "{reason}: {rest}");
    }
}

#[test]
fn json_errors_are_one_object_on_stderr() {
    let bench = Bench::new();
    let run = bench.warren(&["-o", "json", "client", "show", "nobody"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""));
    let id = bench.fake.state().requests.last().cloned().expect("the call carried its id");
    assert_eq!(
        run.stderr.replace(&id, "ID"),
        "{\"error\":{\"reason\":\"NOT_FOUND\",\"message\":\"no client nobody\",\"why\":null,\
         \"next\":\"warren client list\",\"exit_code\":3,\"request_id\":\"ID\"}}\n"
    );
    let run = bench.warren(&["workspace", "create", "acme", "--output=json"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("{\"error\":{\"reason\":\"USAGE\""), "{run:?}");
}

#[test]
fn every_call_of_a_run_carries_one_request_id_and_a_mutations_is_its_own() {
    let bench = Bench::new();
    for run in 1..=2 {
        assert_eq!(bench.warren(&["workspace", "list"]).code, 0);
        let ids = bench.fake.state().requests.clone();
        let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(distinct.len(), run, "one for each run: {ids:?}");
    }
    bench.fake.state().requests.clear();
    let id = uuid::Uuid::now_v7().hyphenated().to_string();
    let create = ["workspace", "create", "acme/web", "--wait=none", "--request-id", &id];
    let run = bench.warren(&create);
    assert_eq!(run.code, 0, "{run:?}");
    let state = bench.fake.state();
    let created = state.created.last().and_then(|create| create.mutation.clone());
    assert_eq!(created.expect("a mutation").request_id, id);
    assert_eq!(state.requests, [id.as_str()]);
    drop(state);
    let fault = ApiError::new(Code::Internal, reason::INTERNAL, "reading failed");
    bench.fake.fail(Method::ClientGetClient, fault);
    let run = bench.warren(&["client", "show", "acme"]);
    let id = bench.fake.state().requests.last().cloned().expect("the call carried its id");
    assert_eq!(run.stderr, format!("error: reading failed\n  request: {id}\n"));
}

#[test]
fn a_coordinator_that_is_not_there_is_named() {
    let bench = Bench::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    bench.point_at(&address);
    let run = bench.warren(&["--timeout", "1s", "workspace", "list"]);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.starts_with("error: no coordinator of cluster demo answers\n"), "{run:?}");
    assert!(run.stderr.contains(&address), "{run:?}");
}

#[test]
fn a_listener_that_says_nothing_does_not_hang_us() {
    let bench = Bench::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    bench.point_at(&silent.local_addr().expect("an address").to_string());
    let run = bench.warren(&["--timeout", "1s", "workspace", "list"]);
    assert_eq!(run.code, 5, "{run:?}");
}

#[test]
fn certificates_that_do_not_fit_are_told_apart() {
    let bench = Bench::without_context();
    bench.install_expired();
    let run = bench.warren(&["workspace", "list"]);
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.stderr.contains("certificate of ann for cluster demo has expired"), "{run:?}");
    assert!(run.stderr.contains("good until 2020-12-31"), "{run:?}");
    assert!(
        run.stderr.contains("next: ask an administrator for warren user invite ann"),
        "{run:?}"
    );
    assert!(run.stderr.contains("warren cluster init --name demo --admin ann"), "{run:?}");
    bench.install_foreign();
    let run = bench.warren(&["workspace", "list"]);
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.stderr.contains("does not accept the certificate"), "{run:?}");
    let other = Bench::new();
    other.point_at(&bench.address.to_string());
    let run = other.warren(&["workspace", "list"]);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("who answers is not a coordinator of cluster demo"), "{run:?}");
}

#[test]
fn what_passes_is_tried_again() {
    let bench = Bench::new();
    let leader = ApiError::new(Code::Unavailable, reason::NOT_LEADER, "another one leads");
    bench.fake.fail(Method::ClientListClients, leader);
    bench.fake.fail(Method::ClientListClients, Status::unavailable("going away"));
    let run = bench.warren(&["client", "list", "-o", "name"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "acme\nzenith\n"), "{run:?}");
    assert_eq!(bench.fake.calls(Method::ClientListClients), 3);
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let bench = Bench::new();
    for arguments in [
        &["workspace", "list"][..],
        &["--help"][..],
        &["workspace", "exec", "acme/web", "--", "flood"][..],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = bench.command(arguments);
        let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output();
        let output = output.expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn bad_values_are_refused_before_any_call_and_never_repeated() {
    let bench = Bench::new();
    let long = format!("k={}", "v".repeat(300));
    for (option, value, expected) in [
        ("--repo", "https://me:hunter2@git.example/x.git", "credentials"),
        ("--memory", "1M", "--memory 1 MiB is outside"),
        ("--memory", "lots", "not an amount"),
        ("--label", long.as_str(), "the limit is 256"),
        ("--session", "Main", "session name"),
        ("--setup", "echo hi", "--setup takes @file"),
        ("--setup", "@/nonexistent", "--setup cannot read"),
        ("--branch", "x", "--repo <URL>"),
        ("--request-id", "6b1f6c3e-6f0a-4f43-9c6f-0d3a1d5e7c11", "version 7"),
        ("--pids", "1", "--pids 1 is outside"),
        ("--git-name", "Ann", "--git-email"),
        ("--param", "repo", "key=value"),
    ] {
        let joined = format!("{option}={value}");
        let run = bench.warren(&["ws", "create", "acme/x", &joined]);
        assert_eq!(run.code, 2, "{option} {value}: {run:?}");
        assert!(run.stderr.contains(expected), "{option} {value}: {run:?}");
        assert!(!run.stderr.contains("hunter2"), "{run:?}");
        assert!(run.stderr.len() < 1000, "{run:?}");
    }
    let stray = ["ws", "create", "acme/x", "https://me:hunter2@git.example/x.git"];
    let run = bench.warren(&stray);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(!run.stderr.contains("hunter2"), "{run:?}");
    assert!(bench.fake.state().created.is_empty());
}
