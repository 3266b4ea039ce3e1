//! What agents do, from their workspaces to people: in lists, watches, waits and explanations.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use warren_common::Limits;
use warren_tests::{Cluster, Stage, wait_until};

use crate::{
    played::{self, cluster},
    watching::Watching,
};

const WEB: &str = "acme/web/main";
const API: &str = "acme/api/main";

/// Has the agent in `main` of a workspace do something.
fn play(cluster: &Cluster, workspace: &str, words: &[&str]) -> Result<()> {
    played::play(cluster, workspace, &["warren-fake-agent", "main"], words)
}

/// Waits until a watch told that the agent of a session is so, and returns the session.
fn until(watching: &Watching, address: &str, status: &str) -> Result<Value> {
    played::until(watching, (address, "/agent/status"), status)
}

/// Milliseconds.
const DAY: u64 = 86_400_000;

/// Returns the milliseconds since midnight of `2026-01-02T03:04:05.678Z`.
fn of_day(time: &str) -> Result<u64> {
    let part = |at: std::ops::Range<usize>| -> Result<u64> {
        Ok(time.get(at).context("it is shorter")?.parse()?)
    };
    let minutes = part(11..13)? * 60 + part(14..16)?;
    Ok((minutes * 60 + part(17..19)?) * 1000 + part(20..23)?)
}

fn lines(text: &str, column: usize) -> Vec<&str> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(column)).collect()
}

#[test]
fn who_waits_is_seen_first_and_waited_for_and_explained() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = cluster(&stage)?;
    let watching = Watching::start(&cluster, &["session", "list", "--watch", "-o", "json"])?;
    watching.until("listed", WEB)?;
    let (_, session) = watching.newest(WEB);
    ensure!(session["agent"].is_null(), "nobody was seen yet: {session}");
    play(&cluster, "acme/api", &["working", "Bash", "cargo test"])?;
    until(&watching, API, "working: Bash cargo test")?;

    let wait = ["session", "wait", WEB, "--until", "waiting,error", "--timeout", "60s"];
    let waited = thread::scope(|scope| -> Result<Value> {
        let waited = scope.spawn(|| cluster.json(&wait));
        play(&cluster, "acme/web", &["waiting", "permission", "npm publish"])?;
        waited.join().ok().context("it waits")?
    })?;
    ensure!(waited["agent"]["wait"]["kind"] == "permission", "{waited}");
    let told = until(&watching, WEB, "waiting: permission \"npm publish\"")?;
    ensure!(told["agent"]["needs_me"] == true && told["agent"]["event"] == "Fake", "{told}");

    let listed = cluster.warren(&["session", "list"])?.stdout;
    ensure!(lines(&listed, 0) == [WEB, API] && lines(&listed, 1) == ["claude"; 2], "{listed}");
    let needy = cluster.warren(&["session", "list", "--needs-me", "-o", "name"])?.stdout;
    ensure!(needy == format!("{WEB}\n"), "{needy}");
    let busy = ["session", "list", "--state", "working", "--node", "n1", "-o", "name"];
    ensure!(cluster.warren(&busy)?.stdout == format!("{API}\n"));
    let web = cluster.workspace("acme/web")?;
    ensure!(web["agents"]["attention"] == "waiting" && web["agents"]["agents"] == 1, "{web}");

    let why = cluster.json(&["session", "explain", "acme/web"])?;
    ensure!(why["agent"]["state"] == "waiting", "{why}");
    let evidence = &why["evidence"][0];
    ensure!(evidence["said"] == "Fake waiting permission npm publish", "{why}");
    ensure!(evidence["decides"] == true && evidence["source"] == "hook", "{why}");

    cluster.warren(&["workspace", "stop", "acme/web"])?;
    watching.until("gone", WEB)
}

#[test]
fn what_turns_inside_is_read_outside_before_anybody_could_have_asked() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = cluster(&stage)?;
    let watching = Watching::start(&cluster, &["session", "list", "--watch", "-o", "json"])?;
    watching.until("listed", WEB)?;
    let mut took = Vec::new();
    for round in 0..20 {
        let tool = format!("T{round}");
        play(&cluster, "acme/web", &["working", &tool, "x"])?;
        let session = until(&watching, WEB, &format!("working: {tool} x"))?;
        let turned = of_day(session["agent"]["since"].as_str().context("when")?)?;
        let (read, _) = watching.newest(WEB);
        took.push((read.0 % DAY + DAY - turned) % DAY);
    }
    took.sort_unstable();
    eprintln!("turned inside to read outside, ms: {took:?}");
    ensure!(took[took.len() / 2] < 500, "{took:?}");
    Ok(())
}

#[test]
fn nobody_knows_of_a_silent_node_and_a_wait_is_told_once() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = cluster(&stage)?;
    let sessions = Watching::start(&cluster, &["session", "list", "--watch", "-o", "json"])?;
    let events = Watching::start(&cluster, &["cluster", "events", "--watch", "-o", "json"])?;
    events.until("workspace.created", "acme/web")?;
    sessions.until("listed", WEB)?;
    play(&cluster, "acme/web", &["waiting", "question", "which port?"])?;
    let wait = "waiting: question \"which port?\"";
    let before = until(&sessions, WEB, wait)?;
    events.until("agent.waiting", WEB)?;

    let since = Instant::now();
    cluster.nodes[0].agent.as_ref().context("it runs")?.signal(Signal::STOP)?;
    let lost = until(&sessions, WEB, "unknown (was waiting)")?;
    let (took, due) = (since.elapsed(), Limits::AGENT_UNHEARD);
    ensure!(took + Duration::from_secs(3) > due && took < due + Duration::from_secs(4), "{took:?}");
    ensure!(lost["agent"]["wait"] == before["agent"]["wait"], "{lost}");
    let listed = cluster.json(&["session", "list", "--state", "unknown"])?;
    ensure!(listed[0]["agent"]["last_state"] == "waiting", "{listed}");
    cluster.nodes[0].agent.as_ref().context("it runs")?.signal(Signal::CONT)?;
    let known = until(&sessions, WEB, wait)?;
    ensure!(known["agent"]["since"] == before["agent"]["since"], "{known}");

    cluster.kill_coordinator()?;
    cluster.start_coordinator()?;
    cluster.wait_ready("n1")?;
    wait_until("the node takes streams again", Duration::from_secs(30), || {
        play(&cluster, "acme/api", &["error", "rate_limit", "five hours"])
    })?;
    events.until("agent.error", API)?;
    // an end that is as it should be is no news, and a crash is
    play(&cluster, "acme/web", &["exited", "0"])?;
    until(&sessions, WEB, "exited 0")?;
    play(&cluster, "acme/api", &["exited", "1"])?;
    events.until("agent.exited", API)?;
    ensure!(events.told("agent.exited") == [API], "{:?}", events.told("agent.exited"));
    play(&cluster, "acme/web", &["waiting", "question", "which host?"])?;
    until(&sessions, WEB, "waiting: question \"which host?\"")?;
    let gone = sessions.told("gone");
    ensure!(gone.is_empty(), "a coordinator that just started has heard nobody: {gone:?}");
    wait_until("the second wait", Duration::from_secs(30), || {
        let told = events.told("agent.waiting");
        ensure!(told == [WEB, WEB], "{told:?}");
        Ok(())
    })
}
