//! The node's lease: when the renewal was sent that a leader last confirmed.
//!
//! Rule R1: it counts from the sending. Rule R4: it is kept over a restart of the agent, in this
//! boot; an older value on the disk is safe, so nothing is synced. Rule R10: time is read from two
//! clocks that nobody sets, and the one that ran further counts; one of them runs on while the
//! machine sleeps.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};
use warren_common::BootId;

const FILE: &str = "lease.json";

/// Two clocks at one moment, since the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// `CLOCK_BOOTTIME`, milliseconds: it counts sleep.
    pub boottime_ms: u64,
    /// `CLOCK_MONOTONIC_RAW`, milliseconds: nobody slews it.
    pub raw_ms: u64,
}

impl Reading {
    /// Reads both.
    pub fn now() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            let millis = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
            u64::try_from(millis).unwrap_or(0)
        };
        Self { boottime_ms: read(ClockId::Boottime), raw_ms: read(ClockId::MonotonicRaw) }
    }

    /// Returns how much time has passed since `earlier`, by whichever clock says more.
    pub fn since(self, earlier: Self) -> Duration {
        let boottime = self.boottime_ms.saturating_sub(earlier.boottime_ms);
        Duration::from_millis(boottime.max(self.raw_ms.saturating_sub(earlier.raw_ms)))
    }
}

/// The lease of one node.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    boot: BootId,
    confirmed: Mutex<Option<Reading>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    boot: BootId,
    sent: Reading,
}

impl Lease {
    /// Opens the lease of a state folder. What was confirmed in another boot, or cannot be read,
    /// counts as never.
    pub fn open(state: &Path, boot: BootId) -> Self {
        let path = state.join(FILE);
        let kept = fs::read_to_string(&path).ok();
        let kept = kept.and_then(|text| serde_json::from_str::<Kept>(&text).ok());
        let now = Reading::now();
        let sane = |kept: &Kept| {
            kept.boot == boot
                && kept.sent.boottime_ms <= now.boottime_ms
                && kept.sent.raw_ms <= now.raw_ms
        };
        let confirmed = kept.filter(sane).map(|kept| kept.sent);
        Self { path, boot, confirmed: Mutex::new(confirmed) }
    }

    /// Notes that the renewal that was sent then is confirmed. An earlier one than is known changes
    /// nothing.
    pub fn confirm(&self, sent: Reading) {
        let mut confirmed = self.lock();
        if confirmed.is_some_and(|known| known.boottime_ms >= sent.boottime_ms) {
            return;
        }
        *confirmed = Some(sent);
        if let Err(error) = self.keep(sent) {
            // an older one stands there, which only ends the lease earlier
            warn!(%error, path = %self.path.display(), "the lease is not kept");
        }
    }

    /// Returns how long ago the renewal was sent that was last confirmed; none before the first in
    /// this boot.
    pub fn age(&self) -> Option<Duration> {
        let confirmed = *self.lock();
        confirmed.map(|sent| Reading::now().since(sent))
    }

    /// Not synced: see above.
    fn keep(&self, sent: Reading) -> std::io::Result<()> {
        let text = serde_json::json!(Kept { boot: self.boot, sent }).to_string();
        let beside = self.path.with_extension("tmp");
        fs::write(&beside, text)?;
        fs::rename(&beside, &self.path)?;
        debug!(boottime_ms = sent.boottime_ms, "the lease is confirmed");
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reading>> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(n: u8) -> BootId {
        format!("0199a0b2-7f00-4000-8000-0000000000{n:02x}").parse().expect("an id")
    }

    fn ago(ms: u64) -> Reading {
        let now = Reading::now();
        Reading { boottime_ms: now.boottime_ms - ms, raw_ms: now.raw_ms - ms }
    }

    #[test]
    fn the_clock_that_ran_further_counts() {
        let earlier = Reading { boottime_ms: 1000, raw_ms: 1000 };
        let slept = Reading { boottime_ms: 61_000, raw_ms: 2000 };
        assert_eq!(slept.since(earlier), Duration::from_secs(60), "sleep counts");
        let slewed = Reading { boottime_ms: 2000, raw_ms: 2100 };
        assert_eq!(slewed.since(earlier), Duration::from_millis(1100));
    }

    #[test]
    fn a_lease_counts_from_the_sending_and_survives_a_restart_in_this_boot_alone() {
        let state = tempfile::tempdir().expect("a folder");
        let lease = Lease::open(state.path(), boot(1));
        assert_eq!(lease.age(), None);
        // confirmed only now, sent 700 ms ago
        lease.confirm(ago(700));
        assert!(lease.age().is_some_and(|age| age >= Duration::from_millis(700)));
        lease.confirm(ago(5000));
        assert!(lease.age().is_some_and(|age| age < Duration::from_secs(5)), "an earlier one");
        let restarted = Lease::open(state.path(), boot(1)).age().expect("kept");
        assert!(restarted >= Duration::from_millis(700), "a restart extends nothing");
        assert_eq!(Lease::open(state.path(), boot(2)).age(), None, "another boot");
    }

    #[test]
    fn what_cannot_be_read_or_is_of_the_future_counts_as_never() {
        let state = tempfile::tempdir().expect("a folder");
        let path = state.path().join(FILE);
        fs::write(&path, "{").expect("written");
        assert_eq!(Lease::open(state.path(), boot(1)).age(), None);
        let now = Reading::now();
        let sent = Reading { boottime_ms: now.boottime_ms + 60_000, raw_ms: now.raw_ms };
        let text = serde_json::json!(Kept { boot: boot(1), sent }).to_string();
        fs::write(&path, text).expect("written");
        assert_eq!(Lease::open(state.path(), boot(1)).age(), None);
    }
}
