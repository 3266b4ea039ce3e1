//! From "create" to the first byte of the session's output on a terminal, beside Docker's own
//! create, start and attach of the same image with the same limits on a bridge that exists.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{About, Row, is_noisy, median, round};
use crate::{Lab, Program, program::binary, terminal::Terminal};

const MARK: &str = "first-byte-of-output";
const GOAL: f64 = 1.15;
const SOON: Duration = Duration::from_secs(60);

/// Measures and returns the JSON line; `quick` makes one pair.
///
/// # Errors
/// Fails where the installation cannot be built; a missed goal is no fault.
pub fn run(quick: bool) -> Result<Value> {
    let lab = Lab::new()?;
    lab.engine.docker(&["network", "create", "bench"])?;
    let pairs = if quick { 1 } else { 9 };
    let mut row = Row {
        name: "serial".to_owned(),
        ours: Vec::new(),
        peer: Vec::new(),
        noisy: false,
        more: Value::Null,
    };
    let mut engine_share = Vec::new();
    // the first of each warms caches and is not counted
    ours(&lab, "warm")?;
    docker(&lab, "warm")?;
    for pair in 0..pairs {
        row.noisy |= is_noisy()?;
        let (total, engine) = ours(&lab, &format!("b{pair}"))?;
        let peer = docker(&lab, &format!("b{pair}"))?;
        eprintln!(
            "pair {}: ours {total:.0} ms (engine {engine:.0}), docker {peer:.0} ms",
            pair + 1
        );
        row.ours.push(total);
        row.peer.push(peer);
        engine_share.push(engine);
    }
    let own: Vec<f64> =
        row.ours.iter().zip(&engine_share).map(|(total, engine)| total - engine).collect();
    row.more = json!({
        "engine_ms": round(median(engine_share)),
        "own_share_ms": round(median(own)),
        "docker": lab.engine.docker(&["version", "-f", "{{.Server.Version}}"])?.stdout.trim(),
    });
    let about = About {
        bench: "start",
        figure: "ms to first byte",
        peer: "docker create+start+attach",
        goal: GOAL,
    };
    Ok(about.line(&row, quick))
}

/// One workspace through our command line; returns milliseconds to the first byte, and the part of
/// them that the engine took to make and start the container.
fn ours(lab: &Lab, name: &str) -> Result<(f64, f64)> {
    let address = format!("acme/{name}");
    let session = format!("main=echo {MARK}; exec cat");
    let create =
        ["workspace", "create", &address, "--memory", "512M", "--cpus", "0.5", "--disk", "1G"];
    let create = [&create[..], &["--pids", "512", "--session", &session]].concat();
    let began = Instant::now();
    lab.cluster.warren(&create)?;
    let attach = format!("{} session attach {address}/main", binary("warren")?.display());
    let viewer = Terminal::start(lab.cluster.around()?, &attach)?;
    let total = viewer.arrival(MARK, SOON)? - began;
    drop(viewer);
    let shown = lab.cluster.workspace(&address)?;
    let engine: u64 = shown["observed"]["steps"]
        .as_array()
        .context("steps")?
        .iter()
        .filter(|step| matches!(step["name"].as_str(), Some("network" | "container" | "start")))
        .filter_map(|step| step["elapsed_ms"].as_u64())
        .sum();
    lab.cluster.warren(&["workspace", "delete", &address, "--yes"])?;
    Ok((total.as_secs_f64() * 1e3, engine as f64))
}

/// The same image and limits through Docker's command line.
fn docker(lab: &Lab, name: &str) -> Result<f64> {
    let create = [
        "create",
        "--name",
        name,
        "--network",
        "bench",
        "--memory",
        "512m",
        "--memory-swap",
        "512m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "512",
        "-t",
        "--entrypoint",
        "/bin/bash",
        "warren-workspace:latest",
        "-c",
    ];
    let line = format!("echo {MARK}; exec cat");
    let began = Instant::now();
    lab.engine.docker(&[&create[..], &[&line]].concat())?;
    let around = Program::new("/usr/bin/env").args([format!("DOCKER_HOST={}", lab.engine.url())]);
    let viewer = Terminal::start(around, &format!("docker start -a {name}"))?;
    let total = viewer.arrival(MARK, SOON)? - began;
    drop(viewer);
    lab.engine.docker(&["rm", "-f", name])?;
    Ok(total.as_secs_f64() * 1e3)
}
