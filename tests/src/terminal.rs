//! A person at a terminal: a program on a real PTY, typed at and read from.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait_until;

/// A program running on a PTY of 120 columns and 40 rows, which `script` makes.
#[derive(Debug)]
pub struct Terminal {
    script: Child,
    input: ChildStdin,
    screen: Arc<Mutex<Screen>>,
}

/// What was written, and when each piece of it arrived: its end in `bytes`.
#[derive(Debug, Default)]
struct Screen {
    bytes: Vec<u8>,
    arrivals: Vec<(usize, Instant)>,
}

impl Terminal {
    /// Starts `command` (one shell line) on a PTY, from `around`, which names the host's network
    /// and the environment.
    ///
    /// # Errors
    /// Fails where `script` cannot be started.
    pub fn start(around: crate::Program, command: &str) -> Result<Self> {
        let line = format!("stty rows 40 cols 120; exec {command}");
        let mut around: Command =
            around.args(["script", "-qfec", &line, "/dev/null"]).into_command();
        around.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        around.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut script = around.spawn().context("cannot start script")?;
        let input = script.stdin.take().context("its input is piped")?;
        let mut output = script.stdout.take().context("its output is piped")?;
        let screen = Arc::new(Mutex::new(Screen::default()));
        let kept = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0_u8; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let mut screen = kept.lock().unwrap_or_else(PoisonError::into_inner);
                screen.bytes.extend_from_slice(&buffer[..count]);
                let end = screen.bytes.len();
                screen.arrivals.push((end, Instant::now()));
            }
        });
        Ok(Self { script, input, screen })
    }

    /// Types bytes.
    ///
    /// # Errors
    /// Fails where the program is gone.
    pub fn type_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.input
            .write_all(bytes)
            .and_then(|()| self.input.flush())
            .context("the terminal is closed")
    }

    /// Returns everything the program has written so far.
    pub fn screen(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&screen.bytes).into_owned()
    }

    /// Waits until the program has written `text`.
    ///
    /// # Errors
    /// Fails with the screen where it has not within `deadline`.
    pub fn wait_for(&self, text: &str, deadline: Duration) -> Result<()> {
        wait_until(&format!("the terminal shows {text:?}"), deadline, || {
            let screen = self.screen();
            anyhow::ensure!(screen.contains(text), "it shows {screen:?}");
            Ok(())
        })
    }

    /// Kills the program on the PTY with SIGKILL, as a dying laptop does.
    ///
    /// # Errors
    /// Fails where there is none.
    pub fn kill_program(&self) -> Result<()> {
        let program = child_of(self.script.id()).context("script has no child")?;
        kill_process(program, Signal::KILL).context("cannot kill it")
    }

    /// Waits until the program has written `text` and returns when that arrived: the waiting polls,
    /// the time does not.
    ///
    /// # Errors
    /// As [`Terminal::wait_for`].
    pub fn arrival(&self, text: &str, deadline: Duration) -> Result<Instant> {
        self.wait_for(text, deadline)?;
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = screen.bytes.windows(text.len()).position(|bytes| bytes == text.as_bytes());
        let end = found.context("it was shown")? + text.len();
        let arrival = screen.arrivals.iter().find(|(upto, _)| *upto >= end);
        arrival.map(|(_, at)| *at).context("every byte arrived once")
    }

    /// Waits until the program has ended and returns its exit code.
    ///
    /// # Errors
    /// Fails where it has not within `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Result<i32> {
        let screen = self.screen();
        wait_until("the program on the terminal ends", deadline, || {
            let status = self.script.try_wait()?.with_context(|| format!("it shows {screen:?}"))?;
            Ok(status.code().unwrap_or(-1))
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.kill_program().ok();
        self.script.kill().ok();
        self.script.wait().ok();
    }
}

fn child_of(parent: u32) -> Option<Pid> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let child = pids.into_iter().find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // the name in parentheses may hold anything; what follows it is state and parent
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    })?;
    Pid::from_raw(child)
}
