//! `cluster init` over the local socket, and contexts.

use std::{fs, os::unix::fs::PermissionsExt as _};

use warren_proto::Method;

use crate::support::Bench;

fn init(bench: &Bench, more: &[&str]) -> crate::support::Run {
    let socket = bench.folder.path().join("coordinator.sock");
    let socket = socket.to_str().expect("a path");
    let arguments = ["cluster", "init", "--name", "demo", "--admin", "ann", "--socket", socket];
    bench.warren(&[&arguments, more].concat())
}

#[test]
fn the_first_run_makes_a_context_and_the_second_changes_nothing() {
    let bench = Bench::without_context();
    let run = init(&bench, &["-o", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let first: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((&first["result"], &first["person"]), (&"created".into(), &"ann".into()));
    let identity = bench.config().join("contexts/demo/identity.pem");
    let mode = fs::metadata(&identity).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(bench.warren(&["cluster", "status", "-o", "name"]).stdout, "demo\n");

    let before = fs::read(&identity).expect("readable");
    let run = init(&bench, &[]);
    assert_eq!((run.code, run.stdout.starts_with("cluster demo: unchanged\n")), (0, true));
    assert_eq!(fs::read(&identity).expect("readable"), before);
    assert_eq!(bench.fake.calls(Method::BootstrapInit), 1);

    fs::remove_file(&identity).expect("removed");
    let run = init(&bench, &[]);
    assert_eq!((run.code, run.stdout.starts_with("cluster demo: renewed\n")), (0, true), "{run:?}");
    assert_eq!(bench.warren(&["cluster", "status"]).code, 0);
}

#[test]
fn a_context_of_another_cluster_is_not_overwritten() {
    let (bench, other) = (Bench::without_context(), Bench::without_context());
    assert_eq!(init(&bench, &[]).code, 0);
    let socket = other.folder.path().join("coordinator.sock");
    let socket = socket.to_str().expect("a path");
    let arguments = ["cluster", "init", "--name", "demo", "--admin", "ann", "--socket", socket];
    let run = bench.warren(&arguments);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.stderr.contains("error: context demo is of another cluster\n"), "{run:?}");
    assert_eq!(bench.warren(&["cluster", "status"]).code, 0, "the old one still works");
    let run = bench.warren(&[&arguments[..], &["--context", "second"]].concat());
    assert_eq!(run.code, 0, "{run:?}");
    let names = bench.warren(&["context", "list", "-o", "name"]).stdout;
    assert_eq!(names, "demo\nsecond\n");
    assert_eq!(bench.warren(&["context", "use", "demo"]).code, 0);
    assert!(bench.warren(&["context", "show"]).stdout.contains(&bench.address.to_string()));
}

#[test]
fn a_socket_that_is_not_there_says_what_to_do() {
    let bench = Bench::without_context();
    let run = bench.warren(&["cluster", "init", "--name", "demo", "--socket", "/nonexistent/x"]);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("next: start warren-coordinator"), "{run:?}");
    let run = bench.warren(&["workspace", "list"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("error: no cluster is known here\n"), "{run:?}");
}
