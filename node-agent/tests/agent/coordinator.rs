//! A coordinator for tests: real TLS, no Raft, no mind of its own. The test says what a node's
//! document is and sees what the node reports.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use warren_common::{NodeId, Timestamp, WorkspaceId, spec::NodeSpec, status::WorkspaceObserved};
use warren_daemon::{
    Secret, Shutdown,
    identity::{ClientCertificates, Connections, ServerTls, incoming, pin_of, server_builder},
    token::{JoinToken, TokenRole},
};
use warren_proto::{
    ApiError,
    error::reason,
    pb::{
        inside::v1 as inside,
        node::v1::{
            self as pb, control_request, control_response,
            enroll_service_server::{EnrollService, EnrollServiceServer},
            node_service_server::{NodeService, NodeServiceServer},
            status_response, tunnel_request,
        },
    },
};

use crate::{
    authority::{Authority, FRESH, Life},
    tunnel::Tunnel,
};

/// Everything in these tests happens within this time, or the test fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The two authorities of the test's cluster.
pub(crate) struct Cluster {
    pub(crate) id: warren_common::ClusterId,
    pub(crate) coordinators: Authority,
    pub(crate) nodes: Authority,
}

/// What a coordinator knows and does.
pub(crate) struct State {
    cluster: Arc<Cluster>,
    /// The address of the leader; ours where we lead.
    pub(crate) leader: Mutex<Option<String>>,
    pub(crate) addresses: Mutex<Vec<String>>,
    /// Nodes by the token that let them in.
    enrolled: Mutex<HashMap<String, NodeId>>,
    /// Enrolments that are refused after the node was made.
    pub(crate) lost_answers: Mutex<u32>,
    /// The life of certificates given to nodes.
    pub(crate) life: Mutex<Life>,
    pub(crate) renewed: watch::Sender<u32>,
    epoch: Mutex<u64>,
    pub(crate) spec: watch::Sender<NodeSpec>,
    control: Mutex<Option<mpsc::Sender<Result<pb::ControlResponse, Status>>>>,
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) renewals: watch::Sender<u64>,
    pub(crate) registered: watch::Sender<u64>,
    pub(crate) seen: watch::Sender<BTreeMap<WorkspaceId, WorkspaceObserved>>,
    pub(crate) reports: watch::Sender<u64>,
    /// What the node's engine holds, as it last told.
    pub(crate) images: watch::Sender<Option<pb::NodeImages>>,
    /// Reports that are dropped without a word, as a follower does that knows no registration yet.
    pub(crate) deaf: Mutex<u32>,
    /// What workspaces get: the mark, and the value of `token`; none to be had where it is empty.
    pub(crate) secret: Mutex<(u64, String)>,
    /// Whoever asks for them gets no answer while this is set.
    pub(crate) silent: watch::Sender<bool>,
    /// Nodes that were taken out of the cluster.
    removed: Mutex<BTreeSet<NodeId>>,
    status: Mutex<Option<mpsc::Sender<Result<pb::StatusResponse, Status>>>>,
    tunnels: Mutex<HashMap<Vec<u8>, oneshot::Sender<Tunnel>>>,
}

/// A coordinator that listens.
pub(crate) struct Coordinator {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    connections: Connections,
    shutdown: Shutdown,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.shutdown.request();
        self.connections.close_where(|_| true);
    }
}

impl Coordinator {
    pub(crate) async fn start(cluster: &Arc<Cluster>, replica: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            cluster: Arc::clone(cluster),
            leader: Mutex::new(Some(address.to_string())),
            addresses: Mutex::new(vec![address.to_string()]),
            enrolled: Mutex::default(),
            lost_answers: Mutex::default(),
            life: Mutex::new(FRESH),
            renewed: watch::Sender::default(),
            epoch: Mutex::default(),
            spec: watch::Sender::default(),
            control: Mutex::default(),
            applied: watch::Sender::default(),
            renewals: watch::Sender::default(),
            registered: watch::Sender::default(),
            seen: watch::Sender::default(),
            reports: watch::Sender::default(),
            images: watch::Sender::default(),
            deaf: Mutex::default(),
            secret: Mutex::default(),
            silent: watch::Sender::default(),
            removed: Mutex::default(),
            status: Mutex::default(),
            tunnels: Mutex::default(),
        });
        let shutdown = Shutdown::new();
        let trust = format!("{}{}", cluster.coordinators.pem, cluster.nodes.pem);
        let own = cluster.coordinators.coordinator(replica);
        let tls = ServerTls::new(&own, &trust, ClientCertificates::Optional).expect("TLS");
        let connections = Connections::default();
        let accepted = incoming(listener, Arc::new(tls), connections.clone(), &shutdown);
        let served = Served { state: Arc::clone(&state), address: address.to_string() };
        let server = server_builder()
            .add_service(EnrollServiceServer::from_arc(Arc::new(served.clone())))
            .add_service(NodeServiceServer::from_arc(Arc::new(served)));
        let stop = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.requested() => {}
                served = server.serve_with_incoming(accepted) => served.expect("served"),
            }
        });
        Self { state, address, connections, shutdown }
    }

    /// Returns a token that lets a node in.
    pub(crate) fn token(&self, role: TokenRole, expires: Timestamp) -> String {
        let token = JoinToken {
            role,
            id: "0199a0b2-7f00-7000-8000-0000000000aa".parse().expect("an id"),
            secret: Secret::new([7; 32]),
            pin: pin_of(&self.state.cluster.coordinators.pem).expect("one certificate"),
            expires,
            addresses: vec![self.address.to_string()],
        };
        token.to_text().expect("it fits").expose().clone()
    }

    /// Makes a new revision of the node's document and sends it.
    pub(crate) async fn order(&self, how: impl FnOnce(&mut NodeSpec)) {
        let mut how = Some(how);
        self.state.spec.send_modify(|spec| {
            spec.revision = spec.revision.next();
            if let Some(how) = how.take() {
                how(spec);
            }
        });
        let spec = self.state.spec.borrow().clone();
        self.send(spec).await;
    }

    /// Sends a document as it is; where the node is not connected it gets the newest later.
    pub(crate) async fn send(&self, spec: NodeSpec) {
        let control = self.state.control.lock().expect("lock").clone();
        if let Some(control) = control {
            let message = control_response::Kind::Spec(spec.into());
            // a node that went away asks again
            let _ = control.send(Ok(pb::ControlResponse { kind: Some(message) })).await;
        }
    }

    /// Waits until a workspace is reported like this.
    pub(crate) async fn sees(
        &self,
        workspace: WorkspaceId,
        what: impl Fn(&WorkspaceObserved) -> bool,
    ) -> WorkspaceObserved {
        let mut seen = self.state.seen.subscribe();
        let waiting = seen.wait_for(|all| all.get(&workspace).is_some_and(&what));
        match timeout(SOON, waiting).await {
            Ok(found) => found.expect("open").get(&workspace).cloned().expect("there"),
            Err(_) => {
                panic!("never seen; last: {:#?}", self.state.seen.borrow().get(&workspace))
            }
        }
    }

    /// Takes a node out of the cluster, and cuts it off.
    pub(crate) fn remove(&self, node: NodeId) {
        self.state.removed.lock().expect("lock").insert(node);
        self.connections.close_where(|_| true);
    }

    /// Lets every node in again, as a cluster does that was restored to before their removal.
    pub(crate) fn let_in_again(&self) {
        self.state.removed.lock().expect("lock").clear();
    }

    /// Asks the node for a stream and waits for it to dial back.
    pub(crate) async fn tunnel(
        &self,
        workspace: WorkspaceId,
        generation: u64,
        open: inside::open::What,
    ) -> Tunnel {
        let (given, waiting) = oneshot::channel();
        let tunnel_id = rand_id();
        self.state.tunnels.lock().expect("lock").insert(tunnel_id.clone(), given);
        let request = pb::OpenTunnel {
            tunnel_id: tunnel_id.into(),
            workspace_id: workspace.to_string(),
            generation,
            open: Some(inside::Open { what: Some(open) }),
        };
        let status = self.state.status.lock().expect("lock").clone().expect("a status stream");
        let kind = Some(status_response::Kind::OpenTunnel(request));
        status.send(Ok(pb::StatusResponse { kind })).await.expect("connected");
        timeout(SOON, waiting).await.expect("in time").expect("dialled back")
    }
}

fn rand_id() -> Vec<u8> {
    uuid::Uuid::new_v4().as_bytes().to_vec()
}

#[derive(Clone)]
struct Served {
    state: Arc<State>,
    address: String,
}

#[tonic::async_trait]
impl EnrollService for Served {
    async fn enroll_coordinator(
        &self,
        _: Request<pb::EnrollCoordinatorRequest>,
    ) -> Result<Response<pb::EnrollCoordinatorResponse>, Status> {
        Err(Status::unimplemented("no node asks for it"))
    }

    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let request = request.into_inner();
        let fresh = NodeId::new(uuid::Uuid::now_v7());
        let node = {
            let mut enrolled = self.state.enrolled.lock().expect("lock");
            let key = rcgen::CertificateSigningRequestParams::from_pem(&request.csr_pem)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            // as the coordinator does: the same token with the same key is the same node
            let key = format!("{}{:?}", request.token, key.public_key);
            *enrolled.entry(key).or_insert(fresh)
        };
        {
            let mut lost = self.state.lost_answers.lock().expect("lock");
            if *lost > 0 {
                *lost -= 1;
                return Err(Status::unavailable("the answer was lost"));
            }
        }
        let cluster = &self.state.cluster;
        let life = *self.state.life.lock().expect("lock");
        Ok(Response::new(pb::EnrollResponse {
            cluster_id: cluster.id.to_string(),
            node_id: node.to_string(),
            node_name: request.node_name,
            certificate_pem: cluster.nodes.sign_node(&request.csr_pem, node, life),
            trust_pem: cluster.coordinators.pem.clone(),
            coordinators: self.state.addresses.lock().expect("lock").clone(),
        }))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let node = node_of(&request)?;
        let cluster = &self.state.cluster;
        let certificate_pem = cluster.nodes.sign_node(&request.get_ref().csr_pem, node, FRESH);
        self.state.renewed.send_modify(|count| *count += 1);
        let trust_pem = cluster.coordinators.pem.clone();
        Ok(Response::new(pb::RenewResponse { certificate_pem, trust_pem }))
    }
}

/// Who calls, by the certificate.
fn node_of<T>(request: &Request<T>) -> Result<NodeId, Status> {
    use warren_daemon::identity::{Connection, PeerIdentity};
    match request.extensions().get::<Connection>() {
        Some(Connection::Remote { peer: Some(peer), .. }) => match peer.identity {
            PeerIdentity::Node(node) => Ok(node),
            PeerIdentity::Coordinator(_) | PeerIdentity::Person { .. } => {
                Err(Status::permission_denied("not a node"))
            }
        },
        Some(Connection::Remote { peer: None, .. } | Connection::Local { .. }) | None => {
            Err(Status::unauthenticated("no certificate"))
        }
    }
}

#[tonic::async_trait]
impl NodeService for Served {
    async fn fetch_secrets(
        &self,
        request: Request<pb::FetchSecretsRequest>,
    ) -> Result<Response<pb::FetchSecretsResponse>, Status> {
        node_of(&request)?;
        let mut silent = self.state.silent.subscribe();
        silent.wait_for(|silent| !silent).await.map_err(|_| Status::unavailable("stopping"))?;
        let (mark, value) = self.state.secret.lock().expect("lock").clone();
        if value.is_empty() {
            return Err(Status::unavailable("not to be had"));
        }
        let value = pb::SecretValue { name: "token".to_owned(), value: value.into() };
        Ok(Response::new(pb::FetchSecretsResponse { secrets: mark, values: vec![value] }))
    }

    type StatusStream = Answers<pb::StatusResponse>;
    type ControlStream = Answers<pb::ControlResponse>;
    type TunnelStream = Answers<pb::TunnelResponse>;

    async fn status(
        &self,
        request: Request<Streaming<pb::StatusRequest>>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        node_of(&request)?;
        let mut reports = request.into_inner();
        let (answers, stream) = mpsc::channel(16);
        *self.state.status.lock().expect("lock") = Some(answers.clone());
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            let mut last = 0;
            while let Ok(Some(report)) = reports.message().await {
                assert!(report.sequence > last, "sequences rise");
                last = report.sequence;
                if state.drops_a_report() {
                    continue;
                }
                let observed: Vec<WorkspaceObserved> = report
                    .workspaces
                    .into_iter()
                    .map(|one| one.try_into().expect("a workspace"))
                    .collect();
                state.seen.send_modify(|seen| {
                    if report.full {
                        seen.clear();
                    }
                    seen.extend(observed.into_iter().map(|one| (one.workspace, one)));
                });
                state.images.send_replace(report.usage.and_then(|usage| usage.images));
                state.reports.send_modify(|count| *count += 1);
                let kind = Some(status_response::Kind::Acknowledged(last));
                if answers.send(Ok(pb::StatusResponse { kind })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn control(
        &self,
        request: Request<Streaming<pb::ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let node = node_of(&request)?;
        if self.state.removed.lock().expect("lock").contains(&node) {
            let (code, why) = (tonic::Code::Unauthenticated, "the node was removed");
            let removed = ApiError::new(code, reason::NODE_REMOVED, why);
            return Err(removed.incarnation(self.state.spec.borrow().incarnation).into());
        }
        let leader = self.state.leader.lock().expect("lock").clone();
        if leader.as_ref() != Some(&self.address) {
            let error = ApiError::new(
                tonic::Code::FailedPrecondition,
                reason::NOT_LEADER,
                "another coordinator leads",
            );
            return Err(match leader {
                Some(leader) => error.leader(leader).into(),
                None => error.into(),
            });
        }
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(16);
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let answer = match request.kind {
                    Some(control_request::Kind::Register(register)) => {
                        assert!(register.facts.is_some(), "facts come with the registration");
                        *state.control.lock().expect("lock") = Some(answers.clone());
                        state.register(&answers).await;
                        continue;
                    }
                    Some(control_request::Kind::AppliedRevision(revision)) => {
                        state.applied.send_replace(revision);
                        continue;
                    }
                    Some(control_request::Kind::RenewLease(renewal)) => {
                        state.renewals.send_replace(renewal.sequence);
                        control_response::Kind::LeaseConfirmed(pb::LeaseConfirmed {
                            sequence: renewal.sequence,
                            sent_monotonic_ms: renewal.sent_monotonic_ms,
                        })
                    }
                    Some(control_request::Kind::Facts(_) | control_request::Kind::Held(_))
                    | None => {
                        continue;
                    }
                };
                let answer = pb::ControlResponse { kind: Some(answer) };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn tunnel(
        &self,
        request: Request<Streaming<pb::TunnelRequest>>,
    ) -> Result<Response<Self::TunnelStream>, Status> {
        node_of(&request)?;
        let mut incoming = request.into_inner();
        let Some(tunnel_request::Kind::Hello(hello)) =
            incoming.message().await?.and_then(|message| message.kind)
        else {
            return Err(Status::invalid_argument("the first message is no hello"));
        };
        let waiting = self.state.tunnels.lock().expect("lock").remove(&hello.tunnel_id[..]);
        let waiting = waiting.ok_or_else(|| Status::not_found("nobody asked for this tunnel"))?;
        let (outgoing, stream) = mpsc::channel(16);
        let tunnel = Tunnel { incoming, outgoing };
        waiting.send(tunnel).map_err(|_| Status::cancelled("the viewer went away"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl State {
    fn drops_a_report(&self) -> bool {
        let mut deaf = self.deaf.lock().expect("lock");
        let dropped = *deaf > 0;
        *deaf = deaf.saturating_sub(1);
        dropped
    }

    async fn register(&self, answers: &mpsc::Sender<Result<pb::ControlResponse, Status>>) {
        let node_epoch = {
            let mut epoch = self.epoch.lock().expect("lock");
            *epoch += 1;
            *epoch
        };
        let coordinators = self.addresses.lock().expect("lock").clone();
        let registered = pb::Registered { node_epoch, coordinators, term: 1, tell_held: false };
        let spec = self.spec.borrow().clone();
        for kind in [
            control_response::Kind::Registered(registered),
            control_response::Kind::Spec(spec.into()),
        ] {
            let answer = pb::ControlResponse { kind: Some(kind) };
            // the node may have gone again
            let _ = answers.send(Ok(answer)).await;
        }
        self.registered.send_replace(node_epoch);
    }
}
