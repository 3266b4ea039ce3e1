//! One process and what it started, read from `/proc` a few files at a time.
//!
//! [`crate::processes`] reads all there are; this is for looks that repeat.

use std::{
    fs::{self, File},
    io::Read as _,
};

use rustix::{
    fs::{Mode, OFlags},
    termios::{LocalModes, tcgetattr},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};
use warren_common::Timestamp;

use crate::processes;

/// Processes of one pane looked at, at most.
const MOST: usize = 128;
/// Bytes of a command line looked at.
const ARGV_BYTES: u64 = 4096;
/// Ticks of a second: the kernel tells 100 wherever Linux runs today.
const TICKS: u64 = 100;
/// Flag of a process that has not called `exec` since its `fork`: `PF_FORKNOEXEC` in field 9 of its
/// `stat`, shown as 1 by ps(1). gVisor tells no flags.
const FORKED: i64 = 0x40;
/// Number of the system call `read`.
const READ: &str = if cfg!(target_arch = "x86_64") { "0" } else { "63" };

/// A process, told from a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) pid: u32,
    /// Field 22 of its `stat`.
    pub(crate) start: u64,
}

/// What `/proc/<pid>/stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) life: Life,
    pub(crate) parent: u32,
    pub(crate) group: i32,
    /// The group in the foreground of its terminal.
    pub(crate) foreground: i32,
    /// It was forked and has become no other program since: its command line is that of what forked
    /// it, where it wrote no title over it. Never told under gVisor.
    pub(crate) is_copy: bool,
    /// Processor time of itself and of children that it waited for.
    pub(crate) ticks: u64,
}

impl Life {
    /// Returns the process with this id; none where there is none or it has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(stat(pid)?.life)
    }

    /// Returns whether it still runs.
    pub(crate) fn is_there(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Returns when it began.
    pub(crate) fn begun(self, now: Timestamp) -> Timestamp {
        let since_boot = clock_gettime(ClockId::Boottime);
        let ms = u64::try_from(since_boot.tv_sec).unwrap_or_default() * 1000
            + u64::try_from(since_boot.tv_nsec).unwrap_or_default() / 1_000_000;
        let begun = self.start.saturating_mul(1000 / TICKS);
        Timestamp(now.0.saturating_sub(ms.saturating_sub(begun)))
    }
}

/// Returns what the kernel tells of a process; none where it has ended.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(pid: u32, stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<i64>().ok());
    let ticks: i64 = (11..15).filter_map(number).sum();
    Some(Stat {
        life: Life { pid, start: fields.get(19)?.parse().ok()? },
        parent: u32::try_from(number(1)?).ok()?,
        group: i32::try_from(number(2)?).ok()?,
        foreground: i32::try_from(number(5)?).ok()?,
        is_copy: number(6)? & FORKED != 0,
        ticks: u64::try_from(ticks).unwrap_or_default(),
    })
}

/// Returns `root` and what runs below it, those nearer to it first, at most [`MOST`].
pub(crate) fn below(root: u32) -> Vec<Stat> {
    let mut found: Vec<Stat> = stat(root).into_iter().collect();
    let mut at = 0;
    while at < found.len() {
        let parent = i32::try_from(found[at].life.pid).unwrap_or_default();
        for child in processes::children(parent) {
            if found.len() == MOST {
                return found;
            }
            found.extend(u32::try_from(child).ok().and_then(stat));
        }
        at += 1;
    }
    found
}

/// Returns the processor time of `root` and what runs below it.
pub(crate) fn ticks(root: u32) -> u64 {
    below(root).iter().map(|stat| stat.ticks).sum()
}

/// Returns the words of a process's command line, at most [`ARGV_BYTES`] of them; none of one that is
/// just becoming another program.
pub(crate) fn argv(pid: u32) -> Vec<String> {
    words(pid, "cmdline", ARGV_BYTES)
}

/// Returns the words in a file of a process, at most so many bytes of them.
pub(crate) fn words(pid: u32, file: &str, limit: u64) -> Vec<String> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/{file}")) {
        // what was read before an error counts
        let _ = file.take(limit).read_to_end(&mut bytes);
    }
    if bytes.is_empty() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
}

/// Returns the folder that a process is in.
pub(crate) fn folder(pid: u32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()?.into_os_string().into_string().ok()
}

/// Returns whether a process reads what a person types: it is in `read` on a terminal as its
/// standard input.
pub(crate) fn reads_terminal(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let mut words = call.split_ascii_whitespace();
    let reads = words.next() == Some(READ) && words.next() == Some("0x0");
    reads
        && fs::read_link(format!("/proc/{pid}/fd/0"))
            .is_ok_and(|path| path.starts_with("/dev/pts/"))
}

/// Returns whether the terminal that is a process's standard input gives it keys one by one. Before a
/// program asks for that, the terminal gathers and shows lines by itself, and what is typed is lost where
/// the program throws away what came until then.
pub(crate) fn takes_keys(pid: u32) -> bool {
    let Ok(path) = fs::read_link(format!("/proc/{pid}/fd/0")) else { return false };
    if !path.starts_with("/dev/pts/") {
        return false;
    }
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(terminal) = rustix::fs::open(&path, flags, Mode::empty()) else { return false };
    tcgetattr(&terminal).is_ok_and(|modes| !modes.local_modes.contains(LocalModes::ICANON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_understood() {
        let line = "7 (a) R 1 (b)) S 3 7 5 34816 9 0 0 0 0 0 11 12 13 14 20 0 1 0 4711 0";
        let seen = parse(7, line).expect("a process");
        assert_eq!(seen.life, Life { pid: 7, start: 4711 });
        assert_eq!((seen.parent, seen.group, seen.foreground, seen.ticks), (3, 7, 9, 50));
        let flagged = |flags: &str| parse(7, &line.replace("9 0 0", &format!("9 {flags} 0")));
        let copy = |flags: &str| flagged(flags).expect("a process").is_copy;
        assert!(!copy("0") && !copy("4194560") && copy("4194368"));
        assert_eq!(parse(7, &line.replace(") S", ") Z")), None);
        assert_eq!(parse(7, "nonsense"), None);
    }

    #[test]
    fn this_process_is_found_with_its_beginning() {
        let own = std::process::id();
        let life = Life::of(own).expect("it runs");
        assert!(life.is_there() && !Life { start: life.start + 1, ..life }.is_there());
        let now = Timestamp(crate::clock::now_ms());
        let age = now.since(life.begun(now));
        assert!(age < std::time::Duration::from_secs(600), "{age:?}");
        assert_eq!(below(own).first().map(|stat| stat.life), Some(life));
        assert!(argv(own)[0].contains("inside") && folder(own).is_some());
        assert!(!reads_terminal(own));
        assert!(words(own, "nothing", 1).is_empty() && argv(u32::MAX).is_empty());
    }
}
