//! Puts the parts together and keeps them going.
//!
//! Containers are not part of it: they run before the agent comes and after it goes.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rustix::fs::FlockOperation;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use warren_common::{BootId, ClusterId, Limits, NodeId, status::NodeFacts};
use warren_daemon::{
    Shutdown,
    files::{self, FileError},
    identity::{ClientTls, Identity, IdentityError},
    metrics::{self, Metrics},
    telemetry::Chain,
};
use warren_proto::pb::node::v1::NodeUsage;

use crate::{
    board::Board,
    config::{Config, EngineKind},
    container::subnet::Subnet,
    engine::{Engine, docker::DockerEngine, fake::FakeEngine},
    facts::Probe,
    gauge::Gauge,
    hooks,
    host::{
        self,
        cgroup::{
            Layout,
            owner::{self, Owner, OwnerError},
        },
        levels::Levels,
    },
    inside::{Doors, PeerCheck},
    join::{self, JoinError, Membership},
    lease::Lease,
    ledger::{Ledger, LedgerError},
    measure::{self, Counted},
    network::{self, NoWalls, Walls},
    reconciler::{self, Place},
    removed,
    seat::{self, Seat, SeatError},
    secrets::{Kind, Vaults},
    tunnel::Tunnels,
    uplink::{self, Coordinators, CoordinatorsError, Links, SecretSource, UplinkView},
    volume::{
        VolumeError, VolumeStore,
        btrfs::{BtrfsStore, Site},
        choose::{self, Choice, HOMES},
        fake::FakeStore,
        plain::PlainStore,
    },
};

const LOCK: &str = "agent.lock";
const ADDRESSES: &str = "addresses.json";
const FAKE: &str = "fake-engine";
const FAKE_CGROUPS: &str = "cgroups";
/// Documents that may wait for the reconciler.
const QUEUE: usize = 16;

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Not a node.
    #[error("this machine is no node yet; run: warren-node-agent join TOKEN")]
    NotJoined,
    /// What it is cannot be read.
    #[error("the node's membership cannot be read")]
    Join(#[source] JoinError),
    /// Another agent runs.
    #[error("another node agent runs with the state folder {}", .0.display())]
    Taken(PathBuf),
    /// Another agent has this one's cgroups.
    #[error(transparent)]
    Owner(OwnerError),
    /// A folder or file.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the state folder.
    #[error("the node's state cannot be kept")]
    File(#[source] FileError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Homes would be left behind.
    #[error("the configuration does not fit the homes of this node")]
    Volumes(#[source] VolumeError),
    /// The addresses.
    #[error(transparent)]
    Coordinators(#[from] CoordinatorsError),
    /// The claims.
    #[error(transparent)]
    Seat(SeatError),
    /// Certificate or trust.
    #[error("the node's identity cannot be used")]
    Identity(#[source] IdentityError),
}

/// An agent that runs.
pub struct Agent {
    /// What it is.
    pub membership: Membership,
    /// How it stands with the coordinators.
    pub uplink: UplinkView,
    /// What it sees.
    pub board: Arc<Board>,
    /// Where metrics are served; none where they are not.
    pub metrics: Option<SocketAddr>,
    ledger: Ledger,
    tunnels: Tunnels,
    shutdown: Shutdown,
    _locks: (File, Owner),
}

#[derive(Serialize)]
struct Addresses {
    metrics: Option<SocketAddr>,
}

impl Agent {
    /// Starts everything; it runs until `shutdown`.
    ///
    /// # Errors
    /// Something it cannot do without is missing or damaged. Docker is not such a thing: without
    /// it the node says so and takes nothing.
    pub async fn start(
        config: Config,
        counted: Option<Metrics>,
        shutdown: Shutdown,
    ) -> Result<Self, AgentError> {
        let state = config.state_dir.clone();
        let lock = prepare(&state)?;
        let (membership, identity) =
            join::membership(&state).map_err(AgentError::Join)?.ok_or(AgentError::NotJoined)?;
        let parents =
            host::cgroup_parents(config.engine.cgroup_parent.as_deref(), membership.name.as_str());
        let locks = (lock, own(&config, &parents).await?);
        let ledger = Ledger::open(&state)?;
        let hands = Hands::open(&config, (membership.cluster, membership.node))?;
        let doors = doors(config.runtime_of(&membership.name), hands.check)?;
        let board = Arc::new(Board::default());
        let seat = Seat::open(&state, hands.machine.clone()).map_err(AgentError::Seat)?;
        let lease = Arc::new(Lease::open(&state, hands.boot));
        // until it is let in, another agent may be the one that acts: what runs is only looked at
        let held = watch::Sender::new(Some("it has not registered yet".to_owned()));
        let ends = (Arc::clone(&hands.engine), Arc::clone(&doors));
        let tunnels = Tunnels::new(ends.0, ends.1, ledger.clone(), shutdown.child_token());
        let (changes, changed) = mpsc::channel(QUEUE);
        let both = (Arc::clone(&hands.engine), Arc::clone(&hands.volumes));
        let coordinators = Coordinators::open(&state, &config.coordinators)?;
        let walls = walls(&config, (&ledger, &board, &coordinators), &shutdown).await;
        let view = walls.view();
        let probe = Probe::new(both, ledger.clone(), config.clone(), (hands.boot, view));
        let (facts, usage) = probed(probe, &shutdown).await;
        let cgroups = (Arc::clone(&hands.levels), parents);
        let removed = removed::start(Arc::clone(&hands.engine), cgroups, &shutdown);
        let links = Arc::new(Links::new(tls(&identity)?));
        let source = SecretSource { links: Arc::clone(&links), coordinators: coordinators.clone() };
        let parts = reconciler::Parts {
            place: place(&config, &membership, hands.boot),
            engine: hands.engine,
            volumes: hands.volumes,
            doors: Arc::clone(&doors),
            ledger: ledger.clone(),
            board: Arc::clone(&board),
            held: held.subscribe(),
            gauge: hands.gauge.clone(),
            levels: hands.levels,
            walls,
            vaults: vaults(&config, &membership),
            source,
        };
        shutdown.spawn(shutdown.child_token().run_until_cancelled_owned(hands.gauge.run()));
        reconciler::start(parts, changed, &shutdown);
        let parts = uplink::Parts {
            name: membership.name.clone(),
            links,
            identity: join::identity_folder(&state).map_err(AgentError::Join)?,
            coordinators,
            ledger: ledger.clone(),
            board: Arc::clone(&board),
            tunnels: tunnels.clone(),
            facts,
            usage,
            changed: changes,
            seat: Arc::new(Mutex::new(seat)),
            lease,
            held,
            removed,
        };
        let uplink = uplink::start(parts, &shutdown);
        if let Some(counted) = &counted {
            let (board, tunnels) = (Arc::clone(&board), tunnels.clone());
            show(counted, measure::Probe { board, doors, tunnels, uplink: uplink.clone() });
        }
        let metrics = serve_metrics(&config, counted, &shutdown).await?;
        info!(node = %membership.name, id = %membership.node, "the node agent runs");
        Ok(Self { membership, uplink, board, metrics, ledger, tunnels, shutdown, _locks: locks })
    }

    /// Waits for the end to be asked for, then until every part is through or the deadline is.
    pub async fn ended(self) -> bool {
        self.shutdown.requested().await;
        let through = self.shutdown.join(Limits::SHUTDOWN).await;
        let streams = tokio::time::timeout(Limits::SHUTDOWN, self.tunnels.ended()).await;
        self.ledger.close().await;
        through && streams.is_ok()
    }
}

/// Returns what the machine is and has, and what it uses: read now, and again and again.
async fn probed(
    mut probe: Probe,
    shutdown: &Shutdown,
) -> (watch::Receiver<NodeFacts>, watch::Receiver<NodeUsage>) {
    let facts = watch::Sender::new(probe.first().await);
    let usage = watch::Sender::new(probe.usage().await);
    let seen = (facts.subscribe(), usage.subscribe());
    let probing = probe.run(facts, usage);
    shutdown.spawn(shutdown.child_token().run_until_cancelled_owned(probing));
    seen
}

fn doors(runtime: PathBuf, check: PeerCheck) -> Result<Arc<Doors>, AgentError> {
    let made = Doors::new(&runtime, check);
    made.map(Arc::new).map_err(|source| AgentError::Io { verb: "make", path: runtime, source })
}

/// Returns what this machine is and has, for joining: it has no id yet, so it has no containers.
///
/// # Errors
/// The state folder cannot be used, or another agent uses it.
pub async fn facts(config: &Config) -> Result<NodeFacts, AgentError> {
    files::private_folder(&config.state_dir).map_err(AgentError::File)?;
    let _lock = lock(&config.state_dir)?;
    let ledger = Ledger::open(&config.state_dir)?;
    let nobody = (ClusterId::new(uuid::Uuid::nil()), NodeId::new(uuid::Uuid::nil()));
    let mut hands = Hands::open(config, nobody)?;
    // a machine that may be refused gets no pool; the first registration tells of the real one
    if let Some(pool) = pool(config)?
        && !pool.is_made()
    {
        hands.volumes = Arc::new(PlainStore::new(config.state_dir.join(HOMES)));
    }
    let boot = hands.boot;
    let walls = NoWalls::default().view();
    let both = (hands.engine, hands.volumes);
    Ok(Probe::new(both, ledger, config.clone(), (boot, walls)).first().await)
}

/// Returns the pool of this machine's homes; none where they are plain folders.
///
/// # Errors
/// The configuration would leave homes behind.
pub fn pool(config: &Config) -> Result<Option<BtrfsStore>, AgentError> {
    let choice = choose::choose(&config.volumes, &config.state_dir).map_err(AgentError::Volumes)?;
    Ok(match choice {
        Choice::Btrfs(place) => Some(BtrfsStore::new(Site::new(&config.state_dir, place))),
        Choice::Plain => None,
    })
}

/// Returns the cgroups that this agent works in.
pub(crate) fn levels(config: &Config) -> io::Result<Levels> {
    let shown = config.state_dir.join(FAKE).join(FAKE_CGROUPS);
    match config.engine.kind {
        EngineKind::Docker => Layout::read().map(Levels::new),
        // a test shows what runs in cgroups by a folder here
        EngineKind::Fake if shown.is_dir() => Ok(Levels::new(Layout::unified(&shown))),
        EngineKind::Fake => Ok(Levels::off()),
    }
}

/// What acts on this machine.
struct Hands {
    engine: Arc<dyn Engine>,
    volumes: Arc<dyn VolumeStore>,
    gauge: Gauge,
    levels: Arc<Levels>,
    /// How whoever dials a workspace's socket is checked.
    check: PeerCheck,
    boot: BootId,
    /// What tells this machine from others.
    machine: String,
}

impl Hands {
    fn open(config: &Config, (cluster, node): (ClusterId, NodeId)) -> Result<Self, AgentError> {
        let state = &config.state_dir;
        let failed = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| AgentError::Io { verb, path, source }
        };
        let levels = levels(config).map_err(failed("read", Path::new("/proc/self/mounts")))?;
        let levels = Arc::new(levels);
        let host = || host::boot_id().map_err(failed("read", Path::new("/proc/sys/kernel")));
        match config.engine.kind {
            EngineKind::Docker => {
                let address = format!("unix://{}", config.engine.socket.display());
                let cgroups =
                    Layout::read().map_err(failed("read", Path::new("/proc/self/mounts")))?;
                Ok(Self {
                    gauge: Gauge::new(cgroups.clone()),
                    levels,
                    engine: Arc::new(Counted(Arc::new(DockerEngine::new(address, cluster, node)))),
                    volumes: match pool(config)? {
                        Some(pool) => Arc::new(pool),
                        None => Arc::new(PlainStore::new(state.join(HOMES))),
                    },
                    check: PeerCheck::Cgroup,
                    boot: host()?,
                    machine: seat::machine(&host::machine_id()),
                })
            }
            EngineKind::Fake => {
                let folder = state.join(FAKE);
                // a test reboots the machine by writing another boot here
                let told = fs::read_to_string(folder.join("boot")).unwrap_or_default();
                // and moves to another one by writing another id there
                let moved = fs::read_to_string(folder.join("machine"));
                let machine = moved.unwrap_or_else(|_| host::machine_id());
                let boot_id = told.trim().parse().or_else(|_| host())?;
                let engine = FakeEngine::open(&folder, boot_id).map_err(failed("open", &folder))?;
                Ok(Self {
                    gauge: Gauge::off(),
                    levels,
                    engine: Arc::new(Counted(Arc::new(engine))),
                    volumes: Arc::new(FakeStore::new(state.join(HOMES))),
                    check: PeerCheck::Off,
                    boot: boot_id,
                    machine: seat::machine(&machine),
                })
            }
        }
    }
}

/// The engine that runs nothing needs no walls.
async fn walls(
    config: &Config,
    (ledger, board, coordinators): (&Ledger, &Arc<Board>, &Coordinators),
    shutdown: &Shutdown,
) -> Arc<dyn Walls> {
    if config.engine.kind == EngineKind::Fake {
        return Arc::new(NoWalls::default());
    }
    let parts = network::Parts {
        ledger: ledger.clone(),
        board: Arc::clone(board),
        coordinators: coordinators.clone(),
        range: config.engine.network_range.parse().unwrap_or(Subnet::ALL),
        settings: network::Settings {
            dns_port: config.network.dns_port,
            connections: config.network.connections,
            beginnings: config.network.new_connections,
        },
        resolvers: config.network.resolvers.clone(),
    };
    network::start(parts, shutdown).await
}

fn place(config: &Config, membership: &Membership, boot: BootId) -> Place {
    Place {
        cluster: membership.cluster,
        node: membership.node,
        name: membership.name.to_string(),
        boot,
        cgroup_parent: config.engine.cgroup_parent.clone(),
        inside: config.inside_binary.clone(),
        hooks: hooks::folder(&config.state_dir),
        network_range: config.engine.network_range.clone(),
        gives_volumes: config.engine.kind == EngineKind::Docker,
    }
}

/// The engine that runs nothing has its secrets in a folder of the test.
pub(crate) fn vaults(config: &Config, membership: &Membership) -> Vaults {
    let kind = match config.engine.kind {
        EngineKind::Docker => Kind::Memory,
        EngineKind::Fake => Kind::Folder,
    };
    Vaults::new(&config.runtime_of(&membership.name), kind)
}

fn tls(identity: &Identity) -> Result<Arc<ClientTls>, AgentError> {
    let tls = ClientTls::new(&identity.credentials, &identity.trust_pem);
    tls.map(Arc::new).map_err(AgentError::Identity)
}

/// Makes the state folder this agent's alone, with what workspaces are given of it.
fn prepare(state: &Path) -> Result<File, AgentError> {
    files::private_folder(state).map_err(AgentError::File)?;
    let lock = lock(state)?;
    hooks::install(&hooks::folder(state)).map_err(AgentError::File)?;
    Ok(lock)
}

/// Two agents with one ledger would both think they are the only one.
pub(crate) fn lock(state: &Path) -> Result<File, AgentError> {
    let path = state.join(LOCK);
    let opened =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = opened.map_err(|source| AgentError::Io { verb: "open", path, source })?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(AgentError::Taken(state.to_owned())),
    }
}

/// Two agents with one parent of cgroups would end what the other one runs.
pub(crate) async fn own(config: &Config, parents: &[String]) -> Result<Owner, AgentError> {
    match config.engine.kind {
        EngineKind::Docker => {
            let owner = Owner::take(Path::new(owner::FOLDER), parents, &config.state_dir).await;
            owner.map_err(AgentError::Owner)
        }
        EngineKind::Fake => Ok(Owner::default()),
    }
}

/// Lets scrapes see the agent.
fn show(counted: &Metrics, probe: measure::Probe) {
    let probe = Arc::new(probe);
    let asked = Arc::clone(&probe);
    counted.ready_when(move || asked.ready());
    counted.probe(move || probe.sample());
}

async fn serve_metrics(
    config: &Config,
    counted: Option<Metrics>,
    shutdown: &Shutdown,
) -> Result<Option<SocketAddr>, AgentError> {
    let metrics = match counted {
        Some(counted) => {
            let served = metrics::serve(config.metrics, counted, shutdown).await;
            let address = served.map_err(|source| AgentError::Io {
                verb: "serve metrics on",
                path: config.metrics.to_string().into(),
                source,
            })?;
            Some(address)
        }
        None => None,
    };
    let text = serde_json::json!(Addresses { metrics }).to_string();
    let written = files::write_atomic(&config.state_dir.join(ADDRESSES), text.as_bytes(), 0o600);
    if let Err(error) = written {
        // whoever scrapes a free port looks there; a full disk keeps no agent from starting
        warn!(error = %Chain(&error), "where metrics are served is not written down");
    }
    Ok(metrics)
}
