//! A survivor of three goes on alone, through its local socket and a start of its own.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Endpoint, Server},
};
use tower::util::MapRequestLayer;
use uuid::Uuid;
use warren_common::{ClientId, ClusterId, ReplicaId, RequestId, Timestamp};
use warren_coordinator::{
    authz::Caller,
    raft::{Consensus, Options, Tuning},
    run::End,
    store::Engine,
};
use warren_daemon::{
    clock,
    identity::{Peer, PeerIdentity, connect_local},
};
use warren_model::{
    Command, Envelope, Principal,
    command::{CreateClient, InitCluster, SetReplica},
};
use warren_proto::{
    ApiError,
    pb::admin::v1::{self as pb, bootstrap_service_client::BootstrapServiceClient},
};

use crate::support::{Coordinator, half_made, wait_until};

struct Replica {
    consensus: Consensus,
    address: String,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

/// Puts the caller into a request, as the listener's TLS and table do: each replica's channels carry
/// its number as their origin.
fn identified<B>(mut request: http::Request<B>) -> http::Request<B> {
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

impl Replica {
    async fn start(replica: u64, folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let connect: warren_coordinator::raft::Connect = Arc::new(move |_, address| {
            let origin = format!("http://replica-{replica}").parse().expect("an origin");
            let endpoint = Endpoint::from_shared(format!("http://{address}"));
            let channel = |one: Endpoint| one.origin(origin).connect_lazy();
            endpoint.map(channel).map_err(|error| error.to_string())
        });
        let (replica, folder, tuning) = (ReplicaId(replica), folder.to_owned(), Tuning::default());
        let options = Options { replica, folder, engine: Engine::Sled, connect, tuning };
        let consensus = Consensus::open(options).await.expect("it opens");
        let (stop, incoming) = (CancellationToken::new(), TcpListenerStream::new(listener));
        let router = Server::builder()
            .layer(MapRequestLayer::new(identified))
            .add_service(consensus.service(stop.clone()).into_service());
        let stopped = stop.clone();
        let server = tokio::spawn(async move {
            tokio::select! {
                served = router.serve_with_incoming(incoming) => served.expect("it serves"),
                () = stopped.cancelled() => {}
            }
        });
        Self { consensus, address, stop, server }
    }

    async fn stop(self) -> String {
        self.stop.cancel();
        self.server.await.expect("no panic");
        self.consensus.shutdown().await;
        self.address
    }
}

async fn apply(replicas: &BTreeMap<u64, Replica>, command: Command) {
    let envelope = Envelope {
        request: RequestId::new(Uuid::now_v7()),
        principal: Principal::Coordinator(ReplicaId(1)),
        at: clock::now(),
        if_revision: None,
        command,
    };
    wait_until("somebody leads", || async {
        let mut written = None;
        for replica in replicas.values() {
            if let Ok(answer) = replica.consensus.propose(envelope.clone()).await {
                written = Some(answer.expect("allowed"));
                break;
            }
        }
        written
    })
    .await;
}

/// Leaves what coordinator 1 of three has when all of them are gone; returns where the others were.
async fn survivor(state: &Path) -> Vec<String> {
    let cluster = half_made(state, "after the intent").await;
    let others: Vec<TempDir> = (0..2).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let mut replicas = BTreeMap::from([(1, Replica::start(1, state).await)]);
    for (number, folder) in (2..).zip(&others) {
        replicas.insert(number, Replica::start(number, folder.path()).await);
    }
    let members = replicas.iter().map(|(id, one)| (ReplicaId(*id), one.address.clone())).collect();
    replicas[&1].consensus.initialise(members).await.expect("a group");
    let name = "home".to_owned();
    apply(&replicas, Command::InitCluster(InitCluster { cluster, name, incarnation: 7 })).await;
    for (id, one) in &replicas {
        let replica = ReplicaId(*id);
        let (api_address, raft_address) = (format!("h{id}:7400"), one.address.clone());
        let set = SetReplica { replica, api_address, raft_address };
        apply(&replicas, Command::SetReplica(set)).await;
    }
    let client = ClientId::new(Uuid::now_v7());
    let name: warren_common::ClientName = "acme".parse().expect("a name");
    let labels = Default::default();
    apply(&replicas, Command::CreateClient(CreateClient { client, name: name.clone(), labels }))
        .await;
    wait_until("the survivor has it", || async {
        replicas[&1].consensus.local().client_named(&name).map(|_| ())
    })
    .await;
    let mut addresses = Vec::new();
    for (_, replica) in replicas {
        addresses.push(replica.stop().await);
    }
    addresses.split_off(1)
}

async fn recover(socket: &Path, name: &str) -> Result<pb::RecoverResponse, ApiError> {
    let channel = connect_local(socket).await.expect("the socket answers");
    let request = pb::RecoverRequest { cluster_name: name.to_owned() };
    let answer = BootstrapServiceClient::new(channel).recover(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| (&status).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_goes_on_alone_after_the_others_are_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    std::fs::create_dir_all(&state).expect("made");
    let others = survivor(&state).await;

    let coordinator = Coordinator::start(folder.path()).await;
    let refused = wait_until("the log is open", || async {
        let refused = recover(&coordinator.socket, "other").await.expect_err("another name");
        (refused.reason == "NOT_CONFIRMED").then_some(refused)
    });
    assert_eq!(refused.await.code, Code::FailedPrecondition);
    let alive = TcpListener::bind(&others[0]).await.expect("the port is free");
    let refused = recover(&coordinator.socket, "home").await.expect_err("another one listens");
    assert_eq!(refused.reason, "QUORUM_ANSWERS", "{refused}");
    drop(alive);
    let told = recover(&coordinator.socket, "home").await.expect("it goes on alone");
    assert_eq!((told.replica_id, told.dropped_replica_ids), (4, vec![2, 3]));
    assert_eq!(coordinator.ended().await, End::Again);

    for round in 0..2 {
        let coordinator = Coordinator::start(folder.path()).await;
        let mut admin = coordinator.admin("home").await;
        let cluster =
            admin.cluster.get_cluster(pb::GetClusterRequest::default()).await.expect("it leads");
        let cluster = cluster.into_inner();
        let ids: Vec<u64> = cluster.replicas.iter().map(|one| one.id).collect();
        assert_eq!((ids, cluster.leader_replica_id), (vec![4], 4), "round {round}");
        assert_eq!((cluster.incarnation, cluster.clients), (told.incarnation, 1));
        if round == 0 {
            let recovery = cluster.recovery.expect("it recovers");
            assert!(recovery.reason.contains("coordinator 1 went on alone"), "{recovery:?}");
            let end = pb::EndRecoveryRequest {
                request_id: Uuid::now_v7().to_string(),
                node: String::new(),
            };
            admin.cluster.end_recovery(end).await.expect("a person ends it");
            admin.create_client("new").await.expect("it writes");
            let delete = pb::DeleteClientRequest {
                mutation: crate::support::mutation(),
                client: "new".to_owned(),
            };
            admin.clients.delete_client(delete).await.expect("it writes");
        } else {
            assert!(cluster.recovery.is_none());
        }
        let refused = recover(&coordinator.socket, "home").await.expect_err("it has a quorum");
        assert_eq!(refused.reason, "QUORUM_ANSWERS");
        coordinator.stop().await;
    }
    let aside = Path::new(&told.set_aside);
    assert!(aside.join("log").exists(), "the old log is kept: {}", aside.display());
}
