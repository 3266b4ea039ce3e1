//! Durable writes per second: 256 bytes of a client's label beside etcd's put of 256 bytes, both
//! to one of 64 objects, both over mutual TLS to the leader, both on the same disk.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    etcd::{self, Etcd},
    load::Call,
    options::{Engine, Options},
    ours::Ours,
    pairs::Pairs,
    round, syncs,
    system::System as _,
};
use crate::Stage;

/// What three replicas on the default engine are to reach: callers, ratio of writes per second.
const GOALS: [(usize, f64); 2] = [(16, 1.2), (256, 1.5)];
/// The ratio of the 99th per cent's latency that they are not to exceed.
const GOAL_P99: f64 = 0.8;

/// Measures and returns the JSON line.
///
/// # Errors
/// Fails where a system cannot be started or a call fails; a missed goal is no fault.
pub async fn run(options: &Options) -> Result<Value> {
    measure(options, Call::Write).await
}

/// The same for linearizable reads.
///
/// # Errors
/// As [`run`].
pub async fn run_reads(options: &Options) -> Result<Value> {
    measure(options, Call::Read).await
}

async fn measure(options: &Options, call: Call) -> Result<Value> {
    let stage = Stage::new()?;
    let (mut rows, mut headline, mut peer_name) = (Vec::new(), None, "etcd".to_owned());
    for count in &options.replicas {
        let peer = match etcd::is_installed() {
            true => Some(Etcd::start(&stage, *count).await?),
            false => {
                eprintln!("skipped: etcd is not installed; apt install etcd-server");
                None
            }
        };
        if let Some(peer) = &peer {
            peer_name = peer.name().to_owned();
        }
        for engine in &options.engines {
            let ours = Ours::start(&stage, *count, *engine).await?;
            let synced = match call {
                Call::Write => syncs::count(&ours, &stage).await?,
                Call::Read => None,
            };
            for callers in &options.callers {
                let pairs = Pairs::measure(&ours, peer.as_ref(), options, (call, *callers)).await?;
                let goal = goal(call, *count, *engine, *callers);
                let holds = holds(&pairs, call, goal);
                let plural = if *callers == 1 { "" } else { "s" };
                let name = format!("{} x{count}, {callers} caller{plural}", ours.name());
                let more = json!({
                    "replicas": count,
                    "engine": engine.as_str(),
                    "callers": callers,
                    "goal": goal.map(|goal| format!(">={goal}")),
                    "holds": holds,
                    "one_caller_synced": synced,
                });
                let row = pairs.row(name, &peer_name, more);
                if headline.is_none() || goal.is_some() && *engine == Engine::Sled {
                    headline = Some((row.clone(), goal, holds));
                }
                rows.push(row);
            }
        }
    }
    let Some((head, goal, holds)) = headline else { anyhow::bail!("no row was asked for") };
    let line = head.json();
    let (bench, figure) = match call {
        Call::Write => ("commit", "durable writes/s"),
        Call::Read => ("read", "linearizable reads/s"),
    };
    Ok(json!({
        "bench": bench,
        "figure": format!("{figure}: {}", head.name),
        "value": line["value"]["median"],
        "peer": peer_name,
        "peer_value": line["peer_value"]["median"],
        "ratio": head.ratio().map(round),
        "better": "higher",
        "goal": goal.map(|goal| format!(">={goal}")),
        "holds": holds,
        "quick": options.quick,
        "rows": rows.iter().map(super::Row::json).collect::<Vec<_>>(),
    }))
}

/// Returns what a row is to reach, if anything was promised of it.
fn goal(call: Call, replicas: usize, engine: Engine, callers: usize) -> Option<f64> {
    match call {
        Call::Read if engine == Engine::Sled => Some(1.5),
        Call::Write if engine == Engine::Sled && replicas == 3 => {
            GOALS.iter().find(|(of, _)| *of == callers).map(|(_, goal)| *goal)
        }
        Call::Write | Call::Read => None,
    }
}

fn holds(pairs: &Pairs, call: Call, goal: Option<f64>) -> Option<bool> {
    let fast = pairs.rate_ratio()? >= goal?;
    let steady = match call {
        Call::Write => pairs.p99_ratio()? <= GOAL_P99,
        Call::Read => true,
    };
    Some(fast && steady)
}
