//! `warren-coordinator join`: through the coordinator that runs on this machine, or in its place.

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use tonic::transport::Channel;
use warren_coordinator::{
    bootstrap::{self, Wanted},
    config::{Config, DEFAULT_PATH, is_host_port},
};
use warren_daemon::{identity::connect_local, telemetry, token::JoinToken};
use warren_proto::{
    ApiError,
    pb::admin::v1::{self as pb, bootstrap_service_client::BootstrapServiceClient},
};

/// How long the running coordinator may go without a word: a checkpoint may be on its way.
const SILENCE: Duration = Duration::from_secs(600);

/// Arguments of `join`.
#[derive(Args)]
pub(crate) struct Join {
    /// The token; the environment keeps it out of the process list
    #[arg(env = "WARREN_JOIN_TOKEN", hide_env_values = true)]
    token: String,
    /// host:port at which nodes and people reach this coordinator's API
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    api: Option<String>,
    /// host:port at which the other coordinators reach this one
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    raft: Option<String>,
}

fn address(text: &str) -> Result<String, String> {
    match is_host_port(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not of the form host:port")),
    }
}

/// Joins.
pub(crate) fn run(config: &Config, join: &Join) -> anyhow::Result<()> {
    telemetry::start(config.log.format, "warn")?;
    let token: JoinToken = join.token.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let running = bootstrap::ensure_free(&config.socket).await.is_err();
        match running {
            true => through(config, join).await,
            false => alone(config, join, &token).await,
        }
    })
}

/// Has the running coordinator join, and tells what it tells.
async fn through(config: &Config, join: &Join) -> anyhow::Result<()> {
    let channel = connect_local(&config.socket).await.context("asking the coordinator here")?;
    let mut api = BootstrapServiceClient::<Channel>::new(channel);
    let request = pb::JoinRequest {
        token: join.token.clone(),
        api_address: join.api.clone().unwrap_or_default(),
        raft_address: join.raft.clone().unwrap_or_default(),
    };
    let told = |status: tonic::Status| anyhow::Error::new(ApiError::from(&status));
    let mut steps = api.join(request).await.map_err(told)?.into_inner();
    loop {
        let step = tokio::time::timeout(SILENCE, steps.message()).await;
        match step.context("the coordinator says nothing any more; run the same command again")? {
            Ok(Some(step)) => say(&format!("  {}", step.progress))?,
            Ok(None) => return say("this machine is a coordinator; see: warren cluster status"),
            Err(status) => return Err(told(status)),
        }
    }
}

/// Joins in place of a coordinator that does not run; the rest is done when it is started.
async fn alone(config: &Config, join: &Join, token: &JoinToken) -> anyhow::Result<()> {
    let wanted = Wanted { api: join.api.clone(), raft: join.raft.clone() };
    let intent = match bootstrap::enrol(config, token, (wanted, None)).await {
        Ok(intent) => intent,
        Err(bootstrap::JoinError::Refused(refused)) => return Err((*refused).into()),
        Err(error) => bail!(error),
    };
    if !intent.joining {
        return say(&format!("this machine is coordinator {} already", intent.replica));
    }
    say(&format!("  enrolled as coordinator {} of cluster {}", intent.replica, intent.name))?;
    say("  keystore copied")?;
    say("it takes the log and gets its vote once it runs. Next:")?;
    let unit: PathBuf = "/etc/systemd/system/warren-coordinator.service".into();
    say(match unit.exists() {
        true => "  systemctl enable --now warren-coordinator",
        false => "  warren-coordinator",
    })?;
    let default = PathBuf::from(DEFAULT_PATH);
    say(&format!("  (with the same --config, if not {})", default.display()))
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("writing to stdout")
}
