//! What Warren takes of a machine beside the workspaces: a node agent's memory and processor time
//! with real workspaces, beside their engine's, and a coordinator's memory for each workspace.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
use tonic::transport::Channel;
use warren_proto::pb::admin::v1::{
    self as pb, client_service_client::ClientServiceClient,
    workspace_service_client::WorkspaceServiceClient,
};

use super::{
    Options, Row, is_noisy, median,
    ours::person,
    round,
    system::{Api, cpu_micros, request_id, value},
};
use crate::{Cluster, Crowd, Lab, Stage, wait_until};

/// The rows.
const NODE_AGENT: &str = "node agent";
const COORDINATOR: &str = "coordinator";
/// A node agent's memory beside its engine's daemon, and its share of a core, at most.
const GOAL_MEMORY: f64 = 0.3;
const GOAL_CORE_PERCENT: f64 = 1.0;
/// A coordinator's memory for one more workspace, bytes, at most.
const GOAL_SLOPE: f64 = 1024.0;
/// As many as a node takes (`Limits::WORKSPACES_PER_NODE`).
const PER_NODE: usize = 250;
/// As many as are remembered for one caller (`Limits::REQUESTS_PER_PRINCIPAL`).
const REQUESTS: usize = 100_000;
const CLIENTS: usize = 50;
/// Progress is told each so many workspaces.
const STRIDE: usize = 5_000;
const MIB: f64 = 1024.0 * 1024.0;
/// Calls at once.
const CALLERS: usize = 64;

/// Measures and returns the JSON line.
///
/// # Errors
/// Fails where an installation cannot be built, or without such a row; a missed goal is no fault.
pub async fn run(options: &Options) -> Result<Value> {
    let quick = options.quick;
    options.check(&[NODE_AGENT, COORDINATOR])?;
    let mut node = Value::Null;
    if options.takes(NODE_AGENT) {
        node = tokio::task::spawn_blocking(move || self::node(quick)).await??;
    }
    let mut rows = vec![node.clone()];
    if options.takes(COORDINATOR) {
        rows.push(coordinator(quick).await?);
    }
    rows.retain(|row| !row.is_null());
    let holds = rows.iter().all(|row| row["holds"] == true);
    Ok(json!({
        "bench": "footprint",
        "figure": "node agent's memory beside dockerd's",
        "value": node["value"],
        "peer": "dockerd",
        "peer_value": node["peer_value"],
        "ratio": node["ratio"],
        "better": "lower",
        "goal": "node agent <=0.3x dockerd and <=1 % of a core; coordinator <=1024 bytes a workspace",
        "holds": holds,
        "quick": quick,
        "rows": rows,
    }))
}

/// A node agent with idle workspaces on real Docker.
fn node(quick: bool) -> Result<Value> {
    let (count, looks, spell) =
        if quick { (3, 1, Duration::from_secs(5)) } else { (100, 5, Duration::from_secs(30)) };
    let lab = Lab::new()?;
    for number in 1..=count {
        let (address, number) = (format!("acme/w{number}"), number.to_string());
        let caps = ["--memory", "128M", "--reserve", "64M", "--disk", "100M", "--wait", "placed"];
        lab.cluster.warren(&[&["workspace", "create", &address][..], &caps].concat())?;
        if number.ends_with('0') {
            eprintln!("{number} of {count} workspaces asked for");
        }
    }
    wait_until("every workspace runs", Duration::from_secs(600), || {
        let all = lab.cluster.json(&["workspace", "list"])?;
        let all = all.as_array().context("a list")?;
        let active = all.iter().filter(|one| one["phase"] == "active").count();
        anyhow::ensure!(active == count, "{active} of {count}");
        Ok(())
    })?;
    let agent = lab.cluster.nodes[0].agent.as_ref().context("it runs")?.pid();
    let engine = lab.engine.pid();
    let mut row = Row {
        name: format!("node agent, {count} workspaces, MiB"),
        ours: Vec::new(),
        peer: Vec::new(),
        noisy: false,
        more: Value::Null,
    };
    let (mut core, mut engine_core) = (Vec::new(), Vec::new());
    for _ in 0..looks {
        row.noisy |= is_noisy()?;
        let before = (cpu_micros(&[agent])?, cpu_micros(&[engine])?);
        let began = Instant::now();
        std::thread::park_timeout(spell);
        let percent = |micros: f64| micros / began.elapsed().as_micros() as f64 * 100.0;
        core.push(percent(cpu_micros(&[agent])? - before.0));
        engine_core.push(percent(cpu_micros(&[engine])? - before.1));
        row.ours.push(memory(agent, "Pss")? / MIB);
        row.peer.push(memory(engine, "Pss")? / MIB);
    }
    let core_percent = median(core);
    row.more = json!({
        "core_percent": round(core_percent),
        "dockerd_core_percent": round(median(engine_core)),
    });
    eprintln!(
        "node agent with {count} workspaces: {:.1} MiB, dockerd {:.1} MiB; {core_percent:.2} % of a core",
        median(row.ours.clone()),
        median(row.peer.clone()),
    );
    let ratio = row.ratio().context("a ratio")?;
    let mut line = row.json();
    line["holds"] = json!(ratio <= GOAL_MEMORY && core_percent <= GOAL_CORE_PERCENT);
    line["goal"] = json!("<=0.3x dockerd, <=1 % of a core");
    Ok(line)
}

/// A coordinator with few and with many workspaces.
async fn coordinator(quick: bool) -> Result<Value> {
    let (few, many, requests): (usize, usize, usize) =
        if quick { (250, 1000, 1000) } else { (10_000, 100_000, REQUESTS) };
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    let identity = person(&cluster.folder().join("config/contexts/test"))?;
    let channel = identity.connect(&cluster.api_address()?).await?;
    let mut clients = ClientServiceClient::new(channel.clone());
    for number in 0..CLIENTS {
        let mutation = pb::Mutation { request_id: request_id(), if_revision: None };
        let request = pb::CreateClientRequest {
            mutation: Some(mutation),
            name: client(number),
            labels: Default::default(),
        };
        clients.create_client(request).await?;
    }
    let mut crowd = Crowd::join(&cluster, many.div_ceil(PER_NODE)).await?;
    eprintln!("{} nodes joined", many.div_ceil(PER_NODE));
    // what is remembered of requests is full before anything is counted
    each(requests, |number| remembered(channel.clone(), number)).await?;
    eprintln!("{requests} requests are remembered");
    let pid = cluster.coordinator()?.pid();
    let mut sizes = vec![(0_usize, settled(pid).await?)];
    for (from, to) in [(0, few), (few, many)] {
        let began = Instant::now();
        for at in (from..to).step_by(STRIDE) {
            let count = STRIDE.min(to - at);
            each(count, |number| created(channel.clone(), at + number)).await?;
            eprintln!(
                "{} workspaces made after {:.0} s",
                at + count,
                began.elapsed().as_secs_f64()
            );
        }
        crowd.until_running(to).await?;
        sizes.push((to, settled(pid).await?));
        eprintln!("{to} workspaces run after {:.0} s", began.elapsed().as_secs_f64());
    }
    let slope = |from: usize, to: usize| {
        let ((less, small), (more, large)) = (sizes[from], sizes[to]);
        (large - small) / (more - less) as f64
    };
    let (first, second) = (slope(0, 1), slope(1, 2));
    eprintln!("coordinator: {first:.0} bytes a workspace up to {few}, then {second:.0}");
    let at: Vec<Value> =
        sizes.iter().map(|(at, size)| json!({"workspaces": at, "bytes": size})).collect();
    Ok(json!({
        "row": format!("coordinator, bytes a workspace from {few} to {many}"),
        "value": round(second),
        "goal": format!("<={GOAL_SLOPE}"),
        "holds": second <= GOAL_SLOPE,
        "more": {"first_slope": round(first), "sizes": at},
    }))
}

/// Calls `one` for each number below `count`, [`CALLERS`] at once.
async fn each<F>(count: usize, one: impl Fn(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (turns, mut calls) = (Arc::new(Semaphore::new(CALLERS)), JoinSet::new());
    for number in 0..count {
        let turn = Arc::clone(&turns).acquire_owned().await?;
        let call = one(number);
        calls.spawn(async move {
            let done = call.await;
            drop(turn);
            done
        });
        while let Some(ended) = calls.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(())
}

async fn remembered(channel: Channel, number: usize) -> Result<()> {
    let mut api = Api::Warren(ClientServiceClient::new(channel));
    api.write(&request_id(), &client(number), &value(number as u64)).await
}

async fn created(channel: Channel, number: usize) -> Result<()> {
    let request = pb::CreateWorkspaceRequest {
        mutation: Some(pb::Mutation { request_id: request_id(), if_revision: None }),
        client: client(number),
        name: format!("w{number}"),
        resources: Some(pb::ResourceRequest {
            memory_bytes: Some(1 << 30),
            disk_bytes: Some(1 << 30),
            ..Default::default()
        }),
        ..Default::default()
    };
    WorkspaceServiceClient::new(channel).create_workspace(request).await?;
    Ok(())
}

fn client(number: usize) -> String {
    format!("client-{:02}", number % CLIENTS)
}

/// Returns a process's own memory once it has stopped changing, at most a minute later.
async fn settled(pid: u32) -> Result<f64> {
    let mut last = memory(pid, "Anonymous")?;
    for _ in 0..12 {
        sleep(Duration::from_secs(5)).await;
        let now = memory(pid, "Anonymous")?;
        if (now - last).abs() < last / 100.0 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Returns a line of a process's `smaps_rollup`, in bytes.
pub(super) fn memory(pid: u32, line: &str) -> Result<f64> {
    let all = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let value = all.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(':'));
    let kib = value.and_then(|value| value.trim().strip_suffix("kB")).context("such a line")?;
    Ok(kib.trim().parse::<f64>()? * 1024.0)
}
