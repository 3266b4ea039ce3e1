//! The stream of events behind a watch: opened, resumed at whichever coordinator answers, and
//! given up when none does for a while.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::{Status, Streaming};
use warren_common::Limits;
use warren_proto::{
    ApiError,
    error::reason,
    pb::admin::v1::{self as pb, watch_response::Kind},
};

use crate::{
    api::{self, Api},
    error::{Error, Kind as ErrorKind},
    render::Output,
};

/// How long coordinators may be gone before a watch gives up, where nothing was said.
const GIVE_UP: Duration = Duration::from_secs(120);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Without a bookmark for as long, the coordinator hangs.
const SILENCE: Duration = Duration::from_secs(3 * Limits::BOOKMARK.as_secs());

/// What a source tells.
pub(crate) enum Told {
    /// Events of whole revisions, or nothing new.
    Events(Vec<pb::Event>),
    /// Everything that has happened so far was told.
    CaughtUp,
    /// Nodes are heard from in another way.
    Moved,
    /// Sessions stand otherwise.
    Sessions(pb::Sessions),
    /// Browsers stand otherwise.
    Browsers(pb::Browsers),
    /// What came after the last event is lost: list again, and why.
    Resync(String),
}

/// A stream of events that outlives the coordinators that tell them.
pub(super) struct Source {
    /// What is asked, and from where on: moves with what was told.
    request: pb::WatchRequest,
    stream: Option<Streaming<pb::WatchResponse>>,
    /// Silence until then is believed.
    until: Instant,
    /// What was told ended so that opening again at once could end it again.
    pause: bool,
    absence: Absence,
    output: Output,
}

/// How long coordinators may be gone from somebody who watches.
pub(super) struct Absence {
    /// Since when no coordinator answers.
    since: Option<Instant>,
    patience: Duration,
    output: Output,
}

impl Absence {
    /// Gives up after `patience`, or after [`GIVE_UP`] where nothing was said.
    pub(super) fn new(patience: Option<Duration>, output: &Output) -> Self {
        Self { since: None, patience: patience.unwrap_or(GIVE_UP), output: output.clone() }
    }

    /// Notes that a coordinator answered.
    pub(super) fn answered(&mut self) {
        if self.since.take().is_some() {
            self.output.talk("a coordinator answers again; watching on");
        }
    }

    /// Notes that a call failed.
    ///
    /// # Errors
    /// It was refused, or none has answered for too long.
    pub(super) fn unanswered(&mut self, error: Error) -> Result<(), Error> {
        if error.kind != ErrorKind::Unreachable {
            return Err(error);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.patience { Ok(()) } else { Err(error) }
    }
}

impl Source {
    /// Prepares to ask; opens nothing yet.
    pub(super) fn new(
        request: pb::WatchRequest,
        patience: Option<Duration>,
        output: &Output,
    ) -> Self {
        let (absence, output) = (Absence::new(patience, output), output.clone());
        Self { request, stream: None, until: Instant::now(), pause: false, absence, output }
    }

    /// Goes on after a list.
    pub(super) fn after(&mut self, at: &pb::Freshness) {
        self.request.from_revision = at.revision;
        self.request.incarnation = at.incarnation;
        self.request.from_oldest = false;
        self.stream = None;
    }

    /// Up to where everything was told.
    pub(super) const fn revision(&self) -> u64 {
        self.request.from_revision
    }

    /// Asks no more for sessions and browsers; returns whether it did.
    pub(super) fn leave_reports_out(&mut self) -> bool {
        let asked = std::mem::take(&mut self.request.sessions);
        std::mem::take(&mut self.request.browsers) || asked
    }

    /// Whether a coordinator is being listened to.
    pub(super) const fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Notes that a coordinator answered.
    pub(super) fn answered(&mut self) {
        self.absence.answered();
    }

    /// Notes that a call failed.
    ///
    /// # Errors
    /// It was refused, or none has answered for too long.
    pub(super) fn unanswered(&mut self, error: Error) -> Result<(), Error> {
        self.absence.unanswered(error)
    }

    /// Returns what is told next. Cancel safe once the stream is open.
    ///
    /// # Errors
    /// The watch is refused, or no coordinator answers any more.
    pub(super) async fn next(&mut self, api: &mut Api) -> Result<Told, Error> {
        let Some(stream) = &mut self.stream else { return self.open(api).await };
        let message = match timeout_at(self.until, stream.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return self.lose(api, "the stream ended").await,
            Ok(Err(status)) => return self.failed(api, &status).await,
            Err(_) => return self.lose(api, "the coordinator fell silent").await,
        };
        self.until = Instant::now() + SILENCE;
        match message.kind {
            Some(Kind::Events(events)) => {
                let last = events.events.last().map(|event| event.revision);
                self.request.from_revision = last.unwrap_or(self.request.from_revision);
                self.request.from_oldest = false;
                Ok(Told::Events(events.events))
            }
            Some(Kind::Bookmark(bookmark)) => {
                // who asks for no events has no place to go on from
                if !self.request.no_events {
                    self.request.from_revision = bookmark.revision;
                    self.request.incarnation = bookmark.incarnation;
                    self.request.from_oldest = false;
                }
                Ok(Told::CaughtUp)
            }
            Some(Kind::Standings(_)) => Ok(Told::Moved),
            Some(Kind::Sessions(sessions)) => Ok(Told::Sessions(sessions)),
            Some(Kind::Browsers(browsers)) => Ok(Told::Browsers(browsers)),
            None => Ok(Told::Events(Vec::new())),
        }
    }

    async fn open(&mut self, api: &mut Api) -> Result<Told, Error> {
        if std::mem::take(&mut self.pause) {
            tokio::time::sleep(PAUSE).await;
        }
        let request = self.request.clone();
        let opened = api.read(async |channel| api::watches(channel).watch(request.clone()).await);
        let error = match opened.await {
            Ok(stream) => {
                self.answered();
                self.stream = Some(stream);
                self.until = Instant::now() + SILENCE;
                return Ok(Told::Events(Vec::new()));
            }
            Err(error) => error,
        };
        if error.reason == reason::RESYNC {
            self.pause = true;
            return Ok(Told::Resync(error.why.unwrap_or(error.message)));
        }
        self.unanswered(error)?;
        tokio::time::sleep(PAUSE).await;
        Ok(Told::Events(Vec::new()))
    }

    async fn failed(&mut self, api: &mut Api, status: &Status) -> Result<Told, Error> {
        let said = ApiError::from(status);
        match said.reason.as_ref() {
            reason::RESYNC | reason::SLOW_CONSUMER => {
                (self.stream, self.pause) = (None, true);
                Ok(Told::Resync(said.why.unwrap_or(said.message)))
            }
            _ if api::is_lost(status) || api::may_pass(status) => {
                self.lose(api, status.message()).await
            }
            _ => Err(api.failed(status)),
        }
    }

    async fn lose(&mut self, api: &mut Api, why: &str) -> Result<Told, Error> {
        self.stream = None;
        if self.absence.since.is_none() {
            self.absence.since = Some(Instant::now());
            let why = warren_common::status::reason(why);
            self.output.talk(&format!("the coordinator is lost ({why}); asking for another one"));
        }
        api.disconnect();
        tokio::time::sleep(PAUSE).await;
        Ok(Told::Events(Vec::new()))
    }
}
