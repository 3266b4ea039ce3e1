//! The power is cut under load, the machine boots from what had reached its disk, and goes on.
//!
//! Each cut begins where the one before ended, so that what was acknowledged at the beginning is
//! checked after every one of them. [`super::device`] says what a cut is, [`super::unsynced`] that
//! it catches a store that does not sync.

use std::{sync::Arc, thread, time::Duration, time::Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};
use warren_coordinator::store::Engine;

use super::{
    Moments, Options, Verdict,
    check::Checker,
    device::{self, Disk},
    journal::Journal,
    kill::answers,
    unsynced::{self, Arm},
    writer::Writers,
};
use crate::{Cluster, Stage};

/// A line of progress after so many cuts.
const PROGRESS: usize = 10;

/// Cuts the power of a coordinator of each engine, then that of a store without its fsync, which
/// must be caught within `tries` cuts.
///
/// # Errors
/// Fails where the machine gives no such disk, and without root. What was lost, or that a
/// coordinator did not come back, is the verdict's to say.
pub fn run(options: &Options, tries: usize) -> Result<Verdict> {
    device::clean_leftovers(&Stage::base())?;
    let mut verdict = Verdict::default();
    for (engine, cuts) in options.shares() {
        let outcome = one_engine(engine, cuts, options.seed);
        verdict.add(engine, outcome.map(|row| (row.line(), row.json())));
    }
    let mut moments = Moments::new(!options.seed, Engine::Sled);
    let stage = Arc::new(Stage::new()?);
    let bad = unsynced::cut_until_caught(&stage, Arm::FlushOnly, tries, &mut moments)?;
    let good = unsynced::cut_until_caught(&stage, Arm::Synced, bad.cuts, &mut moments)?;
    verdict.holds &= bad.caught() > 0 && good.caught() == 0;
    verdict.lines.push(format!("without sync_data: {bad}"));
    verdict.lines.push(format!("the same store with it: {good}"));
    verdict.json = json!({
        "torture": "power", "seed": options.seed, "n": options.n, "holds": verdict.holds,
        "engines": verdict.rows, "without_sync_data": bad.json(), "with_sync_data": good.json(),
    });
    Ok(verdict)
}

/// What one engine went through.
struct Row {
    cuts: usize,
    acknowledged: usize,
    records: u64,
    seconds: f64,
}

impl Row {
    fn line(&self) -> String {
        format!(
            "{} cuts; all of {} acknowledged writes there, once, {} audit records in one chain; \
             {:.0} s",
            self.cuts, self.acknowledged, self.records, self.seconds,
        )
    }

    fn json(&self) -> Value {
        json!({
            "cuts": self.cuts, "acknowledged": self.acknowledged, "audit_records": self.records,
            "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }
}

fn one_engine(engine: Engine, cuts: usize, seed: u64) -> Result<Row> {
    let began = Instant::now();
    let stage = Arc::new(Stage::new()?);
    // beside the disk under test, not on it
    let journal = Arc::new(Journal::create(&stage.root().join("journal"))?);
    let mut cluster = Cluster::bare(&stage, None)?;
    cluster.configure(&format!("[storage]\nengine = \"{engine}\"\n{}", super::kill::CHECKPOINT))?;
    let disk = Disk::new(&stage, &cluster.folder().join("state"))?;
    cluster.found()?;
    let mut writers = Writers::new(journal.clone())?;
    let (mut checker, mut moments) = (Checker::default(), Moments::new(seed, engine));
    for cut in 0..=cuts {
        answers(&mut cluster, &writers)?;
        let checked = checker.running(&cluster, &writers, &journal);
        checked.with_context(|| format!("after {cut} cuts"))?;
        if cut == cuts {
            break;
        }
        let load = writers.start(&cluster)?;
        thread::park_timeout(moments.between(20, 600));
        let frozen = disk.cut()?;
        // it cannot answer for anything written from here on, and must not live to see the thaw
        cluster.coordinator()?.signal(Signal::KILL)?;
        drop(frozen);
        cluster.kill_coordinator()?;
        writers.stop(load)?;
        disk.back()?;
        cluster.start_coordinator()?;
        if (cut + 1).is_multiple_of(PROGRESS) {
            eprintln!("{engine}: {} of {cuts} cuts, {} acknowledged", cut + 1, journal.count());
        }
    }
    cluster.coordinator()?.terminate(Duration::from_secs(30))?;
    let acknowledged = journal.count();
    anyhow::ensure!(acknowledged > cuts, "too little was acknowledged to prove anything");
    let records = checker.stopped(&cluster, &journal)?;
    drop(cluster);
    drop(disk);
    Ok(Row { cuts, acknowledged, records, seconds: began.elapsed().as_secs_f64() })
}
