//! A watch outlives the coordinator that serves it: no event is lost, none is told twice.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
pub(crate) use warren_tests::Watching;
use warren_tests::{Cluster, Stage, wait_until};

#[test]
fn a_watch_goes_on_over_killed_coordinators_without_a_gap_or_an_echo() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    let clients = Watching::start(&cluster, &["client", "list", "-w", "-o", "json"])?;
    let workspaces = Watching::start(&cluster, &["workspace", "list", "-w", "-o", "json"])?;
    clients.until("listed", "acme")?;
    wait_until("an empty list", Duration::from_secs(60), || {
        anyhow::ensure!(!workspaces.told("list").is_empty(), "no list yet");
        Ok(())
    })?;
    let (mut made, mut gone) = (Vec::new(), Vec::new());
    for round in 0..3 {
        for number in 0..4 {
            let name = format!("c{round}-{number}");
            cluster.warren(&["client", "create", &name])?;
            made.push(name);
        }
        let removed = format!("c{round}-0");
        cluster.warren(&["client", "delete", &removed])?;
        gone.push(removed);
        let address = format!("acme/w{round}");
        let create = ["workspace", "create", &address, "--memory", "64M", "--disk", "64M"];
        cluster.warren(&[&create[..], &["--wait=none"]].concat())?;
        cluster.kill_coordinator()?;
        cluster.start_coordinator()?;
        cluster.wait_phase(&address, "active")?;
    }
    cluster.warren(&["workspace", "delete", "acme/w0", "--yes"])?;
    cluster.warren(&["client", "create", "last"])?;
    made.push("last".to_owned());
    clients.until("client.created", "last")?;
    workspaces.until("workspace.removed", "acme/w0")?;
    anyhow::ensure!(clients.told("client.created") == made, "{:?}", clients.told("client.created"));
    anyhow::ensure!(clients.told("client.deleted") == gone, "{:?}", clients.told("client.deleted"));
    let created = workspaces.told("workspace.created");
    anyhow::ensure!(created == ["acme/w0", "acme/w1", "acme/w2"], "{created:?}");
    for watching in [&clients, &workspaces] {
        let places = watching.places();
        anyhow::ensure!(places.is_sorted_by(|one, other| one < other), "out of order: {places:?}");
        anyhow::ensure!(watching.told("list").len() == 1, "it had to list again");
    }
    let kept = cluster.json(&["cluster", "events"])?;
    let kept = kept.as_array().context("a list")?;
    let kept = kept.iter().filter(|one| one["event"] == "client.created").count();
    anyhow::ensure!(kept == made.len() + 1, "the log was replayed into {kept} of them");
    Ok(())
}
