//! Serving a cluster: which services stand on which listener, and what runs beside them.

mod listen;
mod own;

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tonic::transport::server::Router;
use tower::layer::util::{Identity as NoLayer, Stack};
use tracing::{error, info, warn};
use uuid::Uuid;
use warren_common::{Limits, RequestId};
use warren_daemon::{
    Shutdown, clock,
    identity::{Connections, Peer, PeerIdentity, ServerTls, incoming, server_builder},
    metrics::Metrics,
    telemetry::Chain,
};
use warren_model::{
    ClusterState, Command, Envelope, Principal,
    command::{Availability, SetReplica},
};
use warren_proto::{
    DESCRIPTORS,
    pb::{
        admin::v1::{
            audit_service_server::AuditServiceServer, browser_service_server::BrowserServiceServer,
            client_service_server::ClientServiceServer,
            cluster_service_server::ClusterServiceServer,
            node_admin_service_server::NodeAdminServiceServer,
            secret_service_server::SecretServiceServer,
            session_service_server::SessionServiceServer,
            template_service_server::TemplateServiceServer, user_service_server::UserServiceServer,
            watch_service_server::WatchServiceServer,
            workspace_service_server::WorkspaceServiceServer,
        },
        node::v1::{
            enroll_service_server::EnrollServiceServer, node_service_server::NodeServiceServer,
        },
    },
};

use crate::{
    api::{Api, Parts},
    authz::{Authz, Standing, principal},
    bootstrap::{Admission, Record},
    ca::Ca,
    config::Config,
    controller::Controller,
    hub::Hub,
    install::{Files, Install},
    keystore::Keystore,
    live::{Live, Reading},
    measure::{calls::Calls, probe::Probe},
    member::Members,
    raft::Consensus,
};

pub use listen::{Addresses, BindError, Bound, Listeners, publish};
pub use own::Own;

/// How long open calls are given once the end was asked for.
const GRACE: Duration = Duration::from_secs(3);

/// Between two looks at how nodes are heard from.
const LOOK: Duration = Duration::from_millis(500);

/// How long the streams of a revoked certificate are given to say so.
const FAREWELL: Duration = Duration::from_millis(200);

/// A cluster that is ready to be served.
pub struct Start {
    /// What Raft must not hold.
    pub keystore: Keystore,
    /// Its authorities.
    pub ca: Arc<Ca>,
    /// Its state.
    pub consensus: Consensus,
    /// This coordinator's certificate in use.
    pub own: Arc<Own>,
    /// This coordinator among the others.
    pub members: Members,
    /// Who this coordinator is, on disk.
    pub record: Record,
    /// How workspaces are made.
    pub config: Config,
    /// This coordinator and where others reach it.
    pub replica: SetReplica,
    /// What is counted; none in tests of other things.
    pub metrics: Option<Metrics>,
}

/// What stands in front of every service.
type Front = Stack<Authz, Stack<Calls, NoLayer>>;

/// Why a cluster cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
    /// The descriptors for reflection are damaged.
    #[error("the API's descriptors cannot be served")]
    Reflection(#[source] tonic_reflection::server::Error),
}

macro_rules! bounded {
    ($server:ident, $api:expr) => {
        $server::new($api.clone())
            .max_decoding_message_size(Limits::MESSAGE_BYTES)
            .max_encoding_message_size(Limits::MESSAGE_BYTES)
    };
}

impl Start {
    /// Serves Raft and API until shutdown, plans while leading, and keeps certificates fresh. A
    /// coordinator that joins serves the API once it votes: until then it knows too little to say
    /// who may come in.
    ///
    /// # Errors
    /// Nothing is served then, and the listeners are gone.
    pub async fn serve(
        self,
        (listeners, admission): (Listeners, Option<Admission>),
        shutdown: &Shutdown,
    ) -> Result<(), ServeError> {
        let connections = Connections::default();
        // told when somebody may have lost their standing: streams look again then
        let doubts = watch::Sender::new(());
        let router = server_builder()
            .layer(Calls { mint: false })
            .layer(self.authz(doubts.subscribe()))
            .add_service(self.consensus.service(shutdown.child_token()).into_service())
            .add_service(self.members.service().into_service());
        let listener = listeners.raft.take().await.ok_or(ServeError::Stopping)?;
        run("raft", router, (listener, self.own.raft.clone(), connections.clone()), shutdown);
        self.keep_record(shutdown);
        let Some(admission) = admission else {
            return self.serve_api((listeners.api, connections, doubts), shutdown).await;
        };
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            let admitted = tokio::select! {
                admitted = admission.run() => admitted,
                () = stop.requested() => return,
            };
            let served = match admitted {
                true => self.serve_api((listeners.api, connections, doubts), &stop).await,
                false => return stop.request(),
            };
            if let Err(error) = served {
                error!(error = %Chain(&error), "the API cannot be served");
                stop.request();
            }
        });
        Ok(())
    }

    fn keep_record(&self, shutdown: &Shutdown) {
        let record = self.record.clone();
        let peers = record.clone().keep_peers(self.replica.replica, self.consensus.clone());
        shutdown.spawn(until(shutdown.clone(), peers));
        let removed = record.end_when_removed(self.members.clone(), shutdown.clone());
        shutdown.spawn(until(shutdown.clone(), removed));
    }

    async fn serve_api(
        self,
        (bound, connections, doubts): (Bound, Connections, watch::Sender<()>),
        shutdown: &Shutdown,
    ) -> Result<(), ServeError> {
        let live = Arc::new(Live::new(Reading::now));
        let api = self.api(live.clone(), shutdown);
        let router = self.api_router(&api, doubts.subscribe()).await?;
        let listener = bound.take().await.ok_or(ServeError::Stopping)?;
        self.measure(&api, &connections);
        run("api", router, (listener, self.own.api.clone(), connections.clone()), shutdown);

        let id = self.replica.replica;
        self.members.hear(live.clone());
        let opinions = self.members.clone().keep_opinions(live.clone());
        shutdown.spawn(until(shutdown.clone(), opinions));
        let looking = keep_looking(self.consensus.clone(), live.clone());
        shutdown.spawn(until(shutdown.clone(), looking));
        let controller = Controller { replica: id, consensus: self.consensus.clone(), live };
        shutdown.spawn(controller.run(shutdown.clone()));
        shutdown.spawn(self.own.clone().keep_fresh(self.ca.clone(), id, shutdown.clone()));
        let consensus = self.consensus.clone();
        shutdown.spawn(until(shutdown.clone(), self.members.clone().keep_secrets()));
        shutdown.spawn(until(shutdown.clone(), self.members.clone().keep_shredding()));
        shutdown.spawn(until(shutdown.clone(), self.members.keep_group()));
        shutdown
            .spawn(until(shutdown.clone(), cut_revoked(consensus.clone(), doubts, connections)));
        let recorded = self.own.clone().keep_recorded(consensus.clone());
        shutdown.spawn(until(shutdown.clone(), recorded));
        shutdown.spawn(until(shutdown.clone(), announce(consensus.clone(), self.replica)));
        shutdown.spawn(until(shutdown.clone(), watch_storage(consensus, shutdown.clone())));
        Ok(())
    }

    fn api(&self, live: Arc<Live>, shutdown: &Shutdown) -> Api {
        Api::new(Parts {
            replica: self.replica.replica,
            consensus: self.consensus.clone(),
            live,
            hub: Arc::new(Hub::default()),
            keystore: self.keystore.clone(),
            ca: self.ca.clone(),
            members: self.members.clone(),
            template: self.config.template.clone(),
            installer: Some(self.installer()),
            watches: Arc::default(),
            shutdown: shutdown.clone(),
        })
    }

    fn installer(&self) -> Arc<Files> {
        let own = self.own.clone();
        let pin = move || own.public_key_pin();
        Arc::new(Files::new(&self.config.install, &self.replica.api_address, pin))
    }

    /// Lets scrapes see what is served.
    fn measure(&self, api: &Api, connections: &Connections) {
        let Some(metrics) = &self.metrics else { return };
        let probe = Arc::new(Probe {
            consensus: self.consensus.clone(),
            live: api.parts().live.clone(),
            hub: api.parts().hub.clone(),
            connections: connections.clone(),
            folder: self.config.state_dir.clone(),
        });
        let asked = probe.clone();
        metrics.ready_when(move || asked.ready());
        metrics.probe(move || probe.sample());
    }

    fn authz(&self, doubts: watch::Receiver<()>) -> Authz {
        let consensus = self.consensus.clone();
        Authz::new(move |peer| standing(&consensus.local(), peer)).looking_again(doubts)
    }

    async fn api_router(
        &self,
        api: &Api,
        doubts: watch::Receiver<()>,
    ) -> Result<Router<Front>, ServeError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<ClusterServiceServer<Api>>().await;
        health.set_serving::<ClientServiceServer<Api>>().await;
        health.set_serving::<NodeAdminServiceServer<Api>>().await;
        health.set_serving::<WorkspaceServiceServer<Api>>().await;
        health.set_serving::<SessionServiceServer<Api>>().await;
        health.set_serving::<BrowserServiceServer<Api>>().await;
        health.set_serving::<TemplateServiceServer<Api>>().await;
        health.set_serving::<SecretServiceServer<Api>>().await;
        health.set_serving::<WatchServiceServer<Api>>().await;
        health.set_serving::<UserServiceServer<Api>>().await;
        health.set_serving::<AuditServiceServer<Api>>().await;
        health.set_serving::<EnrollServiceServer<Api>>().await;
        health.set_serving::<NodeServiceServer<Api>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .build_v1()
            .map_err(ServeError::Reflection)?;
        let files = api.parts().installer.clone();
        let install = files.map(|files| Install::new(files, self.consensus.clone()));
        // one document names every workspace of a node, each with its setup script
        let nodes = NodeServiceServer::new(api.clone())
            .max_decoding_message_size(Limits::MESSAGE_BYTES)
            .max_encoding_message_size(Limits::NODE_SPEC_BYTES);
        Ok(server_builder()
            .layer(Calls { mint: true })
            .layer(self.authz(doubts))
            .add_service(health_service)
            .add_service(reflection)
            .add_service(bounded!(ClusterServiceServer, api))
            .add_service(bounded!(ClientServiceServer, api))
            .add_service(bounded!(NodeAdminServiceServer, api))
            .add_service(bounded!(WorkspaceServiceServer, api))
            .add_service(bounded!(SessionServiceServer, api))
            .add_service(bounded!(BrowserServiceServer, api))
            .add_service(bounded!(TemplateServiceServer, api))
            .add_service(bounded!(SecretServiceServer, api))
            .add_service(bounded!(WatchServiceServer, api))
            .add_service(bounded!(UserServiceServer, api))
            .add_service(bounded!(AuditServiceServer, api))
            .add_service(bounded!(EnrollServiceServer, api))
            .add_service(nodes)
            .add_optional_service(install))
    }
}

type On = (TcpListener, Arc<ServerTls>, Connections);

/// Serves one listener. At the end, open calls get [`GRACE`]; then their connections are cut.
fn run(
    name: &'static str,
    router: Router<Front>,
    (listener, tls, connections): On,
    shutdown: &Shutdown,
) {
    let accepted = incoming(listener, tls, connections.clone(), shutdown);
    let (asked, late) = (shutdown.clone(), shutdown.clone());
    shutdown.spawn(async move {
        let serving =
            router.serve_with_incoming_shutdown(accepted, async move { asked.requested().await });
        let late = async {
            late.requested().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => if let Err(error) = served {
                error!(name, %error, "a listener is not served any more");
            },
            () = late => {
                let cut = connections.count();
                connections.close_all();
                warn!(name, cut, "connections did not end in time");
            }
        }
    });
}

async fn until(shutdown: Shutdown, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        () = shutdown.requested() => {}
    }
}

/// Looks at how nodes are heard from, for ever: falling silent makes no noise.
async fn keep_looking(consensus: Consensus, live: Arc<Live>) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        live.look(&consensus.local());
    }
}

/// How a peer stands whose certificate has not expired.
fn standing(state: &ClusterState, peer: &Peer) -> Standing {
    let revoked = match &peer.identity {
        PeerIdentity::Node(node) => {
            let node = state.nodes.get(node);
            if node.is_some_and(|node| node.availability == Availability::Retired) {
                let cluster = state.cluster.as_ref();
                let incarnation = cluster.map_or(0, |cluster| cluster.incarnation);
                return Standing::Removed { incarnation };
            }
            false
        }
        PeerIdentity::Coordinator(replica) => state.was_removed(*replica),
        PeerIdentity::Person { .. } => false,
    };
    match revoked || state.refuses(&principal(&peer.identity), &peer.serial) {
        true => Standing::Revoked,
        false => Standing::Good,
    }
}

/// Ends the streams of those who were let in before they were condemned, and then cuts their
/// connections: a stream that is read says why within [`FAREWELL`], and no new call gets in.
async fn cut_revoked(consensus: Consensus, doubts: watch::Sender<()>, connections: Connections) {
    let mut changes = consensus.changes();
    let mut known = ClusterState::default();
    while changes.changed().await.is_ok() {
        let state = consensus.local();
        let same = state.revoked.ptr_eq(&known.revoked)
            && state.people.ptr_eq(&known.people)
            && state.nodes.ptr_eq(&known.nodes)
            && state.replicas.ptr_eq(&known.replicas);
        if same {
            continue;
        }
        doubts.send_replace(());
        tokio::time::sleep(FAREWELL).await;
        let cut = connections.close_where(|peer| standing(&state, peer) != Standing::Good);
        if cut > 0 {
            info!(cut, "connections of revoked certificates were cut");
        }
        known = state;
    }
}

/// Tells the cluster where this coordinator is reached, where that has changed.
async fn announce(consensus: Consensus, wanted: SetReplica) {
    let mut leadership = consensus.leadership();
    while leadership.wait_for(|now| now.leader.is_some()).await.is_ok() {
        match tell(&consensus, &wanted).await {
            Ok(true) => return info!(api = wanted.api_address, "this coordinator has moved"),
            Ok(false) => return,
            Err(error) => {
                warn!(error, "this coordinator's address is not known yet");
                tokio::time::sleep(GRACE).await;
            }
        }
    }
}

/// Tells the addresses where the cluster knows others, or none; false where it knew.
async fn tell(consensus: &Consensus, wanted: &SetReplica) -> Result<bool, String> {
    let state = consensus.linearizable().await.map_err(|error| error.to_string())?;
    let known = state.replicas.get(&wanted.replica);
    let same = known.is_some_and(|known| {
        known.api_address == wanted.api_address && known.raft_address == wanted.raft_address
    });
    if same || state.was_removed(wanted.replica) {
        return Ok(false);
    }
    let envelope = Envelope {
        request: RequestId::new(Uuid::now_v7()),
        principal: Principal::Coordinator(wanted.replica),
        at: clock::now(),
        if_revision: None,
        command: Command::SetReplica(wanted.clone()),
    };
    match consensus.propose(envelope).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(refusal)) => {
            warn!(%refusal, "this coordinator's address is refused");
            Ok(false)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Ends the process when storage fails: it acknowledges nothing any more.
async fn watch_storage(consensus: Consensus, shutdown: Shutdown) {
    let mut failure = consensus.failure();
    if let Ok(lost) = failure.wait_for(Option::is_some).await {
        if let Some(lost) = lost.as_ref() {
            error!(reason = %lost.reason, "storage failed; stopping");
        }
        shutdown.request();
    }
}
