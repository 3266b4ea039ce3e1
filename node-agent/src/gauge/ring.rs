//! The processes of one container as they were last seen, the dead ones for a while.
//!
//! The kernel names a process it kills by 15 bytes of its name; what it was started as and in which
//! session is only known from looks before. A look reads what is new: a process is read when it
//! appears and once again at the next look, because most become another program right after.

use std::{collections::BTreeMap, fs, io::Read as _};

use warren_common::{SessionName, measure::Kill};

/// Processes of one container that are remembered.
const PROCESSES: usize = 2048;
/// A process that is gone is forgotten after so many looks.
const REMEMBERED: u64 = 24;
/// Bytes read of a command line: more than is shown, since what is shown is cleaned.
const COMMAND_BYTES: u64 = 1024;
/// Steps from a process to the first of its session, at most.
const ANCESTORS: usize = 64;
/// Bytes of a name in the kernel.
const NAME_BYTES: usize = 15;

/// The panes of a session: process ids inside.
pub(super) type Panes = Vec<(SessionName, Vec<u32>)>;

/// One process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Process {
    /// Its name.
    pub(super) name: String,
    /// What it was started as, fit for screens.
    pub(super) command: String,
    parent: u32,
    leader: u32,
    /// Its id inside the container.
    inside: u32,
    /// Looks at which it was read.
    reads: u8,
    /// The look at which it was last there.
    seen: u64,
}

/// The processes of one container.
#[derive(Debug, Default)]
pub(super) struct Ring {
    processes: BTreeMap<u32, Process>,
    looks: u64,
}

impl Ring {
    /// Takes a look: these are there now.
    pub(super) fn look(&mut self, pids: &[u32]) {
        self.looks += 1;
        for pid in pids {
            let known = self.processes.get(pid);
            if known.is_none() && self.processes.len() >= PROCESSES {
                continue;
            }
            // one that was gone for a look is another by now
            let same = known.filter(|known| known.seen + 1 == self.looks);
            let reads = same.map_or(0, |known| known.reads);
            if reads < 2
                && let Some(process) = read(*pid)
            {
                // one that is just becoming a program has no command line yet
                let reads = reads + u8::from(!process.command.is_empty());
                self.processes.insert(*pid, Process { reads, seen: self.looks, ..process });
            } else if let Some(known) = self.processes.get_mut(pid) {
                known.seen = self.looks;
            }
        }
        let oldest = self.looks.saturating_sub(REMEMBERED);
        self.processes.retain(|_, process| process.seen >= oldest);
    }

    /// Returns the process of this id and name, looking again where it was never seen or bears
    /// another name: it may be there still.
    pub(super) fn find(&mut self, pid: u32, name: &str) -> Option<&Process> {
        let named =
            |process: &Process| process.name.get(..NAME_BYTES).unwrap_or(&process.name) == name;
        let known =
            self.processes.get(&pid).is_some_and(|known| named(known) && !known.command.is_empty());
        if !known
            && let Some(process) = read(pid)
            && named(&process)
        {
            let kept = self.processes.get(&pid).filter(|known| named(known));
            let command = match kept {
                Some(kept) if process.command.is_empty() => kept.command.clone(),
                _ => process.command.clone(),
            };
            let seen = self.looks;
            self.processes.insert(pid, Process { command, seen, reads: 1, ..process });
        }
        self.processes.get(&pid).filter(|process| named(process))
    }

    /// Whether a process of this id was seen here.
    pub(super) fn knows(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid)
    }

    /// Returns the session that a process runs in: the one whose pane it or one of those that
    /// started it is.
    pub(super) fn session(&self, pid: u32, panes: &Panes) -> Option<SessionName> {
        let pane_of = |process: &Process| {
            let pane = panes.iter().find(|(_, pids)| pids.contains(&process.inside));
            pane.filter(|_| process.inside != 0).map(|(name, _)| name.clone())
        };
        let mut at = pid;
        for _ in 0..ANCESTORS {
            let Some(process) = self.processes.get(&at) else { break };
            if let Some(name) = pane_of(process) {
                return Some(name);
            }
            at = process.parent;
        }
        // its ancestors ended: the kernel's session is that of the pane still
        let leader = self.processes.get(&pid)?.leader;
        self.processes.get(&leader).and_then(pane_of)
    }
}

/// Reads a process that is there, or is a zombie: then it has no command line any more.
fn read(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut command = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        // of a process that ends meanwhile there is nothing
        let _ = file.take(COMMAND_BYTES).read_to_end(&mut command);
    }
    parse(&stat, &status, &command)
}

/// Puts a process together from `stat`, `status` and `cmdline`.
fn parse(stat: &str, status: &str, command: &[u8]) -> Option<Process> {
    let (head, fields) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = fields.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let leader = fields.nth(1)?.parse().ok()?;
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inside = inside.and_then(|pids| pids.split_ascii_whitespace().last()?.parse().ok());
    let command = String::from_utf8_lossy(command).trim_end_matches('\0').replace('\0', " ");
    Some(Process {
        name,
        command: Kill::command_line(&command),
        parent,
        leader,
        inside: inside.unwrap_or(0),
        ..Process::default()
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn process(parent: u32, leader: u32, inside: u32) -> Process {
        Process { name: "x".to_owned(), parent, leader, inside, ..Process::default() }
    }

    fn panes() -> Panes {
        vec![("main".parse().expect("a name"), vec![7]), ("aux".parse().expect("a name"), vec![9])]
    }

    #[test]
    fn a_process_is_put_together_from_the_kernels_files() {
        let stat = "4711 (a) b) S 40 4711 39 34816 -1";
        let seen = parse(stat, "Name:\tx\nNSpid:\t4711\t12\n", b"node\0server.js\0--x\x1b\0");
        let seen = seen.expect("a process");
        assert_eq!((seen.name.as_str(), seen.command.as_str()), ("a) b", "node server.js --x"));
        assert_eq!((seen.parent, seen.leader, seen.inside), (40, 39, 12));
        assert_eq!(parse("nonsense", "", b""), None);
    }

    #[test]
    fn a_session_is_found_through_ancestors_and_through_the_leader() {
        let processes = [
            (100, process(1, 100, 7)),
            (101, process(100, 100, 20)),
            (102, process(101, 102, 21)),
            // its parent ended, and PID 1 took it
            (103, process(1, 100, 22)),
            (104, process(1, 104, 23)),
        ];
        let ring = Ring { processes: processes.into(), ..Ring::default() };
        let of = |pid| ring.session(pid, &panes()).map(|name| name.to_string());
        assert_eq!(of(102).as_deref(), Some("main"), "a child's child");
        assert_eq!(of(103).as_deref(), Some("main"), "the leader's");
        assert_eq!((of(104), of(999)), (None, None), "in no session, and unknown");
    }

    #[test]
    fn a_process_that_ended_is_known_for_a_while() {
        let mut sleeper =
            Command::new("sleep").arg("4711").stdin(Stdio::null()).spawn().expect("sleep");
        let pid = sleeper.id();
        let mut ring = Ring::default();
        while ring.processes.get(&pid).is_none_or(|seen| seen.reads < 2) {
            ring.look(&[pid]);
        }
        sleeper.kill().expect("killed");
        sleeper.wait().expect("ended");
        ring.look(&[]);
        let found = ring.find(pid, "sleep").expect("remembered");
        assert_eq!(found.command, "sleep 4711");
        assert_eq!(ring.find(pid, "other"), None, "another name is another process");
        for _ in 0..=REMEMBERED {
            ring.look(&[]);
        }
        assert!(!ring.knows(pid), "and then forgotten");
    }
}
