//! Node connections: who is connected, what they are told, and the tunnels they open.
//!
//! Each node keeps a Status stream to every coordinator ([`status`]) and a Control stream to the
//! leader ([`control`]); a newer stream of a node replaces the older one. Nothing ever dials a
//! node: what it is to open is asked over its Status stream ([`tunnel`]).

pub mod control;
pub mod held;
mod identity;
pub mod noted;
mod pace;
pub mod status;
pub mod tunnel;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use warren_common::{Limits, NodeId};
use warren_daemon::Shutdown;
use warren_proto::pb::node::v1 as pb;

use crate::{live::Live, raft::Consensus, sync::locked};

/// The nodes that are connected to this coordinator.
#[derive(Default)]
pub struct Hub {
    /// Streams that wait for their node, or are open.
    pub tunnels: Arc<tunnel::Tunnels>,
    /// Looks into workspaces that are on record.
    pub noted: noted::Noted,
    status: Mutex<Links<mpsc::Sender<pb::OpenTunnel>>>,
    control: Mutex<Links<()>>,
    /// When each node may register again.
    pace: pace::Pace,
}

/// What serves the streams of nodes.
#[derive(Clone)]
pub struct Uplink {
    /// Who is connected.
    pub hub: Arc<Hub>,
    /// What they report.
    pub live: Arc<Live>,
    /// What they are told.
    pub consensus: Consensus,
    /// Ends every stream.
    pub shutdown: Shutdown,
}

/// One stream per node, each with what reaches it.
struct Links<T> {
    next: u64,
    nodes: BTreeMap<NodeId, Entry<T>>,
}

struct Entry<T> {
    serial: u64,
    replaced: CancellationToken,
    link: T,
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self { next: 0, nodes: BTreeMap::new() }
    }
}

/// A node's place in the hub; given up when dropped, unless a newer stream has taken it.
pub struct Place<T> {
    hub: Arc<Hub>,
    which: fn(&Hub) -> &Mutex<Links<T>>,
    node: NodeId,
    serial: u64,
    /// Cancelled when a newer stream of the node takes the place.
    pub replaced: CancellationToken,
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let mut links = locked((self.which)(&self.hub));
        if links.nodes.get(&self.node).is_some_and(|entry| entry.serial == self.serial) {
            links.nodes.remove(&self.node);
        }
    }
}

/// Why a node cannot be asked for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It has no Status stream to this coordinator.
    #[error("it is not connected to this coordinator")]
    NotConnected,
    /// It does not take what it was asked before.
    #[error("it does not answer the streams it was asked for before")]
    Busy,
}

impl Hub {
    /// Asks a node to open a tunnel.
    ///
    /// # Errors
    /// The node is not connected, or [`Limits::STREAM_REQUESTS`] requests wait for it.
    pub fn open_tunnel(&self, node: NodeId, order: pb::OpenTunnel) -> Result<(), Unreachable> {
        let links = locked(&self.status);
        let entry = links.nodes.get(&node).ok_or(Unreachable::NotConnected)?;
        entry.link.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unreachable::Busy,
            mpsc::error::TrySendError::Closed(_) => Unreachable::NotConnected,
        })
    }

    /// Whether a stream of the node is open here.
    fn is_connected(&self, node: NodeId) -> bool {
        locked(&self.status).nodes.contains_key(&node)
            || locked(&self.control).nodes.contains_key(&node)
    }

    /// Returns how many streams of each kind are open.
    pub fn counts(&self) -> [(&'static str, usize); 4] {
        let (waiting, viewers) = self.tunnels.counts();
        [
            ("status", locked(&self.status).nodes.len()),
            ("control", locked(&self.control).nodes.len()),
            ("tunnel-asked", waiting),
            ("viewer", viewers),
        ]
    }

    /// Takes the node's place for Status, from an older stream where there is one.
    fn enter_status(
        self: &Arc<Self>,
        node: NodeId,
    ) -> (Place<mpsc::Sender<pb::OpenTunnel>>, mpsc::Receiver<pb::OpenTunnel>) {
        let (sender, receiver) = mpsc::channel(Limits::STREAM_REQUESTS);
        (self.enter(node, |hub| &hub.status, sender), receiver)
    }

    /// Takes the node's place for Control, from an older stream where there is one.
    fn enter_control(self: &Arc<Self>, node: NodeId) -> Place<()> {
        self.enter(node, |hub| &hub.control, ())
    }

    fn enter<T>(
        self: &Arc<Self>,
        node: NodeId,
        which: fn(&Self) -> &Mutex<Links<T>>,
        link: T,
    ) -> Place<T> {
        let mut links = locked(which(self));
        links.next += 1;
        let serial = links.next;
        let replaced = CancellationToken::new();
        let entry = Entry { serial, replaced: replaced.clone(), link };
        if let Some(older) = links.nodes.insert(node, entry) {
            older.replaced.cancel();
        }
        Place { hub: Arc::clone(self), which, node, serial, replaced }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn node() -> NodeId {
        NodeId::new(Uuid::from_u128(1))
    }

    #[tokio::test]
    async fn a_newer_stream_replaces_the_older_and_outlives_it() {
        let hub = Arc::new(Hub::default());
        assert_eq!(
            hub.open_tunnel(node(), pb::OpenTunnel::default()),
            Err(Unreachable::NotConnected)
        );
        let (first, _orders) = hub.enter_status(node());
        let (second, mut orders) = hub.enter_status(node());
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        hub.open_tunnel(node(), pb::OpenTunnel::default()).expect("the newer one is there");
        assert!(orders.recv().await.is_some());
        drop(second);
        assert_eq!(
            hub.open_tunnel(node(), pb::OpenTunnel::default()),
            Err(Unreachable::NotConnected)
        );
    }

    #[test]
    fn a_node_that_takes_no_orders_is_busy() {
        let hub = Arc::new(Hub::default());
        let (_place, _orders) = hub.enter_status(node());
        for _ in 0..Limits::STREAM_REQUESTS {
            hub.open_tunnel(node(), pb::OpenTunnel::default()).expect("within the bound");
        }
        assert_eq!(hub.open_tunnel(node(), pb::OpenTunnel::default()), Err(Unreachable::Busy));
    }
}
