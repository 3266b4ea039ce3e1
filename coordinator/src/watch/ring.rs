//! The newest events of one replica, in the order in which they took effect.
//!
//! Bounded by count, bytes and age, whole revisions at a time. Age is the time since an event came
//! here, looked at when another one comes: a quiet cluster keeps what it has. Readers hold a
//! [`Cursor`] and pull; the lock is held for as long as it takes to copy a batch of pointers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use warren_common::{Limits, Revision};

use super::Record;
use crate::sync::locked;

/// A place in the ring: everything up to this revision was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Up to here.
    pub revision: Revision,
    /// What the revision belongs to.
    pub incarnation: u32,
    /// Counts the times the ring began anew.
    turn: u64,
}

/// What a reader gets at one time.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Whole revisions, oldest first.
    pub records: Vec<Arc<Record>>,
    /// Where to go on.
    pub upto: Cursor,
    /// There is more to read now.
    pub more: bool,
}

/// Why the events after a revision cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// They are not kept any more.
    #[error("events are kept from revision {} on", start.next())]
    TooOld {
        /// Events after this one are kept.
        start: Revision,
    },
    /// This replica has not come that far.
    #[error("this coordinator has come to revision {head}")]
    Ahead {
        /// How far it has come.
        head: Revision,
    },
    /// The cluster was restored.
    #[error("the cluster is in incarnation {incarnation}")]
    OtherIncarnation {
        /// The one it is in.
        incarnation: u32,
    },
    /// This replica took over a whole state, without the events that led there.
    #[error("this coordinator took over a whole state at revision {start}")]
    Replaced {
        /// The revision of that state.
        start: Revision,
    },
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Events.
    pub events: usize,
    /// Their bytes, as [`Record::weight`] counts.
    pub bytes: usize,
    /// Since they came.
    pub age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let (events, bytes) = (Limits::EVENTS, Limits::EVENTS_BYTES);
        Self { events, bytes, age: Limits::EVENT_AGE }
    }
}

/// The newest events of one replica.
#[derive(Debug)]
pub struct Ring {
    bounds: Bounds,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    turn: u64,
    incarnation: u32,
    /// Every event after this revision is held.
    start: Revision,
    /// Up to here everything has come.
    head: Revision,
    held: VecDeque<Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    record: Arc<Record>,
    weight: usize,
    since: Instant,
}

impl Ring {
    /// Makes one that begins after a state's revision.
    pub fn new(incarnation: u32, revision: Revision) -> Self {
        Self::bounded(incarnation, revision, Bounds::default())
    }

    /// The same with other bounds.
    pub fn bounded(incarnation: u32, revision: Revision, bounds: Bounds) -> Self {
        let inner = Inner {
            turn: 0,
            incarnation,
            start: revision,
            head: revision,
            held: VecDeque::new(),
            bytes: 0,
        };
        Self { bounds, inner: Mutex::new(inner) }
    }

    /// Takes the events of one batch, after which the state has this incarnation and revision, and
    /// lets go of the oldest past the bounds.
    pub fn append(&self, (incarnation, head): (u32, Revision), records: Vec<Record>, now: Instant) {
        let mut inner = locked(&self.inner);
        // the first command of a cluster gives it its incarnation
        if inner.incarnation != incarnation && inner.incarnation != 0 {
            return inner.begin(incarnation, head);
        }
        (inner.incarnation, inner.head) = (incarnation, head);
        for record in records {
            let weight = record.weight();
            inner.bytes += weight;
            inner.held.push_back(Held { record: Arc::new(record), weight, since: now });
        }
        inner.trim(&self.bounds, now);
    }

    /// Begins anew after a state that was taken over as a whole.
    pub fn replace(&self, incarnation: u32, revision: Revision) {
        locked(&self.inner).begin(incarnation, revision);
    }

    /// Returns the place after everything that has happened.
    pub fn newest(&self) -> Cursor {
        let inner = locked(&self.inner);
        inner.at(inner.head)
    }

    /// Returns the place before everything that is kept.
    pub fn oldest(&self) -> Cursor {
        let inner = locked(&self.inner);
        inner.at(inner.start)
    }

    /// Returns the place after a revision; an incarnation of zero is not looked at.
    ///
    /// # Errors
    /// The events after it are not kept, or not known here.
    pub fn seek(&self, incarnation: u32, revision: Revision) -> Result<Cursor, Gap> {
        let inner = locked(&self.inner);
        if incarnation != 0 && incarnation != inner.incarnation {
            return Err(Gap::OtherIncarnation { incarnation: inner.incarnation });
        }
        if revision < inner.start {
            return Err(Gap::TooOld { start: inner.start });
        }
        if revision > inner.head {
            return Err(Gap::Ahead { head: inner.head });
        }
        Ok(inner.at(revision))
    }

    /// Returns what comes after a place, at most [`Limits::WATCH_BATCH`] events, except that a
    /// revision is never cut.
    ///
    /// # Errors
    /// What comes after it is not kept any more.
    pub fn read(&self, from: &Cursor) -> Result<Batch, Gap> {
        let inner = locked(&self.inner);
        if from.incarnation != inner.incarnation && from.incarnation != 0 {
            return Err(Gap::OtherIncarnation { incarnation: inner.incarnation });
        }
        if from.turn != inner.turn {
            return Err(Gap::Replaced { start: inner.start });
        }
        if from.revision < inner.start {
            return Err(Gap::TooOld { start: inner.start });
        }
        let first = inner.held.partition_point(|held| held.revision() <= from.revision);
        let mut records: Vec<Arc<Record>> = Vec::new();
        let mut bytes = 0;
        for held in inner.held.iter().skip(first) {
            let full = records.len() >= Limits::WATCH_BATCH || bytes >= Limits::WATCH_BATCH_BYTES;
            if let Some(last) = records.last().filter(|_| full) {
                let last = last.event.revision;
                if last != held.revision() {
                    return Ok(Batch { records, upto: inner.at(last), more: true });
                }
            }
            bytes += held.weight;
            records.push(Arc::clone(&held.record));
        }
        Ok(Batch { records, upto: inner.at(inner.head), more: false })
    }
}

impl Held {
    fn revision(&self) -> Revision {
        self.record.event.revision
    }
}

impl Inner {
    const fn at(&self, revision: Revision) -> Cursor {
        Cursor { revision, incarnation: self.incarnation, turn: self.turn }
    }

    fn begin(&mut self, incarnation: u32, revision: Revision) {
        self.turn += 1;
        self.incarnation = incarnation;
        (self.start, self.head) = (revision, revision);
        self.held.clear();
        self.bytes = 0;
    }

    fn trim(&mut self, bounds: &Bounds, now: Instant) {
        while let Some(oldest) = self.held.front() {
            let past = self.held.len() > bounds.events
                || self.bytes > bounds.bytes
                || now.saturating_duration_since(oldest.since) > bounds.age;
            // what is left of a revision that was begun goes with it
            if !past && oldest.revision() > self.start {
                return;
            }
            self.start = oldest.revision();
            self.bytes -= oldest.weight;
            self.held.pop_front();
        }
    }
}
