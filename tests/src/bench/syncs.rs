//! Counting what reaches the disk: strace on every server for a short run that is not timed.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    load::{Call, Work, connect, spell},
    system::System,
};
use crate::{Daemon, Program, Stage, wait_until};

const PROGRAM: &str = "/usr/bin/strace";
const SOON: Duration = Duration::from_secs(10);

/// Lets one caller write and compares its acknowledged writes, each a batch of its own, with the
/// `fdatasync` and `fsync` calls of every server. None where strace is missing, said aloud.
///
/// # Errors
/// Fails where strace or the load does.
pub async fn count(system: &impl System, stage: &Stage) -> Result<Option<Value>> {
    if !Path::new(PROGRAM).exists() {
        eprintln!("skipped: strace is not installed, so no fdatasync is counted");
        return Ok(None);
    }
    let apis = connect(system, 1).await?;
    let folder = stage.folder("strace")?;
    let mut tracers = Vec::new();
    for pid in system.pids() {
        let report = folder.join(format!("{pid}.txt"));
        let program = Program::new(PROGRAM)
            .args(["-f", "-c", "-U", "calls,name", "-e", "trace=fdatasync,fsync", "-o"])
            .args([report.as_os_str()])
            .args(["-p", &pid.to_string()]);
        let tracer = Daemon::start(&format!("strace-{pid}"), &folder, program)?;
        wait_until("strace is attached", SOON, || {
            anyhow::ensure!(tracer.log().contains("attached"), "it says {}", tracer.log());
            Ok(())
        })?;
        tracers.push((tracer, report));
    }
    let work = Work { call: Call::Write, callers: 1, length: Duration::from_secs(1) };
    let figures = spell(system, &apis, work).await;
    let mut syncs = Vec::new();
    for (mut tracer, report) in tracers {
        tracer.signal(Signal::INT)?;
        wait_until("strace reports", SOON, || {
            anyhow::ensure!(tracer.check().is_err() && report.exists(), "it still runs");
            Ok(())
        })?;
        syncs.push(read(&fs::read_to_string(&report)?)?);
    }
    let writes = figures?.calls as u64;
    let majority = syncs.len() / 2 + 1;
    let holds = syncs.iter().filter(|syncs| **syncs >= writes).count() >= majority;
    Ok(Some(json!({"writes": writes, "fdatasyncs": syncs, "on_a_majority": holds})))
}

/// Adds up the calls of a report of `strace -c -U calls,name`.
fn read(report: &str) -> Result<u64> {
    let mut sum = 0;
    for line in report.lines() {
        if let [calls, "fdatasync" | "fsync"] = line.split_whitespace().collect::<Vec<_>>()[..] {
            sum += calls.parse::<u64>().with_context(|| format!("a count in {line:?}"))?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_added_up() {
        let report = "    calls syscall\n--------- ----------------\n      812 fdatasync\n       \
                      3 fsync\n--------- ----------------\n      815 total\n";
        assert_eq!(read(report).expect("it is one"), 815);
        assert_eq!(read("").expect("nothing was called"), 0);
    }
}
