//! Ending a session with everything that was started in it.
//!
//! Killing the terminal is not enough: agents and what they run make sessions of their own and
//! outlive it. What carries the session's name in its environment is ended too, with all below it.
//! A program that was started with another environment and left its parent is nobody's.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read as _,
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use warren_common::{Limits, status::clean};

use crate::{
    journal::event,
    processes::{self, Process},
    tmux::Keeper,
};

/// Between two looks at who is left.
const LOOK: Duration = Duration::from_millis(20);
/// For the kernel to end what was killed.
const KILLED: Duration = Duration::from_secs(2);
/// What is read of a process's environment and of its command line, at most.
const READ_BYTES: u64 = 256 * 1024;
/// What remains is named up to this many.
const NAMED: usize = 4;

/// What becomes of the daemon in which Codex's turns run, whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    /// Another session has turns in it, or none of them is Codex's.
    Stays,
    /// This was the last one.
    Ends,
}

/// Ends a session and returns what could not be ended, for people.
pub(super) async fn session(keeper: &Keeper, name: &str, daemon: Daemon) -> Vec<String> {
    let seen = keeper.tmux().list().await.unwrap_or_default();
    let panes = seen.iter().filter(|seen| seen.name == name).flat_map(|seen| &seen.panes);
    let panes: BTreeSet<u32> = panes.filter(|pane| !pane.dead).map(|pane| pane.process).collect();
    let members = || members(name, &panes, daemon);
    // programs may tidy up while their terminals are there; a shell ignores this
    processes::signal(&heeding(&members()), Signal::TERM);
    processes::signal(&members(), Signal::CONT);
    let deadline = Instant::now() + Limits::SESSION_GRACE;
    until(deadline - Limits::SESSION_GRACE / 5, || heeding(&members()).is_empty()).await;
    for signal in [Signal::TERM, Signal::HUP, Signal::CONT] {
        processes::signal(&members(), signal);
    }
    if !until(deadline, || members().is_empty()).await {
        event!("session {name}: {} processes did not end and are killed", members().len());
        let deadline = Instant::now() + KILLED;
        while Instant::now() < deadline && !members().is_empty() {
            processes::signal(&members(), Signal::KILL);
            until(Instant::now() + LOOK, || members().is_empty()).await;
        }
    }
    keeper.close(name).await;
    // what was started while its parents ended
    processes::signal(&members(), Signal::KILL);
    until(Instant::now() + KILLED, || members().is_empty()).await;
    let left = members();
    left.iter().take(NAMED).map(|process| told(process.pid())).collect()
}

/// Returns the processes of a session.
fn members(name: &str, panes: &BTreeSet<u32>, daemon: Daemon) -> Vec<Process> {
    let all = processes::of_workspace();
    let mark = format!("WARREN_SESSION={name}");
    let mut family: BTreeSet<i32> = BTreeSet::new();
    for process in all.iter().filter(|process| !process.is_tmux_server()) {
        let pid = process.pid();
        let is_pane = u32::try_from(pid).is_ok_and(|pid| panes.contains(&pid));
        let is_marked = || carries(pid, &mark);
        let ends = || daemon == Daemon::Ends && is_codex_daemon(pid);
        if is_pane || is_marked() || ends() {
            family.insert(pid);
        }
    }
    // parents may have higher numbers than their children: repeat until nothing is added
    loop {
        let known = family.len();
        for process in &all {
            if family.contains(&process.parent()) {
                family.insert(process.pid());
            }
        }
        if family.len() == known {
            break;
        }
    }
    let mut members = all;
    members.retain(|process| family.contains(&process.pid()));
    if daemon == Daemon::Stays {
        let spared: Vec<i32> =
            members.iter().map(Process::pid).filter(|pid| is_codex_daemon(*pid)).collect();
        let below: BTreeSet<i32> =
            spared.iter().flat_map(|pid| processes::below(*pid)).chain(spared.clone()).collect();
        members.retain(|process| !below.contains(&process.pid()));
    }
    members
}

fn heeding(processes: &[Process]) -> Vec<Process> {
    processes.iter().copied().filter(Process::heeds_term).collect()
}

fn carries(pid: i32, mark: &str) -> bool {
    read(pid, "environ").split(|byte| *byte == 0).any(|pair| pair == mark.as_bytes())
}

fn is_codex_daemon(pid: i32) -> bool {
    let argv = read(pid, "cmdline");
    let mut words = argv.split(|byte| *byte == 0);
    let is_codex = words.next().is_some_and(|path| {
        let path = String::from_utf8_lossy(path);
        path.rsplit('/').next().is_some_and(|name| name == "codex")
    });
    is_codex && words.any(|word| word == b"app-server")
}

fn read(pid: i32, file: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/{file}")) {
        // one that has ended meanwhile has nothing
        let _ = file.take(READ_BYTES).read_to_end(&mut bytes);
    }
    bytes
}

/// Returns what people read of a process.
fn told(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} ({pid})", clean(name.trim(), Limits::NAME_BYTES))
}

async fn until(deadline: Instant, condition: impl Fn() -> bool) -> bool {
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK).await;
    }
}
