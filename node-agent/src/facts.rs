//! What this node is and has, gathered when the agent starts and looked at again from time to time.
//!
//! A small change of free disk is no change: facts are told to the leader, who keeps them.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{debug, warn};
use warren_common::{
    BootId, Bytes, MilliCpus, WorkspaceId,
    spec::Labels,
    status::{Finding, FindingLevel, NodeFacts},
};
use warren_daemon::telemetry::Chain;
use warren_proto::pb::node::v1::NodeUsage;

use crate::{
    config::Config,
    engine::Engine,
    host::{
        self,
        capacity::{self, Capacity},
        preflight::{HostFacts, preflight},
    },
    ledger::Ledger,
    network::View,
    volume::VolumeStore,
};

/// Engine and disk are asked again this often.
const LOOK: Duration = Duration::from_secs(60);
/// What is left is read this often.
const USAGE: Duration = Duration::from_secs(5);
/// Homes are measured at every so many looks: it walks every file.
const MEASURE_EVERY: u32 = 15;
/// How long the start waits for the homes to be measured.
const FIRST_MEASURE: Duration = Duration::from_secs(5);
/// A change of the disk below one part in this many is none.
const DISK_NOISE: u64 = 50;

/// Looks at this machine.
pub(crate) struct Probe {
    engine: Arc<dyn Engine>,
    volumes: Arc<dyn VolumeStore>,
    ledger: Ledger,
    config: Config,
    boot: BootId,
    /// What the homes took when they were last measured.
    homes: Bytes,
    /// How the walls stand.
    walls: watch::Receiver<View>,
}

impl Probe {
    pub(crate) fn new(
        (engine, volumes): (Arc<dyn Engine>, Arc<dyn VolumeStore>),
        ledger: Ledger,
        config: Config,
        (boot, walls): (BootId, watch::Receiver<View>),
    ) -> Self {
        Self { engine, volumes, ledger, config, boot, homes: Bytes::default(), walls }
    }

    /// Gathers everything for the first time.
    pub(crate) async fn first(&mut self) -> NodeFacts {
        if timeout(FIRST_MEASURE, self.measure()).await.is_err() {
            debug!("homes are measured later");
        }
        self.gather().await
    }

    /// Keeps facts and usage as they are, for ever.
    pub(crate) async fn run(
        mut self,
        facts: watch::Sender<NodeFacts>,
        usage: watch::Sender<NodeUsage>,
    ) {
        let mut look = interval(LOOK);
        let mut read = interval(USAGE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        read.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let state_dir = self.config.state_dir.clone();
        let seen = self.walls.clone();
        // neither an engine that hangs nor homes of millions of files hold up what is left
        let reading = async {
            loop {
                read.tick().await;
                let firewall = seen.borrow().fingerprint;
                usage.send_replace(NodeUsage { firewall, ..left(&state_dir) });
            }
        };
        let looking = async {
            let mut looks = 0_u32;
            let mut walls = self.walls.clone();
            look.tick().await;
            loop {
                tokio::select! {
                    _ = look.tick() => looks = looks.wrapping_add(1),
                    Ok(()) = walls.changed() => {
                        let now = self.gather().await;
                        facts.send_if_modified(|told| replace(told, now));
                        continue;
                    }
                }
                if looks.is_multiple_of(MEASURE_EVERY)
                    && timeout(LOOK, self.measure()).await.is_err()
                {
                    debug!("homes take too long to measure");
                }
                let now = self.gather().await;
                facts.send_if_modified(|told| replace(told, now));
            }
        };
        tokio::join!(reading, looking);
    }

    /// Returns what is left on this machine now.
    pub(crate) fn usage(&self) -> NodeUsage {
        left(&self.config.state_dir)
    }

    async fn measure(&mut self) {
        let workspaces: Vec<WorkspaceId> = self.ledger.memory().orders.keys().copied().collect();
        let mut homes = Bytes::default();
        for workspace in workspaces {
            match self.volumes.usage(workspace).await {
                Ok(used) => homes = homes.plus(used),
                Err(failed) => debug!(%workspace, error = %Chain(&failed), "home not measured"),
            }
        }
        self.homes = homes;
    }

    async fn gather(&self) -> NodeFacts {
        let info = self.engine.info().await;
        if let Err(failed) = &info {
            warn!(error = %Chain(failed), "the engine does not say what it is");
        }
        let mut findings = match HostFacts::read() {
            Ok(host) => preflight(info.as_ref(), &host),
            Err(error) => vec![blocking("the host's mounts", &error)],
        };
        findings.extend(self.walls.borrow().findings.iter().cloned());
        findings.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.code.cmp(&b.code)));
        let counted = capacity::capacity(self.config.memory_reserve).unwrap_or_else(|error| {
            findings.insert(0, blocking("the host's memory", &error));
            Capacity { allocatable: Bytes(0), swap: Bytes(0), cpus: MilliCpus(0) }
        });
        let free = capacity::disk(&self.config.state_dir).map(|disk| disk.available);
        let info = info.unwrap_or_default();
        NodeFacts {
            hostname: host::hostname(),
            boot: self.boot,
            allocatable_memory: counted.allocatable,
            swap: counted.swap,
            cpus: counted.cpus,
            disk: free.unwrap_or_default().plus(self.homes),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: info.version,
            kernel: host::kernel(),
            cgroup: info.cgroup,
            labels: Labels::clone(&self.config.labels),
            findings,
        }
    }
}

fn left(state_dir: &Path) -> NodeUsage {
    let disk = capacity::disk(state_dir).map(|disk| disk.available);
    NodeUsage {
        memory_available_bytes: capacity::memory_available().unwrap_or_default().0,
        disk_available_bytes: disk.unwrap_or_default().0,
        load_milli: capacity::load_milli(),
        firewall: 0,
    }
}

/// Takes new facts; returns whether they are worth telling.
fn replace(told: &mut NodeFacts, mut now: NodeFacts) -> bool {
    let noise = told.disk.0.abs_diff(now.disk.0) < told.disk.0 / DISK_NOISE;
    if noise {
        now.disk = told.disk;
    }
    let differs = *told != now;
    *told = now;
    differs
}

fn blocking(what: &str, error: &std::io::Error) -> Finding {
    Finding {
        code: "E1000".to_owned(),
        level: FindingLevel::Blocking,
        message: format!("{what} cannot be read: {error}"),
        fix: "run the agent as root, with /proc mounted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_disk_is_no_news_and_another_boot_is() {
        let boot = |n: u8| {
            format!("0199a0b2-7f00-4000-8000-0000000000{n:02x}").parse::<BootId>().expect("an id")
        };
        let mut told = NodeFacts {
            hostname: "h".to_owned(),
            boot: boot(1),
            allocatable_memory: Bytes::gib(1),
            swap: Bytes(0),
            cpus: MilliCpus(1000),
            disk: Bytes::gib(100),
            version: String::new(),
            engine: String::new(),
            kernel: String::new(),
            cgroup: 2,
            labels: Labels::new(),
            findings: Vec::new(),
        };
        let same = NodeFacts { disk: Bytes::gib(99), ..told.clone() };
        assert!(!replace(&mut told, same));
        assert_eq!(told.disk, Bytes::gib(100));
        let less = NodeFacts { disk: Bytes::gib(90), ..told.clone() };
        assert!(replace(&mut told, less));
        let rebooted = NodeFacts { boot: boot(2), ..told.clone() };
        assert!(replace(&mut told, rebooted));
    }
}
