//! A whole installation with real Docker: a coordinator, a node with its engine, and a host that
//! plays the internet with repositories to clone.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    Cluster, Daemon, Engine, Host, Network, Output, Stage, engine::Walls, host, repo, wait_until,
};

/// One installation; everything goes when it is dropped, in this order.
#[derive(Debug)]
pub struct Lab {
    /// The coordinator, the node agent and the command line.
    pub cluster: Cluster,
    /// The node's engine.
    pub engine: Engine,
    _repositories: Daemon,
    /// The host that plays the internet.
    pub internet: Arc<Host>,
    /// The host of coordinator and node.
    pub node: Arc<Host>,
    _network: Network,
    /// Its folders.
    pub stage: Arc<Stage>,
}

/// What is not as usual about a node: lines of its configuration, and arguments of its engine.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// Lines before every section.
    pub top: String,
    /// Sections after `[engine]`.
    pub bottom: String,
    /// Lines of `[volumes]`; plain folders without them.
    pub volumes: Option<String>,
    /// Arguments of `dockerd`.
    pub dockerd: Vec<String>,
}

impl Lab {
    /// Builds the installation with one node `n1`.
    ///
    /// # Errors
    /// Fails without root, Docker or the image that `deploy/test` builds.
    pub fn new() -> Result<Self> {
        Self::around(&Around::default())
    }

    /// Builds the installation with one node `n1` that is not as usual.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn around(around: &Around) -> Result<Self> {
        Self::build(|_| Ok(Walls::default()), |_, _| Ok(around.clone()))
    }

    /// The same with an engine that offers more than plain containers.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with_walls(walls: impl FnOnce(&Stage) -> Result<Walls>) -> Result<Self> {
        Self::build(walls, |_, _| Ok(Around::default()))
    }

    /// The same with a btrfs pool of this size for homes.
    ///
    /// # Errors
    /// As [`Lab::new`], and without btrfs.
    pub fn with_pool(size: &str) -> Result<Self> {
        Self::with(|_, _| Ok(format!("[volumes]\nkind = \"btrfs\"\nsize = \"{size}\"\n")))
    }

    /// The same with lines of `[volumes]`, made when stage and node's folder are there.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with(volumes: impl FnOnce(&Stage, &std::path::Path) -> Result<String>) -> Result<Self> {
        Self::build(
            |_| Ok(Walls::default()),
            |stage, folder| {
                let volumes = Some(volumes(stage, folder)?);
                Ok(Around { volumes, ..Around::default() })
            },
        )
    }

    fn build(
        walls: impl FnOnce(&Stage) -> Result<Walls>,
        around: impl FnOnce(&Stage, &std::path::Path) -> Result<Around>,
    ) -> Result<Self> {
        host::check(&["dockerd"])?;
        let stage = Arc::new(Stage::new()?);
        let mut network = Network::new(&stage)?;
        let node = Arc::new(network.host("n1")?);
        let internet = Arc::new(network.host("inet")?);
        let repositories = repo::start(&stage, &internet)?;
        let around = around(&stage, &stage.folder("node-n1")?)?;
        let engine = Engine::launch(&stage, &node, (walls(&stage)?, &around.dockerd))?;
        engine.load_image()?;
        let mut cluster = Cluster::start(&stage, Some(Arc::clone(&node)))?;
        cluster.add_docker_node_with("n1", Arc::clone(&node), (&engine, &around))?;
        cluster.warren(&["client", "create", "acme"])?;
        cluster.warren(&["client", "create", "beta"])?;
        Ok(Self {
            cluster,
            engine,
            _repositories: repositories,
            internet,
            node,
            _network: network,
            stage,
        })
    }

    /// Returns the URL of a repository on the internet's host.
    pub fn repository(&self, name: &str) -> String {
        format!("http://{}/{name}.git", self.internet.address())
    }

    /// Makes a workspace with 256 MiB and waits until it runs.
    ///
    /// # Errors
    /// Fails with what the command line wrote.
    pub fn create(&self, address: &str, more: &[&str]) -> Result<Output> {
        self.cluster.create(address, more)
    }

    /// Runs a shell line in a workspace and returns what it wrote.
    ///
    /// # Errors
    /// Fails where its exit code is not 0.
    pub fn shell(&self, address: &str, line: &str) -> Result<String> {
        Ok(self.try_shell(address, line)?.success()?.stdout)
    }

    /// Runs a shell line in a workspace, whatever its exit code.
    ///
    /// # Errors
    /// Fails where it cannot be run.
    pub fn try_shell(&self, address: &str, line: &str) -> Result<Output> {
        self.cluster.try_shell(address, line)
    }

    /// Returns the number that a counting session has reached, from its file in the home.
    ///
    /// # Errors
    /// Fails while there is none.
    pub fn count(&self, address: &str) -> Result<u64> {
        let text = self.shell(address, "cat ~/count")?;
        text.trim().parse().with_context(|| format!("{text:?} is no count"))
    }

    /// Waits until a counting session has passed `floor`.
    ///
    /// # Errors
    /// Fails where it has not within 30 s.
    pub fn wait_count_past(&self, address: &str, floor: u64) -> Result<u64> {
        wait_until(&format!("{address} counts past {floor}"), Duration::from_secs(30), || {
            let count = self.count(address)?;
            anyhow::ensure!(count > floor, "it is at {count}");
            Ok(count)
        })
    }

    /// Returns the engine's view of a workspace's container.
    ///
    /// # Errors
    /// Fails where there is not exactly one.
    pub fn container(&self, address: &str) -> Result<Value> {
        let id = self.cluster.workspace(address)?["id"].as_str().context("an id")?.to_owned();
        let containers = self.engine.of_workspace(&id)?;
        anyhow::ensure!(containers.len() == 1, "{address} has {} containers", containers.len());
        crate::engine::inspect(&self.engine, &containers[0])
    }
}
