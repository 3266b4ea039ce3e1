//! A watch outlives the coordinator that serves it: no event is lost, none is told twice.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use warren_common::Timestamp;
use warren_daemon::clock;
use warren_tests::{Cluster, Stage, wait_until};

/// `warren … --watch -o json`, read as it comes; killed when dropped.
pub(crate) struct Watching {
    child: Child,
    /// Each with the moment at which it was read.
    lines: Arc<Mutex<Vec<(Timestamp, Value)>>>,
}

impl Watching {
    pub(crate) fn start(cluster: &Cluster, arguments: &[&str]) -> Result<Self> {
        let mut command = cluster.cli()?.args(arguments).into_command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("piped")?);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&lines);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                let mut lines = read.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push((clock::now(), line));
            }
        });
        Ok(Self { child, lines })
    }

    /// What was told of one kind: the objects' addresses, in order.
    pub(crate) fn told(&self, event: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let of = lines.iter().filter(|(_, line)| line["event"] == event);
        of.map(|(_, line)| line["address"].as_str().unwrap_or("-").to_owned()).collect()
    }

    /// The newest object that was told of an address, and when; null where there was none.
    pub(crate) fn newest(&self, address: &str) -> (Timestamp, Value) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let of = lines.iter().rfind(|(_, line)| line["address"] == address);
        of.map(|(at, line)| (*at, line["object"].clone())).unwrap_or_default()
    }

    /// Where the events stand that were told.
    fn places(&self) -> Vec<(u64, u64)> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let events = lines.iter().filter(|(_, line)| line["index"].is_u64());
        events
            .filter_map(|(_, line)| Some((line["revision"].as_u64()?, line["index"].as_u64()?)))
            .collect()
    }

    pub(crate) fn until(&self, event: &str, address: &str) -> Result<()> {
        wait_until(&format!("{event} {address}"), Duration::from_secs(60), || {
            let told = self.told(event);
            anyhow::ensure!(told.iter().any(|one| one == address), "told so far: {told:?}");
            Ok(())
        })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

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
