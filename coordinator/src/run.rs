//! The life of a coordinator's process: bind, tell where, serve what there is, end in order.

use std::path::Path;

use tracing::{info, warn};
use warren_common::Limits;
use warren_daemon::{
    Shutdown,
    files::{self, FileError},
    metrics::{self, Metrics},
};

use crate::{
    bootstrap::{self, FoundError, Founder, SocketError},
    config::Config,
    serve::{Addresses, BindError, Listeners, publish},
};

/// Why a coordinator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state folder cannot be used.
    #[error("preparing the state folder")]
    State(#[source] FileError),
    /// A port is in use.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The metrics' port is in use.
    #[error("cannot listen for metrics")]
    Metrics(#[source] std::io::Error),
    /// The local socket cannot be served.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The cluster in the state folder cannot be brought up.
    #[error("bringing up the cluster in {}", state_dir)]
    Resume {
        /// The state folder.
        state_dir: String,
        /// Why.
        #[source]
        source: FoundError,
    },
    /// The disk failed while it ran.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// How a coordinator's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to end.
    Over,
    /// It was asked to start anew: what goes on now is in the state folder.
    Again,
}

/// Runs a coordinator until shutdown. Without a cluster in its state folder it serves the local
/// socket alone, until `init` makes one.
///
/// # Errors
/// It cannot start, or its storage failed.
pub async fn run(
    config: Config,
    metrics: Option<Metrics>,
    shutdown: Shutdown,
) -> Result<End, RunError> {
    let ran = start(config, metrics, &shutdown).await;
    let founder = match ran {
        Ok(founder) => founder,
        Err((founder, error)) => {
            end(founder.as_ref(), &shutdown).await;
            return Err(error);
        }
    };
    shutdown.requested().await;
    match end(Some(&founder), &shutdown).await {
        Some(reason) => Err(RunError::Storage(reason)),
        None if founder.again() => Ok(End::Again),
        None => Ok(End::Over),
    }
}

async fn start(
    config: Config,
    metrics: Option<Metrics>,
    shutdown: &Shutdown,
) -> Result<Founder, (Option<Founder>, RunError)> {
    let early = |error| (None, error);
    let state_dir = config.state_dir.clone();
    // whoever answers on the socket owns the state folder: look before anything in it is touched
    bootstrap::ensure_free(&config.socket).await.map_err(RunError::from).map_err(early)?;
    files::private_folder(&state_dir).map_err(RunError::State).map_err(early)?;
    let listeners = Listeners::bind(&config.listen, shutdown).await;
    let listeners = listeners.map_err(RunError::from).map_err(early)?;
    let serving = serve_metrics(&config, metrics.clone(), shutdown).await;
    let (api, raft) = (listeners.api.address, listeners.raft.address);
    let addresses = Addresses { api, raft, metrics: serving.map_err(early)? };
    publish(&addresses, &state_dir).map_err(RunError::State).map_err(early)?;
    info!(api = %addresses.api, raft = %addresses.raft, socket = %config.socket.display(), "listening");

    let socket = config.socket.clone();
    if let Some(metrics) = &metrics {
        metrics.renew();
        metrics.ready_when(|| Err("there is no cluster here yet".to_owned()));
    }
    let founder = Founder::new(config, listeners, metrics, shutdown.clone());
    let late = |error| (Some(founder.clone()), error);
    bootstrap::serve(&socket, founder.clone(), shutdown).await.map_err(|e| late(e.into()))?;
    let resumed = founder
        .resume()
        .await
        .map_err(|source| late(RunError::Resume { state_dir: shown(&state_dir), source }))?;
    if resumed.is_none() {
        info!(
            socket = %socket.display(),
            "no cluster here yet: nothing but the local socket is served until `warren cluster init`"
        );
    }
    Ok(founder)
}

async fn serve_metrics(
    config: &Config,
    metrics: Option<Metrics>,
    shutdown: &Shutdown,
) -> Result<Option<std::net::SocketAddr>, RunError> {
    let (Some(address), Some(metrics)) = (config.listen.metrics, metrics) else {
        return Ok(None);
    };
    metrics::serve(address, metrics, shutdown).await.map(Some).map_err(RunError::Metrics)
}

/// Ends everything within [`Limits::SHUTDOWN`]; tells why storage failed, where it did.
async fn end(founder: Option<&Founder>, shutdown: &Shutdown) -> Option<String> {
    let deadline = tokio::time::Instant::now() + Limits::SHUTDOWN;
    shutdown.join(Limits::SHUTDOWN / 2).await;
    let consensus = founder?.consensus().await?;
    let failure = consensus.status().failure;
    if tokio::time::timeout_at(deadline, consensus.shutdown()).await.is_err() {
        warn!("consensus did not stop in time");
    }
    info!("stopped");
    failure
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
