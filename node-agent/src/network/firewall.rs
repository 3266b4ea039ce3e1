//! Loads the table, reads it back, and mends it: workspaces stand still until it is right again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use futures_util::FutureExt as _;
use metrics::{counter, gauge};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};
use warren_common::{ClientId, Timestamp, WorkspaceId, spec::Run};
use warren_daemon::{Shutdown, clock, telemetry::Chain};

use super::{
    Answer, NetworkError, Parts, View, Walls,
    dns::Resolver,
    host::{self, Link},
    preflight::{self, Lost, Trouble},
    readback::Seen,
    seat::Seat,
    table::{Bridge, TABLE, Wanted},
    tool::{self, ToolError},
};
use crate::{
    container::network_name,
    host::{cgroup::Layout, freezer},
    ledger::PauseOwner,
};

/// How long a table that was taken away is told of.
const TELL_MS: u64 = 3_600_000;

/// The table, and everything that follows it.
pub(super) struct Firewall {
    pub(super) parts: Parts,
    /// One change at a time.
    loaded: tokio::sync::Mutex<Loaded>,
    resolver: Resolver,
    /// The host's address on each bridge, as last seen.
    gateways: Mutex<BTreeMap<String, Ipv4Addr>>,
    /// Somebody wants everything looked at again.
    pub(super) again: Notify,
    seat: Seat,
    trouble: Mutex<Trouble>,
    view: watch::Sender<View>,
}

/// What is loaded, as far as is known.
#[derive(Default)]
struct Loaded {
    wanted: Option<Wanted>,
    fingerprint: u64,
    /// Addresses of the coordinators when they were last looked up.
    cluster: BTreeSet<Ipv4Addr>,
}

impl Firewall {
    pub(super) fn new(parts: Parts, shutdown: &Shutdown) -> Self {
        let resolver = Resolver::new(parts.settings.dns_port, &parts.resolvers, shutdown);
        Self {
            parts,
            loaded: tokio::sync::Mutex::default(),
            resolver,
            gateways: Mutex::default(),
            again: Notify::new(),
            seat: Seat::default(),
            trouble: Mutex::default(),
            view: watch::Sender::default(),
        }
    }

    /// Takes the coordinators' addresses, which are closed with the next [`Self::settle`]; returns
    /// whether they changed. Where not all could be found what was known stays: a name that is not
    /// answered for a moment must not open what stands behind it.
    pub(super) async fn set_cluster(&self, addresses: BTreeSet<Ipv4Addr>, all: bool) -> bool {
        let mut loaded = self.loaded.lock().await;
        let mut now = addresses;
        if !all {
            now.extend(&loaded.cluster);
        }
        let changed = loaded.cluster != now;
        loaded.cluster = now;
        changed
    }

    /// Makes table, rules and resolver what bridges and orders ask for.
    pub(super) async fn settle(&self) -> Result<(), NetworkError> {
        let mut loaded = self.loaded.lock().await;
        let outcome = self.settle_now(&mut loaded).await;
        self.note(&loaded, outcome.as_ref().err());
        outcome
    }

    async fn settle_now(&self, loaded: &mut Loaded) -> Result<(), NetworkError> {
        self.seat.take()?;
        let links = host::links().await?;
        self.remember(&links);
        let wanted = self.wanted(&links, &loaded.cluster);
        if loaded.wanted.as_ref() != Some(&wanted) {
            self.load(loaded, wanted).await?;
        }
        self.back_up(&links).await?;
        let open = loaded.wanted.iter().flat_map(|wanted| wanted.bridges.keys());
        let gateways = open.filter_map(|name| Some((name.clone(), links.get(name)?.gateway)));
        self.resolver.listen(&gateways.collect());
        self.thaw().await?;
        let gone = self.missing(&links);
        self.trouble(|trouble| trouble.bridges = gone);
        Ok(())
    }

    /// Compares the loaded table with what was read back when it was loaded; mends it where it
    /// differs.
    pub(super) async fn check(&self) -> Result<(), NetworkError> {
        let mut loaded = self.loaded.lock().await;
        let outcome = self.check_now(&mut loaded).await;
        self.note(&loaded, outcome.as_ref().err());
        outcome
    }

    async fn check_now(&self, loaded: &mut Loaded) -> Result<(), NetworkError> {
        if loaded.wanted.is_none() {
            return self.settle_now(loaded).await;
        }
        let what = match read().await? {
            Some(seen) if seen.fingerprint == loaded.fingerprint => {
                count(&seen);
                return Ok(());
            }
            Some(_) => "was changed",
            None => "was removed",
        };
        self.mend(loaded, what).await
    }

    /// Everything stands still while the table is loaded again: what a flushed firewall leaves open
    /// (the host's own ports) is open for as long as this takes to begin.
    async fn mend(&self, loaded: &mut Loaded, what: &'static str) -> Result<(), NetworkError> {
        let began = Instant::now();
        error!(what, "the firewall's table is not as it was loaded; workspaces are paused");
        counter!("warren_node_firewall_losses_total").increment(1);
        loaded.fingerprint = 0;
        let links = host::links().await.unwrap_or_default();
        let wanted = self.wanted(&links, &loaded.cluster);
        let (paused, mended) = tokio::join!(self.pause(), self.load(loaded, wanted));
        let paused = match paused {
            Ok(paused) => Some(paused),
            Err(failed) => {
                error!(error = %Chain(&failed), "not every workspace could be paused");
                None
            }
        };
        if mended.is_err() {
            loaded.wanted = None;
        }
        mended?;
        self.settle_now(loaded).await?;
        let took = began.elapsed().as_millis();
        info!(what, paused, took, "the firewall's table is back; workspaces run on");
        let lost = Lost { at: clock::now(), what, took, paused };
        self.trouble(|trouble| trouble.lost = Some(lost));
        Ok(())
    }

    /// Loads a table and reads it back.
    async fn load(&self, loaded: &mut Loaded, wanted: Wanted) -> Result<(), NetworkError> {
        let present = read().await?;
        let chains = present.as_ref().map(Seen::chains);
        let script = |chains: Option<&BTreeSet<String>>| wanted.script(chains);
        let outcome = tool::run("nft", &["-f", "-"], &script(chains.as_ref())).await;
        match outcome {
            // of another version, perhaps: its base chains or sets are declared otherwise
            Err(ToolError::Refused { said, .. }) if chains.is_some() => {
                warn!(said, "the table cannot be changed in place; it is made anew");
                tool::run("nft", &["-f", "-"], &script(None)).await?;
            }
            outcome => drop(outcome?),
        }
        let seen = read().await?.ok_or_else(|| NetworkError::Differs("it is gone".to_owned()))?;
        seen.check(&wanted).map_err(NetworkError::Differs)?;
        loaded.fingerprint = seen.fingerprint;
        info!(bridges = wanted.bridges.len(), "the firewall's table is loaded");
        loaded.wanted = Some(wanted);
        Ok(())
    }

    /// A workspace that lost its bridge still has the resolver it was made with.
    fn remember(&self, links: &BTreeMap<String, Link>) {
        let memory = self.parts.ledger.memory();
        let ordered: BTreeSet<String> =
            memory.orders.keys().map(|workspace| network_name(*workspace)).collect();
        let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.extend(links.iter().map(|(name, link)| (name.clone(), link.gateway)));
        gateways.retain(|name, _| links.contains_key(name) || ordered.contains(name));
    }

    /// A bridge is open where an order is for its workspace.
    fn wanted(&self, links: &BTreeMap<String, Link>, cluster: &BTreeSet<Ipv4Addr>) -> Wanted {
        let memory = self.parts.ledger.memory();
        let mut bridges = BTreeMap::new();
        let mut clients: BTreeSet<ClientId> = BTreeSet::new();
        for order in memory.orders.values() {
            let name = network_name(order.workspace);
            if let Some(link) = links.get(&name) {
                clients.insert(order.client);
                bridges.insert(name, Bridge { subnet: link.subnet, client: order.client });
            }
        }
        let allowed = memory.allowed.iter().filter(|(client, _)| clients.contains(client));
        Wanted {
            range: self.parts.range,
            cluster: cluster.clone(),
            bridges,
            allowed: allowed.map(|(client, some)| (*client, some.clone())).collect(),
            settings: self.parts.settings,
        }
    }

    /// Makes sure of each bridge's routing rule; takes those away whose bridge is gone for good.
    async fn back_up(&self, links: &BTreeMap<String, Link>) -> Result<(), NetworkError> {
        let memory = self.parts.ledger.memory();
        let ordered: BTreeSet<String> =
            memory.orders.keys().map(|workspace| network_name(*workspace)).collect();
        let rules = host::backstops().await?;
        for (bridge, right) in &rules {
            if !right || !(links.contains_key(bridge) || ordered.contains(bridge)) {
                host::remove_backstop(bridge).await?;
            }
        }
        for bridge in links.keys().filter(|bridge| rules.get(*bridge) != Some(&true)) {
            host::add_backstop(bridge).await?;
        }
        Ok(())
    }

    /// Freezes every container that runs; returns how many. What somebody else holds frozen, as
    /// `docker pause` does, stands still already and stays theirs to thaw.
    async fn pause(&self) -> Result<usize, NetworkError> {
        let layout = Layout::read().map_err(|error| unpaused(&error))?;
        let running = self.parts.board.since(0).workspaces;
        let folders = running.iter().filter_map(|seen| layout.freezer(seen.pid?).ok().flatten());
        let folders = to_freeze(folders, &self.parts.ledger.memory().pauses);
        let noted = self.parts.ledger.pause(PauseOwner::Firewall, folders.clone()).await;
        noted.map_err(|error| unpaused(&error))?;
        let count = folders.len();
        let freeze = move || every(folders.iter(), freezer::freeze);
        match tokio::task::spawn_blocking(freeze).await {
            Ok(Ok(())) => Ok(count),
            Ok(Err(error)) => Err(unpaused(&error)),
            Err(error) => Err(unpaused(&error)),
        }
    }

    /// Thaws what was frozen for the firewall alone, also by an agent before this one.
    async fn thaw(&self) -> Result<(), NetworkError> {
        let memory = self.parts.ledger.memory();
        if !memory.pauses.values().any(|owners| owners.contains(&PauseOwner::Firewall)) {
            return Ok(());
        }
        let folders = self.parts.ledger.held_by(PauseOwner::Firewall);
        let thaw = move || every(folders.iter(), freezer::thaw);
        match tokio::task::spawn_blocking(thaw).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(unpaused(&error)),
            Err(error) => return Err(unpaused(&error)),
        }
        self.parts.ledger.resume(PauseOwner::Firewall).await.map_err(|error| unpaused(&error))
    }

    /// Returns the workspaces that run without their bridge.
    fn missing(&self, links: &BTreeMap<String, Link>) -> Vec<String> {
        let memory = self.parts.ledger.memory();
        let runs = |id: WorkspaceId| self.parts.board.get(id).is_some_and(|one| one.pid.is_some());
        let orders = memory.orders.values().filter(|order| order.run == Run::Running);
        let gone = orders.filter(|order| {
            !links.contains_key(&network_name(order.workspace)) && runs(order.workspace)
        });
        gone.map(|order| order.address.to_string()).collect()
    }

    /// Looks at what else on this host decides about workspaces' packets.
    pub(super) async fn look_around(&self) {
        let found = preflight::look().await;
        self.trouble(|trouble| trouble.around = found);
        let expired = Timestamp(clock::now().0.saturating_sub(TELL_MS));
        self.trouble(|trouble| {
            trouble.lost = trouble.lost.take().filter(|lost| lost.at > expired);
            trouble.resolver = self.resolver.trouble();
        });
        let loaded = self.loaded.lock().await;
        let failed = self.trouble(|trouble| trouble.failed.clone());
        self.note(&loaded, failed.as_ref());
    }

    /// Shows how things stand.
    fn note(&self, loaded: &Loaded, failed: Option<&NetworkError>) {
        let findings = self.trouble(|trouble| {
            trouble.failed = failed.cloned();
            trouble.findings()
        });
        let fingerprint = loaded.fingerprint;
        let now = View { findings, fingerprint };
        self.view.send_if_modified(|view| {
            let differs = *view != now;
            *view = now;
            differs
        });
    }

    fn trouble<T>(&self, change: impl FnOnce(&mut Trouble) -> T) -> T {
        change(&mut self.trouble.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Walls for Firewall {
    fn prepare<'a>(&'a self, bridge: &'a str) -> Answer<'a, ()> {
        async move {
            self.check().await?;
            if host::backstops().await?.get(bridge) != Some(&true) {
                host::add_backstop(bridge).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn open<'a>(&'a self, bridge: &'a str) -> Answer<'a, ()> {
        async move {
            self.settle().await?;
            let loaded = self.loaded.lock().await;
            match loaded.wanted.as_ref().is_some_and(|wanted| wanted.bridges.contains_key(bridge)) {
                true => Ok(()),
                false => Err(NetworkError::NoBridge(bridge.to_owned())),
            }
        }
        .boxed()
    }

    fn gateway(&self, bridge: &str) -> Option<Ipv4Addr> {
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner).get(bridge).copied()
    }

    fn look(&self) {
        self.again.notify_one();
    }

    fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }
}

/// Returns what is to be frozen for the firewall: what nobody holds, and what it froze before.
fn to_freeze(
    running: impl Iterator<Item = PathBuf>,
    pauses: &BTreeMap<PathBuf, BTreeSet<PauseOwner>>,
) -> BTreeSet<PathBuf> {
    let ours = |folder: &Path| {
        pauses.get(folder).is_some_and(|owners| owners.contains(&PauseOwner::Firewall))
    };
    running.filter(|folder| ours(folder) || !freezer::is_held(folder)).collect()
}

/// Does it to every one, whatever becomes of the others; returns the first failure.
fn every<'a>(
    folders: impl Iterator<Item = &'a PathBuf>,
    change: fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    folders.map(|folder| change(folder)).fold(Ok(()), io::Result::and)
}

fn unpaused(error: &(dyn std::error::Error + 'static)) -> NetworkError {
    NetworkError::Pause(Chain(error).to_string())
}

/// Reads the table; none where it is not there.
async fn read() -> Result<Option<Seen>, NetworkError> {
    let answer = match tool::run("nft", &["-j", "list", "table", "inet", TABLE], "").await {
        Ok(answer) => answer,
        Err(ToolError::Refused { said, .. }) if said.contains("No such file") => return Ok(None),
        Err(failed) => return Err(failed.into()),
    };
    match Seen::parse(&answer) {
        Some(seen) => Ok(Some(seen)),
        None => Err(NetworkError::Differs("nft's answer is not understood".to_owned())),
    }
}

/// Removes the table; gone is fine.
pub(super) async fn remove() -> Result<(), ToolError> {
    match tool::run("nft", &["delete", "table", "inet", TABLE], "").await {
        Err(ToolError::Refused { said, .. }) if said.contains("No such file") => Ok(()),
        outcome => outcome.map(drop),
    }
}

fn count(seen: &Seen) {
    for (name, packets) in &seen.counters {
        #[expect(clippy::cast_precision_loss, reason = "a gauge for people")]
        let packets = *packets as f64;
        gauge!("warren_node_firewall_packets", "counter" => name.clone()).set(packets);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_somebody_else_paused_is_not_the_firewalls_to_thaw() {
        let dir = tempfile::tempdir().expect("a folder");
        let make = |name: &str, file: &str, text: &str| {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).expect("made");
            fs::write(folder.join(file), text).expect("written");
            folder
        };
        let runs = make("runs", "freezer.self_freezing", "0\n");
        let paused = make("paused", "freezer.self_freezing", "1\n");
        let paused_2 = make("paused-2", "cgroup.freeze", "1\n");
        // one that an agent before this one froze, and could not thaw
        let ours = make("ours", "cgroup.freeze", "1\n");
        let pauses = [(ours.clone(), [PauseOwner::Firewall].into())].into();
        let all = [runs.clone(), paused, paused_2, ours.clone()];
        assert_eq!(to_freeze(all.into_iter(), &pauses), [runs, ours].into());
    }
}
