//! What this node is and has, gathered when the agent starts and looked at again from time to time.
//!
//! A small change of free disk is no change: facts are told to the leader, who keeps them.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, info, warn};
use warren_common::{
    BootId, Bytes, MilliCpus, WorkspaceId,
    spec::{IsolationTier, Labels},
    status::{Finding, FindingLevel, NodeFacts},
};
use warren_daemon::telemetry::Chain;
use warren_model::plan::fit::TIER_LABELS;
use warren_proto::pb::node::v1::{NodeUsage, PoolUsage};

use crate::{
    config::Config,
    engine::{Engine, EngineInfo, Gvisor},
    host::{
        self,
        capacity::{self, Capacity},
        load::{self, LoadReader},
        preflight::{HostFacts, preflight},
        swapfile::{self, SwapConfig},
    },
    images,
    ledger::Ledger,
    network::View,
    volume::{PoolKind, PoolSeen, VolumeError, VolumeStore, findings},
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
    load: LoadReader,
    /// Why there is no swap file though one is asked for, or one though none is.
    swap: Arc<Mutex<Option<String>>>,
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
        Self {
            engine,
            volumes,
            ledger,
            config,
            boot,
            homes: Bytes::default(),
            load: LoadReader::default(),
            swap: Arc::default(),
            walls,
        }
    }

    /// Gathers everything for the first time.
    pub(crate) async fn first(&mut self) -> NodeFacts {
        if timeout(FIRST_MEASURE, self.measure()).await.is_err() {
            debug!("homes are measured later");
        }
        let pool = seen(&self.volumes).await;
        self.gather(&pool).await
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
        let (state_dir, volumes) = (self.config.state_dir.clone(), Arc::clone(&self.volumes));
        let (engine, ledger) = (Arc::clone(&self.engine), self.ledger.clone());
        // a pool that grew is told at once
        let grown = Notify::new();
        let mut load = std::mem::take(&mut self.load);
        let standing = self.walls.clone();
        let held = watch::Sender::new(None);
        let holding = images::keep(&engine, &ledger, &held);
        // neither an engine that hangs nor homes of millions of files hold up what is left
        let reading = async {
            let mut size = None;
            loop {
                read.tick().await;
                let pool = seen(&volumes).await;
                let told = (pool.kind, pool.size);
                if steady(pool.kind) && size.replace(told).is_some_and(|before| before != told) {
                    grown.notify_one();
                }
                show(&pool);
                let firewall = standing.borrow().fingerprint;
                let pool = Some(told_pool(&pool));
                let images = held.borrow().clone();
                usage.send_replace(NodeUsage { pool, firewall, images, ..load.read(&state_dir) });
            }
        };
        let settled = Notify::new();
        let (swap, told) = (self.config.swap.clone(), Arc::clone(&self.swap));
        let swapping = keep_swap(&swap, &state_dir, (&told, &settled));
        let looking = async {
            let mut looks = 0_u32;
            let mut walls = self.walls.clone();
            look.tick().await;
            loop {
                tokio::select! {
                    _ = look.tick() => looks = looks.wrapping_add(1),
                    () = grown.notified() => {}
                    // what was switched on or refused is told at once
                    () = settled.notified() => {}
                    Ok(()) = walls.changed() => {}
                }
                if looks.is_multiple_of(MEASURE_EVERY)
                    && timeout(LOOK, self.measure()).await.is_err()
                {
                    debug!("homes take too long to measure");
                }
                let pool = seen(&self.volumes).await;
                let now = self.gather(&pool).await;
                let steady = steady(pool.kind);
                facts.send_if_modified(|told| replace(told, now, steady));
            }
        };
        tokio::join!(reading, swapping, holding, looking);
    }

    /// Returns what is left on this machine now.
    pub(crate) async fn usage(&mut self) -> NodeUsage {
        let pool = Some(told_pool(&seen(&self.volumes).await));
        NodeUsage { pool, ..self.load.read(&self.config.state_dir) }
    }

    /// Returns what the configuration asks for and the machine does not do.
    fn own_findings(&self) -> Vec<Finding> {
        let warning = |code: &str, message: String, fix: &str| Finding {
            code: code.to_owned(),
            level: FindingLevel::Warning,
            message,
            fix: fix.to_owned(),
        };
        let mut findings = Vec::new();
        if !load::measures_pressure() {
            let message = "the kernel does not measure pressure (PSI), so the node takes \
                           workspaces while its memory is short";
            findings.push(warning("W1110", message.to_owned(), "boot with psi=1"));
        }
        if let Some(why) = self.swap.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            let message = format!("the swap file is not as configured: {why}");
            findings.push(warning("W1111", message, "set [swap] in node-agent.toml otherwise"));
        }
        findings
    }

    /// Measures homes that have no quota to ask.
    async fn measure(&mut self) {
        if metered(seen(&self.volumes).await.kind) {
            return;
        }
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

    async fn gather(&self, pool: &PoolSeen) -> NodeFacts {
        let info = self.engine.info().await;
        if let Err(failed) = &info {
            warn!(error = %Chain(failed), "the engine does not say what it is");
        }
        let mut findings = match HostFacts::read() {
            Ok(host) => preflight(info.as_ref(), &host),
            Err(error) => vec![blocking("the host's mounts", &error)],
        };
        findings.extend(self.own_findings());
        findings.extend(self.walls.borrow().findings.iter().cloned());
        findings.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.code.cmp(&b.code)));
        let counted = capacity::capacity(self.config.memory_reserve).unwrap_or_else(|error| {
            findings.insert(0, blocking("the host's memory", &error));
            Capacity { allocatable: Bytes(0), swap: Bytes(0), cpus: MilliCpus(0) }
        });
        findings.extend(pool.findings.iter().cloned());
        if let Ok(disk) = capacity::disk(&self.config.state_dir) {
            findings.extend(findings::of_host_disk(disk.total, disk.available));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let disk = match pool.kind {
            PoolKind::Loop | PoolKind::Folder => pool.size,
            PoolKind::Plain => pool.available.plus(self.homes),
            PoolKind::Broken => Bytes(0),
        };
        let info = info.unwrap_or_default();
        let labels = labels(&self.config.labels, &info);
        NodeFacts {
            hostname: host::hostname(),
            boot: self.boot,
            allocatable_memory: counted.allocatable,
            swap: counted.swap,
            cpus: counted.cpus,
            disk,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: info.version,
            kernel: host::kernel(),
            cgroup: info.cgroup,
            labels,
            findings,
        }
    }
}

/// Returns the configured labels, and one for each isolation tier that the engine was found to offer:
/// facts, which the configuration cannot claim.
fn labels(configured: &Labels, info: &EngineInfo) -> Labels {
    let mut labels = configured.clone();
    let mut offer = |tier: IsolationTier, by: String| {
        labels.insert(format!("{TIER_LABELS}{tier}"), by);
    };
    if let Some((uid, _)) = info.remap {
        offer(IsolationTier::UserNamespace, format!("user ids from {uid} on"));
    }
    if let Gvisor::Runs(version) = &info.gvisor {
        let by = if version.is_empty() { "runsc" } else { version };
        offer(IsolationTier::Gvisor, by.to_owned());
    }
    labels
}

/// Looks at where homes are kept; a disk that does not answer is told like one that is broken.
async fn seen(volumes: &Arc<dyn VolumeStore>) -> PoolSeen {
    let looked = timeout(LOOK, volumes.pool()).await;
    looked.unwrap_or_else(|_| {
        let program = "looking at the pool of homes".to_owned();
        PoolSeen::broken(&VolumeError::Timeout { program, after: LOOK })
    })
}

/// Sets the gauges of the pool.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats, and no pool reaches 2^53 bytes")]
fn show(pool: &PoolSeen) {
    for (what, amount) in [("used", pool.used), ("available", pool.available)] {
        metrics::gauge!("warren_node_pool_bytes", "what" => what).set(amount.0 as f64);
    }
}

/// Whether the size of such a pool changes only where somebody changes it.
const fn steady(kind: PoolKind) -> bool {
    matches!(kind, PoolKind::Loop | PoolKind::Broken)
}

/// Whether homes of such a pool have quotas, which know what is taken.
const fn metered(kind: PoolKind) -> bool {
    matches!(kind, PoolKind::Loop | PoolKind::Folder)
}

fn told_pool(pool: &PoolSeen) -> PoolUsage {
    PoolUsage {
        kind: pool.kind.as_str().to_owned(),
        path: pool.path.to_string_lossy().into_owned(),
        used_bytes: pool.used.0,
        available_bytes: pool.available.0,
    }
}

/// Keeps the swap file as configured, for ever: `told` says why it is not, and whoever waits for
/// `settled` hears of the first time and of each change.
async fn keep_swap(
    config: &SwapConfig,
    state: &Path,
    (told, settled): (&Mutex<Option<String>>, &Notify),
) {
    let mut first = true;
    loop {
        let why = swapfile::settle(config, state).await.err().map(|error| error.to_string());
        let before = {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *told, why.clone())
        };
        if before != why {
            match &why {
                Some(why) => warn!(%why, "the swap file is not as configured"),
                None => info!("the swap file is as configured"),
            }
        }
        if before != why || (first && config.size.is_some()) {
            settled.notify_one();
        }
        first = false;
        sleep(LOOK).await;
    }
}

/// Takes new facts; returns whether they are worth telling. The size of a `steady` pool changes
/// only where somebody changes it.
fn replace(told: &mut NodeFacts, mut now: NodeFacts, steady: bool) -> bool {
    let noise = told.disk.0.abs_diff(now.disk.0) < told.disk.0 / DISK_NOISE;
    if noise && !steady {
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
    fn tiers_are_what_the_engine_was_found_to_offer() {
        let configured: Labels = [("zone".to_owned(), "a".to_owned())].into();
        let plain = labels(&configured, &EngineInfo::default());
        assert_eq!(plain, configured);
        let info = EngineInfo {
            remap: Some((231_072, 231_072)),
            gvisor: Gvisor::Runs("runsc version 1".to_owned()),
            ..EngineInfo::default()
        };
        let with = labels(&configured, &info);
        assert_eq!(with["warren.tier.userns"], "user ids from 231072 on");
        assert_eq!(with["warren.tier.gvisor"], "runsc version 1");
        let broken = EngineInfo { gvisor: Gvisor::Broken(String::new()), ..EngineInfo::default() };
        assert_eq!(labels(&configured, &broken), configured);
    }

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
        assert!(!replace(&mut told, same.clone(), false));
        assert_eq!(told.disk, Bytes::gib(100));
        assert!(replace(&mut told, same, true), "a pool of its own does not change by itself");
        let less = NodeFacts { disk: Bytes::gib(90), ..told.clone() };
        assert!(replace(&mut told, less, false));
        let rebooted = NodeFacts { boot: boot(2), ..told.clone() };
        assert!(replace(&mut told, rebooted, false));
    }
}
