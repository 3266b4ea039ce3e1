//! The node agent's command line.

mod pool;

use std::{collections::BTreeSet, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use warren_common::NodeName;
use warren_daemon::{
    Shutdown, metrics,
    telemetry::{self, Chain, LogFormat},
};
use warren_node_agent::{
    agent::{self, Agent},
    config::{Config, EngineKind},
    host, join, leave,
    measure::METRICS,
    uplink,
};
use warren_proto::ApiError;

/// The hands of Warren on one server.
#[derive(Parser)]
#[command(name = "warren-node-agent", version)]
struct Args {
    /// The configuration; /etc/warren/node-agent.toml where that is there, else the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look: text or json.
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make this machine a node: spends a token of `warren node token`.
    Join {
        /// The token; the environment keeps it out of the process list.
        #[arg(env = "WARREN_JOIN_TOKEN", hide_env_values = true)]
        token: String,
        /// The node's name; the configured one, else the host's.
        #[arg(long)]
        name: Option<NodeName>,
    },
    /// Run until SIGTERM; containers run on.
    Run,
    /// Where this node looks for the coordinators.
    Coordinators {
        #[command(subcommand)]
        verb: Coordinators,
    },
    /// Switch live-restore on in Docker's configuration, leaving everything else in it as it is.
    LiveRestore {
        /// Docker's configuration; made where it is not there.
        #[arg(default_value = "/etc/docker/daemon.json")]
        file: PathBuf,
    },
    /// The pool of this node's homes: works while the agent runs and homes are in use.
    Pool {
        #[command(subcommand)]
        verb: pool::Verb,
    },
    /// Remove what the agent keeps in this machine's kernel (firewall table, routing rules, swap
    /// file, cgroups, the pool's mount): for a machine that stops being a node. Homes stay.
    Leave {
        /// Kill what still runs of workspaces; without it that is refused.
        #[arg(long)]
        kill: bool,
    },
    /// Read the configuration and say whether it can be used.
    CheckConfig,
}

#[derive(Subcommand)]
enum Coordinators {
    /// Look for the coordinators here from now on: for a cluster that was restored on another
    /// machine. An agent that runs finds them within seconds.
    Set {
        /// host:port of each coordinator's API.
        #[arg(required = true, value_name = "HOST:PORT", value_parser = address)]
        addresses: Vec<String>,
    },
}

fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(1..)) if !text.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not of the form host:port")),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // nobody to tell where stderr is closed
            let _ = report(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    if let Command::LiveRestore { file } = &args.command {
        let changed = host::live_restore::switch_on(file)?;
        let what = if changed { "is switched on" } else { "was on" };
        return say(&format!("live-restore {what} in {}", file.display()));
    }
    let config = Config::load(args.config.as_deref())?;
    match args.command {
        Command::LiveRestore { .. } => Ok(()),
        Command::CheckConfig => say("the configuration is fine"),
        Command::Leave { kill } => {
            let homes = leave::leave(&config, kill).await?;
            say("removed: firewall table, routing rules, swap file, cgroups, mounts")?;
            say(&format!("homes: {homes}"))
        }
        Command::Pool { verb } => pool::run(&config, verb),
        Command::Coordinators { verb: Coordinators::Set { addresses } } => {
            let addresses: BTreeSet<String> = addresses.into_iter().collect();
            anyhow::ensure!(
                join::membership(&config.state_dir)?.is_some(),
                "this machine is no node yet; run: warren-node-agent join TOKEN"
            );
            let shown = addresses.iter().cloned().collect::<Vec<_>>().join(", ");
            uplink::Coordinators::set(&config.state_dir, addresses)?;
            say(&format!("this node looks for the coordinators at {shown}"))?;
            let also = config.coordinators.iter();
            match also.cloned().collect::<Vec<_>>().join(", ") {
                also if also.is_empty() => Ok(()),
                also => say(&format!("and, as configured, at {also}")),
            }
        }
        Command::Join { token, name } => {
            telemetry::start(args.log_format, "warn")?;
            let name = match name.or_else(|| config.name.clone()) {
                Some(name) => name,
                None => join::name_of_host(&host::hostname())
                    .context("the host's name makes no node name; give one with --name")?,
            };
            join(&config, &token, &name).await?;
            say("next: warren-node-agent run, or start its unit where one is installed")
        }
        Command::Run => {
            telemetry::start(args.log_format, "info")?;
            if config.engine.kind == EngineKind::Docker && !config.inside_binary.is_file() {
                bail!(
                    "{} is not there: no workspace could start; install it, or set inside_binary",
                    config.inside_binary.display()
                );
            }
            host::raise_open_files();
            let shutdown = Shutdown::on_signals().context("cannot catch signals")?;
            let version = env!("CARGO_PKG_VERSION");
            let counted = metrics::start("node-agent", version, &[METRICS])?;
            let agent = Agent::start(config, Some(counted), shutdown).await?;
            agent.ended().await;
            Ok(())
        }
    }
}

/// Makes this machine a node, once.
async fn join(config: &Config, token: &str, name: &NodeName) -> anyhow::Result<()> {
    let known = join::joined(&config.state_dir, token)?;
    let again = known.is_some();
    let joined = match known {
        Some(joined) => joined,
        None => {
            let facts = agent::facts(config).await?;
            join::join(&config.state_dir, token, name, facts).await?
        }
    };
    say(&format!("this machine is node {} ({})", joined.name, joined.node))?;
    if again {
        say("it joined before and no token was spent; where it was removed since: \
             warren-node-agent leave, then remove its state folder, then join again")?;
    }
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to stdout")
}

/// What happened, why, and what to do next.
fn report(error: &anyhow::Error) -> std::io::Result<()> {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "error: {}", Chain(error.as_ref()))?;
    if let Some(refusal) = error.chain().find_map(|cause| cause.downcast_ref::<ApiError>()) {
        if let Some(why) = &refusal.why {
            writeln!(stderr, "  why: {why}")?;
        }
        if let Some(next) = &refusal.next {
            writeln!(stderr, "  next: {next}")?;
        }
    }
    Ok(())
}
