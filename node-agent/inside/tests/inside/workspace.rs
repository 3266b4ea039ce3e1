//! The binary under test, its folders and its processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use warren_proto::pb::inside::v1::{Session, Setup};

use crate::agent::{Agent, PATIENCE};

/// One workspace: folders that outlive a run, and the run.
pub(crate) struct Workspace {
    folder: TempDir,
    process: Child,
}

impl Workspace {
    /// Starts PID 1 with a node agent that wants `setup`.
    pub(crate) fn start(setup: Setup) -> (Self, Agent) {
        Self::start_with(setup, &[])
    }

    /// As [`Self::start`], with more in its environment.
    pub(crate) fn start_with(setup: Setup, more: &[(&str, String)]) -> (Self, Agent) {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["home", "run"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Self::start_in_with(folder, setup, more)
    }

    /// As [`Self::start`], with the folders of an earlier run.
    pub(crate) fn start_in(folder: TempDir, setup: Setup) -> (Self, Agent) {
        Self::start_in_with(folder, setup, &[])
    }

    /// A display only where `more` names it: it is of the whole machine.
    pub(crate) fn start_in_with(
        folder: TempDir,
        setup: Setup,
        more: &[(&str, String)],
    ) -> (Self, Agent) {
        Self::start_by(&[], folder, setup, more)
    }

    /// As [`Self::start_in_with`], by a command line that becomes what stands behind it.
    pub(crate) fn start_by(
        before: &[&str],
        folder: TempDir,
        setup: Setup,
        more: &[(&str, String)],
    ) -> (Self, Agent) {
        let agent = Agent::listen(&folder.path().join("run/agent.sock"), setup);
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let line = [before, &[env!("CARGO_BIN_EXE_warren-inside")]].concat();
        let process = Command::new(line[0])
            .args(&line[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a PATH"))
            .env("HOME", folder.path().join("home"))
            .env("LANG", "C.UTF-8")
            .env("WARREN_SOCKET", folder.path().join("run/agent.sock"))
            .env("WARREN_RUNTIME_DIR", folder.path().join("rt"))
            .env("WARREN_RUN_SERIAL", "7")
            .env("WARREN_WORKSPACE", "acme/web")
            .env("WARREN_DISPLAY", "none")
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("the binary");
        (Self { folder, process }, agent)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.folder.path().join("rt")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.id().try_into().expect("a pid")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).expect("a pid"), signal).expect("it runs");
    }

    /// Waits for PID 1 to end by itself and returns its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("PID 1 to end", || {
            status = self.process.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        status.expect("it ended").code()
    }

    /// Runs tmux against the workspace's server.
    pub(crate) fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(tmux_socket(self.folder.path()))
            .args(arguments)
            .output()
            .expect("tmux");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Returns processes of this workspace whose command line holds `words`.
    pub(crate) fn processes(&self, words: &str) -> Vec<i32> {
        let home = format!("HOME={}", self.home().display());
        let entries = fs::read_dir("/proc").expect("/proc");
        let pids = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()?.parse().ok());
        pids.filter(|pid: &i32| {
            let read = |file: &str| {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            *pid != self.pid() && read("environ").contains(&home) && read("cmdline").contains(words)
        })
        .collect()
    }

    /// Ends this run and returns its folders for the next one.
    pub(crate) async fn into_folder(mut self) -> TempDir {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().await, Some(0));
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }
}

fn tmux_socket(folder: &Path) -> PathBuf {
    folder.join(format!("rt/tmux-{}/default", rustix::process::getuid().as_raw()))
}

impl Drop for Workspace {
    #[expect(clippy::print_stdout, reason = "the harness shows it with the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.tmux(&["kill-server"]);
        for pid in self.processes("") {
            let _ = kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL);
        }
    }
}

/// Waits for a condition that nothing reports.
pub(crate) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn session(name: &str, command: &str) -> Session {
    Session { name: name.to_owned(), command: command.to_owned(), ..Session::default() }
}

/// A setup with nothing but sessions.
pub(crate) fn sessions(sessions: &[(&str, &str)]) -> Setup {
    let sessions = sessions.iter().map(|(name, command)| session(name, command)).collect();
    Setup { sessions, ..Setup::default() }
}
