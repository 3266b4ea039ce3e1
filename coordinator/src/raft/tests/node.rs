//! A replica in this process, over real gRPC on loopback without TLS. Who calls is what TLS would
//! have said: each replica's channels carry its number as their origin.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server};
use tower::util::MapRequestLayer;
use warren_common::{ClusterId, ReplicaId, Timestamp};
use warren_daemon::identity::{Peer, PeerIdentity};
use warren_model::{ClusterState, Command, command::SetReplica};

use super::{PATIENCE, apply_anywhere, envelope, has_client, init_cluster, options};
use crate::{
    authz::Caller,
    keystore::Keystore,
    member::{self, Members},
    raft::{Connect, Consensus, Leadership, Options, Tuning},
    store::Engine,
};

pub(crate) struct Node {
    pub(crate) consensus: Consensus,
    pub(crate) members: Members,
    pub(crate) address: SocketAddr,
    folder: TempDir,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

/// Connects without TLS, as this replica.
pub(crate) fn speaking_as(own: u64) -> Connect {
    Arc::new(move |_, address| {
        let origin = format!("http://replica-{own}").parse().expect("an origin");
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let channel = |endpoint: Endpoint| endpoint.origin(origin).connect_lazy();
        endpoint.map(channel).map_err(|error| error.to_string())
    })
}

/// Puts the caller into a request, as `Authz` does.
pub(super) fn identified<B>(mut request: http::Request<B>) -> http::Request<B> {
    let host = request.uri().host().and_then(|host| host.strip_prefix("replica-"));
    let replica = host.and_then(|number| number.parse().ok()).map(ReplicaId);
    let peer = Peer {
        identity: PeerIdentity::Coordinator(replica.expect("every channel names its replica")),
        cluster: ClusterId::MIN,
        serial: vec![1],
        not_before: Timestamp(0),
        not_after: Timestamp(u64::MAX),
    };
    let address = "127.0.0.1:1".parse().expect("an address");
    request.extensions_mut().insert(Caller::Peer { peer: Arc::new(peer), address });
    request
}

impl Node {
    pub(crate) async fn start(replica: u64, folder: TempDir, listener: TcpListener) -> Self {
        let connect = speaking_as(replica);
        Self::start_with(connect, replica, folder, listener).await
    }

    /// Starts one that reaches the others in a way of its own.
    pub(crate) async fn start_with(
        connect: Connect,
        replica: u64,
        folder: TempDir,
        listener: TcpListener,
    ) -> Self {
        let address = listener.local_addr().expect("bound");
        let tuning = Tuning { checkpoint_every: 10, ..Tuning::default() };
        // Each keeps its log as it likes: nothing of it shows outside.
        let engine = if replica == 3 { Engine::Redb } else { Engine::Sled };
        let connecting = connect.clone();
        let options =
            Options { tuning, engine, connect: connecting, ..options(replica, folder.path()) };
        let consensus = Consensus::open(options).await.expect("it opens");
        let members = Members::new(member::Parts {
            replica: ReplicaId(replica),
            consensus: consensus.clone(),
            keystore: Keystore::open(&folder.path().join("keys")).expect("a folder"),
            connect,
            state_dir: folder.path().to_owned(),
            engine: engine.to_string(),
        });
        let stop = CancellationToken::new();
        let serving = Server::builder()
            .layer(MapRequestLayer::new(identified))
            .add_service(consensus.service(stop.clone()).into_service())
            .add_service(members.service().into_service())
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        let stopped = stop.clone();
        let server = tokio::spawn(async move {
            // Peers keep their connections open; dropping the server cuts them.
            tokio::select! {
                served = serving => served.expect("it serves"),
                () = stopped.cancelled() => {}
            }
        });
        Self { consensus, members, address, folder, stop, server }
    }

    /// Starts one that belongs to no group.
    pub(crate) async fn blank(replica: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::start(replica, folder, listener).await
    }

    pub(crate) async fn stop(self) -> (TempDir, SocketAddr) {
        self.stop.cancel();
        self.server.await.expect("no panic");
        self.consensus.shutdown().await;
        (self.folder, self.address)
    }

    /// Starts what was stopped, on its folder and its port.
    pub(crate) async fn again(replica: u64, (folder, address): (TempDir, SocketAddr)) -> Self {
        let listener = TcpListener::bind(address).await.expect("its port is free");
        Self::start(replica, folder, listener).await
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) async fn until(&self, what: &str, ready: impl FnMut(&Leadership) -> bool) {
        let mut leadership = self.consensus.leadership();
        let waited = tokio::time::timeout(PATIENCE, leadership.wait_for(ready)).await;
        waited.unwrap_or_else(|_| panic!("not in time: {what}")).expect("it runs");
    }

    pub(crate) async fn sees(&self, name: &str) -> ClusterState {
        let mut changes = self.consensus.changes();
        let seen = changes.wait_for(|_| has_client(&self.consensus.local(), name));
        let waited = tokio::time::timeout(PATIENCE, seen).await;
        waited.unwrap_or_else(|_| panic!("{name} did not arrive")).expect("it runs");
        self.consensus.local()
    }
}

pub(crate) async fn three() -> BTreeMap<u64, Node> {
    let mut nodes = BTreeMap::new();
    for replica in 1..=3 {
        nodes.insert(replica, Node::blank(replica).await);
    }
    grouped(nodes).await
}

/// Makes one group of these.
pub(crate) async fn grouped(nodes: BTreeMap<u64, Node>) -> BTreeMap<u64, Node> {
    let members = nodes.iter().map(|(id, node)| (ReplicaId(*id), node.address.to_string()));
    let members = members.collect();
    nodes[&1].consensus.initialise(members).await.expect("fresh");
    nodes
}

/// Three that lead a cluster whose state knows where each one is.
pub(crate) async fn known_three() -> BTreeMap<u64, Node> {
    let nodes = three().await;
    apply_anywhere(&handles(&nodes), &init_cluster()).await;
    for (id, node) in &nodes {
        know(&handles(&nodes), *id, node).await;
    }
    nodes
}

/// Writes into the state where a replica is.
pub(crate) async fn know(through: &[&Consensus], id: u64, node: &Node) {
    let set = SetReplica {
        replica: ReplicaId(id),
        api_address: format!("api-{id}:1"),
        raft_address: node.address.to_string(),
    };
    apply_anywhere(through, &envelope(Command::SetReplica(set))).await;
}

pub(crate) fn handles(nodes: &BTreeMap<u64, Node>) -> Vec<&Consensus> {
    nodes.values().map(|node| &node.consensus).collect()
}

pub(crate) async fn leader(nodes: &BTreeMap<u64, Node>) -> u64 {
    let found = async {
        loop {
            let leading = |node: &&Node| node.consensus.leadership().borrow().leading;
            if let Some(node) = nodes.values().find(leading) {
                return node.consensus.status().replica.0;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("a leader in time")
}
