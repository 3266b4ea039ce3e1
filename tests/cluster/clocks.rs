//! A node whose clock is wrong: it is told, and nothing else is different.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use warren_tests::{Cluster, Stage, clock, wait_until};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_node_whose_clock_is_an_hour_off_says_so_and_works_and_is_told_silent_in_time() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    for (number, off) in [(1, "-1h"), (2, "+1h")] {
        cluster.nodes[0].kill()?;
        cluster.nodes[0].start_in(&clock::off_by(off)?)?;
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
