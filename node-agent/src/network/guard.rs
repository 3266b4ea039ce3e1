//! Looks after the walls: each minute, and whenever the kernel tells of a change.

use std::{collections::BTreeSet, io, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::warn;
use warren_common::Limits;
use warren_daemon::{Shutdown, backoff::Backoff, telemetry::Chain};

use super::{NetworkError, firewall::Firewall, monitor::Monitor};

/// Everything is looked at again at least this often.
const LOOK: Duration = Duration::from_secs(60);
/// The least time between two looks at the kernel's word: what changes meanwhile is one change.
const GATHER: Duration = Duration::from_millis(50);
/// Waits after something failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Loads the table for the first time and starts the guard. A table that cannot be loaded is told
/// and tried again: until then no network is made.
pub(super) async fn start(firewall: &Arc<Firewall>, shutdown: &Shutdown) {
    // opened first, so that nothing is missed
    let monitors = (open(Monitor::of_tables), open(Monitor::of_routing));
    let (addresses, all) = cluster(firewall).await;
    firewall.set_cluster(addresses, all).await;
    if let Err(failed) = firewall.settle().await {
        warn!(error = %Chain(&failed), "the firewall's table is not loaded");
    }
    firewall.look_around().await;
    let guard = guard(Arc::clone(firewall), monitors);
    shutdown.spawn(shutdown.child_token().run_until_cancelled_owned(guard));
}

/// Whether one look found everything in order.
enum Look {
    /// At everything.
    Whole,
    /// At the table alone.
    Table,
    /// At bridges, rules and orders.
    Bridges,
}

async fn guard(firewall: Arc<Firewall>, monitors: (Option<Monitor>, Option<Monitor>)) {
    let (mut tables, mut routing) = monitors;
    let mut orders = firewall.parts.ledger.changes();
    let mut coordinators = firewall.parts.coordinators.watch();
    let mut minute = interval(LOOK);
    minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
    minute.tick().await;
    let mut backoff = Backoff::seeded(RETRY.0, RETRY.1);
    let mut failing = false;
    loop {
        let wait = if failing { backoff.next_wait() } else { LOOK };
        let look = tokio::select! {
            told = heard(&mut tables) => { forget_broken(told, &mut tables); Look::Table }
            told = heard(&mut routing) => { forget_broken(told, &mut routing); Look::Bridges }
            changed = orders.changed() => if changed.is_ok() { Look::Bridges } else { return },
            changed = coordinators.changed() => if changed.is_ok() { Look::Whole } else { return },
            () = firewall.again.notified() => Look::Bridges,
            _ = minute.tick() => Look::Whole,
            () = sleep(wait), if failing => Look::Whole,
        };
        let outcome = match look {
            Look::Table => firewall.check().await,
            Look::Bridges => firewall.settle().await,
            Look::Whole => {
                tables = tables.or_else(|| open(Monitor::of_tables));
                routing = routing.or_else(|| open(Monitor::of_routing));
                whole(&firewall).await
            }
        };
        if let Err(failed) = &outcome
            && !failing
        {
            warn!(error = %Chain(failed), "the firewall is not as it should be; trying again");
        }
        failing = outcome.is_err();
        if !failing {
            backoff.reset();
        }
        sleep(GATHER).await;
    }
}

async fn whole(firewall: &Firewall) -> Result<(), NetworkError> {
    let (addresses, all) = cluster(firewall).await;
    firewall.set_cluster(addresses, all).await;
    let checked = firewall.check().await;
    let settled = match checked {
        Ok(()) => firewall.settle().await,
        Err(failed) => Err(failed),
    };
    firewall.look_around().await;
    settled
}

/// Waits for the kernel's word; for ever where it cannot be heard. Cancel safe.
async fn heard(monitor: &mut Option<Monitor>) -> io::Result<()> {
    match monitor {
        Some(monitor) => monitor.changed().await,
        None => std::future::pending().await,
    }
}

fn forget_broken(told: io::Result<()>, monitor: &mut Option<Monitor>) {
    if let Err(error) = told {
        warn!(%error, "the kernel's changes are not heard until the next look");
        *monitor = None;
    }
}

fn open(monitor: impl FnOnce() -> io::Result<Monitor>) -> Option<Monitor> {
    match monitor() {
        Ok(monitor) => Some(monitor),
        Err(error) => {
            warn!(%error, "the kernel's changes cannot be heard; it is looked at each minute");
            None
        }
    }
}

/// Returns the IPv4 addresses of the coordinators: of those known by name, what the name says now;
/// and whether all of them were found.
async fn cluster(firewall: &Firewall) -> (BTreeSet<std::net::Ipv4Addr>, bool) {
    let (mut addresses, mut all) = (BTreeSet::new(), true);
    for candidate in firewall.parts.coordinators.candidates() {
        let looked_up = timeout(Limits::DNS_TIMEOUT, tokio::net::lookup_host(&candidate)).await;
        match looked_up {
            Ok(Ok(found)) => addresses.extend(found.filter_map(|one| match one.ip() {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })),
            Ok(Err(error)) => {
                all = false;
                warn!(%candidate, %error, "a coordinator's name has no address");
            }
            Err(_) => {
                all = false;
                warn!(%candidate, "a coordinator's name has no address in time");
            }
        }
    }
    (addresses, all)
}
