//! The wall clock beside one that nobody sets: who sets the first is noticed by the second.
//!
//! How long a node has been silent is a difference of two times of the wall clock, so that the model
//! needs no other. Whoever keeps such times asks here, and moves them along when the clock was set:
//! a silence then lasts as long as it does. A machine that slept has listened to nobody meanwhile,
//! and both clocks agree that it was no silence.

use std::time::{Duration, Instant};

use warren_common::Timestamp;

/// How far the wall clock may stray before it counts as set: more than it is ever slewed by between
/// two looks, and little beside any silence that matters.
const STRAY: Duration = Duration::from_millis(500);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the system's clock shows.
    pub wall: Timestamp,
    /// What the clock shows that only runs on.
    pub steady: Instant,
}

impl Reading {
    /// Reads both.
    pub fn now() -> Self {
        Self { wall: warren_daemon::clock::now(), steady: Instant::now() }
    }
}

/// The wall clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    /// What it would show now.
    pub(super) from: Timestamp,
    /// What it shows.
    pub(super) to: Timestamp,
}

/// The wall clock, with the reading from which it has run on.
pub(super) struct Clock {
    read: Box<dyn Fn() -> Reading + Send + Sync>,
    since: Reading,
}

impl Clock {
    pub(super) fn new(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        let since = read();
        Self { read: Box::new(read), since }
    }

    /// Returns the reading from which it has run on.
    pub(super) const fn since(&self) -> Timestamp {
        self.since.wall
    }

    /// Returns what the wall clock shows, and whether it was set since it was last asked.
    pub(super) fn now(&mut self) -> (Timestamp, Option<Set>) {
        let now = (self.read)();
        let from = self.since.wall.plus(now.steady.saturating_duration_since(self.since.steady));
        let to = now.wall;
        if from.since(to).max(to.since(from)) <= STRAY {
            return (to, None);
        }
        self.since = now;
        (to, Some(Set { from, to }))
    }
}
