//! The longest gap between two acknowledged writes when the leader goes: killed, or asked to.
//!
//! One writer, one write at a time, begins at the leader; a write that fails or is not answered in
//! time is asked again at the next member, with the same request id. etcd runs with our times.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    Row,
    etcd::{self, Etcd},
    is_noisy_within,
    load::next_value,
    median,
    options::Options,
    ours::Ours,
    round,
    system::{Api, System, key, request_id},
};
use crate::Stage;

/// How long one attempt may take before the next member is asked.
const ATTEMPT: Duration = Duration::from_millis(300);
/// Writes before the leader goes, and after the next one is there.
const AROUND: Duration = Duration::from_millis(700);
/// How long the gap may last at all.
const SOON: Duration = Duration::from_secs(20);
/// Goals: milliseconds without an acknowledged write.
const GOAL_KILL: f64 = 2500.0;
const GOAL_PLANNED: f64 = 50.0;

/// How the leader goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Killed,
    Planned,
}

/// What one writer saw.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Milliseconds.
    gap: f64,
    /// Attempts that failed or were not answered in time.
    failed: u64,
}

/// Measures both ways and returns the JSON line.
///
/// # Errors
/// Fails where a system cannot be started or does not come back; a missed goal is no fault.
pub async fn run(options: &Options) -> Result<Value> {
    let stage = Stage::new()?;
    let engine = *options.engines.first().context("an engine")?;
    let mut peer = match etcd::is_installed() {
        true => Some(Etcd::start(&stage, 3).await?),
        false => {
            eprintln!("skipped: etcd is not installed; apt install etcd-server");
            None
        }
    };
    let peer_name = peer.as_ref().map_or("etcd", |peer| peer.name()).to_owned();
    let mut ours = Ours::start(&stage, 3, engine).await?;
    let times = if options.quick { 1 } else { 7 };
    let killed = row(&mut ours, peer.as_mut(), Way::Killed, times).await?;
    let planned = row(&mut ours, peer.as_mut(), Way::Planned, times).await?;
    let line = killed.json();
    let value = median(killed.ours.clone());
    let holds = value <= GOAL_KILL
        && median(planned.ours.clone()) <= GOAL_PLANNED
        && planned.more["failed"] == 0;
    Ok(json!({
        "bench": "handover",
        "figure": "ms without an acknowledged write after SIGKILL of the leader",
        "value": round(value),
        "peer": peer_name,
        "peer_value": line["peer_value"]["median"],
        "ratio": killed.ratio().map(round),
        "better": "lower",
        "goal": format!("<={GOAL_KILL} killed, <={GOAL_PLANNED} planned with no failed write"),
        "holds": holds,
        "quick": options.quick,
        "rows": [line, planned.json()],
    }))
}

async fn row(ours: &mut Ours, mut peer: Option<&mut Etcd>, way: Way, times: usize) -> Result<Row> {
    let name = match way {
        Way::Killed => "leader killed with SIGKILL",
        Way::Planned => "planned hand-over",
    };
    let (mut noisy, mut patience) = (false, Duration::from_secs(40));
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..times {
        noisy |= is_noisy_within(&mut patience)?;
        mine.push(once(ours, way).await?);
        if let Some(peer) = peer.as_deref_mut() {
            theirs.push(once(peer, way).await?);
        }
        let their = theirs.last().map_or(0.0, |seen| seen.gap);
        eprintln!("{name}: {:.0} ms, peer {their:.0} ms", mine.last().map_or(0.0, |s| s.gap));
    }
    let failed = |seen: &[Seen]| seen.iter().map(|one| one.failed).sum::<u64>();
    Ok(Row {
        name: name.to_owned(),
        ours: mine.iter().map(|seen| seen.gap).collect(),
        peer: theirs.iter().map(|seen| seen.gap).collect(),
        noisy,
        more: json!({
            "failed": failed(&mine),
            "peer_failed": failed(&theirs),
            "heartbeat_ms": 150,
            "election_ms": "500-1000, etcd 1000",
            "attempt_ms": ATTEMPT.as_millis(),
        }),
    })
}

/// Lets a writer write while the leader goes; the cluster is whole again afterwards.
async fn once(system: &mut impl System, way: Way) -> Result<Seen> {
    let leader = system.leader().await?;
    let mut apis = Vec::new();
    for member in 0..system.members() {
        apis.push(system.connect(member).await?);
    }
    let writer = Writer::start(apis, leader);
    sleep(AROUND).await;
    match way {
        Way::Killed => system.set_running(leader, false)?,
        Way::Planned => system.hand_over((leader + 1) % system.members()).await?,
    }
    let before = writer.written.load(Ordering::Relaxed);
    let deadline = Instant::now() + SOON;
    while writer.written.load(Ordering::Relaxed) <= before + 1 && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(AROUND).await;
    let seen = writer.stop().await?;
    if way == Way::Killed {
        system.set_running(leader, true)?;
    }
    system.leader().await?;
    Ok(seen)
}

struct Writer {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Seen>,
}

impl Writer {
    fn start(apis: Vec<Api>, first: usize) -> Self {
        let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn(write(apis, first, written.clone(), stop.clone()));
        Self { written, stop, task }
    }

    async fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = timeout(SOON, self.task).await.context("a write was never acknowledged")??;
        anyhow::ensure!(self.written.load(Ordering::Relaxed) > 2, "nothing was written");
        Ok(seen)
    }
}

async fn write(
    mut apis: Vec<Api>,
    first: usize,
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Seen {
    let mut seen = Seen { gap: 0.0, failed: 0 };
    let mut at = first;
    let mut last = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let (request, object, text) = (request_id(), key(number), next_value());
        loop {
            let attempt = timeout(ATTEMPT, apis[at].write(&request, &object, &text));
            if matches!(attempt.await, Ok(Ok(()))) {
                break;
            }
            if stop.load(Ordering::Relaxed) && last.elapsed() > SOON {
                return seen;
            }
            seen.failed += 1;
            at = (at + 1) % apis.len();
            // where all refuse at once, asking them without a pause measures only the asking
            sleep(Duration::from_millis(5)).await;
        }
        let now = Instant::now();
        if number > 1 {
            seen.gap = seen.gap.max(now.duration_since(last).as_secs_f64() * 1e3);
        }
        last = now;
        written.fetch_add(1, Ordering::Relaxed);
    }
    seen
}
