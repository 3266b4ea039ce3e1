//! Prepares and runs a benchmark of `tests/src/bench`, optimised as people install it.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, root};

/// The benchmarks there are.
pub const NAMES: [&str; 1] = ["start"];

/// Builds everything in release, prepares the image, and runs the benchmark: its JSON line is the
/// only thing on standard output.
///
/// # Errors
/// Fails where something cannot be built or run; a missed goal is no fault.
pub fn run(name: &str, quick: bool) -> Result<()> {
    let quick: &[&str] = if quick { &["--quick"] } else { &[] };
    shown("./deploy/test", &["prepare"], true)?;
    shown(&cargo(), &["build", "--release", "--locked", "--workspace", "--bins"], true)?;
    shown("target/release/warren-bench", &[&[name], quick].concat(), false)
}

/// Runs a program in the checkout; its standard output becomes talk where `quiet`.
fn shown(program: &str, arguments: &[&str], quiet: bool) -> Result<()> {
    let mut command = Command::new(program);
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
