//! A command that goes on until somebody ends it, and when that was.

use std::{
    io::Read,
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Program, wait_until};

/// A running command; it is killed when dropped.
#[derive(Debug)]
pub struct Stream {
    name: String,
    pid: Pid,
    said: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<(Option<i32>, Instant)>,
}

impl Stream {
    /// Starts a command and waits until it has written something.
    ///
    /// # Errors
    /// Fails where it cannot be started or says nothing within `deadline`.
    pub fn open(name: &str, program: Program, deadline: Duration) -> Result<Self> {
        let mut command = program.into_command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a child has a pid")?;
        let said = Arc::default();
        collect(child.stdout.take().context("piped")?, &said);
        collect(child.stderr.take().context("piped")?, &said);
        let stream = Self { name: name.to_owned(), pid, said, ended: end_of(child) };
        wait_until(&format!("{name} says something"), deadline, || {
            anyhow::ensure!(stream.length() > 0, "nothing yet");
            Ok(())
        })?;
        Ok(stream)
    }

    /// Returns what it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns everything that it has written, to either output.
    pub fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }

    fn length(&self) -> usize {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until it has written more than it has now.
    ///
    /// # Errors
    /// Fails where it has not within `deadline`.
    pub fn goes_on(&self, deadline: Duration) -> Result<()> {
        let before = self.length();
        wait_until(&format!("{} goes on", self.name), deadline, || {
            anyhow::ensure!(self.length() > before, "it says nothing more than {}", self.said());
            Ok(())
        })
    }

    /// Waits for its end: the exit code, none where a signal ended it, and when.
    ///
    /// # Errors
    /// Fails where it goes on for `deadline`.
    pub fn end(&self, deadline: Duration) -> Result<(Option<i32>, Instant)> {
        let ended = self.ended.recv_timeout(deadline);
        ended.with_context(|| format!("{} goes on", self.name))
    }
}

fn collect(mut from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut buffer = [0_u8; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
            into.extend_from_slice(&buffer[..count]);
        }
    });
}

/// Waits without polling, so that the time is true.
fn end_of(mut child: Child) -> mpsc::Receiver<(Option<i32>, Instant)> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let code = child.wait().ok().and_then(|status| status.code());
        // whoever waited has gone
        let _ = tell.send((code, Instant::now()));
    });
    told
}

impl Drop for Stream {
    fn drop(&mut self) {
        if matches!(self.ended.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            kill_process(self.pid, Signal::KILL).ok();
        }
    }
}
