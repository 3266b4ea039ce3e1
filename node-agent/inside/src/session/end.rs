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
use warren_common::{Limits, spec::AgentProgram, status::clean};

use crate::{
    agent::Agents,
    journal::event,
    processes::{self, Process},
    tmux::{Keeper, Seen},
};

/// Between two looks at who is left.
const LOOK: Duration = Duration::from_millis(20);
/// For the kernel to end what was killed.
const KILLED: Duration = Duration::from_secs(2);
/// What is read of a process's environment and of its command line, at most.
const READ_BYTES: u64 = 256 * 1024;
/// What remains is named up to this many.
const NAMED: usize = 4;

/// Notes that a session is about to end, without asking tmux: from now on it is told as running until all
/// of it has ended, whoever takes its terminals. A pane that is just being made is not seen here yet.
pub(super) async fn begins(keeper: &Keeper, name: &str) {
    keeper.ending(name, !members(name, &BTreeSet::new()).is_empty()).await;
}

/// Ends a session and returns what could not be ended, for people.
pub(super) async fn session(keeper: &Keeper, agents: &Agents, name: &str) -> Vec<String> {
    let thread = agents.thread(name).filter(|_| agents.is(name, AgentProgram::Codex.as_str()));
    let seen = keeper.tmux().list().await.unwrap_or_default();
    let panes = seen.iter().filter(|seen| seen.name == name).flat_map(|seen| &seen.panes);
    let panes: BTreeSet<u32> = panes.filter(|pane| !pane.dead).map(|pane| pane.process).collect();
    let members = || members(name, &panes);
    keeper.ending(name, !members().is_empty()).await;
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
        killed(&members).await;
    }
    // nobody is there any more to give it another prompt
    if let Some(thread) = thread {
        agents.interrupt(name, &thread).await;
    }
    // what was started while its parents ended
    processes::signal(&members(), Signal::KILL);
    until(Instant::now() + KILLED, || members().is_empty()).await;
    let seen = keeper.tmux().list().await.unwrap_or_default();
    let runs = |seen: &&Seen| seen.exit.is_none();
    let running: BTreeSet<String> =
        seen.iter().filter(runs).map(|seen| seen.name.clone()).collect();
    end_daemon(name, &running).await;
    // last: until then it is told as running, and whoever reads that it is stopped may rely on it
    keeper.close(name).await;
    // what a person started in it meanwhile
    processes::signal(&members(), Signal::KILL);
    until(Instant::now() + KILLED, || members().is_empty()).await;
    members().iter().take(NAMED).map(|process| told(process.pid())).collect()
}

/// Ends the daemon of Codex that this session started, or one that runs no more, where no Codex is
/// left that may have turns in it.
async fn end_daemon(name: &str, running: &BTreeSet<String>) {
    let daemon = || idle_daemon(name, running);
    if daemon().is_empty() {
        return;
    }
    event!("session {name}: Codex's daemon ends with the last of its sessions");
    processes::signal(&daemon(), Signal::TERM);
    if !until(Instant::now() + KILLED, || daemon().is_empty()).await {
        killed(&daemon).await;
    }
}

/// Kills again and again: one that was starting may have been missed.
async fn killed(members: &impl Fn() -> Vec<Process>) {
    let deadline = Instant::now() + KILLED;
    while Instant::now() < deadline && !members().is_empty() {
        processes::signal(&members(), Signal::KILL);
        until(Instant::now() + LOOK, || members().is_empty()).await;
    }
}

/// Returns the processes of a session. Codex's daemon, in which turns of other sessions run, is none
/// of them, whoever started it.
fn members(name: &str, panes: &BTreeSet<u32>) -> Vec<Process> {
    let mut all = processes::of_workspace();
    let is_first = |process: &Process| {
        let is_pane = u32::try_from(process.pid()).is_ok_and(|pid| panes.contains(&pid));
        is_pane || session_of(process.pid()).as_deref() == Some(name)
    };
    let first = all.iter().filter(|process| !process.is_tmux_server() && is_first(process));
    let family = family(&all, first.map(Process::pid).collect());
    let daemons = all.iter().filter(|one| family.contains(&one.pid()) && is_daemon(one.pid()));
    let spared = self::family(&all, daemons.map(Process::pid).collect());
    all.retain(|one| family.contains(&one.pid()) && !spared.contains(&one.pid()));
    all
}

/// Returns Codex's daemon with all below it, where it belongs to this session, or to one that does
/// not run, and no other Codex lives in the workspace.
fn idle_daemon(name: &str, running: &BTreeSet<String>) -> Vec<Process> {
    let mut all = processes::of_workspace();
    let (daemons, codex): (Vec<i32>, Vec<i32>) =
        all.iter().map(Process::pid).filter(|pid| is_codex(*pid)).partition(|pid| is_daemon(*pid));
    let below = family(&all, daemons.iter().copied().collect());
    if codex.iter().any(|pid| !below.contains(pid)) {
        return Vec::new();
    }
    let is_over = |pid: &i32| {
        // one that a person started by hand stays theirs
        session_of(*pid).is_some_and(|of| of == name || !running.contains(&of))
    };
    let over = family(&all, daemons.into_iter().filter(is_over).collect());
    all.retain(|process| over.contains(&process.pid()));
    all
}

/// Returns these processes and all below them.
fn family(all: &[Process], first: BTreeSet<i32>) -> BTreeSet<i32> {
    let mut family = first;
    // parents may have higher numbers than their children: repeat until nothing is added
    loop {
        let known = family.len();
        for process in all {
            if family.contains(&process.parent()) {
                family.insert(process.pid());
            }
        }
        if family.len() == known {
            return family;
        }
    }
}

fn heeding(processes: &[Process]) -> Vec<Process> {
    processes.iter().copied().filter(Process::heeds_term).collect()
}

/// Returns the session that a process was started in, by its environment.
fn session_of(pid: i32) -> Option<String> {
    let environment = read(pid, "environ");
    let mut pairs = environment.split(|byte| *byte == 0);
    let name = pairs.find_map(|pair| pair.strip_prefix(b"WARREN_SESSION="))?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn is_codex(pid: i32) -> bool {
    let argv = read(pid, "cmdline");
    let path = argv.split(|byte| *byte == 0).next().unwrap_or_default();
    path.rsplit(|byte| *byte == b'/').next() == Some(b"codex")
}

fn is_daemon(pid: i32) -> bool {
    let argv = read(pid, "cmdline");
    is_codex(pid) && argv.split(|byte| *byte == 0).any(|word| word == b"app-server")
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
