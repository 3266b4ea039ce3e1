//! One workspace that is measured: its container's files and processes, and who was killed in it.
//!
//! Two sources say that a process was killed: the kernel's log, which names it, and the counter of
//! the container's cgroup, which never lies and names nobody. A name pays one count back; what is
//! owed for longer than [`PATIENCE`] is told as unknown rather than guessed.

use std::{collections::VecDeque, time::Instant};

use tokio::sync::watch;
use warren_common::{
    Bytes, Limits, Timestamp,
    measure::{Kill, KillSource, UNKNOWN},
    status::Usage,
};

use super::{
    Reading,
    network::Traffic,
    ring::{Panes, Ring},
};
use crate::host::cgroup::{Buffer, Files};

/// Ticks that a counted kill waits for its name.
const PATIENCE: u32 = 2;
/// Processes looked at in one container.
const PROCESSES: usize = 1024;
/// Part of the cap above which processes are looked at each tick, percent.
const CLOSE: u64 = 75;
/// Changes below these are no news, but for every [`STALE`].
const NEWS: Bytes = Bytes::mib(1);
const NEWS_CPU: u32 = 20;
const STALE: std::time::Duration = std::time::Duration::from_secs(30);

/// The container of a subject.
#[derive(Debug)]
struct Container {
    id: String,
    files: Files,
    ring: Ring,
    counted: u64,
    /// Its cgroup is gone; what the kernel says of it may still come.
    gone: bool,
    /// Counted and not named; below zero what was named and not counted yet.
    owed: i64,
    owed_for: u32,
}

/// One workspace.
#[derive(Debug)]
pub(super) struct Subject {
    container: Option<Container>,
    pub(super) panes: Panes,
    /// Name of its bridge.
    bridge: String,
    /// Newest first.
    kills: VecDeque<Kill>,
    /// The engine said that somebody was killed: in which container, and how many ticks ago.
    hint: Option<(String, u32)>,
    /// Kills told since the hint, or shortly before.
    told: u32,
    sender: watch::Sender<Reading>,
    sent: Instant,
}

impl Subject {
    pub(super) fn new(bridge: String) -> Self {
        Self {
            container: None,
            panes: Vec::new(),
            bridge,
            kills: VecDeque::new(),
            hint: None,
            told: 0,
            sender: watch::Sender::default(),
            sent: Instant::now(),
        }
    }

    pub(super) fn reader(&self) -> watch::Receiver<Reading> {
        self.sender.subscribe()
    }

    /// Measures this container from now on. What was killed in it before is counted, not told.
    pub(super) fn enter(&mut self, id: &str, files: Files, buffer: &mut Buffer) {
        let counted = files.kills(buffer).unwrap_or(0);
        let (ring, id) = (Ring::default(), id.to_owned());
        self.container =
            Some(Container { id, files, ring, counted, gone: false, owed: 0, owed_for: 0 });
    }

    /// Whether this container is measured now.
    pub(super) fn holds(&self, id: &str) -> bool {
        self.container.as_ref().is_some_and(|container| container.id == id && !container.gone)
    }

    /// Whether a cgroup, as the kernel names it, is that of the container.
    pub(super) fn is_in(&self, cgroup: &str) -> bool {
        let Some(container) = &self.container else { return false };
        let scope = format!("-{}.scope", container.id);
        cgroup.split('/').any(|part| part == container.id || part.ends_with(&scope))
    }

    /// The container runs no more.
    pub(super) fn leave(&mut self) {
        if let Some(container) = &mut self.container {
            container.gone = true;
        }
    }

    /// Reads the counters, and with `traffic` everything.
    pub(super) fn tick(&mut self, traffic: Option<&Traffic>, buffer: &mut Buffer, now: Timestamp) {
        self.take_hint(now);
        let Some(container) = self.container.as_mut().filter(|container| !container.gone) else {
            return;
        };
        match container.files.kills(buffer) {
            Ok(kills) => {
                let new = kills.saturating_sub(container.counted);
                container.counted = kills;
                container.owed += i64::try_from(new).unwrap_or(0);
            }
            Err(_) => {
                container.gone = true;
                return;
            }
        }
        let close = container.close(buffer);
        if close || traffic.is_some() {
            container.look(buffer);
        }
        container.owed_for = if container.owed == 0 { 0 } else { container.owed_for + 1 };
        if container.owed_for > PATIENCE {
            let owed = usize::try_from(container.owed).unwrap_or(0).min(Limits::KILLS);
            (container.owed, container.owed_for) = (0, 0);
            let cgroup = container.files.path.clone();
            for _ in 0..owed {
                self.tell(unnamed(now, cgroup.clone()));
            }
        }
        if let Some(traffic) = traffic {
            self.measure(traffic, buffer);
        }
    }

    /// Takes a look at all processes now where the memory is near its cap: one will be killed.
    pub(super) fn look_if_close(&mut self, buffer: &mut Buffer) {
        if let Some(container) = &mut self.container
            && !container.gone
            && container.close(buffer)
        {
            container.look(buffer);
        }
    }

    /// Whether the process is, or was, one of the container's.
    pub(super) fn knows(&self, pid: u32) -> bool {
        self.container.as_ref().is_some_and(|container| container.ring.knows(pid))
    }

    /// Tells who was killed, as the kernel named it.
    pub(super) fn killed(&mut self, name: &str, pid: u32, now: Timestamp) {
        let Some(container) = &mut self.container else { return };
        let command = container.ring.find(pid, name).map(|found| found.command.clone());
        let session = container.ring.session(pid, &self.panes);
        container.owed -= 1;
        let name = warren_common::status::reason(name);
        let kill = Kill {
            at: now,
            process: if name.is_empty() { UNKNOWN.to_owned() } else { name },
            command: command.unwrap_or_default(),
            session,
            pid: Some(pid),
            source: KillSource::KernelLog,
            cgroup: container.files.path.clone(),
        };
        self.tell(kill);
    }

    /// Notes that the engine saw a kill in a container, which may be gone with its counter by now.
    pub(super) fn hinted(&mut self, container: &str) {
        if self.hint.is_none() {
            self.hint = Some((container.to_owned(), 0));
        }
    }

    /// Believes the engine where neither counter nor kernel said anything.
    fn take_hint(&mut self, now: Timestamp) {
        let Some((container, ticks)) = &mut self.hint else {
            self.told = self.told.saturating_sub(1);
            return;
        };
        *ticks += 1;
        if *ticks <= 2 * PATIENCE {
            return;
        }
        let container = std::mem::take(container);
        self.hint = None;
        if self.told == 0 {
            self.tell(unnamed(now, container));
        }
        self.told = 0;
    }

    fn tell(&mut self, kill: Kill) {
        self.told = 2 * PATIENCE;
        self.kills.push_front(kill);
        self.kills.truncate(Limits::KILLS);
        let kills = self.kills.iter().cloned().collect();
        self.sender.send_modify(|reading| {
            reading.usage.oom_kills = reading.usage.oom_kills.saturating_add(1);
            reading.kills = kills;
        });
    }

    /// Reads everything, and tells it where it is news.
    pub(super) fn measure(&mut self, traffic: &Traffic, buffer: &mut Buffer) {
        let Some(container) = self.container.as_mut().filter(|container| !container.gone) else {
            return;
        };
        let Ok(mut usage) = container.files.usage(buffer) else { return };
        // the bridge receives what the workspace sends
        let (received, sent) = traffic.of(&self.bridge);
        (usage.received, usage.sent) = (Bytes(sent), Bytes(received));
        let stale = self.sent.elapsed() >= STALE;
        let told = self.sender.send_if_modified(|reading| {
            let news = stale || is_news(&reading.usage, &usage);
            if news {
                reading.usage = usage;
            }
            news
        });
        if told {
            self.sent = Instant::now();
        }
    }
}

impl Container {
    fn close(&self, buffer: &mut Buffer) -> bool {
        let Ok((memory, cap)) = self.files.memory(buffer) else { return false };
        cap.0 > 0 && memory.0 / 100 >= cap.0 / 10_000 * CLOSE
    }

    fn look(&mut self, buffer: &mut Buffer) {
        let mut pids = Vec::new();
        if buffer.pids(&self.files.procs, PROCESSES, |pid| pids.push(pid)).is_ok() {
            self.ring.look(&pids);
        }
    }
}

fn unnamed(at: Timestamp, cgroup: String) -> Kill {
    Kill {
        at,
        process: UNKNOWN.to_owned(),
        command: String::new(),
        session: None,
        pid: None,
        source: KillSource::Counter,
        cgroup,
    }
}

/// Whether a reading says something that the one before did not.
fn is_news(before: &Usage, now: &Usage) -> bool {
    let moved = |one: Bytes, other: Bytes| one.0.abs_diff(other.0) >= NEWS.0;
    moved(before.memory, now.memory)
        || moved(before.working_set, now.working_set)
        || moved(before.swap, now.swap)
        || moved(before.received, now.received)
        || moved(before.sent, now.sent)
        || before.memory_cap != now.memory_cap
        || before.pids != now.pids
        || before.oom_kills != now.oom_kills
        || before.cpu.0.abs_diff(now.cpu.0) >= NEWS_CPU
        || before.pressure != now.pressure
}

#[cfg(test)]
#[path = "subject_tests.rs"]
mod tests;
