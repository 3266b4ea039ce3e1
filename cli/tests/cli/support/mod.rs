//! What every test has: a coordinator of its own, a context for it, and the real command.

mod answers;
mod audit;
mod authority;
pub(crate) mod data;
pub(crate) mod fake;
mod nodes;
mod secrets;
pub(crate) mod streams;
mod users;
pub(crate) mod watch;

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, Streaming, service::InterceptorLayer};
use uuid::Uuid;
use warren_common::{ClusterId, ReplicaId};
use warren_daemon::{
    Shutdown, files,
    identity::{
        Authority, ClientCertificates, Connections, Folder, Key, PeerIdentity, Role, ServerTls,
        incoming, server_builder,
    },
};
use warren_proto::{
    ApiError, Method, REQUEST_ID,
    pb::admin::v1::{
        self as pb,
        audit_service_server::AuditServiceServer,
        bootstrap_service_server::{BootstrapService, BootstrapServiceServer},
        browser_service_server::BrowserServiceServer,
        client_service_server::ClientServiceServer,
        cluster_service_server::ClusterServiceServer,
        node_admin_service_server::NodeAdminServiceServer,
        secret_service_server::SecretServiceServer,
        session_service_server::SessionServiceServer,
        user_service_server::UserServiceServer,
        watch_service_server::WatchServiceServer,
        workspace_service_server::WorkspaceServiceServer,
    },
};

use authority::Issuing;
pub(crate) use fake::Fake;

/// No command of a test takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A cluster for one test.
pub(crate) struct Bench {
    pub(crate) fake: Fake,
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    cluster: ClusterId,
    coordinators: Arc<Issuing>,
    people: Arc<Issuing>,
    _runtime: Runtime,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    /// Starts a coordinator with the usual data and makes a working context for it.
    pub(crate) fn new() -> Self {
        let bench = Self::without_context();
        bench.install(&bench.people, false);
        bench
    }

    /// Starts a coordinator that nobody knows yet.
    pub(crate) fn without_context() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let cluster = ClusterId::new(Uuid::now_v7());
        let coordinators = Arc::new(Issuing::new(cluster, Authority::Coordinator));
        let people = Arc::new(Issuing::new(cluster, Authority::Person));
        let own = coordinators.credentials(&PeerIdentity::Coordinator(ReplicaId(1)));
        let tls = ServerTls::new(&own, &people.pem, ClientCertificates::Optional);
        let tls = Arc::new(tls.expect("TLS"));
        let folder = tempfile::tempdir().expect("a folder");
        let fake = Fake::default();
        data::fill(&mut fake.state(), &cluster.to_string());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = fake.clone();
        let listening = InterceptorLayer::new(move |request: Request<()>| {
            let id = request.metadata().get(REQUEST_ID).and_then(|id| id.to_str().ok());
            seen.state().requests.extend(id.map(str::to_owned));
            Ok(request)
        });
        let api = server_builder()
            .layer(listening)
            .add_service(ClusterServiceServer::new(fake.clone()))
            .add_service(ClientServiceServer::new(fake.clone()))
            .add_service(NodeAdminServiceServer::new(fake.clone()))
            .add_service(WorkspaceServiceServer::new(fake.clone()))
            .add_service(SessionServiceServer::new(fake.clone()))
            .add_service(BrowserServiceServer::new(fake.clone()))
            .add_service(WatchServiceServer::new(fake.clone()))
            .add_service(UserServiceServer::new(fake.clone()))
            .add_service(SecretServiceServer::new(fake.clone()))
            .add_service(AuditServiceServer::new(fake.clone()));
        let bootstrap = Bootstrap {
            fake: fake.clone(),
            people: people.clone(),
            trust: coordinators.pem.clone(),
            cluster,
            address,
        };
        let socket = folder.path().join("coordinator.sock");
        runtime.block_on(async {
            let connections = incoming(listener, tls, Connections::default(), &Shutdown::new());
            tokio::spawn(api.serve_with_incoming(connections));
            let local = UnixListenerStream::new(UnixListener::bind(socket).expect("a socket"));
            let service = BootstrapServiceServer::new(bootstrap);
            tokio::spawn(server_builder().add_service(service).serve_with_incoming(local));
        });
        Self { fake, folder, address, cluster, coordinators, people, _runtime: runtime }
    }

    /// Makes a context for ann, signed by `people`.
    pub(crate) fn install(&self, people: &Issuing, expired: bool) {
        let name = "ann".parse().expect("a name");
        let identity = PeerIdentity::Person { role: Role::Admin, name };
        let key = Key::generate().expect("a key");
        let chain = people.sign(&key.request().expect("a request"), &identity, expired);
        let folder = Folder::open(self.config().join("contexts/demo")).expect("a folder");
        folder.install(&key, &chain, &self.coordinators.pem).expect("installed");
        self.point_at(&self.address.to_string());
    }

    /// Makes a context signed by authorities of another cluster.
    pub(crate) fn install_foreign(&self) {
        self.install(&Issuing::new(self.cluster, Authority::Person), false);
    }

    /// Makes a context whose certificate ended in 2020.
    pub(crate) fn install_expired(&self) {
        self.install(&self.people, true);
    }

    /// Sets the coordinator's address in the context.
    pub(crate) fn point_at(&self, address: &str) {
        let text = format!(
            "current = \"demo\"\n[contexts.demo]\ncluster = \"demo\"\ncluster_id = \"{}\"\n\
             coordinators = [\"{address}\"]\nperson = \"ann\"\n",
            self.cluster
        );
        let path = self.config().join("config.toml");
        files::write_atomic(&path, text.as_bytes(), 0o600).expect("written");
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Returns the command with this test's contexts and nothing of the environment's.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WARREN_")) {
            command.env_remove(name);
        }
        command.args(arguments).env("WARREN_CONFIG_DIR", self.config()).env("NO_COLOR", "1");
        command
    }

    /// Runs the command without input.
    pub(crate) fn warren(&self, arguments: &[&str]) -> Run {
        self.warren_with(arguments, b"")
    }

    /// Runs the command with input, and kills it at the deadline.
    pub(crate) fn warren_with(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        // a command that reads nothing closes it
        let _ = stdin.write_all(input);
        drop(stdin);
        let mut stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            bytes
        });
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            bytes
        });
        let until = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                break status;
            }
            if Instant::now() > until {
                let _ = child.kill();
                panic!("warren {arguments:?} did not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let stdout = reader.join().expect("read");
        let stderr = errors.join().expect("read");
        Run::from(Output { status, stdout, stderr })
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Bootstrap {
    fake: Fake,
    people: Arc<Issuing>,
    trust: String,
    cluster: ClusterId,
    address: SocketAddr,
}

#[tonic::async_trait]
impl BootstrapService for Bootstrap {
    type JoinStream = tokio_stream::Empty<Result<pb::JoinResponse, Status>>;

    async fn join(
        &self,
        _: Request<pb::JoinRequest>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        Err(Status::unimplemented("the command line asks the coordinator's own to join"))
    }

    async fn init(
        &self,
        request: Request<pb::InitRequest>,
    ) -> Result<Response<pb::InitResponse>, Status> {
        let created = self.fake.calls(Method::BootstrapInit) == 0;
        drop(self.fake.enter(Method::BootstrapInit)?);
        let request = request.into_inner();
        let name = request.admin_name.parse().map_err(|_| Status::invalid_argument("name"))?;
        let identity = PeerIdentity::Person { role: Role::Admin, name };
        Ok(Response::new(pb::InitResponse {
            cluster_id: self.cluster.to_string(),
            created,
            certificate_pem: self.people.sign(&request.csr_pem, &identity, false),
            trust_pem: self.trust.clone(),
            coordinators: vec![self.address.to_string()],
            cluster_name: request.cluster_name,
        }))
    }

    async fn restore(
        &self,
        request: Request<Streaming<pb::RestoreRequest>>,
    ) -> Result<Response<pb::RestoreResponse>, Status> {
        let mut pieces = request.into_inner();
        let (mut begin, mut file) = (pb::RestoreBegin::default(), Vec::new());
        while let Some(piece) = pieces.message().await? {
            begin = piece.begin.unwrap_or(begin);
            file.extend_from_slice(&piece.chunk);
        }
        let restored = self.fake.calls(Method::BootstrapRestore) == 0;
        drop(self.fake.enter(Method::BootstrapRestore)?);
        let key: [u8; 32] = begin.key.as_ref().try_into().map_err(|_| Status::internal("key"))?;
        let opened = warren_daemon::backup::open(&mut &*file, |_| Ok(key.into()));
        let (header, _) = opened.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let name = begin.admin_name.parse().map_err(|_| Status::invalid_argument("name"))?;
        let identity = PeerIdentity::Person { role: Role::Admin, name };
        Ok(Response::new(pb::RestoreResponse {
            cluster_id: self.cluster.to_string(),
            cluster_name: header.name,
            incarnation: header.incarnation + 1,
            replica_id: header.last_replica + 1,
            certificate_pem: self.people.sign(&begin.csr_pem, &identity, false),
            trust_pem: self.trust.clone(),
            coordinators: vec![self.address.to_string()],
            recovery: Some(data::recovery()),
            restored,
        }))
    }

    async fn recover(
        &self,
        request: Request<pb::RecoverRequest>,
    ) -> Result<Response<pb::RecoverResponse>, Status> {
        drop(self.fake.enter(Method::BootstrapRecover)?);
        if request.into_inner().cluster_name != "demo" {
            let error = ApiError::new(Code::FailedPrecondition, "NOT_CONFIRMED", "another cluster");
            return Err(error.next("give the cluster's own name").into());
        }
        Ok(Response::new(pb::RecoverResponse {
            incarnation: 8,
            replica_id: 4,
            set_aside: "/var/lib/warren/coordinator/before-8".to_owned(),
            dropped_replica_ids: vec![2, 3],
        }))
    }
}
