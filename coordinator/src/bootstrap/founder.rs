//! Bringing a cluster of one up: from nothing, from half of it, or from a finished one.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use tokio::sync::{Mutex, watch};
use tracing::info;
use uuid::Uuid;
use warren_common::{ClusterId, ReplicaId, RequestId};
use warren_daemon::{Shutdown, clock, identity::Folder, metrics::Metrics};
use warren_model::{
    Command, Envelope, Principal, RefusalCode,
    command::{BeginIncarnation, InitCluster, SetReplica},
};

use super::{
    Admission, Begin, FoundError, Intent, Progress, Record, error::ELECTION, intent::log_is_gone,
    join, recover, restore,
};
use crate::{
    ca::{Ca, own_identity},
    config::Config,
    keystore::Keystore,
    member::{self, Members},
    raft::{Consensus, InitialiseError, Member},
    serve::{self, Listeners, Own},
};

/// The first coordinator of every cluster.
const FIRST: ReplicaId = ReplicaId(1);

/// Makes the cluster, once, and starts to serve it; clones share it.
#[derive(Clone)]
pub struct Founder(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) config: Config,
    /// Where API and Raft really listen.
    pub(super) bound: (SocketAddr, SocketAddr),
    metrics: Option<Metrics>,
    shutdown: Shutdown,
    pub(super) stage: Mutex<Stage>,
    /// The process is to start anew once it has ended.
    pub(super) again: AtomicBool,
    record: Record,
}

/// How far it has come in this process.
pub(super) struct Stage {
    /// Bound, and given away once there is something to serve.
    listeners: Option<Listeners>,
    pub(super) opened: Option<Opened>,
}

#[derive(Clone)]
pub(super) struct Opened {
    ca: Arc<Ca>,
    pub(super) consensus: Consensus,
    own: Arc<Own>,
    members: Members,
    /// How far it has joined.
    progress: watch::Receiver<Progress>,
}

/// A cluster that is served.
pub struct Found {
    /// Its authorities.
    pub ca: Arc<Ca>,
    /// Its state.
    pub consensus: Consensus,
    /// This coordinator.
    pub replica: ReplicaId,
    /// It was made by this call.
    pub created: bool,
}

impl Founder {
    /// Makes one that will serve on these listeners, seen by `metrics`.
    pub fn new(
        config: Config,
        listeners: Listeners,
        metrics: Option<Metrics>,
        shutdown: Shutdown,
    ) -> Self {
        let bound = (listeners.api.address, listeners.raft.address);
        let stage = Mutex::new(Stage { listeners: Some(listeners), opened: None });
        let record = Record::new(&config.state_dir);
        let again = AtomicBool::new(false);
        Self(Arc::new(Inner { config, bound, metrics, shutdown, stage, record, again }))
    }

    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }

    /// Brings up the cluster that the state folder holds, finished or half made; none where it
    /// holds none.
    ///
    /// # Errors
    /// It cannot be brought up.
    pub async fn resume(&self) -> Result<Option<Consensus>, FoundError> {
        let mut stage = self.0.stage.lock().await;
        recover::finish(self).await.map_err(FoundError::Recover)?;
        restore::tidy(self.state_dir());
        match Intent::load(self.state_dir())? {
            Some(intent) => {
                self.bring_up(&mut stage, &intent).await.map(|found| Some(found.consensus))
            }
            None => Ok(None),
        }
    }

    /// Makes the cluster of this name, or finds it made.
    ///
    /// # Errors
    /// There is one of another name, or it cannot be brought up.
    pub async fn found(
        &self,
        name: &str,
        api_address: Option<String>,
    ) -> Result<Found, FoundError> {
        // held over the intent too: two calls at once must not mint two clusters in one folder
        let mut stage = self.0.stage.lock().await;
        let intent = self.intent(name, api_address)?;
        let found = self.bring_up(&mut stage, &intent).await?;
        drop(stage);
        leading(&found.consensus).await?;
        let wanted = self.addresses(&intent);
        let known = found.consensus.local().replicas.get(&intent.replica).cloned();
        if known.is_none_or(|known| known.api_address != wanted.api_address) {
            propose(&found.consensus, intent.replica, Command::SetReplica(wanted)).await?;
        }
        Ok(found)
    }

    /// Returns the consensus handle once there is one.
    pub async fn consensus(&self) -> Option<Consensus> {
        self.0.stage.lock().await.opened.as_ref().map(|opened| opened.consensus.clone())
    }

    /// Finds the intent or writes a fresh one. The authorities come first: their cluster id holds
    /// where an earlier attempt made them and went no further.
    fn intent(&self, name: &str, api_address: Option<String>) -> Result<Intent, FoundError> {
        if let Some(mut intent) = Intent::load(self.state_dir())? {
            if intent.name != name {
                return Err(FoundError::OtherName { name: intent.name });
            }
            if api_address.is_some() && intent.api_address != api_address {
                intent.api_address = api_address;
                self.0.record.change(|kept| kept.api_address.clone_from(&intent.api_address))?;
            }
            return Ok(intent);
        }
        if restore::begun(self.state_dir()) {
            return Err(FoundError::Restoring(self.state_dir().display().to_string()));
        }
        let now = clock::now();
        let ca = self.authorities(ClusterId::new(Uuid::now_v7()))?;
        let incarnation = u32::try_from(now.0 / 1000).unwrap_or(u32::MAX);
        let intent =
            Intent { api_address, ..Intent::new(ca.cluster(), (name, incarnation), FIRST) };
        intent.store(self.state_dir())?;
        Ok(intent)
    }

    /// Brings up what the folder holds, or what `join` made of it, and tells how far it has joined.
    pub(super) async fn joined(
        &self,
        stage: &mut Stage,
        intent: &Intent,
    ) -> Result<watch::Receiver<Progress>, FoundError> {
        self.bring_up(stage, intent).await?;
        let opened = stage.opened.as_ref().map(|opened| opened.progress.clone());
        Ok(opened.unwrap_or_else(|| Progress::done(intent.replica).1))
    }

    pub(super) async fn bring_up(
        &self,
        stage: &mut Stage,
        intent: &Intent,
    ) -> Result<Found, FoundError> {
        let (told, progress) = match intent.joining {
            true => Progress::begun(intent.replica),
            false => Progress::done(intent.replica),
        };
        let opened = match &stage.opened {
            Some(opened) => opened.clone(),
            None => {
                let opened = self.open(intent, progress).await?;
                stage.opened.insert(opened).clone()
            }
        };
        let created = match intent.begin.is_some() || !intent.joining && intent.replica == FIRST {
            true => self.first_entries(intent, &opened).await?,
            false => false,
        };
        if let Some(listeners) = stage.listeners.take() {
            let admission = intent.joining.then(|| self.admission(intent, &opened, told));
            let started = serve::Start {
                keystore: opened.members.keystore().clone(),
                ca: opened.ca.clone(),
                consensus: opened.consensus.clone(),
                own: opened.own.clone(),
                members: opened.members.clone(),
                record: self.0.record.clone(),
                config: self.0.config.clone(),
                replica: self.addresses(intent),
                metrics: self.0.metrics.clone(),
            };
            let served = started.serve((listeners, admission), &self.0.shutdown).await;
            served.map_err(FoundError::Serve)?;
            info!(cluster = intent.name, replica = %intent.replica, "serving");
        }
        let Opened { ca, consensus, .. } = opened;
        Ok(Found { ca, consensus, replica: intent.replica, created })
    }

    fn admission(
        &self,
        intent: &Intent,
        opened: &Opened,
        told: watch::Sender<Progress>,
    ) -> Admission {
        Admission {
            consensus: opened.consensus.clone(),
            connect: opened.own.connect(),
            wanted: self.addresses(intent),
            record: self.0.record.clone(),
            told,
        }
    }

    async fn open(
        &self,
        intent: &Intent,
        progress: watch::Receiver<Progress>,
    ) -> Result<Opened, FoundError> {
        let replica = intent.replica;
        if intent.removed {
            return Err(FoundError::Removed(replica));
        }
        if intent.opened && log_is_gone(self.state_dir()) {
            let folder = self.state_dir().join("log").display().to_string();
            return Err(FoundError::Wiped { replica, folder });
        }
        let keystore = self.keystore()?;
        let folder = Folder::open(self.state_dir().join("identity"));
        let folder = folder.map_err(FoundError::Identity)?;
        let ca = match intent.opened || intent.joining {
            // made elsewhere or long ago: others would never trust fresh ones
            true => {
                let ca = join::authorities(&keystore, &folder, &intent.peers).await;
                ca.map_err(|error| FoundError::Keys(Box::new(error)))?
            }
            false => self.authorities(intent.cluster)?,
        };
        let ca = Arc::new(ca);
        let identity = own_identity(&ca, &folder, replica, clock::now());
        let identity = identity.map_err(FoundError::Ca)?;
        // of a join that was killed once this coordinator had its intent
        folder.end_request().map_err(FoundError::Identity)?;
        let own = Own::new(folder, &identity, &ca).map_err(FoundError::Identity)?;
        let own = Arc::new(own);
        let options = own.raft_options(&self.0.config, replica);
        let consensus = Consensus::open(options).await.map_err(FoundError::Open)?;
        if !intent.opened {
            // before it can vote
            if let Err(error) = self.0.record.change(|intent| intent.opened = true) {
                consensus.shutdown().await;
                return Err(error.into());
            }
        }
        let members = Members::new(member::Parts {
            replica,
            consensus: consensus.clone(),
            keystore,
            connect: own.connect(),
            state_dir: self.state_dir().to_owned(),
            engine: self.0.config.engine.to_string(),
        });
        Ok(Opened { ca, consensus, own, members, progress })
    }

    /// Makes the Raft group and writes what every cluster begins with; true where it did.
    async fn first_entries(&self, intent: &Intent, opened: &Opened) -> Result<bool, FoundError> {
        let consensus = &opened.consensus;
        let others = |member: &Member| member.replica != intent.replica;
        let grown = consensus.status().members.iter().any(others);
        // others came since: the incarnation has begun, and one of them may lead
        if let Some(begin) = intent.begin.as_ref().filter(|_| !grown) {
            leading(consensus).await?;
            self.begin_incarnation(intent, begin, consensus).await?;
        }
        let state = consensus.local();
        if state.cluster.is_some() && state.replicas.contains_key(&intent.replica) {
            return Ok(false);
        }
        // they may lead, and this state is only behind
        if grown {
            return Ok(false);
        }
        let addresses = self.addresses(intent);
        let members = [(intent.replica, addresses.raft_address.clone())].into();
        match consensus.initialise(members).await {
            Ok(()) | Err(InitialiseError::Already) => {}
            Err(error @ (InitialiseError::NotAMember | InitialiseError::Stopped { .. })) => {
                return Err(FoundError::Initialise(error));
            }
        }
        leading(consensus).await?;
        let init = Command::InitCluster(InitCluster {
            cluster: intent.cluster,
            name: intent.name.clone(),
            incarnation: intent.incarnation,
        });
        let created = propose(consensus, intent.replica, init).await?;
        propose(consensus, intent.replica, Command::SetReplica(addresses)).await?;
        Ok(created)
    }

    /// Begins the incarnation of a restored cluster, before anybody is served; once it has begun,
    /// nothing happens.
    async fn begin_incarnation(
        &self,
        intent: &Intent,
        begin: &Begin,
        consensus: &Consensus,
    ) -> Result<(), FoundError> {
        let known = consensus.local().cluster.map_or(0, |cluster| cluster.incarnation);
        if known >= intent.incarnation {
            return Ok(());
        }
        let command = Command::BeginIncarnation(BeginIncarnation {
            incarnation: intent.incarnation,
            replica: self.addresses(intent),
            reason: begin.reason.clone(),
        });
        propose(consensus, intent.replica, command).await.map(drop)
    }

    /// Where others are told to come: as configured, else as `init` was told, else where it
    /// listens.
    pub(super) fn addresses(&self, intent: &Intent) -> SetReplica {
        let Inner { config, bound: (api, raft), .. } = &*self.0;
        let api_address = config.advertise.api.clone().or_else(|| intent.api_address.clone());
        let raft_address = config.advertise.raft.clone().or_else(|| intent.raft_address.clone());
        // where people are told to come says how others reach this machine
        let host = api_address.as_deref().and_then(|address| Some(address.rsplit_once(':')?.0));
        let raft_address = raft_address.unwrap_or_else(|| match host {
            Some(host) if raft.ip().is_unspecified() => format!("{host}:{}", raft.port()),
            Some(_) | None => reachable(*raft),
        });
        SetReplica {
            replica: intent.replica,
            api_address: api_address.unwrap_or_else(|| reachable(*api)),
            raft_address,
        }
    }

    fn authorities(&self, minted: ClusterId) -> Result<Ca, FoundError> {
        Ca::load_or_create(&self.keystore()?, minted, clock::now()).map_err(FoundError::Ca)
    }

    fn keystore(&self) -> Result<Keystore, FoundError> {
        Keystore::open(&self.state_dir().join("keys")).map_err(FoundError::Keystore)
    }

    pub(super) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(super) fn state_dir(&self) -> &Path {
        &self.0.config.state_dir
    }
}

/// An address that can be dialled on this machine at least.
fn reachable(bound: SocketAddr) -> String {
    if !bound.ip().is_unspecified() {
        return bound.to_string();
    }
    let ip = match bound {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, bound.port()).to_string()
}

/// Waits until this coordinator leads.
pub(super) async fn leading(consensus: &Consensus) -> Result<(), FoundError> {
    let mut leadership = consensus.leadership();
    let leading = leadership.wait_for(|now| now.leading);
    match tokio::time::timeout(ELECTION, leading).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(FoundError::NotLeading),
    }
}

/// Proposes one of the first entries; false where an earlier attempt had written it.
async fn propose(
    consensus: &Consensus,
    replica: ReplicaId,
    command: Command,
) -> Result<bool, FoundError> {
    let envelope = Envelope {
        request: RequestId::new(Uuid::now_v7()),
        principal: Principal::Coordinator(replica),
        at: clock::now(),
        if_revision: None,
        command,
    };
    match consensus.propose(envelope).await.map_err(FoundError::Propose)? {
        Ok(_) => Ok(true),
        Err(refusal) if refusal.code == RefusalCode::AlreadyInitialised => Ok(false),
        Err(refusal) => Err(FoundError::Refused(refusal)),
    }
}
