//! Looks after the walls: each minute, and whenever the kernel tells of a change.
//!
//! The coordinators' names are looked up in a task of its own: no resolver delays a look at the
//! table.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
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
    look_up(firewall).await;
    if let Err(failed) = firewall.settle().await {
        warn!(error = %Chain(&failed), "the firewall's table is not loaded");
    }
    firewall.look_around().await;
    let guard = guard(Arc::clone(firewall), monitors);
    shutdown.spawn(shutdown.child_token().run_until_cancelled_owned(guard));
    let names = names(Arc::clone(firewall));
    shutdown.spawn(shutdown.child_token().run_until_cancelled_owned(names));
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

/// Looks the coordinators up each minute, and when others are told.
async fn names(firewall: Arc<Firewall>) {
    let mut coordinators = firewall.parts.coordinators.watch();
    let mut minute = interval(LOOK);
    minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
    minute.tick().await;
    loop {
        tokio::select! {
            _ = minute.tick() => {}
            changed = coordinators.changed() => if changed.is_err() { return },
        }
        if look_up(&firewall).await {
            firewall.again.notify_one();
        }
    }
}

/// Looks the coordinators up; returns whether they are elsewhere than before.
async fn look_up(firewall: &Firewall) -> bool {
    let candidates = firewall.parts.coordinators.candidates();
    let ask = async |name: String| Ok(tokio::net::lookup_host(name).await?.collect());
    let (addresses, all) = addresses(candidates, Limits::DNS_TIMEOUT, ask).await;
    firewall.set_cluster(addresses, all).await
}

/// Returns the IPv4 addresses of the coordinators: of those known by name, what the name says now;
/// and whether all of them were found. All are asked at once, so it takes one deadline at most.
async fn addresses(
    candidates: Vec<String>,
    deadline: Duration,
    ask: impl AsyncFn(String) -> io::Result<Vec<SocketAddr>>,
) -> (BTreeSet<Ipv4Addr>, bool) {
    let asked = candidates.into_iter().map(async |candidate| {
        match timeout(deadline, ask(candidate.clone())).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                warn!(%candidate, %error, "a coordinator's name has no address");
                None
            }
            Err(_) => {
                warn!(%candidate, "a coordinator's name has no address in time");
                None
            }
        }
    });
    let found = join_all(asked).await;
    let all = found.iter().all(Option::is_some);
    let addresses = found.into_iter().flatten().flatten().filter_map(|one| match one.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    (addresses.collect(), all)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn names_that_are_not_answered_take_one_deadline_and_hide_no_other() {
        let ask = async |name: String| match name.strip_prefix("slow") {
            Some(_) => std::future::pending().await,
            None => Ok(tokio::net::lookup_host(name).await?.collect()),
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (deadline, began) = (Duration::from_millis(300), Instant::now());
        let some = names(&["slow1:7400", "192.0.2.1:7400", "slow2:7400", "slow3:7400"]);
        let (found, all) = addresses(some, deadline, ask).await;
        assert_eq!((found, all), (["192.0.2.1".parse().expect("one")].into(), false));
        assert!(began.elapsed() < deadline * 2, "one after the other: {:?}", began.elapsed());
        let both = names(&["192.0.2.1:7400", "[2001:db8::1]:7400"]);
        let (found, all) = addresses(both, deadline, ask).await;
        assert_eq!((found.len(), all), (1, true));
    }
}
