//! Running a program to its end, in a host's network, with a deadline.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A program with its arguments, to be run once.
#[derive(Debug)]
pub struct Program {
    command: Command,
    shown: String,
    input: Vec<u8>,
    deadline: Duration,
}

/// What a program that ended left.
#[derive(Debug, Clone)]
pub struct Output {
    /// What was run.
    pub shown: String,
    /// Its exit code; 128 + n for signal n.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Output {
    /// Returns itself where the exit code is 0.
    ///
    /// # Errors
    /// Fails with everything the program wrote.
    pub fn success(self) -> Result<Self> {
        self.with_code(0)
    }

    /// Returns itself where the exit code is `code`.
    ///
    /// # Errors
    /// Fails with everything the program wrote.
    pub fn with_code(self, code: i32) -> Result<Self> {
        if self.code == code {
            return Ok(self);
        }
        bail!(
            "{} ended with {} instead of {code}\nstdout: {}\nstderr: {}",
            self.shown,
            self.code,
            self.stdout,
            self.stderr
        )
    }

    /// Returns the standard output as JSON.
    ///
    /// # Errors
    /// Fails where it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{} wrote no JSON: {}", self.shown, self.stdout))
    }
}

impl Program {
    /// Names a program on the path or by its path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let shown =
            Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        let command = Command::new(program);
        Self { command, shown, input: Vec::new(), deadline: Duration::from_secs(120) }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self.shown.push(' ');
            self.shown.push_str(&argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets what it reads from its standard input; nothing by default.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sets how long it may run; two minutes by default.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Returns the command as it stands, for callers that spawn it themselves.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Fails where it cannot be started or has not ended within its deadline (it is killed then).
    pub fn run(mut self) -> Result<Output> {
        let began = Instant::now();
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().with_context(|| format!("cannot start {}", self.shown))?;
        let mut stdin = child.stdin.take().context("its input is piped")?;
        let input = std::mem::take(&mut self.input);
        let writer = thread::spawn(move || stdin.write_all(&input));
        let stdout = reader(child.stdout.take());
        let stderr = reader(child.stderr.take());
        let status = ended(child, self.deadline).with_context(|| self.shown.clone())?;
        let took = began.elapsed();
        // an input nobody reads breaks its pipe, which is no fault of the caller
        let _: Result<_, _> = writer.join();
        let text = |thread: thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
        };
        let code =
            std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
        Ok(Output {
            code: code.or(status.code()).unwrap_or(-1),
            shown: self.shown,
            stdout: text(stdout),
            stderr: text(stderr),
            took,
        })
    }
}

/// Waits for a child's end without polling, so that times are true; kills it at the deadline.
fn ended(mut child: Child, deadline: Duration) -> Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a child has a pid")?;
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(child.wait()));
    match receive.recv_timeout(deadline) {
        Ok(status) => Ok(status?),
        Err(_) => {
            kill_process(pid, Signal::KILL).ok();
            bail!("not within {:.1} s: it still runs", deadline.as_secs_f64())
        }
    }
}

fn reader(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // what was read before a fault is still worth showing
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Returns the path of a binary of the workspace, built by whoever started the tests.
///
/// # Errors
/// Fails where it is not there, and says how it is built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("a test knows its own path")?;
    let folder = test.parent().context("a program has a folder")?;
    // tests run from target/<profile>/deps, programs from target/<profile>
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    // a node agent with a wall taken away: `cargo xtask mutants`
    let mutant = std::env::var_os("WARREN_TEST_NODE_AGENT").filter(|_| name == "warren-node-agent");
    let path = mutant.map_or_else(|| folder.join(name), PathBuf::from);
    if !path.exists() {
        bail!("{} is missing: cargo build --workspace --bins", path.display());
    }
    Ok(path)
}
