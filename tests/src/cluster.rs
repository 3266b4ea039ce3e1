//! A cluster of real processes: coordinators, node agents, and the command line in front.
//!
//! Every process can stand in a host of its own or, without hosts, on this machine's loopback;
//! ports are always free ones, and folders the stage's.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    Coordinator, Daemon, Engine, Host, Node, Output, Program, Stage, lab::Around, program::binary,
    wait_until,
};

/// How long a daemon may take to say where it listens, on a busy machine.
pub(crate) const START: Duration = Duration::from_secs(30);

/// Coordinators and nodes.
#[derive(Debug)]
pub struct Cluster {
    stage: Arc<Stage>,
    host: Option<Arc<Host>>,
    /// In the order they came, which is that of their numbers while none was lost on the way.
    pub coordinators: Vec<Coordinator>,
    /// The nodes, in the order they joined.
    pub nodes: Vec<Node>,
}

/// Runs `program` in the host's network, or as it is.
pub(crate) fn at(host: Option<&Arc<Host>>, program: PathBuf) -> Program {
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

    /// Starts a cluster of three coordinators on this host.
    ///
    /// # Errors
    /// Fails where one does not start or become a voter.
    pub fn of_three(stage: &Arc<Stage>) -> Result<Self> {
        let mut cluster = Self::start(stage, None)?;
        for name in ["coordinator-2", "coordinator-3"] {
            cluster.add_coordinator(name, None)?;
        }
        Ok(cluster)
    }

    /// Starts one of three with the node `n1`, whose engine is a fake, and the client `acme`.
    ///
    /// # Errors
    /// Fails where one of them does not start or is refused.
    pub fn of_three_with_node(stage: &Arc<Stage>) -> Result<Self> {
        let mut cluster = Self::of_three(stage)?;
        cluster.add_fake_node("n1", None)?;
        cluster.warren(&["client", "create", "acme"])?;
        Ok(cluster)
    }

    /// Adds lines to the first coordinator's configuration, for its next start.
    ///
    /// # Errors
    /// Fails where they cannot be written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        self.coordinators[0].configure(lines)
    }

    /// Starts a bare coordinator and makes the cluster `test` with an administrator.
    ///
    /// # Errors
    /// Fails where the coordinator does not start or refuses.
    pub fn found(&mut self) -> Result<()> {
        self.start_coordinator()?;
        let socket = self.wait_socket()?;
        self.warren(&["cluster", "init", "--name", "test", "--socket", &socket])?;
        wait_until("the cluster answers", START, || self.warren(&["cluster", "status"]).map(drop))
    }

    /// Makes the folders and the configuration of a coordinator that is not started.
    ///
    /// # Errors
    /// Fails where they cannot be written.
    pub fn bare(stage: &Arc<Stage>, host: Option<Arc<Host>>) -> Result<Self> {
        let first = Coordinator::new(stage, "coordinator", host.clone())?;
        let (stage, coordinators) = (Arc::clone(stage), vec![first]);
        Ok(Self { stage, host, coordinators, nodes: Vec::new() })
    }

    /// Runs the command line on this host from now on, not on the first coordinator's.
    pub fn seat(&mut self, host: Arc<Host>) {
        self.host = Some(host);
    }

    /// Makes a coordinator that serves nothing yet, and starts it.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn blank_coordinator(&self, name: &str, host: Option<Arc<Host>>) -> Result<Coordinator> {
        let mut blank = Coordinator::new(&self.stage, name, host)?;
        blank.start()?;
        blank.wait_socket()?;
        Ok(blank)
    }

    /// Adds a coordinator with the command that `warren cluster token` prints, through its running
    /// process; returns what the command wrote.
    ///
    /// # Errors
    /// Fails where it does not become a voter.
    pub fn add_coordinator(&mut self, name: &str, host: Option<Arc<Host>>) -> Result<Output> {
        let blank = self.blank_coordinator(name, host)?;
        let joined = blank.join(&self.coordinator_token(&[])?)?;
        self.coordinators.push(blank);
        // the context learns where they all are
        self.warren(&["cluster", "status"])?;
        Ok(joined)
    }

    /// Mints a token for a coordinator, with more arguments for the command.
    ///
    /// # Errors
    /// Fails where it is refused.
    pub fn coordinator_token(&self, arguments: &[&str]) -> Result<String> {
        let token = self.json(&[&["cluster", "token"], arguments].concat())?;
        Ok(token["token"].as_str().context("a token")?.to_owned())
    }

    /// Starts the first coordinator's process again, on the ports it had.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start_coordinator(&mut self) -> Result<()> {
        self.coordinators[0].start()
    }

    /// Returns the first coordinator's process.
    ///
    /// # Errors
    /// Fails while it is stopped.
    pub fn coordinator(&mut self) -> Result<&mut Daemon> {
        self.coordinators[0].process()
    }

    /// Kills the first coordinator with SIGKILL.
    ///
    /// # Errors
    /// Fails while it is stopped.
    pub fn kill_coordinator(&mut self) -> Result<()> {
        self.coordinators[0].kill()
    }

    /// Loses the first coordinator's machine: its process is killed, its state and the person's
    /// contexts are moved to `lost/`. The next start finds nothing, on other ports.
    ///
    /// # Errors
    /// Fails where there is nothing to lose.
    pub fn lose_coordinator(&mut self) -> Result<PathBuf> {
        self.coordinators[0].lose()
    }

    /// Empties the state folder of the first coordinator, which is killed, as if it had never been
    /// started.
    ///
    /// # Errors
    /// Fails while it runs or where the folder cannot be removed.
    pub fn wipe_coordinator(&mut self) -> Result<()> {
        self.coordinators[0].wipe()
    }

    /// Waits until the first coordinator's local socket answers somebody.
    ///
    /// # Errors
    /// Fails where the process ends before.
    pub fn wait_socket(&mut self) -> Result<String> {
        self.coordinators[0].wait_socket()?;
        Ok(self.coordinators[0].socket().to_string_lossy().into_owned())
    }

    /// Returns the first coordinator's folder: `state/`, the person's `config/`, the log.
    pub fn folder(&self) -> &std::path::Path {
        self.coordinators[0].folder()
    }

    /// Returns the first coordinator's API address.
    ///
    /// # Errors
    /// Fails before it has started once.
    pub fn api_address(&self) -> Result<String> {
        self.coordinators[0].api_address()
    }

    /// Names the command line with this cluster's context.
    ///
    /// # Errors
    /// Fails where it was not built.
    pub fn cli(&self) -> Result<Program> {
        let program = at(self.host.as_ref(), binary("warren")?);
        Ok(program.env("WARREN_CONFIG_DIR", self.folder().join("config")))
    }

    /// Returns what a terminal is started from: the host's network with this cluster's context.
    ///
    /// # Errors
    /// Fails where `env` is missing.
    pub fn around(&self) -> Result<Program> {
        let program = at(self.host.as_ref(), PathBuf::from("/usr/bin/env"));
        Ok(program.args([format!("WARREN_CONFIG_DIR={}", self.folder().join("config").display())]))
    }

    /// Copies contexts so that they know these coordinators alone, in this order; returns their
    /// folder. Whose they are says the name of the folder beside the first coordinator's state.
    ///
    /// # Errors
    /// Fails where they cannot be copied.
    pub fn knowing(&self, whose: &str, places: &[usize]) -> Result<PathBuf> {
        let numbers: String = places.iter().map(|place| (place + 1).to_string()).collect();
        let config = self.folder().join(format!("{whose}-{numbers}"));
        let known = self.folder().join(whose);
        Program::new("cp").args(["-aT"]).args([&known, &config]).run()?.success()?;
        let addresses = places.iter().map(|place| self.coordinators[*place].api_address());
        let only = format!("coordinators = {:?}\n", addresses.collect::<Result<Vec<_>>>()?);
        let file = config.join("config.toml");
        let text = fs::read_to_string(&file)?;
        let lines = text.lines().map(|line| match line.starts_with("coordinators = ") {
            true => only.clone(),
            false => format!("{line}\n"),
        });
        fs::write(&file, lines.collect::<String>())?;
        Ok(config)
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
        self.add_docker_node_with(name, host, (engine, &Around::default()))
    }

    /// Adds a node with a real engine whose configuration is not as usual.
    ///
    /// # Errors
    /// Fails where it does not join.
    pub fn add_docker_node_with(
        &mut self,
        name: &str,
        host: Arc<Host>,
        (engine, around): (&Engine, &Around),
    ) -> Result<()> {
        let parent = format!("{}/warren", engine.cgroup());
        let config = format!(
            "kind = \"docker\"\nsocket = \"{}\"\ncgroup_parent = \"{parent}\"\n{}{}",
            engine.socket().display(),
            around.volumes.as_deref().unwrap_or("[volumes]\nkind = \"plain\"\n"),
            around.bottom
        );
        self.add_node_with(name, Some(host), (&around.top, &config))
    }

    /// Adds a node with the lines of `[engine]` as they stand in its configuration.
    ///
    /// # Errors
    /// Fails where it does not join.
    pub fn add_node(&mut self, name: &str, host: Option<Arc<Host>>, engine: &str) -> Result<()> {
        self.add_node_with(name, host, ("", engine))
    }

    /// As [`Cluster::add_node`], with lines before every section too.
    fn add_node_with(
        &mut self,
        name: &str,
        host: Option<Arc<Host>>,
        (top, engine): (&str, &str),
    ) -> Result<()> {
        let folder = self.stage.folder(&format!("node-{name}"))?;
        let inside = inside_binary();
        anyhow::ensure!(
            inside.exists() || engine.contains("\"fake\""),
            "there is no static PID 1: run ./deploy/test prepare"
        );
        let config = format!(
            "name = \"{name}\"\nstate_dir = \"{}\"\nruntime_dir = \"{}\"\ninside_binary = \"{}\"\n\
             metrics = \"127.0.0.1:0\"\n{top}[engine]\n{engine}",
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
        let mut node = Node::new(name, host, folder);
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

    /// Makes a workspace with 256 MiB and waits until it runs.
    ///
    /// # Errors
    /// Fails with what the command line wrote.
    pub fn create(&self, address: &str, more: &[&str]) -> Result<Output> {
        let small = ["workspace", "create", address, "--memory", "256M", "--disk", "1G"];
        self.warren(&[&small[..], more].concat())
    }

    /// Runs a shell line in a workspace, whatever its exit code.
    ///
    /// # Errors
    /// Fails where it cannot be run.
    pub fn try_shell(&self, address: &str, line: &str) -> Result<Output> {
        self.cli()?.args(["workspace", "exec", address, "--", "bash", "-c", line]).run()
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

/// Returns where the static binary is that `cargo xtask inside` builds; the fake engine needs none.
fn inside_binary() -> PathBuf {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join("target/e2e/warren-inside")
}
