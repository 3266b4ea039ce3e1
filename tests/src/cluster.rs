//! A cluster of real processes: one coordinator, node agents, and the command line in front.
//!
//! Every process can stand in a host of its own or, without hosts, on this machine's loopback;
//! ports are always free ones, and folders the stage's.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{Daemon, Engine, Host, Output, Program, Stage, program::binary, wait_until};

/// How long a daemon may take to say where it listens, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// One coordinator and its nodes.
#[derive(Debug)]
pub struct Cluster {
    stage: Arc<Stage>,
    host: Option<Arc<Host>>,
    folder: PathBuf,
    coordinator: Option<Daemon>,
    /// The nodes, in the order they joined.
    pub nodes: Vec<Node>,
}

/// One node agent.
#[derive(Debug)]
pub struct Node {
    name: String,
    host: Option<Arc<Host>>,
    folder: PathBuf,
    /// The process; none while it is stopped.
    pub agent: Option<Daemon>,
}

/// Runs `program` in the host's network, or as it is.
fn at(host: Option<&Arc<Host>>, program: PathBuf) -> Program {
    match host {
        Some(host) => host.program(program),
        None => Program::new(program),
    }
}

impl Cluster {
    /// Starts a coordinator and makes the cluster `test` with an administrator.
    ///
    /// # Errors
    /// Fails where the coordinator does not start or refuses.
    pub fn start(stage: &Arc<Stage>, host: Option<Arc<Host>>) -> Result<Self> {
        let mut cluster = Self::bare(stage, host)?;
        cluster.found()?;
        Ok(cluster)
    }

    /// Adds lines to the coordinator's configuration, for its next start.
    ///
    /// # Errors
    /// Fails where they cannot be written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let path = self.folder.join("coordinator.toml");
        let config = fs::read_to_string(&path)?;
        Ok(fs::write(path, config + lines)?)
    }

    /// Starts a bare coordinator and makes the cluster `test` with an administrator.
    ///
    /// # Errors
    /// Fails where the coordinator does not start or refuses.
    pub fn found(&mut self) -> Result<()> {
        self.start_coordinator()?;
        let socket = self.folder.join("c.sock");
        wait_until("the bootstrap socket is there", START, || {
            anyhow::ensure!(socket.exists(), "it is not");
            self.coordinator.as_mut().context("it was started")?.check()
        })?;
        self.warren(&["cluster", "init", "--name", "test", "--socket", &socket.to_string_lossy()])?;
        wait_until("the cluster answers", START, || self.warren(&["cluster", "status"]).map(drop))
    }

    /// Makes the folders and the configuration of a coordinator that is not started.
    ///
    /// # Errors
    /// Fails where they cannot be written.
    pub fn bare(stage: &Arc<Stage>, host: Option<Arc<Host>>) -> Result<Self> {
        let folder = stage.folder("coordinator")?;
        let address = host.as_ref().map_or("127.0.0.1", |host| host.address());
        let config = format!(
            "[listen]\napi = \"{address}:0\"\nraft = \"{address}:0\"\nmetrics = \"127.0.0.1:0\"\n\
             [paths]\nstate = \"{}\"\nsocket = \"{}\"\n",
            folder.join("state").display(),
            folder.join("c.sock").display(),
        );
        fs::write(folder.join("coordinator.toml"), config)?;
        Ok(Self { stage: Arc::clone(stage), host, folder, coordinator: None, nodes: Vec::new() })
    }

    /// Starts the coordinator's process again, on the ports it had.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start_coordinator(&mut self) -> Result<()> {
        self.keep_ports()?;
        let program = at(self.host.as_ref(), binary("warren-coordinator")?);
        let program =
            program.args(["--config".as_ref(), self.folder.join("coordinator.toml").as_os_str()]);
        self.coordinator = Some(Daemon::start("coordinator", &self.folder, program)?);
        Ok(())
    }

    /// Writes the ports taken by the first start into the configuration: nodes and people remember them.
    fn keep_ports(&self) -> Result<()> {
        let Ok(text) = fs::read_to_string(self.folder.join("state/addresses.json")) else {
            return Ok(());
        };
        let taken: Value = serde_json::from_str(&text)?;
        let path = self.folder.join("coordinator.toml");
        let mut config = fs::read_to_string(&path)?;
        for name in ["api", "raft"] {
            let address = taken[name].as_str().with_context(|| format!("no {name} in {text}"))?;
            let lines = config.lines().map(|line| match line.starts_with(&format!("{name} = ")) {
                true => format!("{name} = \"{address}\"\n"),
                false => format!("{line}\n"),
            });
            config = lines.collect();
        }
        Ok(fs::write(path, config)?)
    }

    /// Returns the coordinator's process.
    ///
    /// # Errors
    /// Fails while it is stopped.
    pub fn coordinator(&mut self) -> Result<&mut Daemon> {
        self.coordinator.as_mut().context("the coordinator is stopped")
    }

    /// Kills the coordinator with SIGKILL.
    ///
    /// # Errors
    /// Fails while it is stopped.
    pub fn kill_coordinator(&mut self) -> Result<()> {
        self.coordinator.take().context("the coordinator is stopped")?.kill()
    }

    /// Loses the coordinator's machine: its process is killed, its state and the person's contexts
    /// are moved to `lost/`. The next start finds nothing, on other ports.
    ///
    /// # Errors
    /// Fails where there is nothing to lose.
    pub fn lose_coordinator(&mut self) -> Result<PathBuf> {
        self.coordinator.take().context("the coordinator is stopped")?.kill()?;
        let lost = self.folder.join("lost");
        fs::create_dir_all(&lost)?;
        for name in ["state", "config"] {
            fs::rename(self.folder.join(name), lost.join(name))?;
        }
        self.forget_ports()?;
        Ok(lost)
    }

    /// Empties the state folder of a coordinator that is killed, as if it had never been started.
    ///
    /// # Errors
    /// Fails while it runs or where the folder cannot be removed.
    pub fn wipe_coordinator(&mut self) -> Result<()> {
        anyhow::ensure!(self.coordinator.is_none(), "the coordinator runs");
        fs::remove_dir_all(self.folder.join("state"))?;
        self.forget_ports()
    }

    fn forget_ports(&self) -> Result<()> {
        let path = self.folder.join("coordinator.toml");
        let address = self.host.as_ref().map_or("127.0.0.1", |host| host.address());
        let config = fs::read_to_string(&path)?;
        let lines = config.lines().map(|line| {
            let name = ["api", "raft"].into_iter().find(|n| line.starts_with(&format!("{n} = ")));
            name.map_or_else(|| format!("{line}\n"), |name| format!("{name} = \"{address}:0\"\n"))
        });
        let config: String = lines.collect();
        Ok(fs::write(path, config)?)
    }

    /// Waits until the coordinator's local socket answers somebody.
    ///
    /// # Errors
    /// Fails where the process ends before.
    pub fn wait_socket(&mut self) -> Result<String> {
        let socket = self.folder.join("c.sock");
        wait_until("the bootstrap socket answers", START, || {
            std::os::unix::net::UnixStream::connect(&socket)?;
            self.coordinator.as_mut().context("it was started")?.check()
        })?;
        Ok(socket.to_string_lossy().into_owned())
    }

    /// Returns the coordinator's folder: `state/`, the person's `config/`, the log.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Returns the coordinator's API address.
    ///
    /// # Errors
    /// Fails before it has started once.
    pub fn api_address(&self) -> Result<String> {
        let text = fs::read_to_string(self.folder.join("state/addresses.json"))?;
        let taken: Value = serde_json::from_str(&text)?;
        Ok(taken["api"].as_str().context("no api address")?.to_owned())
    }

    /// Names the command line with this cluster's context.
    ///
    /// # Errors
    /// Fails where it was not built.
    pub fn cli(&self) -> Result<Program> {
        let program = at(self.host.as_ref(), binary("warren")?);
        Ok(program.env("WARREN_CONFIG_DIR", self.folder.join("config")))
    }

    /// Returns what a terminal is started from: the host's network with this cluster's context.
    ///
    /// # Errors
    /// Fails where `env` is missing.
    pub fn around(&self) -> Result<Program> {
        let program = at(self.host.as_ref(), PathBuf::from("/usr/bin/env"));
        Ok(program.args([format!("WARREN_CONFIG_DIR={}", self.folder.join("config").display())]))
    }

    /// Runs the command line, expecting success.
    ///
    /// # Errors
    /// Fails with what it wrote where its exit code is not 0.
    pub fn warren(&self, arguments: &[&str]) -> Result<Output> {
        self.cli()?.args(arguments).run()?.success()
    }

    /// Runs the command line, expecting an exit code and words on its standard error.
    ///
    /// # Errors
    /// Fails with what it wrote where either is not so.
    pub fn refuses(&self, arguments: &[&str], code: i32, words: &[&str]) -> Result<Output> {
        let output = self.cli()?.args(arguments).run()?.with_code(code)?;
        for word in words {
            anyhow::ensure!(
                output.stderr.contains(word),
                "{} does not say {word:?}: {}",
                output.shown,
                output.stderr
            );
        }
        Ok(output)
    }

    /// Runs the command line with `-o json`.
    ///
    /// # Errors
    /// As [`Cluster::warren`], or where it writes no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        self.warren(&arguments)?.json()
    }

    /// Adds a node with the fake engine.
    ///
    /// # Errors
    /// Fails where it does not join.
    pub fn add_fake_node(&mut self, name: &str, host: Option<Arc<Host>>) -> Result<()> {
        self.add_node(name, host, "kind = \"fake\"\n")
    }

    /// Adds a node whose workspaces run on `engine`.
    ///
    /// # Errors
    /// Fails where it does not join.
    pub fn add_docker_node(&mut self, name: &str, host: Arc<Host>, engine: &Engine) -> Result<()> {
        let parent = format!("{}/warren", engine.cgroup());
        let config = format!(
            "kind = \"docker\"\nsocket = \"{}\"\ncgroup_parent = \"{parent}\"\n",
            engine.socket().display()
        );
        self.add_node(name, Some(host), &config)
    }

    /// Adds a node with the lines of `[engine]` as they stand in its configuration.
    ///
    /// # Errors
    /// Fails where it does not join.
    pub fn add_node(&mut self, name: &str, host: Option<Arc<Host>>, engine: &str) -> Result<()> {
        let folder = self.stage.folder(&format!("node-{name}"))?;
        let inside = inside_binary()?;
        let config = format!(
            "name = \"{name}\"\nstate_dir = \"{}\"\nruntime_dir = \"{}\"\ninside_binary = \"{}\"\n\
             metrics = \"127.0.0.1:0\"\n[engine]\n{engine}",
            folder.join("state").display(),
            self.stage.folder("run")?.display(),
            inside.display(),
        );
        let file = folder.join("node-agent.toml");
        fs::write(&file, config)?;
        let token = self.json(&["node", "token"])?;
        let token = token["token"].as_str().context("a token")?.to_owned();
        let join = at(host.as_ref(), binary("warren-node-agent")?);
        let join = join.args(["join", &token, "--config", &file.to_string_lossy(), "--name", name]);
        join.run()?.success()?;
        let mut node = Node { name: name.to_owned(), host, folder, agent: None };
        node.start()?;
        self.nodes.push(node);
        self.wait_ready(name)
    }

    /// Waits until the node is Ready.
    ///
    /// # Errors
    /// Fails with what is known of it where it does not become so.
    pub fn wait_ready(&self, name: &str) -> Result<()> {
        wait_until(&format!("node {name} is ready"), START, || {
            let node = self.json(&["node", "show", name])?;
            anyhow::ensure!(node["liveness"] == "ready", "it is {node}");
            Ok(())
        })
    }

    /// Returns one workspace as the command line shows it.
    ///
    /// # Errors
    /// Fails where there is none.
    pub fn workspace(&self, address: &str) -> Result<Value> {
        self.json(&["workspace", "show", address])
    }

    /// Waits until a workspace's phase is `phase`.
    ///
    /// # Errors
    /// Fails with the workspace where it does not become so.
    pub fn wait_phase(&self, address: &str, phase: &str) -> Result<Value> {
        wait_until(&format!("{address} is {phase}"), Duration::from_secs(60), || {
            let workspace = self.workspace(address)?;
            anyhow::ensure!(workspace["phase"] == phase, "it is {workspace}");
            Ok(workspace)
        })
    }
}

impl Node {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its folder, with `state/` and the log.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Starts the agent's process, from the binary as it is now.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.start_binary(binary("warren-node-agent")?)
    }

    /// Starts the agent's process from another build.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start_binary(&mut self, binary: PathBuf) -> Result<()> {
        let config = self.folder.join("node-agent.toml");
        let program = at(self.host.as_ref(), binary);
        let program = program.args(["run".as_ref(), "--config".as_ref(), config.as_os_str()]);
        self.agent = Some(Daemon::start("node-agent", &self.folder, program)?);
        Ok(())
    }

    /// Runs another command of the agent with its configuration, expecting success.
    ///
    /// # Errors
    /// Fails with what it wrote where its exit code is not 0.
    pub fn command(&self, arguments: &[&str]) -> Result<Output> {
        let config = self.folder.join("node-agent.toml");
        let program = at(self.host.as_ref(), binary("warren-node-agent")?);
        program.args(arguments).args(["--config".as_ref(), config.as_os_str()]).run()?.success()
    }

    /// Kills the agent's process with SIGKILL.
    ///
    /// # Errors
    /// Fails while it is stopped.
    pub fn kill(&mut self) -> Result<()> {
        self.agent.take().context("the agent is stopped")?.kill()
    }
}

/// Returns the static binary that `cargo xtask inside` built.
///
/// # Errors
/// Fails where it is not there.
fn inside_binary() -> Result<PathBuf> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e/warren-inside");
    anyhow::ensure!(path.exists(), "there is no static PID 1: run ./deploy/test prepare");
    Ok(fs::canonicalize(path)?)
}
