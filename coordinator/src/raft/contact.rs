//! When this replica last heard of each other one, and how old its own state is at most.
//!
//! Soft facts for people and for stale reads; no decision of consensus stands on them.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use warren_common::ReplicaId;

use crate::sync::locked;

/// The facts of one replica; shared by everything that speaks or listens.
pub(super) struct Contacts {
    known: Mutex<Known>,
}

impl Default for Contacts {
    /// Nothing was heard yet.
    fn default() -> Self {
        let (started, heard) = (Instant::now(), BTreeMap::new());
        let known = Known { started, heard, fresh: None, pending: None, leaderless: None };
        Self { known: Mutex::new(known) }
    }
}

struct Known {
    started: Instant,
    heard: BTreeMap<ReplicaId, Instant>,
    /// Everything acknowledged before this moment is applied here.
    fresh: Option<Instant>,
    /// A message of the leader and the entry that must be applied for it to count.
    pending: Option<(Instant, u64)>,
    leaderless: Option<Instant>,
}

impl Contacts {
    /// A message or an answer of `replica` arrived.
    pub(super) fn heard(&self, replica: ReplicaId) {
        locked(&self.known).heard.insert(replica, Instant::now());
    }

    /// Everything acknowledged before `at` is in the log up to `committed`, as the leader said or
    /// as this replica knows as leader; `applied` is how far this replica is.
    pub(super) fn told(&self, at: Instant, committed: Option<u64>, applied: Option<u64>) {
        let mut known = locked(&self.known);
        known.settle(applied);
        match committed {
            Some(committed) if applied < Some(committed) => {
                // the first one that is still open counts: later ones would move it for ever
                known.pending.get_or_insert((at, committed));
            }
            Some(_) | None => known.fresh = known.fresh.max(Some(at)),
        }
    }

    /// Returns how long ago this replica is known to have held all that was acknowledged; none where
    /// it has heard of no leader yet.
    pub(super) fn age(&self, applied: Option<u64>) -> Option<Duration> {
        let mut known = locked(&self.known);
        known.settle(applied);
        known.fresh.map(|at| at.elapsed())
    }

    /// Tells whether a leader is known now.
    pub(super) fn led(&self, led: bool) {
        let mut known = locked(&self.known);
        match led {
            true => known.leaderless = None,
            false => {
                known.leaderless.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Returns for how long no leader has been known; none while one is.
    pub(super) fn leaderless(&self) -> Option<Duration> {
        locked(&self.known).leaderless.map(|since| since.elapsed())
    }

    /// Returns for how long `replica` has not been heard, since this one started at most.
    pub(super) fn silence(&self, replica: ReplicaId) -> Duration {
        let known = locked(&self.known);
        known.heard.get(&replica).unwrap_or(&known.started).elapsed()
    }

    /// Returns how long ago each replica was heard, by replica; the silent ones are not in it.
    pub(super) fn all(&self) -> BTreeMap<ReplicaId, Duration> {
        locked(&self.known).heard.iter().map(|(id, at)| (*id, at.elapsed())).collect()
    }
}

impl Known {
    fn settle(&mut self, applied: Option<u64>) {
        if let Some((at, needed)) = self.pending
            && applied >= Some(needed)
        {
            self.fresh = self.fresh.max(Some(at));
            self.pending = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_as_fresh_as_the_last_message_whose_entries_are_applied() {
        let contacts = Contacts::default();
        assert_eq!(contacts.age(None), None, "no leader was heard");
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let fresh = || locked(&contacts.known).fresh;
        contacts.told(begun, None, None);
        assert_eq!(fresh(), Some(begun), "nothing was committed and nothing is missing");
        contacts.told(after(1), Some(5), Some(4));
        contacts.told(after(2), Some(9), Some(4));
        assert_eq!(fresh(), Some(begun), "entry 5 is not applied");
        assert!(contacts.age(Some(5)).is_some());
        assert_eq!(fresh(), Some(after(1)), "the first of the two messages counts");
        assert_eq!(locked(&contacts.known).pending, None);
        contacts.told(begun, Some(5), Some(5));
        assert_eq!(fresh(), Some(after(1)), "what is older says nothing new");
    }

    #[test]
    fn silence_begins_once_and_ends_with_a_leader() {
        let contacts = Contacts::default();
        assert_eq!(contacts.leaderless(), None);
        contacts.led(false);
        let since = locked(&contacts.known).leaderless;
        contacts.led(false);
        assert_eq!(locked(&contacts.known).leaderless, since);
        contacts.led(true);
        assert_eq!(contacts.leaderless(), None);
        contacts.heard(ReplicaId(2));
        assert_eq!(contacts.all().into_keys().collect::<Vec<_>>(), [ReplicaId(2)]);
    }
}
