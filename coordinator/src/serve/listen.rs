//! The coordinator's listeners: bound at the start, so that a port in use shows at once, and given
//! to a server once there is a cluster.

use std::{io, net::SocketAddr, path::Path};

use serde::Serialize;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use warren_daemon::{
    Shutdown,
    files::{self, FileError},
};

use crate::config::Listen;

/// Where this coordinator really listens, as `<state>/addresses.json` tells others on the machine.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Addresses {
    /// People's tools and node agents.
    pub api: SocketAddr,
    /// The other coordinators.
    pub raft: SocketAddr,
    /// Prometheus, where it is served.
    pub metrics: Option<SocketAddr>,
}

/// The listeners of API and Raft.
pub struct Listeners {
    /// People's tools and node agents.
    pub api: Bound,
    /// The other coordinators.
    pub raft: Bound,
}

/// One listener. Until it is taken it turns every connection away.
pub struct Bound {
    /// Where it listens.
    pub address: SocketAddr,
    taken: CancellationToken,
    turning_away: JoinHandle<Option<TcpListener>>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({what})")]
pub struct BindError {
    what: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl Listeners {
    /// Binds both.
    ///
    /// # Errors
    /// Names the address that is in use or not this machine's.
    pub async fn bind(listen: &Listen, shutdown: &Shutdown) -> Result<Self, BindError> {
        Ok(Self {
            api: Bound::new("listen.api", listen.api, shutdown).await?,
            raft: Bound::new("listen.raft", listen.raft, shutdown).await?,
        })
    }
}

impl Bound {
    async fn new(
        what: &'static str,
        address: SocketAddr,
        shutdown: &Shutdown,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { what, address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let taken = CancellationToken::new();
        let turning_away =
            shutdown.spawn(turn_away(listener, taken.clone(), shutdown.child_token()));
        Ok(Self { address, taken, turning_away })
    }

    /// Returns the listener; none where the coordinator is stopping.
    pub async fn take(self) -> Option<TcpListener> {
        self.taken.cancel();
        self.turning_away.await.ok().flatten()
    }
}

/// Closes each connection as it comes: a caller learns at once that nothing is served yet.
async fn turn_away(
    listener: TcpListener,
    taken: CancellationToken,
    end: CancellationToken,
) -> Option<TcpListener> {
    loop {
        tokio::select! {
            () = taken.cancelled() => return Some(listener),
            () = end.cancelled() => return None,
            accepted = listener.accept() => if accepted.is_err() {
                // such as for lack of file descriptors: they come back
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            },
        }
    }
}

/// Tells others on this machine where the coordinator listens.
///
/// # Errors
/// The file cannot be written.
pub fn publish(addresses: &Addresses, state_dir: &Path) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(addresses).expect("addresses are plain texts");
    files::write_atomic(&state_dir.join("addresses.json"), &text, 0o600)
}
