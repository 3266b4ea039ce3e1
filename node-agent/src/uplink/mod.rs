//! The node's connections to the coordinators.
//!
//! One connection to each: `Status` on all of them (`status`), `Control` with the leader alone
//! (`control`), tunnels on the one that asked. Nothing dials a node. The certificate renews
//! itself (`renew`) and holds for every connection made afterwards. Nothing here decides
//! anything: a document goes into the ledger, and whoever reconciles is told what changed.

mod control;
mod coordinators;
mod links;
mod renew;
mod report;
mod status;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tracing::debug;
use warren_common::{NodeEpoch, NodeName, WorkspaceId, status::NodeFacts};
use warren_daemon::{
    Shutdown,
    identity::{Folder, explain},
};
use warren_proto::{ApiError, pb::node::v1 as pb};

use crate::{board::Board, lease::Lease, ledger::Ledger, seat::Seat, tunnel::Tunnels};

pub use coordinators::{Coordinators, CoordinatorsError};
pub use links::{Links, SecretSource};

/// The coordinator hears from the node at least this often, and the lease is renewed as often: four
/// of them may be lost before the node counts as suspect.
const HEARTBEAT: Duration = Duration::from_millis(2500);
/// A stream on which nothing came for this long is dead.
const SILENCE: Duration = Duration::from_secs(20);
/// Waits between attempts to reach one coordinator: first and longest ceiling.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What the uplink works with.
pub struct Parts {
    /// The node's name.
    pub name: NodeName,
    /// How coordinators are reached; our certificate is reloaded by the renewal.
    pub links: Arc<Links>,
    /// Where the identity lies.
    pub identity: Folder,
    /// Where the coordinators are.
    pub coordinators: Coordinators,
    /// Where documents go.
    pub ledger: Ledger,
    /// What is reported.
    pub board: Arc<Board>,
    /// Who answers requests for streams.
    pub tunnels: Tunnels,
    /// What the node is; a change is told to the leader.
    pub facts: watch::Receiver<NodeFacts>,
    /// What the node has left, for each heartbeat.
    pub usage: watch::Receiver<pb::NodeUsage>,
    /// Told which workspaces a document changed.
    pub changed: mpsc::Sender<Vec<WorkspaceId>>,
    /// Which agent this is among those with its identity.
    pub seat: Arc<Mutex<Seat>>,
    /// When a leader last confirmed a renewal.
    pub lease: Arc<Lease>,
    /// Told why this agent may not act, and that it may again.
    pub held: watch::Sender<Option<String>>,
    /// Told when the node was taken out of the cluster.
    pub removed: watch::Sender<bool>,
}

/// The state that the connections share.
struct Shared {
    parts: Parts,
    registration: watch::Sender<Option<Registration>>,
    /// Counts reports over all streams.
    sequence: AtomicU64,
}

/// The registration that reports belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Registration {
    epoch: NodeEpoch,
    /// The coordinator that took it.
    leader: String,
}

/// What can be asked about the uplink while it runs.
#[derive(Clone)]
pub struct UplinkView {
    registration: watch::Receiver<Option<Registration>>,
    lease: Arc<Lease>,
}

impl UplinkView {
    /// Returns the epoch of the newest registration; none before the first.
    pub fn epoch(&self) -> Option<NodeEpoch> {
        self.registration.borrow().as_ref().map(|registration| registration.epoch)
    }

    /// Returns how long ago the renewal was sent that the leader last confirmed (lease rule R1).
    pub fn lease_age(&self) -> Option<Duration> {
        self.lease.age()
    }
}

/// Starts the uplink; it ends with `shutdown`.
pub fn start(parts: Parts, shutdown: &Shutdown) -> UplinkView {
    let shared = Arc::new(Shared {
        parts,
        registration: watch::Sender::default(),
        sequence: AtomicU64::default(),
    });
    let view = UplinkView {
        registration: shared.registration.subscribe(),
        lease: Arc::clone(&shared.parts.lease),
    };
    let stop = shutdown.child_token();
    shutdown.spawn(stop.clone().run_until_cancelled_owned(control::run(Arc::clone(&shared))));
    shutdown.spawn(stop.clone().run_until_cancelled_owned(status::run(Arc::clone(&shared))));
    shutdown.spawn(stop.run_until_cancelled_owned(renew::run(shared)));
    view
}

impl Shared {
    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Why a stream to a coordinator ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    /// The coordinator said so.
    #[error("{0}")]
    Refused(Box<ApiError>),
    /// TLS or the network said so.
    #[error("{0}")]
    Trouble(String),
    /// The coordinator closed it.
    #[error("the coordinator closed the stream")]
    Closed,
    /// Nothing came.
    #[error("nothing came for {} s", SILENCE.as_secs())]
    Silent,
    /// The coordinator does not take what is sent.
    #[error("a message was not taken within {} s", SILENCE.as_secs())]
    Stuck,
    /// The ledger could not take the document.
    #[error("the document was not taken")]
    Ledger(#[source] crate::ledger::LedgerError),
    /// The coordinator's answer is no message of this version.
    #[error("the coordinator sent nonsense: {0}")]
    Nonsense(String),
}

impl From<tonic::Status> for LinkError {
    fn from(status: tonic::Status) -> Self {
        match explain(&status) {
            Some(trouble) => Self::Trouble(trouble.to_string()),
            None => Self::Refused(Box::new(ApiError::from(&status))),
        }
    }
}

/// Puts a message into a stream's queue once there is room.
async fn push<T>(queue: &mpsc::Sender<T>, message: T) -> Result<(), LinkError> {
    match queue.send_timeout(message, SILENCE).await {
        Ok(()) => Ok(()),
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(LinkError::Stuck),
        Err(mpsc::error::SendTimeoutError::Closed(_)) => {
            debug!("a stream ended while something was sent");
            Err(LinkError::Closed)
        }
    }
}
