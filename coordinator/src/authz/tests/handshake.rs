//! Real TLS on loopback: every way in, and every way to be refused, with what its caller reads.

use std::{
    collections::BTreeSet,
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use tokio::{io::AsyncReadExt, net::TcpListener, net::TcpStream, time::timeout};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use warren_common::Limits;
use warren_daemon::{
    Shutdown, clock,
    identity::{
        ClientCertificates, ClientTls, Connections, Credentials, Key, ServerTls, Trouble, connect,
        connect_lazy, connect_local, explain, incoming, incoming_local, server_builder,
    },
};
use warren_proto::pb::{
    admin::v1::{
        DeleteWorkspaceRequest, InitRequest, bootstrap_service_client::BootstrapServiceClient,
        workspace_service_client::WorkspaceServiceClient,
    },
    node::v1::{EnrollRequest, enroll_service_client::EnrollServiceClient},
};

use super::*;
use crate::{
    ca::{Ca, SigningRequest},
    keystore::Keystore,
};

/// A cluster's authorities and one listener with the layer and a health service.
pub(super) struct Site {
    pub(super) folder: tempfile::TempDir,
    pub(super) ca: Ca,
    tls: Arc<ServerTls>,
    address: String,
    connections: Connections,
    pub(super) revoked: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    shutdown: Shutdown,
}

pub(super) fn authorities(last: u8) -> (tempfile::TempDir, Ca) {
    let folder = tempfile::tempdir().expect("a folder");
    let keystore = Keystore::open(&folder.path().join("keystore")).expect("opened");
    let cluster = format!("0199a0b2-7f00-7000-8000-0000000000{last:02x}");
    let long_ago = Timestamp(clock::now().0 - 400 * 24 * 3600 * 1000);
    let cluster = cluster.parse().expect("an id");
    (folder, Ca::load_or_create(&keystore, cluster, long_ago).expect("made"))
}

pub(super) fn credentials(ca: &Ca, identity: &PeerIdentity, at: Timestamp) -> Credentials {
    let key = Key::generate().expect("a key");
    let request = SigningRequest::from_pem(&key.request().expect("made")).expect("accepted");
    let issued = ca.issue(&request, identity, at).expect("issued");
    Credentials::new(&key.to_pem(), &issued.chain_pem).expect("a pair")
}

pub(super) fn admin() -> PeerIdentity {
    PeerIdentity::Person { role: Role::Admin, name: "ada".parse().expect("a name") }
}

pub(super) fn node() -> PeerIdentity {
    PeerIdentity::Node("0199a0b2-7f00-7000-8000-0000000000ff".parse().expect("an id"))
}

pub(super) fn coordinator() -> PeerIdentity {
    PeerIdentity::Coordinator(ReplicaId(1))
}

/// A listener's certificate age, whom it trusts, and whether it needs certificates.
pub(super) struct Shape {
    pub(super) issued: Timestamp,
    pub(super) raft: bool,
}

impl Shape {
    pub(super) fn api() -> Self {
        Self { issued: clock::now(), raft: false }
    }
}

impl Site {
    pub(super) async fn start(shape: Shape) -> Self {
        let (folder, ca) = authorities(1);
        let own = credentials(&ca, &coordinator(), shape.issued);
        let (trust, clients) = match shape.raft {
            true => (ca.coordinator_trust().to_owned(), ClientCertificates::Required),
            false => (ca.api_trust(), ClientCertificates::Optional),
        };
        let tls = Arc::new(ServerTls::new(&own, &trust, clients).expect("usable"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let (connections, shutdown) = (Connections::default(), Shutdown::new());
        let stream = incoming(listener, tls.clone(), connections.clone(), &shutdown);
        let revoked = Arc::new(Mutex::new(BTreeSet::<Vec<u8>>::new()));
        let list = revoked.clone();
        let layer =
            Authz::new(move |peer| revoked_if(list.lock().expect("whole").contains(&peer.serial)));
        let (_, health) = tonic_health::server::health_reporter();
        let ended = shutdown.clone();
        shutdown.spawn(async move {
            let server = server_builder().layer(layer).add_service(health);
            let served =
                server.serve_with_incoming_shutdown(stream, async move { ended.requested().await });
            served.await.expect("served");
        });
        Self { folder, ca, tls, address, connections, revoked, shutdown }
    }

    fn client(&self, identity: &PeerIdentity) -> Arc<ClientTls> {
        let credentials = credentials(&self.ca, identity, clock::now());
        Arc::new(ClientTls::new(&credentials, self.ca.coordinator_trust()).expect("usable"))
    }

    pub(super) async fn channel(&self, tls: &Arc<ClientTls>) -> Result<Channel, Trouble> {
        connect(tls, std::slice::from_ref(&self.address)).await
    }

    /// Connects and makes one call that everybody with a certificate may make.
    pub(super) async fn call(&self, tls: &Arc<ClientTls>) -> Result<(), Failure> {
        health(self.channel(tls).await.map_err(Failure::Trouble)?).await
    }
}

/// How a call failed, as a caller tells it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Trouble(Trouble),
    Status(Code, String, String),
}

impl Failure {
    pub(super) fn of(status: &Status) -> Self {
        match explain(status) {
            Some(trouble) => Self::Trouble(trouble),
            None => {
                let error = ApiError::from(status);
                Self::Status(error.code, error.reason.into_owned(), error.message)
            }
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Trouble(Trouble::Unreachable(text) | Trouble::Tls(text))
            | Self::Status(_, _, text) => text,
            Self::Trouble(Trouble::Refused(text) | Trouble::Distrusted(text)) => text,
        }
    }
}

pub(super) async fn health(channel: Channel) -> Result<(), Failure> {
    let request = HealthCheckRequest { service: String::new() };
    let mut client = HealthClient::new(channel);
    let call = timeout(Limits::CALL_TIMEOUT, client.check(request));
    call.await.expect("in time").map(drop).map_err(|status| Failure::of(&status))
}

#[tokio::test]
async fn everybody_of_the_cluster_is_let_in() {
    let site = Site::start(Shape::api()).await;
    for identity in [admin(), node(), coordinator()] {
        assert_eq!(site.call(&site.client(&identity)).await, Ok(()), "{identity}");
    }
    assert!(site.shutdown.join(Duration::from_secs(10)).await, "everything ends");
}

#[tokio::test]
async fn each_refusal_is_told_to_its_caller_in_its_own_words() {
    let site = Site::start(Shape::api()).await;
    let trust = site.ca.coordinator_trust();

    let past = Timestamp(clock::now().0 - 100 * 24 * 3600 * 1000);
    let expired = credentials(&site.ca, &admin(), past);
    let expired = Arc::new(ClientTls::new(&expired, trust).expect("usable"));
    let expired = site.call(&expired).await.expect_err("expired");
    assert!(expired.text().ends_with("has expired"), "{expired:?}");

    let (_folder, other) = authorities(2);
    let foreign = credentials(&other, &admin(), clock::now());
    let foreign = Arc::new(ClientTls::new(&foreign, trust).expect("usable"));
    let foreign = site.call(&foreign).await.expect_err("foreign");
    assert!(foreign.text().contains("not issued by this cluster"), "{foreign:?}");
    assert!(matches!(foreign, Failure::Trouble(Trouble::Refused(_))));

    let ours = credentials(&site.ca, &admin(), clock::now());
    let astray = Arc::new(ClientTls::new(&ours, other.coordinator_trust()).expect("usable"));
    let astray = site.call(&astray).await.expect_err("another cluster's coordinator");
    assert!(matches!(astray, Failure::Trouble(Trouble::Distrusted(_))), "{astray:?}");

    let channel = site.channel(&site.client(&node())).await.expect("connected");
    let mut workspaces = WorkspaceServiceClient::new(channel);
    let status = workspaces.delete_workspace(DeleteWorkspaceRequest::default()).await;
    let role = Failure::of(&status.expect_err("a node deletes nothing"));
    assert!(matches!(&role, Failure::Status(Code::PermissionDenied, reason, _)
        if reason == reason::NOT_PERMITTED));
    assert!(role.text().ends_with("may not call WorkspaceService/DeleteWorkspace"), "{role:?}");

    let credentials = credentials(&site.ca, &admin(), clock::now());
    site.revoked.lock().expect("whole").insert(credentials.peer().serial.clone());
    let revoked = Arc::new(ClientTls::new(&credentials, trust).expect("usable"));
    let revoked = site.call(&revoked).await.expect_err("revoked");
    assert!(revoked.text().ends_with("was revoked"), "{revoked:?}");

    let pinned = ClientTls::pinned(site.ca.pin().expect("a pin")).expect("usable");
    let nobody = site.call(&Arc::new(pinned)).await.expect_err("nobody");
    assert!(nobody.text().contains("needs a certificate"), "{nobody:?}");

    let texts: BTreeSet<&str> = [&expired, &foreign, &astray, &role, &revoked, &nobody]
        .map(Failure::text)
        .into_iter()
        .collect();
    assert_eq!(texts.len(), 6, "each its own: {texts:#?}");
}

#[tokio::test]
async fn a_token_holder_reaches_enrolment_of_the_pinned_cluster_only() {
    let site = Site::start(Shape::api()).await;
    let pinned = Arc::new(ClientTls::pinned(site.ca.pin().expect("a pin")).expect("usable"));
    let channel = site.channel(&pinned).await.expect("the pin is right");
    let enrol = EnrollServiceClient::new(channel).enroll(EnrollRequest::default()).await;
    assert_eq!(enrol.expect_err("not served here").code(), Code::Unimplemented);

    let (_folder, other) = authorities(2);
    let astray = Arc::new(ClientTls::pinned(other.pin().expect("a pin")).expect("usable"));
    let trouble = site.channel(&astray).await.map(drop).expect_err("another cluster");
    assert!(trouble.to_string().contains("than the join token"), "{trouble}");
}

#[tokio::test]
async fn a_pin_does_not_excuse_a_leaf_that_is_no_coordinators() {
    let (_folder, ca) = authorities(1);
    // a node's chain, with its authority pinned: right pin, wrong kind of leaf
    let own = credentials(&ca, &node(), clock::now());
    let server = ServerTls::new(&own, &ca.api_trust(), ClientCertificates::Optional);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    let shutdown = Shutdown::new();
    let connections = Connections::default();
    let _stream = incoming(listener, Arc::new(server.expect("usable")), connections, &shutdown);
    let trust = ca.api_trust();
    let authority = trust.split_inclusive("-----END CERTIFICATE-----\n").nth(1).expect("three");
    let pin = warren_daemon::identity::pin_of(authority).expect("a pin");
    let tls = Arc::new(ClientTls::pinned(pin).expect("usable"));
    let trouble = connect(&tls, &[address]).await.map(drop).expect_err("no coordinator");
    assert!(trouble.to_string().contains("is not a coordinator's"), "{trouble}");
}

#[tokio::test]
async fn a_coordinator_with_an_expired_certificate_is_not_trusted() {
    let past = Timestamp(clock::now().0 - 100 * 24 * 3600 * 1000);
    let site = Site::start(Shape { issued: past, raft: false }).await;
    let failure = site.call(&site.client(&admin())).await.expect_err("expired");
    assert!(failure.text().starts_with("coordinator not trusted"), "{failure:?}");
    assert!(failure.text().contains("expired"), "{failure:?}");
}

#[tokio::test]
async fn the_raft_listener_lets_coordinators_in_and_nobody_else() {
    let site = Site::start(Shape { issued: clock::now(), raft: true }).await;
    assert_eq!(site.call(&site.client(&coordinator())).await, Ok(()));
    for identity in [node(), admin()] {
        let failure = site.call(&site.client(&identity)).await.expect_err("refused");
        assert!(matches!(failure, Failure::Trouble(Trouble::Refused(_))), "{failure:?}");
    }
    let pinned = Arc::new(ClientTls::pinned(site.ca.pin().expect("a pin")).expect("usable"));
    let failure = site.call(&pinned).await.expect_err("refused");
    assert!(failure.text().contains("none was shown"), "{failure:?}");
}

#[tokio::test]
async fn a_live_connection_is_cut_when_its_peer_is_condemned() {
    let site = Site::start(Shape::api()).await;
    let channel = site.channel(&site.client(&node())).await.expect("connected");
    let other = site.channel(&site.client(&admin())).await.expect("connected");
    health(channel.clone()).await.expect("before");
    health(other.clone()).await.expect("before");
    assert_eq!(site.connections.count(), 2);
    assert_eq!(site.connections.close_where(|peer| peer.identity == node()), 1);
    let gone = async {
        while site.connections.count() > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.expect("it is cut");
    health(other).await.expect("the other one stays");
}

#[tokio::test]
async fn new_authorities_hold_for_new_connections_without_a_restart() {
    let site = Site::start(Shape::api()).await;
    let tls = site.client(&admin());
    let before = site.channel(&tls).await.expect("connected");
    health(before.clone()).await.expect("let in");
    let own = credentials(&site.ca, &coordinator(), clock::now());
    site.tls.reload(&own, site.ca.coordinator_trust()).expect("usable");
    let failure = site.call(&tls).await.expect_err("people are not trusted any more");
    assert!(matches!(failure, Failure::Trouble(Trouble::Refused(_))), "{failure:?}");
    health(before).await.expect("the old connection stays");
    assert!(site.tls.reload(&own, "").is_err(), "nobody to trust is refused");
    site.tls.reload(&own, &site.ca.api_trust()).expect("usable");
    assert_eq!(site.call(&tls).await, Ok(()));
}

#[tokio::test]
async fn silent_connections_do_not_hold_up_others() {
    let site = Site::start(Shape::api()).await;
    let mut silent = Vec::new();
    for _ in 0..Limits::HANDSHAKES / 2 {
        silent.push(TcpStream::connect(&site.address).await.expect("connected"));
    }
    let call = timeout(Duration::from_secs(5), async { site.call(&site.client(&admin())).await });
    assert_eq!(call.await.expect("in time"), Ok(()));
    let mut byte = [0];
    let closed = timeout(Limits::HANDSHAKE_TIMEOUT * 2, silent[0].read(&mut byte)).await;
    assert!(matches!(closed.expect("given up"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn addresses_are_tried_in_order_and_each_failure_is_named() {
    let site = Site::start(Shape::api()).await;
    let free = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let dead = free.local_addr().expect("an address").to_string();
    drop(free);
    let tls = site.client(&admin());
    let both = [dead.clone(), site.address.clone()];
    health(connect(&tls, &both).await.expect("the second answers")).await.expect("let in");
    let trouble = connect(&tls, std::slice::from_ref(&dead)).await.map(drop).expect_err("dead");
    assert!(trouble.to_string().starts_with("no coordinator answers: "), "{trouble}");
    assert!(trouble.to_string().contains(&dead), "{trouble}");
    let failure = health(connect_lazy(&tls, &[dead])).await.expect_err("dead");
    assert!(matches!(failure, Failure::Trouble(Trouble::Unreachable(_))), "{failure:?}");
    let trouble = connect(&tls, &[]).await.map(drop).expect_err("nowhere");
    assert_eq!(trouble.to_string(), "no address of a coordinator is known");
}

#[tokio::test]
async fn the_local_socket_serves_its_own_calls_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.sock");
    let shutdown = Shutdown::new();
    let stream = incoming_local(&path, &shutdown).expect("bound");
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = asked.clone();
    let layer = Authz::new(move |_| revoked_if(counter.fetch_add(1, Ordering::Relaxed) > 0));
    let (_, service) = tonic_health::server::health_reporter();
    let ended = shutdown.clone();
    shutdown.spawn(async move {
        let server = server_builder().layer(layer).add_service(service);
        let end = async move { ended.requested().await };
        server.serve_with_incoming_shutdown(stream, end).await.expect("served");
    });
    let channel = connect_local(&path).await.expect("connected");
    health(channel.clone()).await.expect("healthy");
    let init = BootstrapServiceClient::new(channel.clone()).init(InitRequest::default()).await;
    assert_eq!(init.expect_err("let through, not served here").code(), Code::Unimplemented);
    let mut workspaces = WorkspaceServiceClient::new(channel);
    let status = workspaces.delete_workspace(DeleteWorkspaceRequest::default()).await;
    assert_eq!(ApiError::from(&status.expect_err("refused")).reason, reason::NOT_PERMITTED);
    assert_eq!(asked.load(Ordering::Relaxed), 0, "no certificate, no deny-list");
    assert!(shutdown.join(Duration::from_secs(10)).await);
    assert!(connect_local(&path).await.is_err(), "the socket is gone");
}

#[tokio::test]
async fn paths_that_are_no_rpc_are_answered_as_such() {
    let site = Site::start(Shape::api()).await;
    let channel = site.channel(&site.client(&admin())).await.expect("connected");
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("ready");
    let path = http::uri::PathAndQuery::from_static("/warren.admin.v1.ClusterService/Explode");
    let codec = tonic_prost::ProstCodec::<InitRequest, InitRequest>::default();
    let answer = grpc.unary(Request::new(InitRequest::default()), path, codec).await;
    let error = ApiError::from(&answer.expect_err("no such RPC"));
    assert_eq!((error.code, error.reason.as_ref()), (Code::Unimplemented, reason::UNKNOWN_METHOD));
}
