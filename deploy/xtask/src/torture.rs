//! Prepares and runs a torture of `tests/src/torture`.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, root, run as build};

/// What can be done to a coordinator.
pub const NAMES: [&str; 3] = ["kill", "power", "cluster"];

/// What is passed on to the torture.
#[derive(clap::Args)]
pub struct TortureArgs {
    /// What is broken: kill (one coordinator, SIGKILL), power (its disk's power, needs root) or
    /// cluster (three coordinators, one at a time in six ways, needs root)
    #[arg(value_parser = NAMES)]
    name: String,
    /// How often, over all engines [default: 1000 kills, 50 cuts]
    #[arg(long)]
    n: Option<usize>,
    /// How long `cluster` lasts, over all engines [default: 10]
    #[arg(long)]
    minutes: Option<f64>,
    /// Which engines: sled, redb, both
    #[arg(long, default_value = "both", value_parser = ["sled", "redb", "both"])]
    engine: String,
    /// Chooses the moments: the same seed, the same ones
    #[arg(long)]
    seed: Option<u64>,
    /// The summary as one line of JSON
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

/// Builds every binary and runs the torture: its summary is the only thing on standard output.
///
/// # Errors
/// Fails where something cannot be built, or where something acknowledged was lost.
pub fn run(args: &TortureArgs) -> Result<()> {
    // as the tests run it: with debug assertions, so that every invariant is checked on the way
    build(&cargo(), &["build", "--locked", "--workspace", "--bins"])?;
    let mut command = Command::new("target/debug/warren-torture");
    command.arg(&args.name).args(["--engine", &args.engine]);
    for (option, value) in [("--n", args.n.map(|n| n as u64)), ("--seed", args.seed)] {
        if let Some(value) = value {
            command.args([option.to_owned(), value.to_string()]);
        }
    }
    if let Some(minutes) = args.minutes {
        command.args(["--minutes".to_owned(), minutes.to_string()]);
    }
    if args.output == "json" {
        command.args(["-o", "json"]);
    }
    let status = command.current_dir(root()?).stdin(Stdio::null()).status();
    let status = status.context("cannot start warren-torture")?;
    if !status.success() {
        bail!("torture {} ended with {status}", args.name);
    }
    Ok(())
}
