//! A program that runs on until it is stopped, with its log in a file and its pid beside it.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{Program, wait_until};

/// A running program; it is killed with its process group when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program in a process group of its own. Its output is appended to
    /// `<folder>/<name>.log`, its pid written to `<folder>/<name>.pid`.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start(name: &str, folder: &Path, program: Program) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let mut command = program.into_command();
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        fs::write(folder.join(format!("{name}.pid")), child.id().to_string())?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails where it has ended.
    ///
    /// # Errors
    /// Fails with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        anyhow::bail!("{} ended with {status}:\n{}", self.name, tail.join("\n"))
    }

    /// Sends a signal to the process alone.
    ///
    /// # Errors
    /// Fails where it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.raw()?, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Kills it with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// Fails where it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().ok();
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits.
    ///
    /// # Errors
    /// Fails where it has not ended within `deadline`.
    pub fn terminate(&mut self, deadline: Duration) -> Result<()> {
        self.signal(Signal::TERM).ok();
        wait_until(&format!("{} ends", self.name), deadline, || {
            self.child.try_wait()?.context("it still runs").map(drop)
        })
    }

    fn raw(&self) -> Result<Pid> {
        let pid = i32::try_from(self.child.id())?;
        Pid::from_raw(pid).context("a child has a pid")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            if let Ok(pid) = self.raw() {
                kill_process_group(pid, Signal::KILL).ok();
            }
            self.child.wait().ok();
        }
    }
}

/// Returns the processes whose command line holds `text`, this one aside.
pub fn processes_naming(text: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let own = rustix::process::getpid();
    let names = |pid: &Pid| {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        *pid != own && String::from_utf8_lossy(&line).contains(text)
    };
    pids.filter(names).collect()
}
