//! A node whose clock is wrong: it is told, and nothing else is different.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use warren_tests::{Cluster, Stage, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// What makes a program see another time of day; monotonic clocks are left alone.
fn library() -> Result<String> {
    let found = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let found = found.map(|folder| folder.join("faketime/libfaketime.so.1"));
    let found = found.into_iter().find(|path: &std::path::PathBuf| Path::exists(path));
    let found = found.context("libfaketime is missing: apt-get install libfaketime")?;
    Ok(found.display().to_string())
}

#[test]
fn a_node_whose_clock_is_an_hour_off_says_so_and_works_and_is_told_silent_in_time() -> Result<()> {
    let library = library()?;
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    for (number, off) in [(1, "-1h"), (2, "+1h")] {
        cluster.nodes[0].kill()?;
        let clock =
            [("LD_PRELOAD", library.as_str()), ("FAKETIME", off), ("DONT_FAKE_MONOTONIC", "1")];
        cluster.nodes[0].start_in(&clock)?;
        wait_until(&format!("its clock is told to be off by {off}"), SOON, || {
            let node = cluster.json(&["node", "show", "n1"])?;
            ensure!(node["liveness"] == "ready", "it is {node}");
            let said = node["findings"].as_array().context("findings")?;
            ensure!(said.iter().any(|one| one["code"] == "CLOCK"), "it is {node}");
            let hour = node["clock_offset_ms"].as_i64().context("an offset")?;
            ensure!((hour.abs() - 3_600_000).abs() < 5000, "it is off by {hour}");
            Ok(())
        })?;
        let address = format!("acme/w{number}");
        let create = ["workspace", "create", &address, "--memory", "64M", "--disk", "64M"];
        cluster.warren(&create)?;
        ensure!(cluster.workspace(&address)?["status"] == "running");
        let shown = cluster.warren(&["workspace", "show", &address])?.stdout;
        ensure!(!shown.contains("expired") && shown.contains("confirmed"), "{shown}");
    }
    // how long it is silent is counted here, whatever it believes the time to be
    cluster.nodes[0].agent.as_ref().context("it runs")?.signal(Signal::STOP)?;
    wait_until("it is suspect", Duration::from_secs(20), || {
        let node = cluster.json(&["node", "show", "n1"])?;
        ensure!(node["liveness"] == "suspect", "it is {node}");
        Ok(())
    })?;
    let web = cluster.workspace("acme/w1")?;
    ensure!(web["status"].as_str().is_some_and(|text| text.starts_with("last seen")), "{web}");
    cluster.nodes[0].agent.as_ref().context("it runs")?.signal(Signal::CONT)?;
    cluster.wait_ready("n1")
}
