//! `warren-coordinator`: reads its configuration and runs.

mod join;
mod verify;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use warren_coordinator::{
    bootstrap,
    config::{Config, DEFAULT_PATH},
    measure::METRICS,
    run::{self, End},
};
use warren_daemon::{Shutdown, metrics, telemetry};
use warren_proto::ApiError;

/// The coordinator of a Warren cluster.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Configuration file [default: /etc/warren/coordinator.toml, or the defaults without one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Check the configuration and exit
    CheckConfig,
    /// Give this coordinator a fresh certificate from its own keystore, while it is stopped
    RenewCerts,
    /// Make this machine a coordinator of a cluster: spends a token of `warren cluster token`
    ///
    /// Where the coordinator runs already and serves no cluster, it joins at once and this command
    /// waits until it votes; else it joins when it is started. Safe to repeat.
    Join(join::Join),
    /// Check the audit records of this machine, whether the coordinator runs or not
    ///
    /// Computes the chain of hashes over every record again and holds it against the newest
    /// checkpoint. Ends with 1 where it is broken.
    VerifyAudit(verify::VerifyAudit),
}

/// Small pieces are taken and given back all the time, on all threads, and a coordinator runs for
/// months: this allocator is made for both.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    match go(&args) {
        Ok(code) => code,
        Err(error) => {
            // stderr may be closed; the exit code tells all the same
            let _ = report(&error);
            ExitCode::FAILURE
        }
    }
}

/// What happened, why, and what to do next.
fn report(error: &anyhow::Error) -> std::io::Result<()> {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "error: {error:#}")?;
    if let Some(refusal) = error.chain().find_map(|cause| cause.downcast_ref::<ApiError>()) {
        for (word, text) in [("why", &refusal.why), ("next", &refusal.next)] {
            if let Some(text) = text {
                writeln!(stderr, "  {word}: {text}")?;
            }
        }
    }
    Ok(())
}

fn go(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let done = match &args.command {
        Some(Verb::VerifyAudit(verify)) => return verify::run(&config, verify),
        Some(Verb::Join(join)) => join::run(&config, join),
        Some(Verb::CheckConfig) => {
            let file = args.config.clone().unwrap_or_else(|| DEFAULT_PATH.into());
            writeln!(std::io::stdout(), "{}: ok", file.display()).context("writing to stdout")
        }
        Some(Verb::RenewCerts) => {
            let renewed = tokio::runtime::Runtime::new()?.block_on(bootstrap::renew_certs(&config));
            let (path, until) = renewed?;
            writeln!(std::io::stdout(), "{}: good until {until}", path.display())
                .context("writing to stdout")
        }
        None => serve(config),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn serve(config: Config) -> anyhow::Result<()> {
    telemetry::start(config.log.format, &config.log.filter)?;
    let counting = metrics::start("coordinator", env!("CARGO_PKG_VERSION"), &[METRICS])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        loop {
            let shutdown = Shutdown::on_signals().context("catching signals")?;
            match run::run(config.clone(), Some(counting.clone()), shutdown).await? {
                End::Again => {}
                End::Over => return Ok(()),
            }
        }
    })
}
