//! A cluster with one workspace, whose PID 1 is the real one with a display of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use warren_tests::{Cluster, Daemon, Program, Stage, program::binary, wait_until};

const SOON: Duration = Duration::from_secs(60);
/// For PID 1 to end what it started.
const GRACE: Duration = Duration::from_secs(20);

/// The workspace, and everything in front of it.
pub(crate) struct Stand {
    inside: Daemon,
    home: PathBuf,
    pub(crate) cluster: Cluster,
    stage: Arc<Stage>,
}

impl Stand {
    /// Starts `acme/web` with a session that runs a script.
    pub(crate) fn start(script: &str) -> Result<Self> {
        let stage = Arc::new(Stage::new()?);
        let mut cluster = Cluster::start(&stage, None)?;
        cluster.add_fake_node("n1", None)?;
        let fake = cluster.nodes[0].folder().join("state/fake-engine");
        fs::create_dir_all(&fake)?;
        fs::write(fake.join("control.json"), json!({"elsewhere": ["acme/web"]}).to_string())?;
        let home = stage.folder("home")?;
        fs::write(home.join("start"), script)?;
        cluster.warren(&["client", "create", "acme"])?;
        let create = ["workspace", "create", "acme/web", "--memory", "1G", "--disk", "1G"];
        let more = ["--session", "main=bash ~/start", "--wait", "placed"];
        cluster.warren(&[&create[..], &more].concat())?;
        let inside = inside(&stage, &fake, &home)?;
        let stand = Self { inside, home, cluster, stage };
        stand.cluster.wait_phase("acme/web", "active")?;
        wait_until("the session runs", SOON, || {
            let session = stand.cluster.json(&["session", "show", "acme/web/main"])?;
            ensure!(session["state"] == "running", "{session}");
            Ok(())
        })?;
        Ok(stand)
    }

    /// Returns the folder of whoever looks.
    pub(crate) fn looker(&self) -> Result<PathBuf> {
        self.stage.folder("looker")
    }

    /// Returns a file of the workspace's home, empty while it is not there.
    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.home.join(file)).unwrap_or_default()
    }

    /// Returns whether the workspace's home has a file.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.home.join(file).exists()
    }

    /// Returns what PID 1 wrote.
    pub(crate) fn log(&self) -> String {
        self.inside.log()
    }

    /// Opens a page of it on this machine, as people do.
    pub(crate) fn open(&self, target: &[&str]) -> Result<Opened> {
        let arguments = [&["workspace", "open", "acme/web", "-o", "json"], target].concat();
        let mut command = self.cluster.cli()?.args(arguments).into_command();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let opened: Value = serde_json::from_str(&line).context("it is open")?;
        let url = opened["url"].as_str().context("a URL")?.to_owned();
        Ok(Opened { child, url })
    }

    /// Returns the processes of the workspace, by the home in their environment, whose command line
    /// has `words` in it.
    pub(crate) fn processes(&self, words: &str) -> Vec<Pid> {
        let home = format!("HOME={}", self.home.display());
        let file =
            |pid: i32, name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let ours = |pid: &i32| {
            let line = file(*pid, "cmdline").iter().map(|byte| byte.max(&b' ')).copied().collect();
            let line = String::from_utf8(line).unwrap_or_default();
            let environment = file(*pid, "environ");
            let mut variables = environment.split(|byte| *byte == 0);
            line.contains(words) && variables.any(|word| word == home.as_bytes())
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(ours).filter_map(Pid::from_raw).collect()
    }

    /// Kills them.
    pub(crate) fn kill(&self, words: &str) {
        for pid in self.processes(words) {
            // one that has ended is what is wanted
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        if let Err(error) = self.inside.terminate(GRACE) {
            eprintln!("{error:#}");
        }
        // what a session left running
        self.kill("");
    }
}

/// `workspace open`, ended when it is dropped.
pub(crate) struct Opened {
    child: Child,
    pub(crate) url: String,
}

impl Drop for Opened {
    fn drop(&mut self) {
        // one that has ended is what is wanted
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the PID 1 that the engine would, with what it plans for it where that can be so here.
fn inside(stage: &Stage, fake: &Path, home: &Path) -> Result<Daemon> {
    let plan = wait_until("the container is started", SOON, || {
        let record: Value = serde_json::from_slice(&fs::read(fake.join("engine.json"))?)?;
        let containers = record["containers"].as_object().context("containers")?;
        let container = containers.values().next().context("there is none")?;
        ensure!(!container["seen"]["state"]["Running"].is_null(), "{}", container["seen"]);
        Ok(container["plan"].clone())
    })?;
    let mounts = plan["mounts"].as_array().context("mounts")?;
    let run = mounts.iter().find(|one| one["target"] == "/warren/run").context("a socket")?;
    let socket = Path::new(run["source"].as_str().context("a path")?).join("agent.sock");
    let path = std::env::var("PATH").context("a PATH")?;
    let modules = std::env::var("WARREN_MODULES").context("cargo xtask views sets it")?;
    let serial = plan["env"]["WARREN_RUN_SERIAL"].as_str().context("a run")?;
    let environment = [
        ("PATH", path),
        ("HOME", home.display().to_string()),
        ("LANG", "C.UTF-8".to_owned()),
        ("WARREN_SOCKET", socket.display().to_string()),
        ("WARREN_RUNTIME_DIR", stage.folder("rt")?.display().to_string()),
        ("WARREN_RUN_SERIAL", serial.to_owned()),
        ("WARREN_WORKSPACE", "acme/web".to_owned()),
        ("WARREN_DISPLAY", display().to_string()),
        ("WARREN_DISPLAY_SIZE", "800x600x24".to_owned()),
        ("WARREN_MODULES", modules),
    ];
    let environment = environment.map(|(name, value)| format!("{name}={value}"));
    let program = Program::new("env").args(["-i"]).args(environment);
    Daemon::start("inside", stage.root(), program.args([binary("warren-inside")?]))
}

/// Returns a display of its own: tests run beside each other on one machine.
fn display() -> u32 {
    static DISPLAYS: AtomicU32 = AtomicU32::new(0);
    32_000 + (std::process::id() * 8 + DISPLAYS.fetch_add(1, Ordering::Relaxed)) % 20_000
}
