//! One watch stream: events at its reader's pace, and bookmarks.
//!
//! Nothing runs for a stream while its reader does not read: it is asked for the next answer when
//! there is room for it on the connection, and holds no answer back. That is why a slow reader
//! costs nothing, and why it finds itself cut when it comes back too late.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tonic::{Code, Status};
use tracing::debug;
use warren_common::{Limits, Revision};
use warren_daemon::{Shutdown, clock};
use warren_model::NodeStanding;
use warren_proto::{
    error::{ApiError, reason, with_least_revision},
    pb::admin::v1::{self as pb, watch_response::Kind},
};

use super::{Cursor, Feed, Filter, Gap, Ring, Slot, feed::Fed, show};
use crate::live::Standings;

/// Between two looks at the ring: under load events gather, and writers are not disturbed.
const PACE: Duration = Duration::from_millis(5);

/// One watch stream.
pub struct Watcher {
    ring: Arc<Ring>,
    changes: watch::Receiver<Revision>,
    shutdown: Shutdown,
    filter: Filter,
    cursor: Cursor,
    /// None before the reader has caught up for the first time.
    bookmark: Option<Instant>,
    /// Between two bookmarks.
    every: Duration,
    looked: Instant,
    ended: bool,
    /// How nodes are heard from, where that is to be told too.
    standings: Option<watch::Receiver<Standings>>,
    /// What of it was told.
    told: Standings,
    /// The sessions, where they are to be told too.
    feed: Option<Feed<pb::Session>>,
    /// The browsers, where they are to be told too.
    browsers: Option<Feed<pb::Browser>>,
    _slot: Slot,
}

impl Watcher {
    /// Makes a stream that begins after `cursor`; `changes` tells when the ring has grown.
    pub fn new(
        (ring, changes): (Arc<Ring>, watch::Receiver<Revision>),
        filter: Filter,
        cursor: Cursor,
        (slot, shutdown): (Slot, Shutdown),
    ) -> Self {
        Self {
            ring,
            changes,
            shutdown,
            filter,
            cursor,
            bookmark: None,
            every: Limits::BOOKMARK,
            looked: Instant::now(),
            ended: false,
            standings: None,
            told: Standings::default(),
            feed: None,
            browsers: None,
            _slot: slot,
        }
    }

    /// Tells also how nodes are heard from.
    #[must_use]
    pub fn with_standings(self, standings: watch::Receiver<Standings>) -> Self {
        Self { standings: Some(standings), ..self }
    }

    /// Tells also sessions.
    #[must_use]
    pub fn with_sessions(self, feed: Feed<pb::Session>) -> Self {
        Self { feed: Some(feed), ..self }
    }

    /// Tells also browsers.
    #[must_use]
    pub fn with_browsers(self, feed: Feed<pb::Browser>) -> Self {
        Self { browsers: Some(feed), ..self }
    }

    /// Sets the time between two bookmarks.
    #[must_use]
    pub fn bookmarks_every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Returns the next answer, or how the stream ends; none after that. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<pb::WatchResponse, Status>> {
        if self.ended {
            return None;
        }
        let answer = self.answer().await;
        if let Err(status) = &answer {
            debug!(message = status.message(), "a watch stream ends");
            self.ended = true;
        }
        Some(answer.map(|kind| pb::WatchResponse { kind: Some(kind) }))
    }

    async fn answer(&mut self) -> Result<Kind, Status> {
        loop {
            self.changes.mark_unchanged();
            let batch = self.ring.read(&self.cursor).map_err(|gap| outrun(gap, &self.cursor))?;
            self.looked = Instant::now();
            self.cursor = batch.upto;
            if let Some(feed) = &mut self.feed {
                batch.records.iter().for_each(|record| feed.touch(record.workspace()));
            }
            if let Some(feed) = &mut self.browsers {
                batch.records.iter().for_each(|record| feed.touch(record.workspace()));
            }
            let told = batch.records.iter().filter(|record| self.filter.passes(record));
            let events: Vec<pb::Event> = told.map(|record| show::event(record)).collect();
            if !events.is_empty() {
                return Ok(Kind::Events(pb::Events { events }));
            }
            if batch.more {
                // nobody else waits for a long history that is filtered out
                tokio::task::yield_now().await;
                continue;
            }
            let Some(due) = self.bookmark else { return Ok(self.mark()) };
            if let Some(standings) = self.stands_otherwise() {
                return Ok(Kind::Standings(standings));
            }
            let upto = self.cursor.revision;
            if let Some(sessions) = self.feed.as_mut().and_then(|feed| feed.next(upto)) {
                return Ok(sessions.into());
            }
            if let Some(browsers) = self.browsers.as_mut().and_then(|feed| feed.next(upto)) {
                return Ok(browsers.into());
            }
            tokio::select! {
                () = moved(&mut self.standings) => {}
                () = fed(&mut self.feed) => {}
                () = fed(&mut self.browsers) => {}
                changed = self.changes.changed() => if changed.is_err() {
                    return Err(ended("this coordinator has stopped"));
                },
                () = tokio::time::sleep_until(due) => return Ok(self.mark()),
                () = self.shutdown.requested() => {
                    return Err(ended("the coordinator is shutting down"));
                }
            }
            tokio::time::sleep_until(self.looked + PACE).await;
        }
    }

    /// Returns the nodes that are heard from in another way than was told; none where there are none.
    fn stands_otherwise(&mut self) -> Option<pb::Standings> {
        let now = self.standings.as_mut()?.borrow_and_update().clone();
        let known = |id, one: &NodeStanding| {
            self.told.get(id).is_some_and(|(_, told)| told.liveness == one.liveness)
        };
        let news = now.iter().filter(|(id, (_, one))| !known(*id, one));
        let nodes: Vec<_> = news.map(|(id, (name, one))| show::standing(*id, name, one)).collect();
        self.told = now;
        (!nodes.is_empty()).then_some(pb::Standings { nodes })
    }

    fn mark(&mut self) -> Kind {
        self.bookmark = Some(Instant::now() + self.every);
        let Cursor { revision, incarnation, .. } = self.cursor;
        let served_unix_ms = clock::now().0;
        Kind::Bookmark(pb::Bookmark { revision: revision.0, incarnation, served_unix_ms })
    }
}

/// Waits until nodes are heard from in another way; for ever where nobody is to be told. Cancel
/// safe.
async fn moved(standings: &mut Option<watch::Receiver<Standings>>) {
    let changed = match standings {
        Some(standings) => standings.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

/// Waits until what is fed stands otherwise; for ever where nobody is to be told. Cancel safe.
async fn fed<T: Fed>(feed: &mut Option<Feed<T>>) {
    let moved = match feed {
        Some(feed) => feed.moved().await.is_ok(),
        None => false,
    };
    if !moved {
        std::future::pending::<()>().await;
    }
}

fn ended(message: &str) -> Status {
    let error = ApiError::new(Code::Unavailable, reason::SHUTTING_DOWN, message);
    error.next("watch on at another coordinator, from the last revision that was told").into()
}

/// Tells a reader that what it would be told next is not there any more.
fn outrun(gap: Gap, at: &Cursor) -> Status {
    match gap {
        Gap::TooOld { start } => {
            let message = "the reader of the watch was slower than the events";
            let error = ApiError::new(Code::ResourceExhausted, reason::SLOW_CONSUMER, message)
                .why(format!("it was told everything up to revision {}; {gap}", at.revision))
                .next("list again, then watch from there; watch less, or read faster");
            with_least_revision(error.into(), start.0)
        }
        Gap::Ahead { .. } | Gap::OtherIncarnation { .. } | Gap::Replaced { .. } => {
            resync(gap, at.revision)
        }
    }
}

/// Tells that a watch cannot begin or go on where it was asked to.
pub fn resync(gap: Gap, from: Revision) -> Status {
    let message = format!("the events after revision {from} cannot be told");
    let least = match gap {
        Gap::TooOld { start } | Gap::Replaced { start } => start,
        Gap::Ahead { .. } => from,
        Gap::OtherIncarnation { .. } => Revision(0),
    };
    let error = ApiError::new(Code::OutOfRange, reason::RESYNC, message)
        .why(gap)
        .next("list again, then watch from the list's revision");
    with_least_revision(error.into(), least.0)
}
