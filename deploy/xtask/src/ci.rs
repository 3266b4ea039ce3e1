//! What every commit and every landing is checked with.

use std::{num::NonZeroUsize, thread::available_parallelism, time::Instant};

use anyhow::Result;

use crate::{
    command::{cargo, run, run_with},
    deny, purity, tidy,
};

/// How many tests run beside each other.
const THREADS: &str = "RUST_TEST_THREADS";

/// A half of it, for whoever has something to do between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// All that is looked at; what the tests are made of is built too
    Checks,
    /// The unit tests
    Tests,
}

/// Runs every check, or those of one part, the cheap ones first. `quick` leaves out the documentation
/// and the dependency policy.
///
/// # Errors
/// Fails at the first check that does not hold.
pub fn run_all(quick: bool, part: Option<Part>) -> Result<()> {
    if part != Some(Part::Tests) {
        look(quick)?;
    }
    let tests = ["test", "--workspace", "--locked", "--quiet"];
    if part == Some(Part::Checks) {
        return run(&cargo(), &[&tests[..], &["--no-run"]].concat());
    }
    // most of them wait for real programs, and leave the processors half idle
    let threads = available_parallelism().map_or(1, NonZeroUsize::get) * 2;
    let threads = std::env::var(THREADS).unwrap_or_else(|_| threads.to_string());
    run_with(&cargo(), &tests, &[(THREADS, &threads)])
}

fn look(quick: bool) -> Result<()> {
    let cargo = cargo();
    run(&cargo, &["fmt", "--all", "--check"])?;
    tidy::run()?;
    purity::run()?;
    if !quick {
        deny::run()?;
    }
    run(&cargo, &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    // the system tests have their own stages in deploy/test; always the whole workspace, or its
    // features would differ and everything would be built once more
    let system = ["cluster", "e2e", "security", "torture", "browsers", "views"];
    let system = system.map(|stage| ["--test", stage]).concat();
    let clippy = ["clippy", "--workspace", "--locked"];
    run(&cargo, &[&clippy[..], &system, &["--", "-D", "warnings"]].concat())?;
    if !quick {
        let arguments = ["doc", "--workspace", "--no-deps", "--locked", "--quiet"];
        run_with(&cargo, &arguments, &[("RUSTDOCFLAGS", "-D warnings")])?;
    }
    Ok(())
}

/// Entry of `cargo xtask ci`.
///
/// # Errors
/// As [`run_all`].
pub fn run_command(quick: bool, part: Option<Part>) -> Result<()> {
    let began = Instant::now();
    run_all(quick, part)?;
    let what = match part {
        Some(Part::Checks) => "ci: all that is looked at holds",
        Some(Part::Tests) => "ci: the unit tests hold",
        None => "ci holds",
    };
    eprintln!("xtask: {what}, {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
