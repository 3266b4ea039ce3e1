//! Prepares and runs a benchmark of `tests/src/bench`, optimised as people install it.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::command::{cargo, command, root};

/// The benchmarks there are.
pub const NAMES: [&str; 8] =
    ["start", "commit", "handover", "read", "footprint", "neighbours", "status", "home"];

/// Those with real containers.
const WITH_DOCKER: [&str; 5] = ["start", "footprint", "neighbours", "status", "home"];

/// Which rows, and how thoroughly.
#[derive(Debug, Args)]
pub struct Options {
    /// One short pair only: to see that it runs, never to be quoted
    #[arg(long)]
    quick: bool,
    /// How many rounds (home) [default: 5]
    #[arg(long, value_name = "COUNT")]
    rounds: Option<String>,
    /// The engines of our log: sled, redb (all but start)
    #[arg(long, value_name = "LIST")]
    engine: Option<String>,
    /// Members of each cluster: 1, 3, 5 (commit and read)
    #[arg(long, value_name = "LIST")]
    replicas: Option<String>,
    /// Callers at once, such as 1,16,256 (commit and read)
    #[arg(long, value_name = "LIST")]
    callers: Option<String>,
    /// Rows with one of these in their names (footprint: node agent, coordinator; neighbours: hog,
    /// fork, disk, log, connection)
    #[arg(long, value_name = "LIST")]
    only: Option<String>,
}

impl Options {
    fn arguments(&self) -> Vec<&str> {
        let mut arguments = if self.quick { vec!["--quick"] } else { Vec::new() };
        let values = [
            ("--rounds", &self.rounds),
            ("--engine", &self.engine),
            ("--replicas", &self.replicas),
            ("--callers", &self.callers),
            ("--only", &self.only),
        ];
        for (name, value) in values {
            arguments.extend(value.iter().flat_map(|value| [name, value.as_str()]));
        }
        arguments
    }
}

/// Builds what it takes in release and runs the benchmark: its JSON line is the only thing on
/// standard output. Those of [`WITH_DOCKER`] need Docker and the workspaces' image.
///
/// # Errors
/// Fails where something cannot be built or run; a missed goal is no fault.
pub fn run(name: &str, options: &Options) -> Result<()> {
    let build = ["build", "--release", "--locked", "--bins"];
    let packages: &[&str] = if WITH_DOCKER.contains(&name) {
        let images: &[&str] = if name == "home" { &["agents-image"] } else { &[] };
        shown("./deploy/test", &[&["prepare"], images].concat(), true)?;
        &["--workspace"]
    } else {
        &["-p", "warren-coordinator", "-p", "warren-cli", "-p", "warren-tests"]
    };
    shown(&cargo(), &[&build[..], packages].concat(), true)?;
    shown("target/release/warren-bench", &[&[name], &options.arguments()[..]].concat(), false)
}

/// Runs a program in the checkout; its standard output becomes talk where `quiet`.
fn shown(program: &str, arguments: &[&str], quiet: bool) -> Result<()> {
    let mut command = command(program);
    command.args(arguments).current_dir(root()?).stdin(Stdio::null());
    if quiet {
        command.stdout(std::io::stderr());
    }
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(())
}
