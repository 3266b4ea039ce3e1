//! The connections that are open on a process's listeners, so that a revocation can close them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;
use warren_common::Timestamp;

use super::Peer;

/// How a request came in and from whom; tonic puts it into each request's extensions.
#[derive(Debug, Clone)]
pub enum Connection {
    /// Over the process's own unix socket.
    Local {
        /// Who called, as the kernel says.
        uid: u32,
    },
    /// Over TLS.
    Remote {
        /// Where from.
        address: SocketAddr,
        /// The verified certificate; none where none was shown.
        peer: Option<Arc<Peer>>,
    },
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Entry>,
}

struct Entry {
    peer: Option<Arc<Peer>>,
    /// It was let in with a certificate that was good then, so it ends when that does.
    certified: bool,
    cut: CancellationToken,
}

/// The open connections of one process's TLS listeners. Clones share them.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Open>>);

impl Connections {
    /// Closes the connections of the peers that `condemned` names; their streams end with an error.
    /// Returns how many there were.
    pub fn close_where(&self, condemned: impl Fn(&Peer) -> bool) -> usize {
        let open = self.lock();
        let is_doomed = |entry: &&Entry| entry.peer.as_ref().is_some_and(|peer| condemned(peer));
        open.connections.values().filter(is_doomed).map(|entry| entry.cut.cancel()).count()
    }

    /// Closes the connections whose certificates have expired since they were let in. Returns how
    /// many there were.
    pub(super) fn close_expired(&self, now: Timestamp) -> usize {
        let open = self.lock();
        let certified = open.connections.values().filter(|entry| entry.certified);
        let over =
            certified.filter(|entry| entry.peer.as_ref().is_some_and(|peer| peer.is_expired(now)));
        over.map(|entry| entry.cut.cancel()).count()
    }

    /// Closes every connection: what is left of a shutdown whose deadline has come.
    pub fn close_all(&self) {
        self.lock().connections.values().for_each(|entry| entry.cut.cancel());
    }

    /// Returns how many are open.
    pub fn count(&self) -> usize {
        self.lock().connections.len()
    }

    /// Counts a connection in until the answer is dropped.
    pub(super) fn register(
        &self,
        peer: Option<Arc<Peer>>,
        certified: bool,
    ) -> (Registered, CancellationToken) {
        let cut = CancellationToken::new();
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Entry { peer, certified, cut: cut.clone() });
        (Registered { id, connections: self.clone() }, cut)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // nothing panics while it is held, and the map is whole at each step
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One entry, gone when dropped.
pub(super) struct Registered {
    id: u64,
    connections: Connections,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.lock().connections.remove(&self.id);
    }
}
