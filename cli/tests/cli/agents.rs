//! What agents do, as people and scripts read it: lists, watches, waits, explanations.

use std::time::{Duration, Instant};

use tonic::{Code, Status};
use warren_proto::{
    ApiError, Method,
    convert::explanation_bytes,
    error::reason,
    pb::{
        admin::v1::{self as pb, AgentStateName},
        inside::v1::{self as inside, agent_state::State},
        node::v1 as node,
    },
};

use crate::{
    support::{
        Bench,
        data::{NOW, agent, idle, waiting, web},
        wait_until,
        watch::Piece,
    },
    watch::{Watching, objects, shapes},
};

/// One of everything, none of it in order.
fn crew() -> Vec<pb::Session> {
    let tool = inside::AgentTool {
        name: "Bash".to_owned(),
        summary: "cargo test".to_owned(),
        since_unix_ms: NOW - 4000,
    };
    let phase = inside::AgentPhase::Tool.into();
    let working = State::Working(inside::AgentWorking { phase, tool: Some(tool) });
    let limited = inside::AgentError {
        kind: inside::AgentErrorKind::RateLimit.into(),
        text: String::new(),
        retry_at_unix_ms: Some(NOW + 3_600_000),
    };
    let mut lost = agent("lost", working.clone(), 4);
    lost.observed_live = false;
    of(&mut lost).unknown = true;
    let mut derived = idle("derived", 9);
    of(&mut derived).derived = true;
    of(&mut derived).unseen = true;
    of(&mut derived).source = inside::AgentSource::Title.into();
    of(&mut derived).event = String::new();
    let mut shell = idle("shell", 1);
    shell.observed.get_or_insert_default().agent = None;
    vec![
        derived,
        agent("limited", State::Error(limited), 40),
        lost,
        shell,
        waiting("new", 5),
        waiting("old", 500),
        agent("works", working, 4),
    ]
}

fn of(session: &mut pb::Session) -> &mut inside::AgentStatus {
    session.observed.get_or_insert_default().agent.get_or_insert_default()
}

fn told(sessions: Vec<pb::Session>, complete: bool) -> Piece {
    let begins = complete;
    let served_unix_ms = NOW + 1000;
    Piece::Sessions(pb::Sessions {
        sessions,
        begins,
        complete,
        served_unix_ms,
        ..Default::default()
    })
}

fn explained() -> inside::AgentExplanation {
    let evidence = |at, source: inside::AgentSource, said: &str, verdict: &str, decides| {
        inside::AgentEvidence {
            at_unix_ms: NOW - at,
            source: source.into(),
            said: said.to_owned(),
            verdict: verdict.to_owned(),
            decides,
        }
    };
    let status = waiting("web", 5).observed.and_then(|one| one.agent);
    let (hook, registry) = (inside::AgentSource::Hook, inside::AgentSource::Registry);
    let evidence = vec![
        evidence(9000, hook, "UserPromptSubmit", "set working", false),
        evidence(5000, hook, "PermissionRequest Bash: npm publish", "set waiting", true),
        evidence(5000, registry, "busy\x1b[2J", "ignored: of lower rank", false),
    ];
    inside::AgentExplanation { status, evidence }
}

pub(crate) fn install(bench: &Bench) {
    let mut state = bench.fake.state();
    state.sessions = crew();
    state.explained = (explanation_bytes(&explained()), 7);
    let mut home = web(pb::Phase::Active, node::RunState::Running, Vec::new());
    let observed = home.observed.get_or_insert_default();
    observed.sessions = crew().into_iter().filter_map(|one| one.observed).collect();
    for (number, session) in observed.sessions.iter_mut().enumerate() {
        session.name = format!("s{number}");
    }
    state.workspaces = vec![home];
}

#[test]
fn a_list_asks_for_what_was_asked_for() {
    let bench = Bench::new();
    let filters = ["--state", "waiting,error", "--needs-me", "--client", "acme", "--node", "n1"];
    let run = bench.warren(&[&["session", "list"][..], &filters].concat());
    assert_eq!(run.code, 0, "{run:?}");
    let asked = bench.fake.state().listed[0].clone();
    let states = [AgentStateName::Waiting, AgentStateName::Error].map(i32::from);
    assert_eq!((asked.states, asked.needs_me), (states.to_vec(), true));
    assert_eq!((asked.client.as_str(), asked.node.as_str()), ("acme", "n1"));
    assert_eq!(bench.warren(&["session", "list", "--state", "bored"]).code, 2);
    assert_eq!(bench.warren(&["session", "list", "acme/web", "--all"]).code, 2);
    assert_eq!(bench.warren(&["session", "list", "--all"]).code, 0);
}

#[test]
fn who_needs_a_person_comes_first_over_all_pages() {
    let bench = Bench::new();
    install(&bench);
    bench.fake.state().page = 2;
    let names = |arguments: &[&str]| -> Vec<String> {
        let run = bench.warren(&[&["session", "list", "-o", "name"][..], arguments].concat());
        assert_eq!(run.code, 0, "{run:?}");
        run.stdout.lines().filter_map(|line| line.split('/').nth(1)).map(str::to_owned).collect()
    };
    let first = ["old", "new", "limited", "derived", "lost", "works", "shell"];
    assert_eq!(names(&[]), first);
    assert_eq!(names(&["--attention"]), first);
    let named = ["derived", "limited", "lost", "shell", "new", "old", "works"];
    assert_eq!(names(&["--sort", "name"]), named, "as the coordinator orders them");
}

#[test]
fn a_watch_tells_what_changes_as_it_is_told() {
    let bench = Bench::new();
    bench.fake.state().sessions = vec![idle("web", 60), idle("gone", 60)];
    let again = waiting("web", 0);
    let lost = Status::unavailable("the connection broke");
    bench.fake.state().watch.extend([
        Piece::UpTo(42),
        told(vec![idle("web", 60), idle("gone", 60)], true),
        told(vec![again.clone()], false),
        Piece::End(lost),
        told(vec![again, waiting("late", 0)], true),
    ]);
    let watching = Watching::run(&bench, &["session", "list", "--watch", "-o", "json"]);
    watching.shows("late");
    let objects = objects(&watching.interrupt());
    let shown = [
        "list 42 -",
        "listed 42 acme/gone/main",
        "listed 42 acme/web/main",
        "seen null acme/web/main",
        "seen null acme/late/main",
        "gone null acme/gone/main",
    ];
    assert_eq!(shapes(&objects)[..5], shown[..5]);
    assert!(objects.len() == 5 || shapes(&objects) == shown, "{objects:?}");
    assert_eq!(objects[3]["object"]["agent"]["wait"]["text"], "npm publish");
    let asked = bench.fake.state().watched.clone();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|one| one.sessions && one.no_events), "{asked:?}");
    assert_eq!(bench.fake.calls(Method::SessionListSessions), 1, "nothing is asked again");
}

#[test]
fn a_watch_of_sessions_has_no_place_to_come_back_to() {
    let bench = Bench::new();
    bench.fake.state().sessions = vec![idle("web", 60)];
    bench.fake.state().anew = true;
    let resync = || ApiError::new(Code::OutOfRange, reason::RESYNC, "these are not kept");
    bench.fake.fail(Method::WatchWatch, resync());
    bench.fake.state().watch.extend([
        Piece::UpTo(42),
        told(vec![idle("web", 60)], true),
        Piece::End(resync().into()),
        Piece::UpTo(50),
        told(vec![waiting("web", 0)], true),
    ]);
    let begun = Instant::now();
    let watching = Watching::run(&bench, &["session", "list", "--watch"]);
    watching.shows("waiting");
    assert!(begun.elapsed() > Duration::from_millis(900), "it asks again without a pause");
    watching.interrupt();
    let asked = bench.fake.state().watched.clone();
    let place = |one: &pb::WatchRequest| (one.from_revision, one.incarnation, one.from_oldest);
    assert_eq!(asked.iter().map(place).collect::<Vec<_>>(), [(0, 0, false); 3]);
}

#[test]
fn an_older_coordinator_is_told_from_one_with_nothing_to_tell() {
    let bench = Bench::new();
    let mut elsewhere = waiting("other", 5);
    elsewhere.client = "umbra".to_owned();
    bench.fake.state().sessions = vec![waiting("web", 5), idle("idle", 5), elsewhere];
    // the fake one looks at no filter, as one that does not know them
    let filters = ["--needs-me", "--client", "acme", "--node", "n1", "-o", "name"];
    let run = bench.warren(&[&["session", "list"][..], &filters].concat());
    assert_eq!((run.code, run.stdout.as_str()), (0, "acme/web/main\n"), "{run:?}");
    let run = bench.warren(&["session", "list", "--node", "n2", "-o", "name"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{run:?}");
    bench.fake.state().watch.push_back(Piece::UpTo(42));
    let run = bench.warren(&["session", "list", "--watch"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("it is older"), "{run:?}");
}

#[test]
fn a_second_wait_is_told_though_it_reads_like_the_first() {
    let bench = Bench::new();
    bench.fake.state().sessions = vec![waiting("web", 60)];
    let mut other = waiting("web", 30);
    if let Some(State::Waiting(wait)) = &mut of(&mut other).state.get_or_insert_default().state {
        wait.options.push("Always".to_owned());
    }
    bench.fake.state().watch.extend([
        told(vec![waiting("web", 60)], true),
        told(vec![waiting("web", 30)], false),
        told(vec![waiting("web", 30)], false),
        told(vec![other, waiting("end", 0)], false),
    ]);
    let watching = Watching::run(&bench, &["session", "list", "--watch"]);
    watching.shows("acme/end");
    let text = watching.interrupt();
    assert_eq!(text.lines().filter(|line| line.contains("acme/web/main   seen")).count(), 2);
}

#[test]
fn a_watched_workspace_tells_what_its_agents_come_to() {
    let bench = Bench::new();
    install(&bench);
    for one in &mut bench.fake.state().workspaces {
        one.observed.get_or_insert_default().sessions.clear();
    }
    let watching = Watching::run(&bench, &["workspace", "list", "--watch"]);
    watching.shows("acme/web");
    wait_until("it watches", || bench.fake.calls(Method::WatchWatch) == 1);
    install(&bench);
    watching.shows("waiting, 5 more");
    watching.interrupt();
}

#[test]
fn a_filtered_watch_loses_who_is_no_longer_meant() {
    let bench = Bench::new();
    bench.fake.state().sessions = vec![waiting("web", 60)];
    bench.fake.state().watch.extend([
        told(vec![waiting("web", 60), idle("other", 60)], true),
        told(vec![idle("web", 0)], false),
        told(vec![waiting("web", 0)], false),
    ]);
    let watch = ["session", "list", "-w", "--needs-me"];
    let watching = Watching::run(&bench, &watch);
    watching.shows("seen");
    let text = watching.interrupt();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[2].ends_with("acme/web/main   gone"), "{text}");
    assert!(lines[3].contains("waiting: permission \"npm publish\""), "{text}");
}

#[test]
fn a_wait_ends_with_the_state_or_the_time_or_the_session() {
    let bench = Bench::new();
    let busy = |seconds| {
        agent("web", State::Working(inside::AgentWorking { phase: 0, tool: None }), seconds)
    };
    bench.fake.state().sessions = vec![idle("web", 60)];
    let run = bench.warren(&["session", "wait", "acme/web/main"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "acme/web/main: idle\n"), "{run:?}");
    assert_eq!(bench.fake.calls(Method::WatchWatch), 0, "it is there already");

    bench.fake.state().sessions = vec![busy(60)];
    let other = waiting("other", 0);
    bench.fake.state().watch.extend([
        told(vec![busy(60), other], true),
        Piece::End(Status::unavailable("the connection broke")),
        told(vec![busy(60)], true),
        told(vec![waiting("web", 0)], false),
    ]);
    let run = bench.warren(&["session", "wait", "acme/web/main", "-o", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let shown: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(shown["agent"]["state"], "waiting");
    let asked = bench.fake.state().watched[0].clone();
    assert_eq!((asked.workspace.as_str(), asked.sessions), ("acme/web", true));

    bench.fake.state().watch.clear();
    bench.fake.state().watch.push_back(told(vec![idle("web", 0)], true));
    let until = ["--until", "waiting,error", "--timeout", "1s"];
    let run = bench.warren(&[&["session", "wait", "acme/web/main"][..], &until].concat());
    assert_eq!(run.code, 6, "{run:?}");
    let message = "acme/web/main did not come to waiting or error within 1s";
    assert!(run.stderr.contains(message) && run.stderr.contains("it is idle"), "{run:?}");

    let gone = pb::SessionGone {
        client: "acme".to_owned(),
        workspace: "web".to_owned(),
        session: "main".to_owned(),
    };
    let gone = pb::Sessions { gone: vec![gone], ..Default::default() };
    bench.fake.state().watch.extend([told(vec![busy(1)], true), Piece::Sessions(gone)]);
    let run = bench.warren(&["session", "wait", "acme/web/main"]);
    assert_eq!(run.code, 3, "{run:?}");
    let run = bench.warren(&["session", "wait", "acme/web/other"]);
    assert_eq!(run.code, 3, "{run:?}");
}

#[test]
fn a_program_that_ended_has_exited_without_an_agent_too() {
    let bench = Bench::new();
    let run = bench.warren(&["session", "wait", "acme/web/tests", "--until", "exited"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "acme/web/tests: exited 1\n"), "{run:?}");
}

#[test]
fn events_tell_once_that_an_agent_came_to_need_a_person() {
    let bench = Bench::new();
    let lost = Status::unavailable("the connection broke");
    bench.fake.state().watch.extend([
        Piece::UpTo(42),
        told(vec![waiting("before", 600), idle("web", 60)], true),
        told(vec![waiting("web", 5)], false),
        Piece::End(lost),
        Piece::UpTo(42),
        told(vec![waiting("before", 600), waiting("web", 5), waiting("late", 1)], true),
    ]);
    let watching = Watching::run(&bench, &["cluster", "events", "--watch", "-o", "json"]);
    watching.shows("acme/late/main");
    let objects = objects(&watching.interrupt());
    let shown = ["agent.waiting null acme/web/main", "agent.waiting null acme/late/main"];
    assert_eq!(shapes(&objects), shown);
    assert_eq!(objects[0]["detail"], "claude: permission \"npm publish\"");
    assert_eq!(objects[0]["at"], "2026-01-02T03:04:00.000Z");
}

#[test]
fn who_may_not_know_sessions_watches_the_rest() {
    let bench = Bench::new();
    let refused = ApiError::new(Code::PermissionDenied, reason::NOT_PERMITTED, "not for auditors");
    bench.fake.fail(Method::WatchWatch, refused);
    bench.fake.state().watch.push_back(Piece::UpTo(42));
    let watching = Watching::run(&bench, &["cluster", "events", "--watch"]);
    wait_until("it asks again", || bench.fake.calls(Method::WatchWatch) == 2);
    watching.interrupt();
    let asked: Vec<bool> = bench.fake.state().watched.iter().map(|one| one.sessions).collect();
    assert_eq!(asked, [true, false]);
}

#[test]
fn an_explanation_that_is_none_is_an_error() {
    let bench = Bench::new();
    install(&bench);
    bench.fake.state().sessions = vec![idle("web", 1)];
    let run = bench.warren(&["session", "explain", "acme/web", "-o", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let shown: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(shown["evidence"][1]["decides"], true, "{shown}");
    bench.fake.state().explained = (vec![0xff; 100], 100);
    let run = bench.warren(&["session", "explain", "acme/web/main"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("cannot be read"), "{run:?}");
}
