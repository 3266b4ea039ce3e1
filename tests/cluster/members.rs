//! Three coordinators: grown with the printed command, killed, replaced, taken out.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Cluster, Stage, wait_until};

const SOON: Duration = Duration::from_secs(60);

fn replica(status: &Value, id: u64) -> Result<&Value> {
    let rows = status["replicas"].as_array().context("replicas")?;
    rows.iter().find(|row| row["id"] == id).with_context(|| format!("no {id} in {status}"))
}

#[test]
fn a_cluster_grows_to_three_with_the_printed_command() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.warren(&["client", "create", "before"])?;
    for (name, id) in [("coordinator-2", 2), ("coordinator-3", 3)] {
        let joined = cluster.add_coordinator(name, None)?;
        for step in [
            &format!("enrolled as coordinator {id}"),
            "keystore copied",
            "log caught up",
            "has its vote",
        ] {
            ensure!(joined.stdout.contains(step), "{step:?} is missing: {}", joined.stdout);
        }
    }
    wait_until("all three vote and have the log", SOON, || {
        let status = cluster.json(&["cluster", "status"])?;
        for id in 1..=3 {
            let row = replica(&status, id)?;
            ensure!(row["voter"] == true && row["lag_entries"] == 0, "{row}");
        }
        Ok(())
    })
}
