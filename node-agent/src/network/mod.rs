//! What a workspace can reach, enforced on the host: one nftables table, a routing rule per bridge
//! behind it, and a resolver on each bridge's gateway.
//!
//! Level-triggered: what is open follows from the bridges that the kernel has and the orders that
//! the ledger holds; nothing else is remembered. The table is keyed on the prefix of bridges' names
//! and loaded before any bridge is made, so a new one is closed until it is opened. `guard` looks
//! after it: each minute, and whenever the kernel says that a table, a device or a rule changed.
//!
//! [`table`] says what is enforced, [`readback`] whether it is there, `firewall` loads and mends,
//! [`dns`] answers questions. No container, namespace or engine is touched here.

pub mod dns;
mod fake;
mod firewall;
mod guard;
pub mod host;
mod monitor;
mod preflight;
pub mod readback;
mod seat;
pub mod table;
#[cfg(test)]
mod tests;
pub mod tool;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use warren_common::status::Finding;
use warren_daemon::Shutdown;

use crate::{board::Board, container::subnet::Subnet, ledger::Ledger, uplink::Coordinators};

pub use fake::NoWalls;
pub use table::Settings;
use tool::ToolError;

/// The outcome of a wait for the walls.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, NetworkError>>;

/// What keeps workspaces apart on the network.
pub trait Walls: Send + Sync + 'static {
    /// Makes sure that a bridge of this name will be closed when it is made.
    fn prepare<'a>(&'a self, bridge: &'a str) -> Answer<'a, ()>;

    /// Makes sure that a bridge that was made is open for its workspace as far as its client is
    /// allowed, and no farther. A container may start after it.
    fn open<'a>(&'a self, bridge: &'a str) -> Answer<'a, ()>;

    /// Returns the host's address on a bridge, where the workspace's resolver is; also of one that
    /// was removed while its workspace runs. None where it was never there, or where nothing is
    /// walled off.
    fn gateway(&self, bridge: &str) -> Option<Ipv4Addr>;

    /// Looks again soon: a bridge was removed.
    fn look(&self);

    /// Watches how the walls stand.
    fn view(&self) -> watch::Receiver<View>;
}

/// How the walls stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// What is wrong, in a stable order.
    pub findings: Vec<Finding>,
    /// Of the loaded table as it was read back; zero where there is none.
    pub fingerprint: u64,
}

/// Why a workspace cannot have its network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A program failed.
    #[error("the firewall cannot be set")]
    Tool(#[from] ToolError),
    /// What was loaded is not what was asked for.
    #[error("the firewall is not as it was set: {0}")]
    Differs(String),
    /// The bridge is not there, or not this node's.
    #[error("bridge {0} is not there")]
    NoBridge(String),
    /// Another agent keeps the table.
    #[error("another node agent runs in this host's network")]
    Taken,
    /// The ledger could not take a pause.
    #[error("workspaces could not be paused: {0}")]
    Pause(String),
}

impl NetworkError {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Tool(ToolError::Missing { .. }) => "FIREWALL_MISSING",
            Self::Tool(_) | Self::Differs(_) | Self::Pause(_) | Self::Taken => "FIREWALL_FAILED",
            Self::NoBridge(_) => "BRIDGE_MISSING",
        }
    }
}

/// What the firewall works with.
pub struct Parts {
    /// Orders, what clients are allowed, and who froze what.
    pub ledger: Ledger,
    /// Which containers run.
    pub board: Arc<Board>,
    /// Whose addresses are closed.
    pub coordinators: Coordinators,
    /// The node's own range.
    pub range: Subnet,
    /// Bounds and ports.
    pub settings: Settings,
    /// Resolvers to ask; the host's own where it is empty.
    pub resolvers: Vec<IpAddr>,
}

/// Removes the table and every routing rule of ours; for a host where no agent is to run any more.
///
/// # Errors
/// Another agent runs in this host's network, or a program fails. One that is not installed has
/// nothing of ours.
pub async fn remove() -> Result<(), NetworkError> {
    let seat = seat::Seat::default();
    seat.take()?;
    for outcome in [firewall::remove().await, host::remove_backstops().await] {
        match outcome {
            Ok(()) | Err(ToolError::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Starts the firewall and what guards it; it ends with `shutdown` and leaves the table as it is.
pub async fn start(parts: Parts, shutdown: &Shutdown) -> Arc<dyn Walls> {
    let firewall = Arc::new(firewall::Firewall::new(parts, shutdown));
    guard::start(&firewall, shutdown).await;
    firewall
}
