//! The processes of the workspace, read from `/proc`.

use std::{
    fs::{self, File},
    io::Read as _,
    process,
};

use rustix::process::{Pid, Signal, kill_process};

/// Bit of SIGTERM in the masks of `/proc/<pid>/status`.
const TERM_BIT: u64 = 1 << 14;
/// Threads of one process asked for their children, and bytes of the answers, at most.
const THREADS: usize = 128;
const CHILDREN_BYTES: usize = 64 * 1024;

/// One process as `/proc/<pid>/stat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    zombie: bool,
}

/// Returns every process but this one that belongs to the workspace: all there are where this is
/// PID 1, else its descendants. Zombies are left out.
pub(crate) fn of_workspace() -> Vec<Process> {
    let own = i32::try_from(process::id()).unwrap_or_default();
    let all = read_all();
    let mut ours: Vec<Process> =
        if own == 1 { all } else { descendants(&all, own).copied().collect() };
    ours.retain(|process| process.pid != own && !process.zombie);
    ours
}

impl Process {
    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) const fn parent(&self) -> i32 {
        self.parent
    }

    /// Returns whether SIGTERM can end it: an interactive shell ignores it.
    pub(crate) fn heeds_term(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.unwrap_or_default() & TERM_BIT == 0
    }

    /// Returns whether it is a tmux server, whose end hangs up on every session.
    pub(crate) fn is_tmux_server(&self) -> bool {
        name(self.pid).trim() == "tmux: server"
    }
}

/// Returns whether it is a tmux server, or may become one in this moment.
pub(crate) fn is_tmux(pid: i32) -> bool {
    name(pid).starts_with("tmux")
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

/// Sends `signal` to each of `processes`; one that has gone is not an error.
pub(crate) fn signal(processes: &[Process], signal: Signal) {
    for process in processes {
        if let Some(pid) = Pid::from_raw(process.pid) {
            // It may have ended since, or run under another user id through no fault of ours.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Sends `signal` to every process of the session that `leader` leads.
pub(crate) fn signal_session(leader: Pid, with: Signal) {
    let leader = leader.as_raw_nonzero().get();
    let members: Vec<Process> =
        read_all().into_iter().filter(|process| process.session == leader).collect();
    signal(&members, with);
}

/// Returns the process ids of the children of `parent`, whichever of its threads started them; none
/// where the kernel keeps no list. Of very many threads and children some are left out.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let mut list = String::new();
    for thread in threads.filter_map(Result::ok).take(THREADS) {
        let Ok(file) = File::open(thread.path().join("children")) else { continue };
        let room = CHILDREN_BYTES.saturating_sub(list.len());
        // a thread that has ended meanwhile has none
        let _ = file.take(room.try_into().unwrap_or(u64::MAX)).read_to_string(&mut list);
        list.push(' ');
    }
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Returns the process ids of everything below `parent`.
pub(crate) fn below(parent: i32) -> Vec<i32> {
    let all = read_all();
    descendants(&all, parent).map(|process| process.pid).filter(|pid| *pid != parent).collect()
}

fn descendants(all: &[Process], root: i32) -> impl Iterator<Item = &Process> {
    let mut family = vec![root];
    // Parents may have higher numbers than their children: repeat until nothing is added.
    loop {
        let known = family.len();
        for process in all {
            if family.contains(&process.parent) && !family.contains(&process.pid) {
                family.push(process.pid);
            }
        }
        if family.len() == known {
            break;
        }
    }
    all.iter().filter(move |process| family.contains(&process.pid))
}

fn read_all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse::<i32>().ok())
        .filter_map(|pid| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// Parses `pid (comm) state ppid pgrp session …`; `comm` may hold anything, brackets too.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session, zombie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let seen = parse(7, "7 (a) R 1 (b)) S 3 7 5 0 -1").expect("a process");
        assert_eq!(seen, Process { pid: 7, parent: 3, session: 5, zombie: false });
        assert!(parse(7, "7 (a) Z 3 7 5").expect("a process").zombie);
        assert_eq!(parse(7, "nonsense"), None);
    }

    #[test]
    fn a_child_of_any_thread_is_found() {
        let child = std::thread::scope(|scope| {
            let started = scope.spawn(|| {
                let child = process::Command::new("sleep").arg("100").spawn().expect("sleep");
                let own = i32::try_from(process::id()).expect("a pid");
                (children(own), child)
            });
            started.join().expect("it ends")
        });
        let (found, mut child) = child;
        let pid = i32::try_from(child.id()).expect("a pid");
        let ended = child.kill().and_then(|()| child.wait());
        assert!(ended.is_ok() && found.contains(&pid), "{pid} in {found:?}");
    }

    #[test]
    fn descendants_are_found_in_any_order() {
        let process = |pid, parent| Process { pid, parent, session: 0, zombie: false };
        let all = [process(2, 9), process(9, 5), process(5, 1), process(8, 1)];
        let found: Vec<i32> = descendants(&all, 5).map(|process| process.pid).collect();
        assert_eq!(found, [2, 9, 5]);
    }
}
