//! `warren audit` against a coordinator that gives its records in small pieces.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::mpsc,
    thread,
};

use warren_proto::{ApiError, Method, pb::admin::v1 as pb};

use crate::support::{Bench, DEADLINE, data::NOW};

#[test]
fn every_filter_reaches_the_coordinator() {
    let bench = Bench::new();
    let id = "0199a0b2-7f00-7000-8000-000000000004";
    let arguments = ["audit", "list", "--since", "2026-01-01", "--until", "2026-01-02T00:00:00Z"];
    let more = ["--actor", "ann", "--action", "workspace", "--target", "acme/web"];
    let run = bench.warren(&[&arguments[..], &more, &["--request-id", id]].concat());
    assert_eq!(run.code, 0, "{run:?}");
    let state = bench.fake.state();
    let asked = &state.searches[0];
    let expected = pb::ListRecordsRequest {
        page_size: 200,
        since_unix_ms: 1_767_225_600_000,
        until_unix_ms: 1_767_312_000_000,
        actor: "ann".to_owned(),
        action: "workspace".to_owned(),
        target: "acme/web".to_owned(),
        request_id: id.to_owned(),
        ..Default::default()
    };
    assert_eq!(*asked, expected);
    assert!(state.searches.len() > 1, "it went on after the first page");
}

#[test]
fn what_may_not_be_seen_and_what_is_broken_is_said() {
    let bench = Bench::new();
    let denied = ApiError::new(tonic::Code::PermissionDenied, "NOT_PERMITTED", "vera may not");
    bench.fake.fail(Method::AuditListRecords, denied);
    assert_eq!(bench.warren(&["audit", "list"]).code, 7);
    let broken = ApiError::new(tonic::Code::DataLoss, "AUDIT_BROKEN", "record 4 was changed");
    bench.fake.fail(Method::AuditListRecords, broken.next("warren audit verify"));
    let run = bench.warren(&["audit", "list"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("next: warren audit verify"), "{}", run.stderr);
}

#[test]
fn a_watch_prints_each_new_record_once() {
    let bench = Bench::new();
    let mut command = bench.command(&["audit", "list", "--watch", "-q", "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("starts");
    let stdout = child.stdout.take().expect("piped");
    let (told, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let value: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
            if told.send(value["sequence"].as_u64()).is_err() {
                return;
            }
        }
    });
    let next = || lines.recv_timeout(DEADLINE).expect("in time");
    for sequence in 3..=7 {
        assert_eq!(next(), Some(sequence));
    }
    for sequence in 8..=10 {
        let mut state = bench.fake.state();
        let record = pb::AuditRecord { sequence, at_unix_ms: NOW, ..state.records[0].clone() };
        state.records.push(record);
    }
    for sequence in 8..=10 {
        assert_eq!(next(), Some(sequence));
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn a_coordinator_that_is_not_installed_cannot_check_its_folder() {
    let bench = Bench::new();
    let empty = tempfile::tempdir().expect("a folder");
    let folder = empty.path().to_str().expect("plain");
    let mut command = bench.command(&["audit", "verify", "--local", "--state", folder]);
    let output = command.env("PATH", "/nonexistent").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    // where the workspace was built, the program stands beside this one and finds no folder
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be checked") && said.contains("next:"), "{said}");
}
