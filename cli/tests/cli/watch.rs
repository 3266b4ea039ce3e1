//! `--watch` on lists, and `cluster events`.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};
use tonic::{Code, Status};
use warren_proto::{
    ApiError, Method,
    error::reason,
    pb::{
        admin::v1::{self as pb, event::What},
        node::v1 as node,
    },
};

use crate::support::{
    Bench,
    data::web,
    wait_until,
    watch::{Piece, event},
};

/// A command that runs until it is interrupted.
pub(crate) struct Watching {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

/// Returns the command with Ctrl-C meaning what it does at a terminal: whoever runs tests in the
/// background may ignore it, and children inherit that.
fn interruptible(command: &Command) -> Command {
    let mut fresh = Command::new("env");
    fresh.arg("--default-signal=INT").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => fresh.env(name, value),
            None => fresh.env_remove(name),
        };
    }
    fresh
}

fn gather(mut from: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = text.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(size @ 1..) = from.read(&mut buffer) {
            let read = String::from_utf8_lossy(&buffer[..size]).into_owned();
            shared.lock().expect("no panic").push_str(&read);
        }
    });
    text
}

impl Watching {
    pub(crate) fn run(bench: &Bench, arguments: &[&str]) -> Self {
        let mut command = interruptible(&bench.command(arguments));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdout = gather(child.stdout.take().expect("piped"));
        let stderr = gather(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().expect("no panic").clone()
    }

    pub(crate) fn shows(&self, text: &str) {
        wait_until(text, || self.stdout().contains(text));
    }

    pub(crate) fn says(&self, text: &str) {
        wait_until(text, || self.stderr.lock().expect("no panic").contains(text));
    }

    /// Presses Ctrl-C and returns what was printed.
    pub(crate) fn interrupt(mut self) -> String {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::INT).expect("it runs");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "a shell reads 130");
        self.stdout()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn decided(phase: pb::Phase, revision: u64) -> pb::Workspace {
    let mut shown = web(phase, node::RunState::Absent, Vec::new());
    (shown.observed, shown.observed_unix_ms, shown.observed_live) = (None, 0, false);
    pb::Workspace { revision, name: "new".to_owned(), id: "new".to_owned(), ..shown }
}

fn created(revision: u64) -> Vec<pb::Event> {
    let workspace = Some(decided(pb::Phase::Queued, revision));
    let phase = moved(revision, 1, pb::Phase::Queued);
    let what = What::WorkspaceCreated(pb::WorkspaceCreated { workspace });
    vec![event(revision, 0, what), phase]
}

fn moved(revision: u64, index: u32, to: pb::Phase) -> pb::Event {
    let workspace = Some(decided(to, revision));
    let (from, to) = (0, to.into());
    let what = What::WorkspacePhaseChanged(pb::WorkspacePhaseChanged { from, to, workspace });
    event(revision, index, what)
}

fn removed(revision: u64) -> pb::Event {
    let gone = pb::WorkspaceRemoved {
        id: "new".to_owned(),
        client: "acme".to_owned(),
        name: "new".to_owned(),
        node_id: String::new(),
    };
    event(revision, 0, What::WorkspaceRemoved(gone))
}

pub(crate) fn objects(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

pub(crate) fn shapes(objects: &[serde_json::Value]) -> Vec<String> {
    let of = |one: &serde_json::Value| {
        let word = one["event"].as_str().expect("a word");
        format!("{word} {} {}", one["revision"], one["address"].as_str().unwrap_or("-"))
    };
    objects.iter().map(of).collect()
}

#[test]
fn a_table_goes_on_with_a_line_per_change() {
    let bench = Bench::new();
    bench.fake.state().watch.extend([
        Piece::UpTo(42),
        Piece::Events(created(43)),
        Piece::Events(vec![moved(44, 0, pb::Phase::Assigned)]),
        Piece::Events(vec![removed(45)]),
    ]);
    let watching = Watching::run(&bench, &["workspace", "list", "-w", "--client", "acme"]);
    watching.shows("removed");
    let text = watching.interrupt();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("WORKSPACE"), "{text}");
    assert_eq!(lines.len(), 1 + 4 + 3, "the second event of one decision is left out: {text}");
    assert!(lines[5].starts_with("2026-01-02T03:04:48Z   acme/new   created   queued"), "{text}");
    assert!(
        lines[6].starts_with("2026-01-02T03:04:49Z   acme/new   phase     assigned   -   n1"),
        "{text}"
    );
    assert_eq!(lines[7], "2026-01-02T03:04:50Z   acme/new   removed");
    let asked = bench.fake.state().watched[0].clone();
    assert_eq!((asked.from_revision, asked.incarnation), (42, 9), "from where the list was read");
    assert_eq!((asked.client.as_str(), asked.kinds.len()), ("acme", 4));
}

#[test]
fn programs_read_a_line_of_json_per_change() {
    let bench = Bench::new();
    bench.fake.state().workspaces.truncate(1);
    bench.fake.state().watch.extend([Piece::Events(created(43)), Piece::Events(vec![removed(44)])]);
    let watching = Watching::run(&bench, &["workspace", "list", "--watch", "-o", "json"]);
    watching.shows("workspace.removed");
    let objects = objects(&watching.interrupt());
    assert_eq!(
        shapes(&objects),
        [
            "list 42 -",
            "listed 42 acme/web",
            "workspace.created 43 acme/new",
            "workspace.phase 43 acme/new",
            "workspace.removed 44 acme/new",
        ]
    );
    for one in &objects {
        let keys: Vec<&String> = one.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["address", "at", "event", "index", "object", "revision"], "{one}");
    }
    assert_eq!(
        (&objects[3]["index"], &objects[3]["object"]["phase"]),
        (&1.into(), &"queued".into())
    );
    assert!(objects[4]["object"].is_null());
}

#[test]
fn what_nodes_report_is_looked_at_again() {
    let bench = Bench::new();
    let watching = Watching::run(&bench, &["node", "list", "--watch"]);
    watching.shows("n2");
    wait_until("it watches", || bench.fake.calls(Method::WatchWatch) == 1);
    bench.fake.state().nodes[0].liveness = pb::NodeLiveness::Unreachable.into();
    watching.shows("seen   unreachable");
    watching.interrupt();
}

#[test]
fn a_lost_coordinator_is_replaced_from_the_last_revision() {
    let bench = Bench::new();
    let shutting = ApiError::new(Code::Unavailable, reason::SHUTTING_DOWN, "it ends");
    bench.fake.state().watch.extend([
        Piece::Events(created(43)),
        Piece::End(Status::unavailable("the connection broke")),
        Piece::Events(vec![moved(44, 0, pb::Phase::Assigned)]),
        Piece::UpTo(50),
        Piece::End(shutting.into()),
        Piece::Events(vec![removed(51)]),
    ]);
    let watching = Watching::run(&bench, &["workspace", "list", "--watch", "-o", "json"]);
    watching.says("asking for another one");
    watching.shows("workspace.removed");
    let objects = objects(&watching.interrupt());
    assert_eq!(
        shapes(&objects[5..]),
        [
            "workspace.created 43 acme/new",
            "workspace.phase 43 acme/new",
            "workspace.phase 44 acme/new",
            "workspace.removed 51 acme/new",
        ]
    );
    let asked: Vec<u64> = bench.fake.state().watched.iter().map(|one| one.from_revision).collect();
    assert_eq!(asked, [42, 43, 50], "bookmarks count too");
}

#[test]
fn missed_events_are_made_good_by_another_list() {
    let bench = Bench::new();
    bench.fake.state().workspaces.truncate(1);
    let slow = ApiError::new(Code::ResourceExhausted, reason::SLOW_CONSUMER, "too slow");
    bench.fake.state().watch.extend([
        Piece::Events(created(43)),
        Piece::End(slow.why("events are kept from revision 99 on").into()),
    ]);
    let old = ApiError::new(Code::OutOfRange, reason::RESYNC, "not kept").why("kept from 7 on");
    bench.fake.fail(Method::WatchWatch, old);
    let watching = Watching::run(&bench, &["workspace", "list", "--watch", "-o", "json"]);
    watching.says("events were missed (kept from 7 on); listing again");
    watching.says("events were missed (events are kept from revision 99 on); listing again");
    wait_until("a third list", || watching.stdout().matches("\"list\"").count() == 3);
    let objects = objects(&watching.interrupt());
    assert_eq!(
        shapes(&objects[2..6]),
        [
            "list 42 -",
            "listed 42 acme/web",
            "workspace.created 43 acme/new",
            "workspace.phase 43 acme/new",
        ]
    );
}

#[test]
fn a_refusal_ends_the_watch_as_it_would_any_call() {
    let bench = Bench::new();
    let revoked =
        ApiError::new(Code::Unauthenticated, reason::CERTIFICATE_REVOKED, "it was revoked");
    bench.fake.state().watch.extend([Piece::UpTo(42), Piece::End(revoked.into())]);
    let run = bench.warren(&["client", "list", "--watch"]);
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.stderr.contains("it was revoked"), "{run:?}");
    let run = {
        let bench = Bench::new();
        let gone = || ApiError::new(Code::Unavailable, reason::NO_QUORUM, "nobody leads");
        for _ in 0..100 {
            bench.fake.fail(Method::WatchWatch, gone());
        }
        bench.warren(&["client", "list", "--watch", "--timeout", "1s"])
    };
    assert_eq!(run.code, 5, "{run:?}");
}

#[test]
fn all_events_are_shown_as_far_as_they_are_kept() {
    let bench = Bench::new();
    let made = pb::Client { name: "acme".to_owned(), revision: 2, ..pb::Client::default() };
    let made = What::ClientCreated(pb::ClientCreated { client: Some(made) });
    let script = |bench: &Bench| {
        let events = [vec![event(2, 0, made.clone())], created(43)].concat();
        bench.fake.state().watch.extend([Piece::Events(events), Piece::UpTo(43)]);
    };
    script(&bench);
    let run = bench.warren(&["cluster", "events"]);
    assert_eq!(run.code, 0, "{run:?}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines[0].starts_with("TIME"), "{run:?}");
    assert!(lines[1].starts_with("2026-01-02T03:04:07Z   2          client.created"), "{run:?}");
    assert_eq!(lines.len(), 4, "{run:?}");
    assert!(bench.fake.state().watched[0].from_oldest);
    script(&bench);
    let run = bench.warren(&["cluster", "events", "--from", "40", "-o", "name"]);
    assert_eq!(run.stdout, "2.0\n43.0\n43.1\n", "{run:?}");
    assert_eq!(bench.fake.state().watched[1].from_revision, 39, "the revision itself is shown");
    let old = ApiError::new(Code::OutOfRange, reason::RESYNC, "not kept").why("kept from 7 on");
    bench.fake.fail(Method::WatchWatch, old);
    let run = bench.warren(&["cluster", "events", "--from", "5"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.stderr.contains("kept from 7 on") && run.stderr.contains("next:"), "{run:?}");
    script(&bench);
    bench.fake.state().watch.push_back(Piece::Events(vec![removed(44)]));
    let watching = Watching::run(&bench, &["cluster", "events", "--watch"]);
    watching.shows("workspace.removed");
    assert_eq!(watching.interrupt().lines().count(), 4);
}

#[test]
fn users_are_looked_at_again_and_told_when_they_come() {
    let bench = Bench::new();
    let watching = Watching::run(&bench, &["user", "list", "-w"]);
    watching.shows("vera");
    let mia =
        pb::User { name: "mia".to_owned(), role: "operator".to_owned(), ..Default::default() };
    bench.fake.state().users.push(mia);
    watching.shows("mia");
    let printed = watching.interrupt();
    let line = printed.lines().find(|line| line.contains("mia")).expect("it was shown");
    for word in ["seen", "operator", "0 good of 0"] {
        assert!(line.contains(word), "{line}");
    }
    assert_eq!(printed.matches("vera").count(), 1, "{printed}");
}

#[test]
fn a_watch_of_records_says_which_ones_it_passes_over() {
    let bench = Bench::new();
    let watching = Watching::run(&bench, &["audit", "list", "-w"]);
    watching.says("has no records 1-2");
    bench.fake.state().gaps = vec![pb::AuditGap { from_sequence: 8, upto_sequence: 9 }];
    watching.says("coordinator 2 has no records 8-9; warren audit verify shows who has");
    watching.interrupt();
}
