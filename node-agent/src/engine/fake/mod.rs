//! An engine without containers, for tests of everything around it.
//!
//! Containers are records in `engine.json`, so they survive the agent's SIGKILL as real ones do.
//! A started one gets a PID 1 of its own, `inside`, a task that dials the agent's socket and
//! speaks `warren.inside.v1`; an agent that comes back finds its running containers dialling
//! again. `control.json` in the same folder, read anew at each use, makes calls fail or slow and
//! containers end: see [`control::Control`].

mod agents;
mod browsers;
pub mod control;
mod inside;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};
use warren_common::{BootId, Bytes as Amount, Timestamp, WorkspaceId, status::Usage};

use self::{
    control::Control,
    record::{Container, Record},
};
use super::{
    Answer, ContainerSeen, ContainerState, Engine, EngineError, EngineEvent, EngineEventKind,
    EngineInfo, EventStream, Gvisor, ImageSeen, LogChunk, LogQuery, LogStream, NetworkSeen,
    Progress,
};
use crate::container::{Caps, ContainerPlan, Drift, NetworkPlan};

/// Events kept for a slow reader; a slower one sees its stream end, as with Docker.
const EVENTS: usize = 256;
/// How often the control file is looked at for containers to end, and a log for more.
const POLL: Duration = Duration::from_millis(50);

/// The fake; clones share one folder and one set of containers.
#[derive(Debug, Clone)]
pub struct FakeEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
    events: broadcast::Sender<EngineEvent>,
}

#[derive(Debug)]
struct State {
    record: Record,
    /// PID 1 of each running container, by id: dropped, it ends.
    inside: HashMap<String, DropGuard>,
    /// Failures already given, by operation.
    failed: BTreeMap<String, u32>,
}

impl FakeEngine {
    /// Opens the containers kept in `folder`; those that ran in this `boot` run on, those of
    /// another boot have ended. Must be called on a runtime.
    ///
    /// # Errors
    /// Where the folder cannot be made or its record is not readable.
    pub fn open(folder: impl Into<PathBuf>, boot: BootId) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        let record = Record::load(&folder, boot)?;
        let running: Vec<String> = record
            .containers
            .iter()
            .filter(|(_, container)| container.is_running())
            .map(|(id, _)| id.clone())
            .collect();
        let state = State { record, inside: HashMap::new(), failed: BTreeMap::new() };
        let (events, _) = broadcast::channel(EVENTS);
        let shared = Arc::new(Shared { folder, state: Mutex::new(state), events });
        {
            let mut state = shared.state();
            shared.save(&state.record)?;
            for id in running {
                shared.attach(&mut state, &id);
            }
        }
        tokio::spawn(end_on_demand(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Reads the control file, is slow where told, and fails where told.
    async fn obey(&self, operation: &'static str) -> Result<(), EngineError> {
        let control = Control::read(&self.shared.folder);
        if let Some(delay) = control.delay(operation) {
            tokio::time::sleep(delay).await;
        }
        let mut state = self.shared.state();
        let given = state.failed.entry(operation.to_owned()).or_default();
        control.failure(operation, given)
    }

    fn change<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Arc<Shared>, &mut State) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut state = self.shared.state();
        let outcome = work(&self.shared, &mut state)?;
        let saved = self.shared.save(&state.record);
        saved.map_err(|error| EngineError::Failed { operation, detail: error.to_string() })?;
        Ok(outcome)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, record: &Record) -> io::Result<()> {
        record.save(&self.folder)
    }

    fn log(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.log"))
    }

    /// Gives a running container its PID 1.
    fn attach(self: &Arc<Self>, state: &mut State, id: &str) {
        let Some(container) = state.record.containers.get(id) else { return };
        if Control::read(&self.folder).is_elsewhere(&container.plan) {
            return;
        }
        let stop = CancellationToken::new();
        state.inside.insert(id.to_owned(), stop.clone().drop_guard());
        let (weak, name) = (Arc::downgrade(self), id.to_owned());
        let pid1 = inside::Inside::new(&container.plan, container.seen.started, self.log(id));
        tokio::spawn(async move {
            let ended = tokio::select! {
                () = stop.cancelled() => None,
                code = pid1.run() => Some(code),
            };
            if let (Some(exit_code), Some(shared)) = (ended, weak.upgrade()) {
                shared.end(&name, exit_code, false);
            }
        });
    }

    /// Ends a running container by itself; one that does not run is left as it is.
    fn end(&self, id: &str, exit_code: i32, oom: bool) {
        let mut state = self.state();
        if exit(&mut state, id, exit_code, oom).is_some_and(|workspace| {
            self.tell(id, workspace, oom.then_some(EngineEventKind::OutOfMemory));
            self.tell(id, workspace, Some(EngineEventKind::Died { exit_code }));
            true
        }) && let Err(error) = self.save(&state.record)
        {
            tracing::error!(%error, "the fake engine's record cannot be written");
        }
    }

    fn tell(&self, id: &str, workspace: WorkspaceId, kind: Option<EngineEventKind>) {
        if let Some(kind) = kind {
            // nobody listening is fine
            let _ = self.events.send(EngineEvent { container: id.to_owned(), workspace, kind });
        }
    }
}

/// Marks a running container as ended and returns whose it is.
fn exit(state: &mut State, id: &str, exit_code: i32, oom: bool) -> Option<WorkspaceId> {
    state.inside.remove(id);
    let container = state.record.containers.get_mut(id)?;
    if !container.is_running() {
        return None;
    }
    container.seen.state = ContainerState::Exited { exit_code, oom };
    container.seen.finished = now();
    Some(container.seen.workspace)
}

/// Ends containers as the control file says, as long as the engine is there.
async fn end_on_demand(shared: std::sync::Weak<Shared>) {
    loop {
        tokio::time::sleep(POLL).await;
        let Some(shared) = shared.upgrade() else { return };
        let control = Control::read(&shared.folder);
        let doomed: Vec<(String, control::Exit)> = {
            let state = shared.state();
            let running = state.record.containers.iter().filter(|(_, one)| one.is_running());
            running
                .filter_map(|(id, one)| Some((id.clone(), control.exit(&one.seen, &one.plan)?)))
                .collect()
        };
        for (id, exit) in doomed {
            shared.end(&id, exit.exit_code, exit.oom);
        }
    }
}

impl Engine for FakeEngine {
    fn info(&self) -> Answer<'_, EngineInfo> {
        async move {
            self.obey("info").await?;
            Ok(EngineInfo {
                version: "fake 1".to_owned(),
                cgroup: 2,
                systemd_cgroups: false,
                memory_limit: true,
                swap_limit: true,
                pids_limit: true,
                live_restore: true,
                user_namespaces: false,
                apparmor: false,
                seccomp: true,
                runtimes: Vec::new(),
                runtime_version: String::new(),
                remap: None,
                gvisor: Gvisor::Absent,
                gvisor_by_default: false,
            })
        }
        .boxed()
    }

    fn has_image<'a>(&'a self, image: &'a str) -> Answer<'a, bool> {
        async move {
            self.obey("has_image").await?;
            Ok(Control::read(&self.shared.folder).image(image).is_ok())
        }
        .boxed()
    }

    fn ensure_image<'a>(&'a self, image: &'a str, progress: Progress) -> Answer<'a, ()> {
        async move {
            progress(format!("looking for {image}"));
            self.obey("ensure_image").await?;
            Control::read(&self.shared.folder).image(image)
        }
        .boxed()
    }

    fn images(&self) -> Answer<'_, Vec<ImageSeen>> {
        async move {
            self.obey("images").await?;
            Ok(Control::read(&self.shared.folder).images())
        }
        .boxed()
    }

    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, NetworkSeen> {
        async move {
            self.obey("ensure_network").await?;
            self.change("create the network", |_, state| state.record.network(plan))
        }
        .boxed()
    }

    fn remove_network<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        async move {
            self.obey("remove_network").await?;
            self.change("remove the network", |_, state| {
                state.record.networks.remove(name);
                Ok(())
            })
        }
        .boxed()
    }

    fn create<'a>(&'a self, plan: &'a ContainerPlan) -> Answer<'a, String> {
        async move {
            self.obey("create").await?;
            self.change("create the container", |_, state| state.record.create(plan))
        }
        .boxed()
    }

    fn check<'a>(&'a self, id: &'a str, plan: &'a ContainerPlan) -> Answer<'a, Vec<Drift>> {
        async move {
            self.obey("check").await?;
            let told = Control::read(&self.shared.folder).drifts(plan);
            Ok(self.shared.state().record.drifts(id, plan).into_iter().chain(told).collect())
        }
        .boxed()
    }

    fn list(&self) -> Answer<'_, Vec<ContainerSeen>> {
        async move {
            self.obey("list").await?;
            let state = self.shared.state();
            let mut all: Vec<ContainerSeen> =
                state.record.containers.values().map(|one| one.seen.clone()).collect();
            all.sort_by_key(|one| (one.workspace, one.run_serial));
            Ok(all)
        }
        .boxed()
    }

    fn workspaces(&self) -> Answer<'_, BTreeSet<WorkspaceId>> {
        async move {
            self.obey("workspaces").await?;
            let state = self.shared.state();
            Ok(state.record.containers.values().map(|one| one.seen.workspace).collect())
        }
        .boxed()
    }

    fn list_of(&self, workspace: WorkspaceId) -> Answer<'_, Vec<ContainerSeen>> {
        async move {
            self.obey("list_of").await?;
            let state = self.shared.state();
            let all = state.record.containers.values().map(|one| one.seen.clone());
            let mut ours: Vec<ContainerSeen> =
                all.filter(|seen| seen.workspace == workspace).collect();
            ours.sort_by_key(|one| one.run_serial);
            Ok(ours)
        }
        .boxed()
    }

    fn start<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        async move {
            self.obey("start").await?;
            if self.obey("keep_networks").await.is_err() {
                self.change("forget the networks", |_, state| {
                    state.record.networks.clear();
                    Ok(())
                })?;
            }
            self.change("start the container", |shared, state| {
                let container = state.record.start(id, now())?;
                if let Some(workspace) = container {
                    shared.attach(state, id);
                    shared.tell(id, workspace, Some(EngineEventKind::Started));
                }
                Ok(())
            })
        }
        .boxed()
    }

    fn update<'a>(&'a self, id: &'a str, caps: Caps) -> Answer<'a, ()> {
        async move {
            self.obey("update").await?;
            self.change("change the container's caps", |_, state| state.record.update(id, caps))?;
            self.obey("answer_update").await
        }
        .boxed()
    }

    fn stop<'a>(&'a self, id: &'a str, _grace: Duration) -> Answer<'a, ()> {
        async move {
            self.obey("stop").await?;
            self.change("stop the container", |shared, state| {
                if let Some(workspace) = exit(state, id, 0, false) {
                    let died = EngineEventKind::Died { exit_code: 0 };
                    shared.tell(id, workspace, Some(died));
                }
                Ok(())
            })
        }
        .boxed()
    }

    fn remove<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        async move {
            self.obey("remove").await?;
            self.change("remove the container", |shared, state| {
                exit(state, id, 137, false);
                if let Some(container) = state.record.containers.remove(id) {
                    // a log that was never written is gone already
                    let _ = fs::remove_file(shared.log(id));
                    shared.tell(id, container.seen.workspace, Some(EngineEventKind::Removed));
                }
                Ok(())
            })
        }
        .boxed()
    }

    fn logs<'a>(&'a self, id: &'a str, query: LogQuery) -> LogStream<'a> {
        let path = self.shared.log(id);
        let open = async move {
            self.obey("logs").await?;
            if !self.shared.state().record.containers.contains_key(id) {
                let detail = format!("no container {id}");
                return Err(EngineError::NotFound { operation: "read the log", detail });
            }
            Ok(follow(self, id, path, query))
        };
        stream::once(open)
            .flat_map(|opened| match opened {
                Ok(chunks) => chunks,
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }

    fn events(&self) -> EventStream<'_> {
        let receiver = self.shared.events.subscribe();
        stream::unfold(receiver, |mut receiver| async move {
            // closed, or this reader was too slow: the stream ends
            receiver.recv().await.ok().map(|event| (Ok(event), receiver))
        })
        .boxed()
    }

    fn usage<'a>(&'a self, container: &'a ContainerSeen) -> Answer<'a, Usage> {
        async move {
            self.obey("usage").await?;
            let running = matches!(container.state, ContainerState::Running { .. });
            let usage = Usage { memory: Amount::mib(12), pids: 3, cpu_ms: 40, ..Usage::default() };
            Ok(if running { usage } else { Usage::default() })
        }
        .boxed()
    }
}

/// Streams a log file from its tail on; with `follow` until the container has ended.
fn follow<'a>(
    engine: &'a FakeEngine,
    id: &'a str,
    path: PathBuf,
    query: LogQuery,
) -> LogStream<'a> {
    let from = query.tail.map_or(0, |lines| tail_start(&read(&path), lines));
    stream::unfold(Some((from, path)), move |state| async move {
        let (from, path) = state?;
        loop {
            let running = {
                let state = engine.shared.state();
                state.record.containers.get(id).is_some_and(Container::is_running)
            };
            let text = read(&path);
            if text.len() > from {
                let chunk = LogChunk { stderr: false, bytes: Bytes::from(text[from..].to_vec()) };
                return Some((Ok(chunk), Some((text.len(), path))));
            }
            if !query.follow || !running {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .boxed()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

/// Returns where the last `lines` lines begin.
fn tail_start(text: &[u8], lines: u32) -> usize {
    let ends: Vec<usize> =
        text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    let skip = ends.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
    if skip == 0 { 0 } else { ends[skip - 1] }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
