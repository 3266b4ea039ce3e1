//! A coordinator in this process, its administrator, and a node that only speaks the protocol.

pub mod node;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};
use tonic::transport::Channel;
use uuid::Uuid;
use warren_common::{ClusterId, ReplicaId};
use warren_coordinator::{
    bootstrap::Intent,
    ca::{Ca, own_identity},
    config::{Config, RawConfig},
    keystore::Keystore,
    raft::Consensus,
    run::{End, RunError, run},
    serve::Own,
};
use warren_daemon::{
    Shutdown, clock,
    identity::{ClientTls, Credentials, Folder, Key, connect, connect_local},
};
use warren_proto::{
    error::ApiError,
    pb::admin::v1::{
        self as pb, bootstrap_service_client::BootstrapServiceClient,
        client_service_client::ClientServiceClient, cluster_service_client::ClusterServiceClient,
        node_admin_service_client::NodeAdminServiceClient,
        session_service_client::SessionServiceClient,
        workspace_service_client::WorkspaceServiceClient,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until the answer is there.
pub async fn wait_until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A configuration with ports and folders of its own.
pub fn config(folder: &Path) -> Config {
    let text = format!(
        "[listen]\napi = \"127.0.0.1:0\"\nraft = \"127.0.0.1:0\"\nmetrics = \"\"\n\
         [paths]\nstate = {:?}\nsocket = {:?}\n",
        folder.join("state"),
        folder.join("run/coordinator.sock")
    );
    let raw: RawConfig = toml::from_str(&text).expect("a configuration");
    Config::try_from(raw).expect("a valid one")
}

/// Leaves what `init` leaves when it is killed there; returns the cluster's id.
pub async fn half_made(state: &Path, killed: &str) -> ClusterId {
    let now = clock::now();
    let keys = Keystore::open(&state.join("keys")).expect("a folder");
    let minted = ClusterId::new(Uuid::now_v7());
    let ca = Ca::load_or_create(&keys, minted, now).expect("authorities");
    if killed == "after the authorities" {
        return minted;
    }
    let intent = Intent::new(minted, ("home", 7), ReplicaId(1));
    intent.store(state).expect("written");
    if killed == "after the intent" {
        return minted;
    }
    let folder = Folder::open(state.join("identity")).expect("a folder");
    let identity = own_identity(&ca, &folder, intent.replica, now).expect("an identity");
    let own = Own::new(folder, &identity, &ca).expect("TLS");
    let config = Config { state_dir: state.to_owned(), ..config(state) };
    let consensus = Consensus::open(own.raft_options(&config, intent.replica)).await;
    let consensus = consensus.expect("a log");
    let members = [(intent.replica, "127.0.0.1:1".to_owned())].into();
    consensus.initialise(members).await.expect("a group");
    consensus.shutdown().await;
    minted
}

/// One coordinator on ports of its own.
pub struct Coordinator {
    pub socket: PathBuf,
    shutdown: Shutdown,
    running: JoinHandle<Result<End, RunError>>,
}

impl Coordinator {
    pub async fn start(folder: &Path) -> Self {
        let config = config(folder);
        let socket = config.socket.clone();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(run(config, None, shutdown.clone()));
        wait_until("the local socket", || async { connect_local(&socket).await.ok() }).await;
        Self { socket, shutdown, running }
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> End {
        let ended = tokio::time::timeout(PATIENCE, self.running).await.expect("it ends");
        ended.expect("no panic").expect("a clean end")
    }

    pub async fn stop(self) {
        self.shutdown.request();
        self.running.await.expect("no panic").expect("a clean end");
    }

    pub async fn init(&self, name: &str) -> Result<(pb::InitResponse, Key), ApiError> {
        let channel = connect_local(&self.socket).await.expect("the socket answers");
        let key = Key::generate().expect("a key");
        let request = pb::InitRequest {
            cluster_name: name.to_owned(),
            admin_name: "ada".to_owned(),
            csr_pem: key.request().expect("a request"),
            api_address: String::new(),
        };
        let answer = BootstrapServiceClient::new(channel).init(request).await;
        answer.map(|answer| (answer.into_inner(), key)).map_err(|status| (&status).into())
    }

    pub async fn admin(&self, name: &str) -> Admin {
        let (answer, key) = self.init(name).await.expect("a cluster");
        Admin::new(
            channel(&key, &answer.certificate_pem, &answer.trust_pem, &answer.coordinators).await,
        )
    }
}

pub async fn channel(key: &Key, chain: &str, trust: &str, addresses: &[String]) -> Channel {
    let credentials = Credentials::new(&key.to_pem(), chain).expect("credentials");
    let tls = ClientTls::new(&credentials, trust).expect("TLS").into();
    connect(&tls, addresses).await.expect("the API answers")
}

/// What an administrator calls.
pub struct Admin {
    pub channel: Channel,
    pub cluster: ClusterServiceClient<Channel>,
    pub clients: ClientServiceClient<Channel>,
    pub nodes: NodeAdminServiceClient<Channel>,
    pub workspaces: WorkspaceServiceClient<Channel>,
    pub sessions: SessionServiceClient<Channel>,
}

pub fn mutation() -> Option<pb::Mutation> {
    Some(pb::Mutation { request_id: Uuid::now_v7().to_string(), if_revision: None })
}

impl Admin {
    pub fn new(channel: Channel) -> Self {
        Self {
            cluster: ClusterServiceClient::new(channel.clone()),
            clients: ClientServiceClient::new(channel.clone()),
            nodes: NodeAdminServiceClient::new(channel.clone()),
            workspaces: WorkspaceServiceClient::new(channel.clone()),
            sessions: SessionServiceClient::new(channel.clone()),
            channel,
        }
    }

    pub async fn create_client(&mut self, name: &str) -> Result<pb::Client, ApiError> {
        let request = pb::CreateClientRequest {
            mutation: mutation(),
            name: name.to_owned(),
            labels: Default::default(),
        };
        let answer = self.clients.create_client(request).await;
        let answer = answer.map_err(|status| ApiError::from(&status))?;
        Ok(answer.into_inner().client.expect("the client"))
    }

    pub async fn token(&mut self) -> String {
        let request = pb::CreateNodeTokenRequest { mutation: mutation(), node_name: String::new() };
        self.nodes.create_node_token(request).await.expect("a token").into_inner().token
    }

    pub async fn create(
        &mut self,
        request: pb::CreateWorkspaceRequest,
    ) -> Result<pb::CreateWorkspaceResponse, ApiError> {
        let answer = self.workspaces.create_workspace(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| (&status).into())
    }

    pub async fn workspace(&mut self, name: &str) -> Option<pb::Workspace> {
        let request = pb::GetWorkspaceRequest { workspace: name.to_owned(), read: None };
        let answer = self.workspaces.get_workspace(request).await.ok()?;
        answer.into_inner().workspace
    }

    pub async fn wait_for_phase(&self, name: &str, phase: pb::Phase) -> pb::Workspace {
        wait_until(phase.as_str_name(), || async {
            let found = Self::new(self.channel.clone()).workspace(name).await?;
            (found.phase() == phase).then_some(found)
        })
        .await
    }
}

/// A small workspace of `acme`.
pub fn web(name: &str) -> pb::CreateWorkspaceRequest {
    pb::CreateWorkspaceRequest {
        mutation: mutation(),
        client: "acme".to_owned(),
        name: name.to_owned(),
        resources: Some(pb::ResourceRequest {
            memory_bytes: Some(1 << 30),
            disk_bytes: Some(1 << 30),
            ..Default::default()
        }),
        ..Default::default()
    }
}
