//! `--watch`: a list, then a line for each change of it.
//!
//! What was decided comes as events, each once. What nodes report (a workspace that runs, a node
//! that falls silent) is no event: the list is looked at again now and then, and what stands
//! differently in it is a line too. Sessions and browsers are told as they change; see `reports`. A coordinator
//! that goes away is replaced by another one from the last revision that was told; where that is not
//! possible, the list is printed again.

mod lines;
mod records;
mod reports;
mod source;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use tokio::time::Instant;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{Api, Listed},
    app::App,
    error::{Error, Kind, Outcome},
    render::Tabular,
    view::{browser::Browser, event::Event, session::Session},
};

use lines::Lines;
pub(crate) use records::records;
use reports::Stays;
pub(crate) use reports::{Reports, Seen, Watching};
use source::{Source, Told};

/// Between two looks at the list; more where listing takes long.
const LOOK: Duration = Duration::from_secs(2);
/// A look takes at most one part of so many of the time.
const SHARE: u32 = 20;

/// A row of a list that can be watched.
pub(crate) trait Watched: Tabular + Serialize {
    /// The events that tell such rows; none for what is only seen by looking again.
    const KINDS: &'static [pb::EventKind];
    /// Whether rows change with how their node is heard from: the coordinator tells when that does.
    const STANDINGS: bool = false;
    /// Returns the cells that tell how it stands: a row that differs in none has not changed.
    fn standing(&self) -> Vec<String>;
    /// Whether it stands as another one does.
    fn stands_as(&self, other: &Self) -> bool {
        self.standing() == other.standing()
    }
    /// Returns the revision of the last decision about it; none for what nodes report.
    fn revision(&self) -> Option<u64>;
    /// Takes over what events do not tell.
    fn keep(&mut self, known: &Self);
    /// Returns the row that an event tells of; none where it tells of another kind or of an end.
    fn of(event: Event) -> Option<Self>
    where
        Self: Sized;
}

/// What is watched, and how it is listed.
pub(crate) struct Follow<'a> {
    pub(crate) app: &'a App,
    /// Kinds are filled in.
    pub(crate) request: pb::WatchRequest,
    /// What is said of an empty list.
    pub(crate) empty: &'a str,
}

impl Follow<'_> {
    /// Lists and follows until the command is interrupted.
    ///
    /// # Errors
    /// The list or the watch is refused, or no coordinator answers any more.
    pub(crate) async fn run<T: Watched>(
        self,
        api: &mut Api,
        list: impl AsyncFn(&mut Api) -> Result<Listed<T>, Error>,
    ) -> Outcome {
        let mut request = self.request.clone();
        request.kinds = T::KINDS.iter().map(|kind| i32::from(*kind)).collect();
        request.standings = T::STANDINGS;
        let output = &self.app.output;
        let mut source = Source::new(request, self.app.timeout(), output);
        let mut lines = Lines::new(output);
        lines.list(begin(&mut source, list(api).await?), self.empty)?;
        let mut look = Instant::now() + LOOK;
        loop {
            let told = if T::KINDS.is_empty() {
                tokio::time::sleep_until(look).await;
                None
            } else if source.is_open() {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(look) => None,
                    told = source.next(api) => Some(told?),
                }
            } else {
                Some(source.next(api).await?)
            };
            match told {
                Some(Told::Events(events)) => {
                    for event in events {
                        lines.event(Event::from(event))?;
                    }
                }
                Some(Told::CaughtUp) => {}
                // reports are not asked for here
                Some(Told::Sessions(_) | Told::Browsers(_)) => {}
                // what follows from it is in the list
                Some(Told::Moved) => look = Instant::now(),
                Some(Told::Resync(why)) => {
                    output.talk(&format!("events were missed ({why}); listing again"));
                    lines.list(begin(&mut source, list(api).await?), self.empty)?;
                }
                None => {
                    let begun = Instant::now();
                    let mut wait = LOOK;
                    match list(api).await {
                        Ok(listed) => {
                            wait = LOOK.max(begun.elapsed() * SHARE);
                            source.answered();
                            lines.look(listed, source.revision())?;
                        }
                        Err(error) => source.unanswered(error)?,
                    }
                    look = Instant::now() + wait;
                }
            }
        }
    }
}

/// Has the source go on after a list.
fn begin<T>(source: &mut Source, listed: Listed<T>) -> Listed<T> {
    source.after(&listed.at);
    listed
}

/// Prints events from `from` on (the oldest that is kept for 0), up to now or for ever; then also
/// that agents and browsers came to need a person and that sessions lost a process for memory, where
/// the caller may know it.
///
/// # Errors
/// They are not kept any more, the watch is refused, or no coordinator answers any more.
pub(crate) async fn events(app: &App, api: &mut Api, (from, on): (u64, bool)) -> Outcome {
    let from_oldest = from == 0;
    let from_revision = from.saturating_sub(1);
    // after revision 0 is after nothing, which the wire calls "now"
    let from_oldest = from_oldest || from_revision == 0;
    let request = pb::WatchRequest {
        from_revision,
        from_oldest,
        sessions: on,
        browsers: on,
        ..Default::default()
    };
    let mut source = Source::new(request, app.timeout(), &app.output);
    let mut before = Some(Vec::new());
    let (mut stays, mut crashes) = (Stays::<Session>::default(), Stays::<Browser>::default());
    let mut widths = BTreeMap::new();
    loop {
        let told = match source.next(api).await {
            // an auditor may know what was decided, and not what agents do
            Err(error) if error.kind == Kind::NotPermitted && source.leave_reports_out() => {
                continue;
            }
            told => told?,
        };
        match told {
            Told::Sessions(sessions) => {
                for event in stays.events(sessions) {
                    lines::row(&app.output, &event, &mut widths)?;
                }
            }
            Told::Browsers(browsers) => {
                for event in crashes.events(browsers) {
                    lines::row(&app.output, &event, &mut widths)?;
                }
            }
            Told::Events(events) => {
                let events = events.into_iter().map(Event::from);
                match &mut before {
                    Some(before) => before.extend(events),
                    None => {
                        for event in events {
                            lines::row(&app.output, &event, &mut widths)?;
                        }
                    }
                }
            }
            Told::CaughtUp => {
                let Some(events) = before.take() else { continue };
                if !on {
                    let now = warren_daemon::clock::now();
                    app.output.list(&events, now, "no events are kept")?;
                    return Ok(0);
                }
                for event in &events {
                    lines::row(&app.output, event, &mut widths)?;
                }
            }
            Told::Moved => {}
            Told::Resync(why) => {
                let message = format!("the events from revision {from} on are not kept");
                let error = Error::new(Kind::Conflict, "RESYNC", message).why(why);
                return Err(error.next("warren cluster events shows those that are"));
            }
        }
    }
}
