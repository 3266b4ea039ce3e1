//! SIGKILL under load, again and again: in the middle of writing, and in the middle of starting.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};
use warren_coordinator::store::Engine;

use super::{Moments, Options, Verdict, check::Checker, journal::Journal, writer::Writers};
use crate::{Cluster, Stage};

/// How long a coordinator may take to answer after a restart.
const START: Duration = Duration::from_secs(60);
/// A line of progress after so many kills.
const PROGRESS: usize = 50;
/// Entries between two checkpoints: few, so that kills hit one now and then.
pub(super) const CHECKPOINT: &str = "[raft]\ncheckpoint_entries = 200\n";

/// Kills a coordinator of each engine and checks it after each restart.
///
/// # Errors
/// None of its own: what was lost, or that a coordinator did not come back, is the verdict's to say.
pub fn run(options: &Options) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for (engine, kills) in options.shares() {
        let outcome = one_engine(engine, kills, options.seed);
        verdict.add(engine, outcome.map(|row| (row.line(), row.json())));
    }
    verdict.json = json!({
        "torture": "kill", "seed": options.seed, "n": options.n, "holds": verdict.holds,
        "engines": verdict.rows,
    });
    Ok(verdict)
}

/// What one engine went through.
struct Row {
    kills: usize,
    while_starting: usize,
    acknowledged: usize,
    records: u64,
    seconds: f64,
}

impl Row {
    fn line(&self) -> String {
        format!(
            "{} kills ({} while starting); all of {} acknowledged writes there, once, {} audit \
             records in one chain; {:.0} s",
            self.kills, self.while_starting, self.acknowledged, self.records, self.seconds,
        )
    }

    fn json(&self) -> Value {
        json!({
            "kills": self.kills, "while_starting": self.while_starting,
            "acknowledged": self.acknowledged, "audit_records": self.records,
            "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }
}

fn one_engine(engine: Engine, kills: usize, seed: u64) -> Result<Row> {
    let began = Instant::now();
    let stage = Arc::new(Stage::new()?);
    let journal = Arc::new(Journal::create(&stage.root().join("journal"))?);
    let mut cluster = Cluster::bare(&stage, None)?;
    cluster.configure(&format!("[storage]\nengine = \"{engine}\"\n{CHECKPOINT}"))?;
    cluster.found()?;
    let mut writers = Writers::new(journal.clone())?;
    let (mut checker, mut moments) = (Checker::default(), Moments::new(seed, engine));
    let mut row = Row { kills: 0, while_starting: 0, acknowledged: 0, records: 0, seconds: 0.0 };
    let mut told = 0;
    loop {
        answers(&mut cluster, &writers)?;
        checker.running(&cluster, &writers, &journal)?;
        if row.kills >= kills {
            break;
        }
        let load = writers.start(&cluster)?;
        thread::park_timeout(moments.between(5, 250));
        cluster.kill_coordinator()?;
        writers.stop(load)?;
        row.kills += 1;
        cluster.start_coordinator()?;
        if moments.once_in(3) && row.kills < kills {
            thread::park_timeout(moments.between(0, 120));
            cluster.kill_coordinator()?;
            (row.kills, row.while_starting) = (row.kills + 1, row.while_starting + 1);
            cluster.start_coordinator()?;
        }
        if row.kills / PROGRESS > told {
            told = row.kills / PROGRESS;
            eprintln!("{engine}: {} of {kills} kills, {} acknowledged", row.kills, journal.count());
        }
    }
    cluster.coordinator()?.terminate(Duration::from_secs(30))?;
    row.acknowledged = journal.count();
    anyhow::ensure!(row.acknowledged > kills, "too little was acknowledged to prove anything");
    row.records = checker.stopped(&cluster, &journal)?;
    row.seconds = began.elapsed().as_secs_f64();
    Ok(row)
}

/// Waits until the coordinator answers a linearizable read.
pub(super) fn answers(cluster: &mut Cluster, writers: &Writers) -> Result<()> {
    let began = Instant::now();
    loop {
        cluster.coordinator()?.check()?;
        match writers.list(cluster) {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > START => {
                let log = cluster.coordinator()?.log();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                return Err(error.context(format!("no answer; its log, newest first: {tail:#?}")));
            }
            Err(_) => thread::park_timeout(Duration::from_millis(10)),
        }
    }
}
