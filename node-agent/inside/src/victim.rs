//! Whom the kernel kills first where a workspace is out of memory: what runs for people, and not
//! PID 1 or tmux, which hold everything else.
//!
//! A process may make itself a likelier victim and never a less likely one than its parent was; what
//! it starts inherits that. So programs are marked before they begin, and nothing can be kept that
//! was not.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use rustix::fs::{Mode, OFlags, open};

use crate::journal::event;

/// The argument of this program that runs another one as a likely victim.
pub(crate) const ARGUMENT: &str = "victim";
const SCORE: &str = "/proc/self/oom_score_adj";
/// Thousandths of the workspace's memory by which a victim counts as larger than it is.
const MORE: i32 = 200;
/// The kernel's bound.
const MOST: i32 = 1000;

/// What a process that is not yet marked writes to be; none where the kernel does not tell.
#[derive(Debug, Clone)]
pub(crate) struct Mark(Option<Vec<u8>>);

impl Mark {
    /// Reads where this process stands.
    pub(crate) fn read() -> Self {
        let now = fs::read_to_string(SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok());
        Self(now.map(|now| now.saturating_add(MORE).min(MOST).to_string().into_bytes()))
    }

    /// Marks the calling process. It opens and writes one file and allocates nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn apply(&self) -> io::Result<()> {
        let Some(score) = &self.0 else { return Ok(()) };
        let file =
            open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&file, score)?;
        Ok(())
    }
}

/// Becomes the program that the arguments name, as a likely victim: how tmux starts what it runs.
pub(crate) fn become_program(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(program) = arguments.next() else {
        event!("{ARGUMENT} takes a program and its arguments");
        return ExitCode::from(2);
    };
    // a program that runs unmarked is better than none
    if let Err(error) = Mark::read().apply() {
        event!("{SCORE} cannot be written: {error}");
    }
    let error = Command::new(&program).args(arguments).exec();
    event!("{} cannot be started: {error}", program.display());
    ExitCode::from(127)
}
