//! `workspace exec` and `logs` over pipes.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;
use warren_proto::{ApiError, Method, error::reason};

use crate::support::Bench;

#[test]
fn output_and_exit_code_pass_through() {
    let bench = Bench::new();
    let run = bench.warren(&["ws", "exec", "acme/web", "--", "echo", "a b", "-x"]);
    assert_eq!((run.code, run.stdout.as_str()), (7, "a b -x\n"), "{run:?}");
    assert_eq!(run.stderr, "to stderr\n");
    let run = bench.warren(&["ws", "exec", "acme/web", "--", "nothing-like-it"]);
    assert_eq!(run.code, 127, "{run:?}");
}

#[test]
fn stdin_is_passed_on_when_asked_byte_for_byte() {
    let bench = Bench::new();
    let input: Vec<u8> = (0..200_000_u32).map(|n| b"abcdefghij\n"[n as usize % 11]).collect();
    let run = bench.warren_with(&["ws", "exec", "-i", "acme/web", "--", "cat"], &input);
    assert_eq!((run.code, run.stdout.len()), (0, input.len()));
    assert_eq!(run.stdout.as_bytes(), input);
    let run = bench.warren_with(&["ws", "exec", "acme/web", "--", "cat"], b"not asked for");
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{run:?}");
}

#[test]
fn signals_are_forwarded() {
    let bench = Bench::new();
    let mut command = bench.command(&["ws", "exec", "acme/web", "--", "wait"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, "waiting\n");
    let pid = Pid::from_raw(child.id().try_into().expect("a pid")).expect("not zero");
    kill_process(pid, Signal::TERM).expect("sent");
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
}

#[test]
fn a_program_is_never_started_twice() {
    let bench = Bench::new();
    let lost = tonic::Status::unavailable("cut");
    bench.fake.fail(Method::SessionOpenStream, lost);
    let run = bench.warren(&["ws", "exec", "acme/web", "--", "echo"]);
    assert_eq!((run.code, bench.fake.calls(Method::SessionOpenStream)), (5, 1), "{run:?}");
    let run = bench.warren(&["ws", "exec", "acme/web", "--", "drop"]);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("error: the connection to acme/web broke\n"), "{run:?}");
}

#[test]
fn a_coordinator_that_does_not_hear_the_node_is_passed_over_and_each_is_asked_once() {
    let bench = Bench::new();
    let deaf = || {
        let message = "the workspace's node cannot be reached";
        ApiError::new(Code::Unavailable, reason::NODE_ELSEWHERE, message)
    };
    let echo = || bench.warren(&["ws", "exec", "acme/web", "--", "echo", "a"]);
    let last = || bench.fake.state().opened.pop().map(|target| target.last);
    assert_eq!((echo().code, last()), (7, Some(true)), "there is one only");
    bench.point_at(&format!("{0}\", \"{0}", bench.address));
    assert_eq!((echo().code, last()), (7, Some(false)), "there is another to ask");
    bench.fake.fail(Method::SessionOpenStream, deaf());
    let run = echo();
    assert_eq!((run.code, run.stdout.as_str()), (7, "a\n"), "{run:?}");
    assert_eq!((bench.fake.calls(Method::SessionOpenStream), last()), (4, Some(true)));
    for _ in 0..2 {
        bench.fake.fail(Method::SessionOpenStream, deaf());
    }
    let run = echo();
    assert_eq!((run.code, bench.fake.calls(Method::SessionOpenStream)), (5, 6), "{run:?}");
    assert!(run.stderr.contains("the workspace's node cannot be reached"), "{run:?}");
}

#[test]
fn terminals_are_asked_for_only_where_there_is_one() {
    let bench = Bench::new();
    let run = bench.warren(&["ws", "exec", "-it", "acme/web", "--", "sh"]);
    assert_eq!(run.code, 2, "{run:?}");
    let run = bench.warren(&["session", "attach", "acme/web"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("error: session attach needs a terminal\n"), "{run:?}");
    let long = "x".repeat(70_000);
    let run = bench.warren(&["ws", "exec", "acme/web", "--", "echo", &long]);
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn logs_are_printed_as_they_are() {
    let bench = Bench::new();
    let run = bench.warren(&["ws", "logs", "acme/web", "--tail", "2"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "first line\nsecond line\n"), "{run:?}");
}
