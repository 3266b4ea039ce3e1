//! Measuring: what each workspace uses, and who is killed in it for memory.
//!
//! One task reads the files of all containers, which stay open: the counters of kills every second,
//! everything every `FULL` ticks, and the kernel's log as it is written. Nobody asks the engine.
//! A reading is told only where it is news. What was killed is told at once, by the name that the
//! kernel gave, with what is known of the process from looks before; see `subject`.

mod kmsg;
mod network;
mod ring;
mod subject;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};
use warren_common::{
    Timestamp, WorkspaceId,
    measure::Kill,
    status::{SessionObserved, Usage},
};
use warren_daemon::clock;

use crate::{
    container::network_name,
    host::cgroup::{Buffer, Files, Layout},
};
use kmsg::{KernelLog, Said};
use network::Traffic;
use subject::Subject;

/// Counters are read this often.
const TICK: Duration = Duration::from_secs(1);
/// Everything is read at every so many ticks.
const FULL: u64 = 5;
/// Where the kernel's log broke off, it is opened again after this.
const REOPEN: Duration = Duration::from_secs(30);
/// A process that was named in the long line is not told again for the short one.
const NAMED: usize = 64;

/// What is known of one workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// What its container uses.
    pub usage: Usage,
    /// Who was killed in it, newest first, over all its containers in this life of the agent.
    pub kills: Vec<Kill>,
}

/// Measures workspaces; clones share everything. One that is off measures nothing.
#[derive(Debug, Clone)]
pub struct Gauge {
    core: Option<Arc<Mutex<Core>>>,
}

#[derive(Debug)]
struct Core {
    layout: Layout,
    subjects: BTreeMap<WorkspaceId, Subject>,
    buffer: Buffer,
    ticks: u64,
    /// The newest processes named in the long line.
    named: Vec<u32>,
}

impl Gauge {
    /// Makes one for a host with these cgroups; it reads nothing before [`Gauge::run`].
    pub fn new(layout: Layout) -> Self {
        let core = Core {
            layout,
            subjects: BTreeMap::new(),
            buffer: Buffer::default(),
            ticks: 0,
            named: Vec::new(),
        };
        Self { core: Some(Arc::new(Mutex::new(core))) }
    }

    /// Makes one that measures nothing, for engines without containers.
    pub const fn off() -> Self {
        Self { core: None }
    }

    /// Watches what is known of a workspace; none where nothing is measured.
    pub fn watch(&self, workspace: WorkspaceId) -> Option<watch::Receiver<Reading>> {
        Some(self.core()?.subject(workspace).reader())
    }

    /// Measures this container from now on, or none. Done again for the same one, it does nothing;
    /// one whose files cannot be opened yet is tried again with the next call.
    pub fn follow(&self, workspace: WorkspaceId, container: Option<(&str, u32)>) {
        let Some(mut core) = self.core() else { return };
        let core = &mut *core;
        let Some((id, pid)) = container else {
            if let Some(subject) = core.subjects.get_mut(&workspace) {
                subject.leave();
            }
            return;
        };
        if core.subject(workspace).holds(id) {
            return;
        }
        match Files::open(&core.layout, pid, id) {
            Ok(files) => {
                let mut buffer = std::mem::take(&mut core.buffer);
                let subject = core.subject(workspace);
                subject.enter(id, files, &mut buffer);
                subject.tick(Some(&Traffic::read()), &mut buffer, clock::now());
                core.buffer = buffer;
            }
            Err(error) => tracing::debug!(%workspace, %error, "not measured yet"),
        }
    }

    /// Notes which processes the sessions of a workspace run.
    pub fn sessions(&self, workspace: WorkspaceId, sessions: &[SessionObserved]) {
        let Some(mut core) = self.core() else { return };
        let panes = sessions.iter().map(|one| (one.name.clone(), one.panes.clone())).collect();
        core.subject(workspace).panes = panes;
    }

    /// Notes that the engine saw a kill in a container.
    pub fn hinted(&self, workspace: WorkspaceId, container: &str) {
        if let Some(mut core) = self.core() {
            core.subject(workspace).hinted(container);
        }
    }

    /// Forgets a workspace that is gone from this node.
    pub fn forget(&self, workspace: WorkspaceId) {
        if let Some(mut core) = self.core() {
            core.subjects.remove(&workspace);
        }
    }

    /// Measures until it is dropped.
    pub async fn run(self) {
        let Some(core) = &self.core else { return };
        let ticking = async {
            let mut ticks = interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                locked(core).tick(clock::now());
            }
        };
        let listening = async {
            loop {
                listen(core).await;
                sleep(REOPEN).await;
            }
        };
        tokio::join!(ticking, listening);
    }

    fn core(&self) -> Option<MutexGuard<'_, Core>> {
        self.core.as_ref().map(locked)
    }
}

/// Listens to the kernel until that fails.
async fn listen(core: &Arc<Mutex<Core>>) {
    let mut log = match KernelLog::open() {
        Ok(log) => log,
        Err(error) => {
            info!(%error, "the kernel's log cannot be read: kills are counted and not named");
            std::future::pending::<()>().await;
            return;
        }
    };
    loop {
        match log.next().await {
            Ok(said) => locked(core).hear(said, clock::now()),
            Err(error) => {
                warn!(%error, "the kernel's log broke off");
                return;
            }
        }
    }
}

fn locked(core: &Arc<Mutex<Core>>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    fn subject(&mut self, workspace: WorkspaceId) -> &mut Subject {
        let make = || Subject::new(network_name(workspace));
        self.subjects.entry(workspace).or_insert_with(make)
    }

    fn tick(&mut self, now: Timestamp) {
        let traffic = self.ticks.is_multiple_of(FULL).then(Traffic::read);
        self.ticks += 1;
        for subject in self.subjects.values_mut() {
            subject.tick(traffic.as_ref(), &mut self.buffer, now);
        }
    }

    fn hear(&mut self, said: Said, now: Timestamp) {
        match said {
            Said::Choosing => {
                for subject in self.subjects.values_mut() {
                    subject.look_if_close(&mut self.buffer);
                }
            }
            Said::Chosen { cgroup, name, pid } => {
                if let Some(subject) = self.subjects.values_mut().find(|one| one.is_in(&cgroup)) {
                    self.named.push(pid);
                    if self.named.len() > NAMED {
                        self.named.remove(0);
                    }
                    subject.killed(&name, pid, now);
                }
            }
            Said::Killed { name, pid } => {
                if let Some(at) = self.named.iter().position(|named| *named == pid) {
                    self.named.remove(at);
                } else if let Some(subject) = self.home_of(pid) {
                    subject.killed(&name, pid, now);
                }
            }
        }
    }

    /// Returns the subject of a process that the kernel named without its cgroup: as the kernel
    /// says while it is still there, else as it was last seen.
    fn home_of(&mut self, pid: u32) -> Option<&mut Subject> {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let subjects = &self.subjects;
        let found = paths.find_map(|path| subjects.iter().find(|(_, one)| one.is_in(path)));
        let known = || subjects.iter().find(|(_, one)| one.knows(pid));
        let id = *found.or_else(known)?.0;
        self.subjects.get_mut(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_off_measures_nothing() {
        let gauge = Gauge::off();
        let id = "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id");
        assert!(gauge.watch(id).is_none());
        gauge.follow(id, Some(("4f1c", 1)));
        gauge.hinted(id, "4f1c");
    }

    #[test]
    fn a_process_of_another_cgroup_is_nobodys_container() {
        let id = "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id");
        let gauge = Gauge::new(Layout::read().expect("mounts"));
        let reading = gauge.watch(id).expect("on");
        gauge.follow(id, Some(("no-such-container", std::process::id())));
        assert_eq!(*reading.borrow(), Reading::default());
        gauge.forget(id);
        assert!(reading.has_changed().is_err(), "nobody measures it any more");
    }
}
