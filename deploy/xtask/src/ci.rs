//! What every commit and every landing is checked with.

use std::time::Instant;

use anyhow::Result;

use crate::{
    command::{cargo, run, run_with},
    deny, purity, tidy,
};

/// Runs every check, the cheap ones first. `quick` leaves out the documentation and the
/// dependency policy.
///
/// # Errors
/// Fails at the first check that does not hold.
pub fn run_all(quick: bool) -> Result<()> {
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
    run(&cargo, &["test", "--workspace", "--locked", "--quiet"])?;
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
pub fn run_command(quick: bool) -> Result<()> {
    let began = Instant::now();
    run_all(quick)?;
    eprintln!("xtask: ci holds, {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
