//! Three hosts with everything on each: a coordinator, a node agent and its engine. Beside them a
//! host that plays the internet with repositories to clone, and one that people sit at.

use std::{sync::Arc, thread};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    Cluster, Daemon, Engine, Host, Network, Output, Program, Stage, cluster::at, engine, host,
    program::binary, repo,
};

/// The hosts, which are also the names of their nodes; coordinator `i + 1` is on host `i`.
pub const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// One installation; everything goes when it is dropped, in this order.
#[derive(Debug)]
pub struct Trio {
    /// The coordinators, the node agents, and the command line on the desk.
    pub cluster: Cluster,
    /// One engine on each host.
    pub engines: Vec<Engine>,
    _repositories: Daemon,
    /// The host that plays the internet.
    pub internet: Arc<Host>,
    /// The three hosts.
    pub hosts: Vec<Arc<Host>>,
    /// Where people sit.
    pub desk: Arc<Host>,
    _network: Network,
    /// Its folders.
    pub stage: Arc<Stage>,
}

impl Trio {
    /// Builds the installation with the nodes `n1`, `n2` and `n3`, and the clients `acme` and
    /// `beta`.
    ///
    /// # Errors
    /// Fails without root, Docker or the image that `deploy/test` builds.
    pub fn new() -> Result<Self> {
        host::check(&["dockerd", "nft"])?;
        let stage = Arc::new(Stage::new()?);
        let mut network = Network::new(&stage)?;
        let hosts: Vec<Arc<Host>> =
            NAMES.iter().map(|name| network.host(name).map(Arc::new)).collect::<Result<_>>()?;
        let (internet, desk) = (Arc::new(network.host("inet")?), Arc::new(network.host("desk")?));
        let repositories = repo::start(&stage, &internet)?;
        hosts.iter().try_for_each(|host| keep_in_memory(&stage, host))?;
        // an image takes an engine seconds: all at once, while the coordinators find each other
        let (engines, cluster) = thread::scope(|scope| {
            let starting: Vec<_> = hosts
                .iter()
                .map(|host| scope.spawn(|| Engine::start(&stage, host)?.with_image()))
                .collect();
            let cluster = coordinators(&stage, &hosts);
            let engines = starting.into_iter().map(|one| {
                one.join().map_err(|_| anyhow::anyhow!("starting an engine panicked"))?
            });
            anyhow::Ok((engines.collect::<Result<Vec<_>>>()?, cluster?))
        })?;
        let mut trio = Self {
            cluster,
            engines,
            _repositories: repositories,
            internet,
            hosts,
            desk,
            _network: network,
            stage,
        };
        for ((name, host), engine) in NAMES.iter().zip(&trio.hosts).zip(&trio.engines) {
            trio.cluster.add_docker_node(name, Arc::clone(host), engine)?;
        }
        trio.cluster.seat(Arc::clone(&trio.desk));
        trio.cluster.warren(&["client", "create", "acme"])?;
        trio.cluster.warren(&["client", "create", "beta"])?;
        Ok(trio)
    }

    /// Returns the URL of a repository on the internet's host.
    pub fn repository(&self, name: &str) -> String {
        format!("http://{}/{name}.git", self.internet.address())
    }

    /// Makes a workspace on each node, all at once, with a clone and a session `main` that counts.
    ///
    /// # Errors
    /// Fails with what the command line wrote, or where they are not on a node each.
    pub fn populate(&self, addresses: [&str; 3]) -> Result<()> {
        let repo = self.repository("hello");
        let more = ["--repo", repo.as_str(), "--session", "main=bash count.sh"];
        thread::scope(|scope| {
            let creating =
                addresses.map(|one| scope.spawn(move || self.cluster.create(one, &more)));
            for one in creating {
                one.join().map_err(|_| anyhow::anyhow!("creating panicked"))??;
            }
            anyhow::Ok(())
        })?;
        let mut seats: Vec<usize> =
            addresses.iter().map(|one| self.seat_of(one)).collect::<Result<_>>()?;
        seats.sort_unstable();
        anyhow::ensure!(seats == [0, 1, 2], "they are on {seats:?}");
        Ok(())
    }

    /// Returns on which host a workspace is.
    ///
    /// # Errors
    /// Fails where it is on none.
    pub fn seat_of(&self, address: &str) -> Result<usize> {
        let workspace = self.cluster.workspace(address)?;
        let seat = NAMES.iter().position(|name| workspace["node"] == *name);
        seat.with_context(|| format!("{address} is on no node: {workspace}"))
    }

    /// Returns the place of the coordinator that leads.
    ///
    /// # Errors
    /// Fails where none does.
    pub fn leader(&self) -> Result<usize> {
        let status = self.cluster.json(&["cluster", "status"])?;
        let leader = status["leader"].as_u64().with_context(|| format!("none leads: {status}"))?;
        usize::try_from(leader - 1).context("a small number")
    }

    /// Names the command line on a host, as somebody who knows one coordinator alone. Whose
    /// identity it is says the folder of contexts, below the first coordinator's.
    ///
    /// # Errors
    /// Fails where the contexts cannot be copied.
    pub fn through(&self, place: usize, (from, whose): (&Arc<Host>, &str)) -> Result<Program> {
        let config = self.cluster.knowing(whose, &[place])?;
        Ok(at(Some(from), binary("warren")?).env("WARREN_CONFIG_DIR", config))
    }

    /// Runs the administrator's command line on the desk through one coordinator.
    ///
    /// # Errors
    /// Fails with what it wrote where its exit code is not 0.
    pub fn warren_through(&self, place: usize, arguments: &[&str]) -> Result<Output> {
        self.through(place, (&self.desk, "config"))?.args(arguments).run()?.success()
    }

    /// Returns the containers of a workspace on all hosts, as their engines see them.
    ///
    /// # Errors
    /// Fails where an engine does not answer.
    pub fn containers(&self, address: &str) -> Result<Vec<Value>> {
        let id = self.cluster.workspace(address)?["id"].as_str().context("an id")?.to_owned();
        let mut all = Vec::new();
        for engine in &self.engines {
            for container in engine.of_workspace(&id)? {
                all.push(engine::inspect(engine, &container)?);
            }
        }
        Ok(all)
    }

    /// Returns the PID 1 of a workspace as the host sees it, where all engines together have one
    /// container of it.
    ///
    /// # Errors
    /// Fails where there are more, or none, or it does not run.
    pub fn pid(&self, address: &str) -> Result<u64> {
        let containers = self.containers(address)?;
        anyhow::ensure!(containers.len() == 1, "{address} has {} containers", containers.len());
        let pid = containers[0]["State"]["Pid"].as_u64().filter(|pid| *pid > 0);
        pid.with_context(|| format!("{address} does not run"))
    }
}

/// Keeps the data of a host's engine in memory: an image is thousands of small files, and three of
/// them keep a disk busy for longer than a test takes.
fn keep_in_memory(stage: &Stage, host: &Host) -> Result<()> {
    let data = stage.folder(&format!("docker-{}/data", host.name()))?;
    let mount = Program::new("mount").args(["-t", "tmpfs", "-o", "mode=0711", "warren-test"]);
    mount.args([data]).run()?.success().map(drop)
}

/// Three coordinators, one on each host.
fn coordinators(stage: &Arc<Stage>, hosts: &[Arc<Host>]) -> Result<Cluster> {
    let mut cluster = Cluster::start(stage, hosts.first().cloned())?;
    for (number, host) in hosts.iter().enumerate().skip(1) {
        let name = format!("coordinator-{}", number + 1);
        cluster.add_coordinator(&name, Some(Arc::clone(host)))?;
    }
    Ok(cluster)
}

impl Drop for Trio {
    /// Ends the engines at once, not one after the other.
    fn drop(&mut self) {
        self.cluster.nodes.clear();
        thread::scope(|scope| {
            for engine in self.engines.drain(..) {
                scope.spawn(move || drop(engine));
            }
        });
    }
}
