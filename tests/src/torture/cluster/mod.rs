//! Three coordinators, one broken at a time, while callers ask all of them: does the history of all
//! calls have an order in which every answer is right?
//!
//! Each coordinator is a process on a host of its own ([`stand`]); [`nemesis`] kills, stops, cuts
//! off (both ways, inwards, outwards) and wipes them, [`callers`] ask over mutual TLS and note every
//! call in the [`history`]. Then [`evidence`] is judged: each request id had one outcome and one
//! effect ([`requests`]), the calls at each object have an order ([`objects`], [`linear`] with the
//! rules of [`register`]), and the order that the audit log names is one and agrees with time
//! ([`order`]). All coordinators must hold the same, and no container may have been touched
//! ([`containers`]). Lies told to the same history must be noticed.

pub mod ask;
pub mod callers;
pub mod containers;
pub mod evidence;
pub mod history;
pub mod linear;
pub mod nemesis;
pub mod objects;
pub mod order;
pub mod register;
pub mod replicas;
pub mod requests;
pub mod stand;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};
use warren_coordinator::store::Engine;

use self::{
    callers::Callers,
    containers::Containers,
    evidence::{Evidence, Judged},
    history::{Call, Counts, History, Outcome},
    nemesis::Done,
    stand::Stand,
};
use super::{Moments, Options, Verdict, writer::administrator};
use crate::Stage;

/// How often a line of progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// Breaks a cluster of each engine and judges what its callers were told.
///
/// # Errors
/// None of its own: what does not hold is the verdict's to say.
pub fn run(options: &Options) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let share = options.minutes * 60.0 / options.engines.len() as f64;
    for engine in &options.engines {
        let outcome = one_engine(*engine, Duration::from_secs_f64(share), options.seed);
        verdict.add(*engine, outcome.map(|row| (row.line(), row.json())));
    }
    verdict.json = json!({
        "torture": "cluster", "seed": options.seed, "minutes": options.minutes,
        "holds": verdict.holds, "engines": verdict.rows,
    });
    Ok(verdict)
}

/// What one engine went through.
struct Row {
    done: Done,
    counts: Counts,
    judged: Judged,
    lies: Vec<&'static str>,
    gap: Gap,
    containers: usize,
    seconds: f64,
}

impl Row {
    fn line(&self) -> String {
        let Self { done, counts, judged, gap, .. } = self;
        let faults: Vec<String> =
            done.faults.iter().map(|(fault, count)| format!("{count} {fault}")).collect();
        let (open, took) = judged.open;
        let lines = [
            format!("holds, {:.0} s", self.seconds),
            format!(
                "{} faults: {}; {} of them at the leader",
                done.times.len(),
                faults.join(", "),
                self.leaders(),
            ),
            format!(
                "{} calls: {} writes done, {} reads, {} refused, {} unknown",
                counts.all(),
                counts.done,
                counts.read,
                counts.refused,
                counts.unknown,
            ),
            format!(
                "{} request ids took effect once or not at all; {open} were never answered, and \
                 {took} of these took effect",
                judged.requests,
            ),
            format!("{} objects are linearizable", judged.objects),
            format!("{} reads show what the audit log says there was", judged.reads),
            format!("longest time without an acknowledged write {:.1} s{}", gap.seconds, gap.amid),
            format!("all three hold the same; {} containers untouched", self.containers),
            format!("noticed when put into this history: {}", self.lies.join(", ")),
        ];
        lines.join("\n  ")
    }

    fn leaders(&self) -> usize {
        self.done.times.iter().filter(|(_, _, leader)| *leader).count()
    }

    fn json(&self) -> Value {
        let Self { done, counts, judged, .. } = self;
        let faults: serde_json::Map<_, _> =
            done.faults.iter().map(|(fault, count)| (fault.to_string(), json!(count))).collect();
        json!({
            "faults": faults, "leaders": self.leaders(), "done": counts.done, "read": counts.read,
            "refused": counts.refused, "unknown": counts.unknown, "requests": judged.requests,
            "open": judged.open.0, "open_took_effect": judged.open.1, "objects": judged.objects,
            "reads_compared": judged.reads, "longest_gap_seconds": self.gap.seconds,
            "containers": self.containers, "lies_noticed": self.lies,
            "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }
}

fn one_engine(engine: Engine, lasts: Duration, seed: u64) -> Result<Row> {
    let began = Instant::now();
    eprintln!("{engine}: starting three coordinators and a node");
    let mut stand = Stand::build(engine)?;
    let history = Arc::new(History::create(&stand.stage.root().join("history.jsonl"))?);
    let outcome = tortured(&mut stand, &history, (engine, lasts, seed));
    let mut row = outcome.map_err(|error| {
        let kept = match keep(&stand, &history, (engine, seed)) {
            Ok(folder) => folder.display().to_string(),
            Err(why) => format!("nothing was kept: {why:#}"),
        };
        error.context(format!("seed {seed}, engine {engine}; history and logs: {kept}"))
    })?;
    row.seconds = began.elapsed().as_secs_f64();
    Ok(row)
}

fn tortured(
    stand: &mut Stand,
    history: &Arc<History>,
    (engine, lasts, seed): (Engine, Duration, u64),
) -> Result<Row> {
    let containers = Containers::read(stand)?;
    let before = replicas::same(stand)?;
    let who = (administrator(&stand.cluster)?, stand.addresses());
    let callers = Callers::start(stand.people.clone(), who, history.clone(), (seed, engine))?;
    let mut moments = Moments::new(seed, engine);
    let progress = Progress::start(engine, history.clone(), lasts)?;
    let done = nemesis::run(stand, &mut moments, lasts, |fault| {
        progress.tell(fault);
        callers.check().map(|()| history.now())
    });
    progress.stop();
    // a caller that was told something wrong is the better reason
    callers.stop()?;
    let mut done = done?;
    eprintln!("{engine}: all healed; judging {} calls", history.counts().all());
    stand.settled()?;
    let after = replicas::same(stand)?;
    let calls = history.calls()?;
    let effects = std::mem::take(&mut done.records).finish(stand, &after)?;
    let gap = longest_gap(&calls, &done);
    let evidence = Evidence { calls, effects, before: before.revision };
    let judged = evidence.judge()?;
    let lies = evidence::lies(&evidence)?;
    let containers = Containers::untouched(stand, &containers)?;
    let counts = history.counts();
    Ok(Row { done, counts, judged, lies, gap, containers, seconds: 0.0 })
}

/// The longest time without an acknowledged write.
struct Gap {
    seconds: f64,
    /// The fault before its end, in brackets.
    amid: String,
}

fn longest_gap(calls: &[Call], done: &Done) -> Gap {
    let acknowledged = calls.iter().filter(|call| matches!(call.outcome, Outcome::Done(_)));
    let mut times: Vec<u64> = acknowledged.map(|call| call.returned).collect();
    times.sort_unstable();
    let longest = times.windows(2).max_by_key(|pair| pair[1] - pair[0]);
    let (from, to) = longest.map_or((0, 0), |pair| (pair[0], pair[1]));
    let fault = done.times.iter().rev().find(|(at, ..)| *at < to);
    let amid = fault.map(|(_, fault, leader)| {
        let who = if *leader { "the leader" } else { "a follower" };
        format!(" ({who} was {fault})")
    });
    Gap { seconds: ((to - from) as f64 / 1e5).round() / 10.0, amid: amid.unwrap_or_default() }
}

/// Keeps the history and the logs of a run that failed, where no cleaning finds them.
fn keep(stand: &Stand, history: &History, (engine, seed): (Engine, u64)) -> Result<PathBuf> {
    history.calls()?;
    let folder = Stage::base().join(format!("warren-torture-{engine}-{seed}"));
    fs::create_dir_all(&folder)?;
    fs::copy(history.path(), folder.join("history.jsonl"))?;
    stand.keep_logs(&folder)?;
    Ok(folder)
}

/// Tells every few seconds how far a run is, on a thread of its own.
struct Progress {
    over: Arc<AtomicBool>,
    fault: Arc<Mutex<String>>,
    thread: thread::JoinHandle<()>,
}

impl Progress {
    fn start(engine: Engine, history: Arc<History>, lasts: Duration) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let fault = Arc::new(Mutex::new("no fault yet".to_owned()));
        let (ended, latest) = (over.clone(), fault.clone());
        let telling = move || {
            while !ended.load(Ordering::SeqCst) {
                thread::park_timeout(PROGRESS);
                let Counts { done, read, refused, unknown } = history.counts();
                let (now, of) = (history.now() / 1_000_000, lasts.as_secs());
                let fault = latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
                eprintln!(
                    "{engine}: {now} s of {of}: {done} writes done, {read} reads, {refused} \
                     refused, {unknown} unknown; {fault}"
                );
            }
        };
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(telling)?;
        Ok(Self { over, fault, thread })
    }

    fn tell(&self, fault: String) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn stop(self) {
        self.over.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            eprintln!("the thread that tells the progress panicked");
        }
    }
}
