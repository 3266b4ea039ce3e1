//! Whom the kernel kills first where a workspace is out of memory: what runs for people, and not
//! PID 1 or tmux, which hold everything else.
//!
//! A process may make itself a likelier victim and never a less likely one than its parent was; what
//! it starts inherits that. So programs are marked before they begin, and nothing can be kept that
//! was not.
//!
//! PID 1 marks what it starts itself. What tmux starts comes through a link to this program, which
//! tmux takes for the shell. What it starts without a shell, or with one of its own choice, is marked
//! once it is seen.

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
/// Thousandths of the workspace's memory by which a victim counts as larger than it is.
const MORE: i32 = 200;
/// The kernel's bound.
const MOST: i32 = 1000;
/// How often programs are looked for that began while others were marked, at most.
const ROUNDS: usize = 8;

/// What a process that is not yet marked writes to be; none where the kernel does not tell.
#[derive(Debug, Clone)]
pub(crate) struct Mark(Option<(i32, Vec<u8>)>);

impl Mark {
    /// Reads where this process stands.
    pub(crate) fn read() -> Self {
        Self(score(SCORE).map(|now| {
            let marked = now.saturating_add(MORE).min(MOST);
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

    /// Marks whatever runs below `parent` and is not marked; not `parent` itself.
    pub(crate) fn apply_below(&self, parent: i32) {
        let Some((marked, _)) = self.0 else { return };
        let missed = |pid: i32| score(path(pid)).is_some_and(|score| score < marked);
        if !processes::children(parent).into_iter().any(missed) {
            return;
        }
        for _ in 0..ROUNDS {
            let mut found = false;
            for pid in processes::below(parent).into_iter().filter(|pid| missed(*pid)) {
                // one that has ended needs no mark
                found |= fs::write(path(pid), marked.to_string()).is_ok();
            }
            if !found {
                return;
            }
        }
    }
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
    let _ = Mark::read().apply();
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
    use super::*;

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
