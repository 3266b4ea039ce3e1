//! Many nodes as a coordinator sees them: they join, register, renew and report like a node agent,
//! and stand in this process without an engine, a ledger or a disk.
//!
//! What is ordered to run runs at once, with the steps and the session of a real workspace in its
//! report. It loads coordinators; it proves nothing of node agents.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use warren_daemon::{
    clock,
    identity::{ClientTls, Key, connect},
    token::JoinToken,
};
use warren_proto::pb::node::v1::{
    self as pb, control_request, control_response, enroll_service_client::EnrollServiceClient,
    node_service_client::NodeServiceClient, status_response,
};

use crate::{
    Cluster,
    bench::{channel::Identity, ours::SERVER_NAME},
};

/// What each node has to give; enough for as many workspaces as a node takes.
const MEMORY: u64 = 1 << 44;
const MILLI_CPUS: u32 = 1_000_000;
/// How often a node shows that it lives.
const BEAT: Duration = Duration::from_secs(2);
/// How long one step of joining may take.
const STEP: Duration = Duration::from_secs(30);
/// Messages on their way on one stream.
const QUEUE: usize = 64;

/// The nodes; they leave without a word when it is dropped.
pub struct Crowd {
    nodes: JoinSet<Result<()>>,
    running: Arc<AtomicUsize>,
}

impl Crowd {
    /// Joins `count` nodes to a cluster, one after the other.
    ///
    /// # Errors
    /// Fails where one is refused.
    pub async fn join(cluster: &Cluster, count: usize) -> Result<Self> {
        let mut crowd = Self { nodes: JoinSet::new(), running: Arc::default() };
        for number in 1..=count {
            let token = cluster.json(&["node", "token"])?;
            let token = token["token"].as_str().context("a token")?.to_owned();
            let name = format!("crowd-{number}");
            let (channel, facts) = timeout(STEP, enroll(&token, &name)).await??;
            let node = Node { channel, facts, name, shown: Shown::new(&crowd.running) };
            crowd.nodes.spawn(node.live());
        }
        Ok(crowd)
    }

    /// Returns how many workspaces run on all of them.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Waits until so many workspaces run.
    ///
    /// # Errors
    /// Fails where a node ended, or where none came to run for a minute.
    pub async fn until_running(&mut self, count: usize) -> Result<()> {
        let (mut last, mut since) = (self.running(), Instant::now());
        while last < count {
            if let Some(ended) = self.nodes.try_join_next() {
                ended?.context("a node of the crowd ended")?;
            }
            sleep(Duration::from_millis(100)).await;
            if self.running() > last {
                (last, since) = (self.running(), Instant::now());
            }
            ensure!(since.elapsed() < Duration::from_secs(60), "{last} of {count} run");
        }
        Ok(())
    }
}

/// Spends a token and returns the node's own connection.
async fn enroll(token: &str, name: &str) -> Result<(Channel, pb::NodeFacts)> {
    let read: JoinToken = token.parse()?;
    let key = Key::generate()?;
    let facts = pb::NodeFacts {
        hostname: name.to_owned(),
        boot_id: uuid::Uuid::new_v4().to_string(),
        allocatable_memory_bytes: MEMORY,
        milli_cpus: MILLI_CPUS,
        disk_bytes: MEMORY,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: "crowd".to_owned(),
        cgroup: 2,
        ..Default::default()
    };
    let anonymous = connect(&ClientTls::pinned(read.pin)?.into(), &read.addresses).await?;
    let request = pb::EnrollRequest {
        token: token.to_owned(),
        csr_pem: key.request()?,
        node_name: name.to_owned(),
        facts: Some(facts.clone()),
    };
    let answer = EnrollServiceClient::new(anonymous).enroll(request).await?.into_inner();
    let pem = key.to_pem();
    let identity =
        Identity::new(pem.expose(), &answer.certificate_pem, &answer.trust_pem, SERVER_NAME)?;
    let address = answer.coordinators.first().or(read.addresses.first()).context("an address")?;
    Ok((identity.connect(address).await?, facts))
}

/// What a node has told of its workspaces, by id.
struct Shown {
    workspaces: BTreeMap<String, pb::WorkspaceObserved>,
    running: Arc<AtomicUsize>,
}

impl Shown {
    fn new(running: &Arc<AtomicUsize>) -> Self {
        Self { workspaces: BTreeMap::new(), running: Arc::clone(running) }
    }

    /// Does what a document orders, and returns what is to be told of it.
    fn obey(&mut self, spec: &pb::NodeSpec) -> Vec<pb::WorkspaceObserved> {
        let mut news = Vec::new();
        for order in &spec.workspaces {
            let now = observed(order);
            let before = self.workspaces.get(&order.workspace_id);
            let same = |before: &pb::WorkspaceObserved| {
                (before.generation, before.run_serial, before.state)
                    == (now.generation, now.run_serial, now.state)
            };
            if before.is_some_and(same) {
                continue;
            }
            let ran = before.is_some_and(|before| before.state() == pb::RunState::Running);
            match (ran, now.state() == pb::RunState::Running) {
                (false, true) => self.running.fetch_add(1, Ordering::Relaxed),
                (true, false) => self.running.fetch_sub(1, Ordering::Relaxed),
                (true, true) | (false, false) => 0,
            };
            self.workspaces.insert(order.workspace_id.clone(), now.clone());
            news.push(now);
        }
        news
    }
}

/// Says of a workspace what a node agent says once everything has gone well.
fn observed(order: &pb::WorkspaceOrder) -> pb::WorkspaceObserved {
    let permitted =
        order.permit.as_ref().is_some_and(|permit| permit.run_serial == order.run_serial);
    let state = match order.run() {
        pb::Run::Running if permitted => pb::RunState::Running,
        pb::Run::Running => pb::RunState::Prepared,
        pb::Run::Stopped => pb::RunState::Stopped,
        pb::Run::Removed | pb::Run::Unspecified => pb::RunState::Absent,
    };
    let now = clock::now().0;
    let runs = state == pb::RunState::Running;
    let step = |name: &str, title: &str| pb::StartupStep {
        name: name.to_owned(),
        title: title.to_owned(),
        state: pb::StepState::Done.into(),
        started_unix_ms: now,
        elapsed_ms: 100,
        ..Default::default()
    };
    let sessions = order.spec.iter().flat_map(|spec| &spec.sessions);
    let session = |session: &pb::SessionSpec| pb::SessionObserved {
        name: session.name.clone(),
        command: session.command.clone().unwrap_or_default(),
        running: true,
        started_unix_ms: now,
        active_unix_ms: now,
        ..Default::default()
    };
    let own = [("volume", "home volume"), ("image", "image"), ("container", "container")];
    let own = own.map(|(name, title)| step(name, title));
    let inside = sessions.clone().map(|one| {
        let name = format!("session:{}", one.name);
        let title = format!("session {}", one.name);
        step(&name, &title)
    });
    pb::WorkspaceObserved {
        workspace_id: order.workspace_id.clone(),
        generation: order.generation,
        run_serial: order.run_serial,
        state: state.into(),
        since_unix_ms: now,
        pid: runs.then_some(4242),
        steps: if runs { own.into_iter().chain(inside).collect() } else { Vec::new() },
        sessions: if runs { sessions.map(session).collect() } else { Vec::new() },
        usage: Some(pb::Usage { memory_bytes: 64 << 20, pids: 12, ..Default::default() }),
        caps: order.spec.as_ref().and_then(|spec| spec.resources).map(|asked| pb::CapsHeld {
            memory_bytes: asked.memory_bytes,
            swap_bytes: asked.swap_bytes,
            milli_cpus: asked.milli_cpus,
            disk_bytes: asked.disk_bytes,
        }),
        ..Default::default()
    }
}

struct Node {
    channel: Channel,
    facts: pb::NodeFacts,
    name: String,
    shown: Shown,
}

/// Where a registered node sends what it has to say.
struct Speech {
    control: mpsc::Sender<pb::ControlRequest>,
    reports: mpsc::Sender<pb::StatusRequest>,
    epoch: u64,
    sequence: u64,
}

impl Speech {
    async fn control(&self, kind: control_request::Kind) -> Result<()> {
        let message = pb::ControlRequest { kind: Some(kind) };
        self.control.send(message).await.context("the control stream is closed")
    }

    async fn report(&mut self, full: bool, workspaces: Vec<pb::WorkspaceObserved>) -> Result<()> {
        self.sequence += 1;
        let message = pb::StatusRequest {
            node_epoch: self.epoch,
            sequence: self.sequence,
            sent_unix_ms: clock::now().0,
            full,
            workspaces,
            ..Default::default()
        };
        self.reports.send(message).await.context("the status stream is closed")
    }
}

impl Node {
    /// Serves until the coordinator ends a stream.
    async fn live(mut self) -> Result<()> {
        let mut api = NodeServiceClient::new(self.channel.clone());
        let (control, requests) = mpsc::channel(QUEUE);
        let (reports, observed) = mpsc::channel(QUEUE);
        let mut speech = Speech { control, reports, epoch: 0, sequence: 0 };
        let register = pb::Register {
            facts: Some(self.facts.clone()),
            node_name: self.name.clone(),
            ..Default::default()
        };
        speech.control(control_request::Kind::Register(register)).await?;
        let mut orders = api.control(ReceiverStream::new(requests)).await?.into_inner();
        let first = orders.message().await?.and_then(|message| message.kind);
        let Some(control_response::Kind::Registered(registered)) = first else {
            anyhow::bail!("it was not registered");
        };
        speech.epoch = registered.node_epoch;
        speech.report(true, Vec::new()).await?;
        let mut taken = api.status(ReceiverStream::new(observed)).await?.into_inner();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = orders.message() => {
                    let order = order?.context("no more orders")?;
                    if let Some(control_response::Kind::Spec(spec)) = order.kind {
                        let applied = control_request::Kind::AppliedRevision(spec.revision);
                        speech.control(applied).await?;
                        let news = self.shown.obey(&spec);
                        speech.report(false, news).await?;
                    }
                }
                answer = taken.message() => {
                    let answer = answer?.context("reports are not heard")?;
                    if let Some(status_response::Kind::OpenTunnel(_)) = answer.kind {
                        anyhow::bail!("there is no tunnel here");
                    }
                }
                _ = beat.tick() => {
                    let sequence = speech.sequence;
                    let renew = pb::RenewLease { sequence, sent_monotonic_ms: 0 };
                    speech.control(control_request::Kind::RenewLease(renew)).await?;
                    speech.report(false, Vec::new()).await?;
                }
            }
        }
    }
}
