//! Three coordinators, a node and people, each on a host of its own.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_coordinator::store::Engine;

use crate::{Cluster, Coordinator, Host, Network, Stage, wait_until};

/// How many coordinators there are.
pub const COORDINATORS: usize = 3;
/// How long coordinators may take until all of them vote and have the whole log, on a busy machine.
const SETTLE: Duration = Duration::from_secs(120);
/// Every server listens where the installer lets it.
const PORTS: (u16, u16) = (7400, 7401);
/// The workspaces that run from before the first fault to the end.
const FIRST: [&str; 3] = ["acme/first-1", "acme/first-2", "acme/first-3"];

/// The installation under torture; everything goes when it is dropped, in this order.
pub struct Stand {
    /// Its processes.
    pub cluster: Cluster,
    /// By coordinator: the id it has now.
    ids: Vec<u64>,
    /// By coordinator: its host.
    pub hosts: Vec<Arc<Host>>,
    /// Where callers and the command line are.
    pub people: Arc<Host>,
    _network: Network,
    /// Its folders.
    pub stage: Arc<Stage>,
}

impl Stand {
    /// Builds it: coordinators that vote, a node with the fake engine, workspaces that run.
    ///
    /// # Errors
    /// Fails without root, `ip` or `nft`, or where a process does not start.
    pub fn build(engine: Engine) -> Result<Self> {
        crate::host::check(&["nft"])?;
        let stage = Arc::new(Stage::new()?);
        let mut network = Network::new(&stage)?;
        let mut host = |name: &str| network.host(name).map(Arc::new);
        let hosts: Vec<Arc<Host>> =
            ["c1", "c2", "c3"].into_iter().map(&mut host).collect::<Result<_>>()?;
        let (node, people) = (host("n1")?, host("me")?);
        let mut cluster = Cluster::bare(&stage, Some(hosts[0].clone()))?;
        cluster.seat(people.clone());
        prepare(&cluster.coordinators[0], engine)?;
        cluster.found()?;
        let mut stand = Self { cluster, ids: vec![1], hosts, people, _network: network, stage };
        for number in 1..COORDINATORS {
            let host = Some(stand.hosts[number].clone());
            let name = format!("coordinator-{}", number + 1);
            let mut blank = Coordinator::new(&stand.stage, &name, host)?;
            prepare(&blank, engine)?;
            blank.start()?;
            blank.wait_socket()?;
            let token = stand.cluster.coordinator_token(&[])?;
            stand.ids.push(enrolled(&blank.join(&token)?.stdout)?);
            stand.cluster.coordinators.push(blank);
        }
        stand.settled()?;
        stand.cluster.add_fake_node("n1", Some(node))?;
        stand.cluster.warren(&["client", "create", "acme"])?;
        for first in FIRST {
            let create = ["workspace", "create", first, "--memory", "64M", "--disk", "64M"];
            stand.cluster.warren(&create)?;
            stand.cluster.wait_phase(first, "active")?;
        }
        Ok(stand)
    }

    /// Returns where each coordinator's API is, whatever becomes of it.
    pub fn addresses(&self) -> Vec<String> {
        self.hosts.iter().map(|host| format!("{}:{}", host.address(), PORTS.0)).collect()
    }

    /// Returns which coordinator leads.
    ///
    /// # Errors
    /// Fails where none does for long.
    pub fn leader(&self) -> Result<usize> {
        wait_until("a coordinator leads", SETTLE, || {
            let status = self.cluster.json(&["cluster", "status"])?;
            let leader = status["leader"].as_u64().context("nobody leads")?;
            let at = self.ids.iter().position(|id| *id == leader);
            at.with_context(|| format!("{leader} leads, none of {:?}", self.ids))
        })
    }

    /// Waits until exactly these coordinators vote, answer and have the whole log.
    ///
    /// # Errors
    /// Fails with the last that was known of them.
    pub fn settled(&self) -> Result<()> {
        let mut wanted = self.ids.clone();
        wanted.sort_unstable();
        wait_until(&format!("coordinators {wanted:?} vote and have the log"), SETTLE, || {
            let status = self.cluster.json(&["cluster", "status"])?;
            let rows = status["replicas"].as_array().context("replicas")?;
            let ids: Vec<u64> = rows.iter().filter_map(|row| row["id"].as_u64()).collect();
            ensure!(ids == wanted, "there are {ids:?}");
            // under load one is always some entries behind
            let well = |row: &&Value| {
                let behind = row["lag_entries"].as_u64().is_none_or(|lag| lag > 100);
                row["voter"] != true || row["trouble"].is_string() || behind
            };
            let ill: Vec<&Value> = rows.iter().filter(well).collect();
            ensure!(ill.is_empty(), "{ill:?}");
            Ok(())
        })
    }

    /// Returns a coordinator.
    pub fn coordinator(&mut self, at: usize) -> &mut Coordinator {
        &mut self.cluster.coordinators[at]
    }

    /// Gives a machine whose disk is empty back to the cluster, under a new id.
    ///
    /// # Errors
    /// Fails where it does not get its vote.
    pub fn replace(&mut self, at: usize) -> Result<()> {
        let coordinator = &mut self.cluster.coordinators[at];
        coordinator.wipe()?;
        coordinator.listen(PORTS.0, PORTS.1)?;
        coordinator.start()?;
        coordinator.wait_socket()?;
        let id = self.ids[at].to_string();
        let token = wait_until("a token for the replacement", SETTLE, || {
            let token = self.cluster.json(&["cluster", "replace", &id])?;
            Ok(token["token"].as_str().context("a token")?.to_owned())
        })?;
        let joined = self.cluster.coordinators[at].join(&token)?;
        self.ids[at] = enrolled(&joined.stdout)?;
        Ok(())
    }

    /// Returns the folder of a coordinator's audit records.
    pub fn audit(&self, at: usize) -> PathBuf {
        self.cluster.coordinators[at].folder().join("state/audit")
    }

    /// Copies the logs of every process into a folder.
    ///
    /// # Errors
    /// Fails where one cannot be copied.
    pub fn keep_logs(&self, folder: &std::path::Path) -> Result<()> {
        for (at, coordinator) in self.cluster.coordinators.iter().enumerate() {
            let log = coordinator.folder().join("coordinator.log");
            fs::copy(log, folder.join(format!("coordinator-{}.log", at + 1)))?;
        }
        for node in &self.cluster.nodes {
            fs::copy(node.folder().join("node-agent.log"), folder.join("node-agent.log"))?;
        }
        Ok(())
    }
}

fn prepare(coordinator: &Coordinator, engine: Engine) -> Result<()> {
    coordinator.listen(PORTS.0, PORTS.1)?;
    let storage = format!("[storage]\nengine = \"{engine}\"\n");
    // few entries between two checkpoints, so that whoever was away long is sent one
    coordinator.configure(&format!("{storage}[raft]\ncheckpoint_entries = 500\n"))
}

/// Reads which id a machine was given.
fn enrolled(said: &str) -> Result<u64> {
    let rest = said.split("enrolled as coordinator ").nth(1);
    let digits = rest.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    let id = digits.and_then(|digits| digits.parse().ok());
    id.with_context(|| format!("no id in {said}"))
}
