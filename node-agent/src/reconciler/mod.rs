//! Makes what runs on this node what its document says.
//!
//! Level-triggered: a change of the document, an event of the engine, a word from PID 1 or a timer
//! wakes the one task of a workspace (`worker`), which looks at what there is, asks
//! `warren_model::diff` for the single next step, takes it, and looks again. A lost wake-up costs
//! at most one sweep; a crash between two steps loses nothing. Workspaces do not wait for each
//! other, beyond the bound on steps taken at one time.

mod act;
mod events;
mod failure;
mod guard;
mod inventory;
mod picture;
mod resize;
mod secrets;
mod wait;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    task::{Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use warren_common::{BootId, ClusterId, NodeId, WorkspaceId};
use warren_daemon::{Shutdown, telemetry::Chain};

use crate::{
    board::Board,
    engine::{Engine, EngineEvent, EngineEventKind, EngineInfo},
    gauge::Gauge,
    host::levels::Levels,
    inside::Doors,
    ledger::Ledger,
    network::Walls,
    secrets::Vaults,
    uplink::SecretSource,
    volume::VolumeStore,
};
use events::Happening;
use worker::Worker;

/// Everything is looked at again this often, a part of it at each beat: what the looks take is
/// spread, and the engine is not asked for everything at one time.
const SWEEP: Duration = Duration::from_secs(55);
const BEATS: u32 = 55;
/// Steps taken at one time, image pulls aside.
const STEPS_AT_ONCE: usize = 4;
/// Images pulled at one time.
const PULLS_AT_ONCE: usize = 2;
/// Lists of all containers asked for at one time: one that hangs must not hide the next.
const LISTS_AT_ONCE: usize = 2;
/// Messages that may wait for the supervisor.
const QUEUE: usize = 64;

/// What the reconciler works with.
pub struct Parts {
    /// What runs containers.
    pub engine: Arc<dyn Engine>,
    /// What keeps homes.
    pub volumes: Arc<dyn VolumeStore>,
    /// Sockets to each PID 1.
    pub doors: Arc<Doors>,
    /// The document, and what was begun.
    pub ledger: Ledger,
    /// Where what is seen is shown.
    pub board: Arc<Board>,
    /// Where this is.
    pub place: Place,
    /// Why this agent may not act, while it may not: it was not let in, or another one has its identity.
    pub held: watch::Receiver<Option<String>>,
    /// What measures.
    pub gauge: Gauge,
    /// The cgroups above those of containers.
    pub levels: Arc<Levels>,
    /// What keeps workspaces apart on the network.
    pub walls: Arc<dyn Walls>,
    /// Where the secrets of workspaces are.
    pub vaults: Vaults,
    /// Where they come from.
    pub source: SecretSource,
}

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The cluster, for labels.
    pub cluster: ClusterId,
    /// This node, for labels.
    pub node: NodeId,
    /// Its name, for the parent cgroup.
    pub name: String,
    /// The running boot.
    pub boot: BootId,
    /// The parent cgroup where the configuration names one.
    pub cgroup_parent: Option<String>,
    /// The static PID 1 on the host.
    pub inside: PathBuf,
    /// The folder of the agents' hook files on the host.
    pub hooks: PathBuf,
    /// Where networks are taken from.
    pub network_range: String,
    /// Volumes are given to the users that the engine runs workspaces as; not with the fake one.
    pub gives_volumes: bool,
}

impl Place {
    /// Returns the parent cgroup of all workspaces, as the engine wants it.
    fn cgroup_of_node(&self, systemd: bool) -> String {
        let named = self.cgroup_parent.clone();
        named.unwrap_or_else(|| crate::host::cgroup_parent(&self.name, systemd))
    }

    /// Returns every parent that workspaces may have.
    fn cgroups_of_node(&self) -> Vec<String> {
        crate::host::cgroup_parents(self.cgroup_parent.as_deref(), &self.name)
    }
}

/// What all workers share.
struct Shared {
    parts: Parts,
    steps: Semaphore,
    pulls: Semaphore,
    /// What the engine last said of itself; asked for again after it was away.
    info: Mutex<Option<EngineInfo>>,
    /// The container of each workspace in which the kernel killed for memory.
    killed: Mutex<BTreeMap<WorkspaceId, String>>,
    /// Workspaces whose container somebody changed, to be looked at now.
    changed: Mutex<BTreeSet<WorkspaceId>>,
}

/// Starts the reconciler; `changed` tells which workspaces a document changed. It ends with
/// `shutdown`, leaving every container as it is.
pub fn start(parts: Parts, changed: mpsc::Receiver<Vec<WorkspaceId>>, shutdown: &Shutdown) {
    parts.vaults.clean();
    let (happenings, happened) = mpsc::channel(QUEUE);
    let stop = shutdown.child_token();
    let watching = events::watch(Arc::clone(&parts.engine), happenings);
    shutdown.spawn(stop.clone().run_until_cancelled_owned(watching));
    let shared = Arc::new(Shared {
        parts,
        steps: Semaphore::new(STEPS_AT_ONCE),
        pulls: Semaphore::new(PULLS_AT_ONCE),
        info: Mutex::default(),
        killed: Mutex::default(),
        changed: Mutex::default(),
    });
    let supervisor = Supervisor {
        shared,
        workers: JoinSet::new(),
        lists: JoinSet::new(),
        ids: HashMap::new(),
        wakers: BTreeMap::new(),
        stop,
    };
    shutdown.spawn(supervisor.run(changed, happened));
}

/// Keeps one worker per workspace.
struct Supervisor {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
    /// Lists under way of workspaces that have containers: the engine is waited for elsewhere.
    lists: JoinSet<Vec<WorkspaceId>>,
    ids: HashMap<Id, WorkspaceId>,
    wakers: BTreeMap<WorkspaceId, Arc<Notify>>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(
        mut self,
        mut changed: mpsc::Receiver<Vec<WorkspaceId>>,
        mut happened: mpsc::Receiver<Happening>,
    ) {
        let stop = self.stop.clone();
        let mut held = self.shared.parts.held.clone();
        self.sweep();
        // what is late is caught up with: a sweep must not become longer on a machine that is busy
        let mut beats = interval_at(Instant::now() + SWEEP / BEATS, SWEEP / BEATS);
        beats.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut beat = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(workspaces) = changed.recv() => {
                    for workspace in workspaces {
                        self.wake(workspace);
                    }
                }
                Some(happening) = happened.recv() => self.take(happening),
                Some(ended) = self.workers.join_next_with_id() => self.collect(ended),
                Some(listed) = self.lists.join_next() => {
                    for workspace in listed.unwrap_or_default() {
                        self.wake(workspace);
                    }
                }
                Ok(()) = held.changed() => self.sweep(),
                _ = beats.tick() => {
                    self.beat(beat);
                    beat = (beat + 1) % BEATS;
                }
            }
        }
        // each worker stops at its next wait: a step half taken is taken again
        self.workers.shutdown().await;
        self.lists.shutdown().await;
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Listening => {
                self.shared.info.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.sweep();
            }
            Happening::Event(event) => {
                self.shared.note(&event);
                self.wake(event.workspace);
            }
        }
    }

    /// Wakes the worker of a workspace, or gives it one.
    fn wake(&mut self, workspace: WorkspaceId) {
        if let Some(waker) = self.wakers.get(&workspace) {
            waker.notify_one();
            return;
        }
        let waker = Arc::new(Notify::new());
        let worker = Worker::new(Arc::clone(&self.shared), workspace, Arc::clone(&waker));
        let task = self.workers.spawn(worker.run());
        self.ids.insert(task.id(), workspace);
        self.wakers.insert(workspace, waker);
    }

    /// A worker ends where nothing of its workspace is left; an order may have come meanwhile.
    fn collect(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(failed) => failed.id(),
        };
        let Some(workspace) = self.ids.remove(&id) else { return };
        self.wakers.remove(&workspace);
        match ended {
            Ok(_) if self.shared.parts.ledger.order(workspace).is_some() => self.wake(workspace),
            Ok(_) => {}
            Err(failed) => error!(%workspace, %failed, "a workspace's task broke"),
        }
    }

    /// Wakes every workspace that is ordered or has a container. Before the first document nothing
    /// is known, so nothing that runs is touched.
    fn sweep(&mut self) {
        self.wake_ordered(|_| true);
        self.list();
    }

    /// Does one beat's part of a sweep.
    fn beat(&mut self, beat: u32) {
        self.wake_ordered(|workspace| turn_of(workspace) == beat);
        if beat == 0 {
            self.list();
        }
    }

    fn wake_ordered(&mut self, which: impl Fn(WorkspaceId) -> bool) {
        let memory = self.shared.parts.ledger.memory();
        if memory.rank.is_none() {
            return;
        }
        for workspace in memory.orders.keys().copied().filter(|id| which(*id)) {
            self.wake(workspace);
        }
    }

    /// Asks which workspaces have a container that nobody ordered.
    fn list(&mut self) {
        let known = self.shared.parts.ledger.memory().rank.is_some();
        if !known || self.lists.len() >= LISTS_AT_ONCE {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.lists.spawn(async move {
            shared.sweep_levels().await;
            let ledger = &shared.parts.ledger;
            match shared.parts.engine.workspaces().await {
                Ok(there) => there.into_iter().filter(|id| ledger.order(*id).is_none()).collect(),
                Err(failed) => {
                    warn!(error = %Chain(&failed), "containers cannot be listed");
                    Vec::new()
                }
            }
        });
    }
}

/// The beat at which a workspace is looked at again, always the same one.
fn turn_of(workspace: WorkspaceId) -> u32 {
    // the last of its bytes are random
    let [.., high, low] = *workspace.as_bytes();
    u32::from(u16::from_be_bytes([high, low])) % BEATS
}

impl Shared {
    /// Returns what the engine says of itself, asking at most once while it stays.
    async fn info(&self) -> Result<EngineInfo, crate::engine::EngineError> {
        let known = self.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        self.ask_info().await
    }

    /// Asks the engine what it is now: another one may have come before its events are heard again.
    async fn ask_info(&self) -> Result<EngineInfo, crate::engine::EngineError> {
        let asked = self.parts.engine.info().await?;
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked.clone());
        Ok(asked)
    }

    /// Removes empty cgroups and secrets of workspaces that are not of this node any more.
    async fn sweep_levels(&self) {
        let ledger = &self.parts.ledger;
        self.parts.vaults.sweep(|id| ledger.order(id).is_some());
        // what the engine offers can change while it runs
        let Ok(info) = self.ask_info().await else { return };
        let node = self.parts.place.cgroup_of_node(info.systemd_cgroups);
        self.parts.levels.sweep(&node, |id| ledger.order(id).is_some());
    }

    /// Keeps of an event what a look does not show.
    fn note(&self, event: &EngineEvent) {
        let workspace = event.workspace;
        match event.kind {
            EngineEventKind::OutOfMemory => {
                self.parts.gauge.hinted(workspace, &event.container);
                let mut killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
                killed.insert(workspace, event.container.clone());
            }
            EngineEventKind::Changed => {
                self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(workspace);
            }
            EngineEventKind::Started | EngineEventKind::Died { .. } | EngineEventKind::Removed => {}
        }
    }

    /// Returns whether somebody changed the container since this was asked last.
    fn was_changed(&self, workspace: WorkspaceId) -> bool {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).remove(&workspace)
    }

    /// Returns whether the kernel killed for memory in this container.
    fn killed_in(&self, workspace: WorkspaceId, container: &str) -> bool {
        let killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        killed.get(&workspace).is_some_and(|killed| killed == container)
    }

    fn forget_kills(&self, workspace: WorkspaceId) {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).remove(&workspace);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn looks_are_spread_over_a_sweep() {
        let mut turns = BTreeMap::new();
        for n in 0..u128::from(10 * BEATS) {
            let workspace = WorkspaceId::new(Uuid::from_u128(n));
            *turns.entry(turn_of(workspace)).or_insert(0) += 1;
        }
        assert!(turns.keys().eq(&(0..BEATS).collect::<Vec<_>>()), "a beat for each");
        assert!(turns.values().all(|count| *count == 10), "{turns:?}");
    }
}
