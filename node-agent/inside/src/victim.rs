//! Whom the kernel kills first where a workspace is out of memory: what runs for people, and not
//! PID 1 or tmux, which hold everything else.
//!
//! A process may make itself a likelier victim, and never a less likely one than its container was
//! made; what it starts inherits that. So programs are marked before they begin, what they start is
//! as likely a victim as they are, and of those with one mark the largest goes first. Whoever takes
//! the mark from itself is no more than PID 1, and nothing can be kept better than that.
//!
//! PID 1 marks what it starts itself. What tmux starts comes through a link to this program, which
//! tmux takes for the shell. What it starts without a shell, or with one of its own choice, is
//! marked once it is seen; so is what such a program left behind before that.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, ExitCode},
};

use rustix::fs::{Mode, OFlags, open};

use crate::processes;

/// The shell of a workspace.
const SHELL: &str = "/bin/bash";
/// Name of the link that tmux takes for it: the same, since programs look at it.
pub(crate) const LINK: &str = "bash";
const SCORE: &str = "/proc/self/oom_score_adj";
const SCORE_OF_FIRST: &str = "/proc/1/oom_score_adj";
/// Thousandths of the workspace's memory by which a victim counts as larger than it is.
const MORE: i32 = 200;
/// The kernel's bound.
const MOST: i32 = 1000;
/// How often programs are looked for that began while others were marked, at most.
const ROUNDS: usize = 8;

/// What a process that is not yet marked writes to be; none where the kernel does not tell.
#[derive(Debug, Clone)]
pub(crate) struct Mark(Option<(i32, Vec<u8>)>);

/// How far a look for programs goes that are not marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Look {
    /// Below what is marked all are.
    #[default]
    Short,
    /// One that was being started while its parent was marked may have been neither seen nor marked:
    /// after a look that found something everything is looked at once more.
    Whole,
}

impl Mark {
    /// Reads where this process stands, which is not marked.
    pub(crate) fn read() -> Self {
        Self::upto(MOST)
    }

    /// The same for a shell: what started it may be marked, and a mark is not put twice.
    fn of_shell() -> Self {
        Self::upto(score(SCORE_OF_FIRST).map_or(MOST, |first| first.saturating_add(MORE)))
    }

    fn upto(most: i32) -> Self {
        Self(score(SCORE).map(|now| {
            let marked = marked(now, most);
            (marked, marked.to_string().into_bytes())
        }))
    }

    /// Marks the calling process. It opens and writes one file and allocates nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn apply(&self) -> io::Result<()> {
        let Some((_, text)) = &self.0 else { return Ok(()) };
        let file =
            open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&file, text)?;
        Ok(())
    }

    /// Marks `pid` where it is not marked, and whatever it started before; returns whether anything was.
    pub(crate) fn apply_from(&self, pid: i32, look: Look) -> bool {
        let found = self.misses(pid) && self.put(pid);
        if !found && look == Look::Short {
            return false;
        }
        self.apply_below(pid, look) || found
    }

    /// Marks whatever runs below `parent` and is not marked; not `parent` itself. Returns whether
    /// anything was.
    pub(crate) fn apply_below(&self, parent: i32, look: Look) -> bool {
        let misses = |pid| self.misses(pid);
        if look == Look::Short && !processes::children(parent).into_iter().any(misses) {
            return false;
        }
        for round in 0..ROUNDS {
            let mut found = false;
            for pid in processes::below(parent).into_iter().filter(|pid| self.misses(*pid)) {
                found |= self.put(pid);
            }
            if !found {
                return round > 0;
            }
        }
        true
    }

    fn misses(&self, pid: i32) -> bool {
        let Some((marked, _)) = self.0 else { return false };
        score(path(pid)).is_some_and(|score| score < marked)
    }

    /// Returns whether it did: one that has ended needs no mark.
    fn put(&self, pid: i32) -> bool {
        self.0.as_ref().is_some_and(|(_, text)| fs::write(path(pid), text).is_ok())
    }
}

/// Returns the score of what stands at `now` once it is marked, which never makes it less.
fn marked(now: i32, most: i32) -> i32 {
    now.saturating_add(MORE).min(most.min(MOST)).max(now)
}

fn path(pid: i32) -> String {
    format!("/proc/{pid}/oom_score_adj")
}

fn score(path: impl AsRef<Path>) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Returns whether a program with this name of its own was started through [`LINK`].
pub(crate) fn is_shell(name: &OsStr) -> bool {
    let name = name.as_bytes();
    Path::new(OsStr::from_bytes(name.strip_prefix(b"-").unwrap_or(name))).file_name()
        == Some(OsStr::new(LINK))
}

/// Becomes the shell as a likely victim; a login shell where `name` begins as theirs do.
pub(crate) fn become_shell(name: &OsStr, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // a program that runs unmarked is better than none
    let _ = Mark::of_shell().apply();
    let login = name.as_bytes().starts_with(b"-");
    let mut shell = Command::new(SHELL);
    shell.arg0(if login { "-bash" } else { "bash" });
    // tmux names the link
    shell.env("SHELL", SHELL);
    let error = shell.args(arguments).exec();
    // nobody else to tell
    let _ = writeln!(io::stderr(), "warren: {SHELL} cannot be started: {error}");
    ExitCode::from(127)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_mark_is_put_once_and_never_taken_away() {
        for (now, most, then) in [(0, MOST, 200), (500, 700, 700), (700, 700, 700)] {
            assert_eq!(marked(now, most), then, "from {now}, at most {most}");
        }
        assert_eq!((marked(900, 700), marked(900, 1100), marked(-999, -799)), (900, 1000, -799));
    }

    #[test]
    fn what_missed_the_mark_of_its_parent_is_marked_by_a_whole_look() {
        let mut parent = Command::new("sh");
        let mut parent = parent.args(["-c", "sleep 100 & wait"]).spawn().expect("a shell");
        let pid = i32::try_from(parent.id()).expect("a pid");
        let until = Instant::now() + Duration::from_secs(30);
        let child = loop {
            match processes::children(pid).first() {
                Some(child) => break *child,
                None => assert!(Instant::now() < until, "it starts one"),
            }
        };
        let mark = Mark::read();
        assert!(mark.put(pid) && mark.misses(child));
        let short = mark.apply_from(pid, Look::Short);
        let missed = mark.misses(child);
        let whole = (mark.apply_from(pid, Look::Whole), mark.misses(child));
        let again = mark.apply_from(pid, Look::Whole);
        for end in [child, pid] {
            let end = rustix::process::Pid::from_raw(end).expect("a pid");
            rustix::process::kill_process(end, rustix::process::Signal::KILL).expect("it runs");
        }
        parent.wait().expect("it ended");
        assert!(!short && missed, "what is marked is not looked below");
        assert_eq!((whole, again), ((true, false), false));
    }

    #[test]
    fn only_the_links_name_makes_a_shell() {
        for name in ["bash", "-bash", "/run/warren/bash"] {
            assert!(is_shell(OsStr::new(name)), "{name}");
        }
        for name in ["/warren/inside", "warren-inside", "", "-", "bash/inside", "--bash"] {
            assert!(!is_shell(OsStr::new(name)), "{name}");
        }
    }
}
