//! Sessions and browsers as coordinators tell them, whenever one stands otherwise.
//!
//! What is told is what nodes report, so it has no revision to go on from: after a coordinator was
//! lost the next one tells all of them again. Rows that say nothing new are passed over, and so are
//! stays in a state that were told before ([`Stays`]).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    marker::PhantomData,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use warren_common::Timestamp;
use warren_proto::pb::admin::v1 as pb;

use super::{
    Follow, Watched,
    lines::Lines,
    source::{Source, Told},
};
use crate::{
    api::{Api, Listed},
    command::Watch,
    error::{Error, Kind, Outcome},
    render::{Output, Tabular},
    view::{Moment, browser::Browser, event::Event, session::Session},
};

/// A coordinator that tells them begins with them right after it caught up.
const BEGIN: Duration = Duration::from_secs(5);

fn older(what: &str) -> Error {
    let message = format!("the coordinator does not tell {what} as they change");
    let error = Error::new(Kind::Failed, "UNIMPLEMENTED", message);
    error.why("it is older than this warren".to_owned()).next("upgrade the coordinators".to_owned())
}

/// A row that coordinators tell without being asked again.
pub(crate) trait Reported: Watched {
    /// What several of them are called.
    const WHAT: &'static str;
    /// Has a watch tell them.
    fn ask(request: pb::WatchRequest) -> pb::WatchRequest;
    /// Reads what is told of them.
    ///
    /// # Errors
    /// It is of something else, and given back.
    fn read(told: Told) -> Result<Batch<Self>, Told>
    where
        Self: Sized;
}

/// What is told at one time.
pub(crate) struct Batch<T> {
    stand: Vec<T>,
    /// Addresses.
    gone: Vec<String>,
    begins: bool,
    complete: bool,
    served: Timestamp,
}

/// One piece of what is told.
pub(crate) enum Seen<T> {
    /// One stands so.
    Stands(Box<T>),
    /// The one of this address is there no more.
    Gone(String),
    /// All that there are were told since the beginning, or since a coordinator was lost.
    All,
}

/// Listens for them.
pub(crate) struct Watching<T> {
    source: Source,
    pieces: VecDeque<Seen<T>>,
    /// What was told since all of them are told again; none once they were.
    again: Option<BTreeSet<String>>,
    /// Those that are there.
    there: BTreeSet<String>,
    now: Timestamp,
    heard: Heard,
}

/// What the coordinator that is listened to has told.
enum Heard {
    Nothing,
    /// That there are no events; it must tell of them by then.
    CaughtUp(Instant),
    Reports,
}

impl<T: Reported> Watching<T> {
    /// Prepares to listen to what the request names; opens nothing yet.
    pub(crate) fn new(
        request: pb::WatchRequest,
        patience: Option<Duration>,
        output: &Output,
    ) -> Self {
        let request = T::ask(pb::WatchRequest { no_events: true, ..request });
        Self {
            source: Source::new(request, patience, output),
            pieces: VecDeque::new(),
            again: None,
            there: BTreeSet::new(),
            now: Timestamp(0),
            heard: Heard::Nothing,
        }
    }

    /// Returns when the newest piece was told, by the coordinator's clock.
    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the next piece. Cancel safe once it has begun.
    ///
    /// # Errors
    /// The watch is refused, no coordinator answers any more, or one that knows of no such watch.
    pub(crate) async fn next(&mut self, api: &mut Api) -> Result<Seen<T>, Error> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(piece);
            }
            if !self.source.is_open() {
                self.heard = Heard::Nothing;
            }
            let told = match self.heard {
                Heard::CaughtUp(due) => match timeout_at(due, self.source.next(api)).await {
                    Ok(told) => told?,
                    Err(_) if self.source.is_open() => return Err(older(T::WHAT)),
                    Err(_) => continue,
                },
                Heard::Nothing | Heard::Reports => self.source.next(api).await?,
            };
            match (T::read(told), &self.heard) {
                (Ok(batch), _) => {
                    self.heard = Heard::Reports;
                    self.take(batch);
                }
                (Err(Told::CaughtUp), Heard::Nothing) => {
                    self.heard = Heard::CaughtUp(Instant::now() + BEGIN);
                }
                // nothing else is asked for, and they begin anew by themselves
                (Err(_), _) => {}
            }
        }
    }

    fn take(&mut self, told: Batch<T>) {
        self.now = told.served;
        if told.begins {
            self.again = Some(BTreeSet::new());
        }
        for one in told.stand {
            let address = one.address();
            if let Some(again) = &mut self.again {
                again.insert(address.clone());
            }
            self.there.insert(address);
            self.pieces.push_back(Seen::Stands(Box::new(one)));
        }
        for address in told.gone {
            self.go(address);
        }
        if told.complete {
            let again = self.again.take().unwrap_or_default();
            for address in self.there.difference(&again).cloned().collect::<Vec<_>>() {
                self.go(address);
            }
            self.pieces.push_back(Seen::All);
        }
    }

    fn go(&mut self, address: String) {
        self.there.remove(&address);
        self.pieces.push_back(Seen::Gone(address));
    }
}

/// A watched list of them.
pub(crate) struct Reports<'a, H> {
    pub(crate) follow: Follow<'a>,
    /// Whether one belongs into the list.
    pub(crate) holds: H,
}

impl<H> Reports<'_, H> {
    /// Lists once, or goes on with what changes where that is asked for.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) async fn show<T: Reported>(
        self,
        watch: &Watch,
        list: impl AsyncFn(&mut Api, Option<pb::Read>) -> Result<Listed<T>, Error>,
    ) -> Outcome
    where
        H: Fn(&T) -> bool,
    {
        let (app, empty) = (self.follow.app, self.follow.empty);
        let mut api = app.api()?;
        if watch.watch {
            return self.run(&mut api, async |api: &mut Api| list(api, None).await).await;
        }
        let listed = list(&mut api, watch.fresh.read()).await?;
        app.output.of(Some(&listed.at)).list(&listed.items, listed.now, empty)?;
        Ok(0)
    }

    /// Lists and follows until the command is interrupted.
    ///
    /// # Errors
    /// The list or the watch is refused, or no coordinator answers any more.
    pub(crate) async fn run<T: Reported>(
        self,
        api: &mut Api,
        list: impl AsyncFn(&mut Api) -> Result<Listed<T>, Error>,
    ) -> Outcome
    where
        H: Fn(&T) -> bool,
    {
        let Follow { app, request, empty } = self.follow;
        let mut lines = Lines::new(&app.output);
        let mut watching = Watching::<T>::new(request, app.timeout(), &app.output);
        let listed = list(api).await?;
        watching.there = listed.items.iter().map(Tabular::address).collect();
        lines.list(listed, empty)?;
        loop {
            let piece = watching.next(api).await?;
            let now = watching.now();
            match piece {
                Seen::Stands(one) if (self.holds)(&one) => lines.stands(*one, now)?,
                Seen::Stands(one) => lines.gone(&one.address(), now)?,
                Seen::Gone(address) => lines.gone(&address, now)?,
                Seen::All => {}
            }
        }
    }
}

impl Reported for Session {
    const WHAT: &'static str = "sessions";

    fn ask(request: pb::WatchRequest) -> pb::WatchRequest {
        pb::WatchRequest { sessions: true, ..request }
    }

    fn read(told: Told) -> Result<Batch<Self>, Told> {
        match told {
            Told::Sessions(told) => Ok(told.into()),
            other => Err(other),
        }
    }
}

impl From<pb::Sessions> for Batch<Session> {
    fn from(told: pb::Sessions) -> Self {
        let gone =
            |one: pb::SessionGone| format!("{}/{}/{}", one.client, one.workspace, one.session);
        Self {
            stand: told.sessions.into_iter().map(Session::from).collect(),
            gone: told.gone.into_iter().map(gone).collect(),
            begins: told.begins,
            complete: told.complete,
            served: Timestamp(told.served_unix_ms),
        }
    }
}

impl Reported for Browser {
    const WHAT: &'static str = "browsers";

    fn ask(request: pb::WatchRequest) -> pb::WatchRequest {
        pb::WatchRequest { browsers: true, ..request }
    }

    fn read(told: Told) -> Result<Batch<Self>, Told> {
        match told {
            Told::Browsers(told) => Ok(told.into()),
            other => Err(other),
        }
    }
}

impl From<pb::Browsers> for Batch<Browser> {
    fn from(told: pb::Browsers) -> Self {
        let gone = |one: pb::BrowserGone| format!("{}/{}/{}", one.client, one.workspace, one.id);
        Self {
            stand: told.browsers.into_iter().filter_map(Browser::read).collect(),
            gone: told.gone.into_iter().map(gone).collect(),
            begins: told.begins,
            complete: told.complete,
            served: Timestamp(told.served_unix_ms),
        }
    }
}

/// Something that is told as an event: that one came to need a person, or lost a process.
#[derive(Debug)]
pub(super) struct News {
    /// What it is about: of each there is one stay at a time.
    about: &'static str,
    /// Which stay, by a word and its beginning.
    stay: (&'static str, Timestamp),
    /// The event and what it says.
    event: (&'static str, String),
}

/// What there can be news of.
pub(super) trait Needing: Tabular {
    /// Returns what there is to tell of it now, the oldest kind first.
    fn news(&self) -> Vec<News>;
    /// Returns the event.
    fn event(&self, at: Timestamp, event: (&'static str, String)) -> Event;
}

impl Needing for Session {
    fn news(&self) -> Vec<News> {
        let killed = self.seen.killed.as_ref().and_then(|kill| {
            let Moment(at) = kill.at?;
            Some(News { about: "memory", stay: ("oom", at), event: ("session.oom", kill.told()) })
        });
        let agent = self.seen.agent.as_ref().and_then(|agent| {
            let (name, since) = agent.stay();
            Some(News { about: "agent", stay: (name.as_str(), since), event: agent.news()? })
        });
        killed.into_iter().chain(agent).collect()
    }

    fn event(&self, at: Timestamp, event: (&'static str, String)) -> Event {
        Event::of_session(event, at, self.clone())
    }
}

impl Needing for Browser {
    fn news(&self) -> Vec<News> {
        let told = self.news().map(|event| News { about: "browser", stay: self.stay(), event });
        told.into_iter().collect()
    }

    fn event(&self, at: Timestamp, event: (&'static str, String)) -> Event {
        Event::of_browser(event, at, self.clone())
    }
}

/// Which stays in states that need a person were told.
pub(super) struct Stays<T: Needing> {
    told: BTreeMap<(String, &'static str), (&'static str, Timestamp)>,
    /// What was so when the watch began is no news.
    begun: bool,
    of: PhantomData<T>,
}

impl<T: Needing> Default for Stays<T> {
    fn default() -> Self {
        Self { told: BTreeMap::new(), begun: false, of: PhantomData }
    }
}

impl<T: Needing> Stays<T> {
    /// Returns the events in an answer: one for each that came to need a person or lost a process, and
    /// none for what was told before, by whichever coordinator.
    pub(super) fn events(&mut self, told: impl Into<Batch<T>>) -> Vec<Event> {
        let told: Batch<T> = told.into();
        let mut events = Vec::new();
        for one in told.stand {
            for News { about, stay, event } in one.news() {
                let before = self.told.insert((one.address(), about), stay);
                if before != Some(stay) && self.begun {
                    events.push(one.event(stay.1, event));
                }
            }
        }
        self.begun |= told.complete;
        events
    }
}

#[cfg(test)]
mod tests {
    use warren_proto::pb::{
        inside::v1::{self as inside, agent_state::State},
        node::v1 as node,
    };

    use super::*;

    fn session(state: State, since: u64) -> pb::Session {
        let agent = inside::AgentStatus {
            kind: "claude".to_owned(),
            state: Some(inside::AgentState { state: Some(state) }),
            since_unix_ms: since,
            source: inside::AgentSource::Hook.into(),
            ..Default::default()
        };
        pb::Session {
            client: "acme".to_owned(),
            workspace: "web".to_owned(),
            observed: Some(node::SessionObserved {
                name: "main".to_owned(),
                running: true,
                agent: Some(agent),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn waits(since: u64) -> pb::Session {
        let kind = inside::AgentWaitKind::Question.into();
        let text = "which port?".to_owned();
        let wait = inside::AgentWaiting { kind, text, since_unix_ms: since, ..Default::default() };
        session(State::Waiting(wait), since)
    }

    fn told(sessions: Vec<pb::Session>, complete: bool) -> pb::Sessions {
        pb::Sessions { sessions, begins: complete, complete, ..Default::default() }
    }

    #[test]
    fn a_kill_for_memory_is_an_event_with_its_victim_beside_what_the_agent_does() {
        let mut stays = Stays::<Session>::default();
        let mut events = |sessions, complete| -> Vec<(String, String)> {
            let events = stays.events(told(sessions, complete));
            events.into_iter().map(|one| (one.event.to_owned(), one.detail)).collect()
        };
        let killed = |at| {
            let mut session = waits(5);
            let kill = node::Kill {
                at_unix_ms: at,
                process: "python3".to_owned(),
                command: "python3 fill.py".to_owned(),
                ..Default::default()
            };
            session.observed.as_mut().expect("it was seen").killed = Some(kill);
            session
        };
        assert_eq!(events(vec![waits(5)], true), []);
        let oom = ("session.oom".to_owned(), "python3: \"python3 fill.py\"".to_owned());
        assert_eq!(events(vec![killed(7)], false), std::slice::from_ref(&oom));
        assert_eq!(events(vec![killed(7)], true), []);
        assert_eq!(events(vec![killed(8)], false), [oom], "another one");
    }

    #[test]
    fn a_wait_is_an_event_once_whoever_tells_it() {
        let mut stays = Stays::<Session>::default();
        let mut events = |sessions, complete| -> Vec<(String, String)> {
            let events = stays.events(told(sessions, complete));
            events.into_iter().map(|one| (one.event.to_owned(), one.detail)).collect()
        };
        let idle = || session(State::Idle(inside::AgentIdle {}), 9);
        assert_eq!(events(vec![waits(5)], true), [], "it waited before the watch began");
        assert_eq!(events(vec![idle()], false), []);
        let wait = ("agent.waiting".to_owned(), "claude: question \"which port?\"".to_owned());
        assert_eq!(events(vec![waits(20)], false), std::slice::from_ref(&wait));
        assert_eq!(events(vec![waits(20)], false), [], "a mark on it changed");
        assert_eq!(events(vec![waits(20)], true), [], "another coordinator tells all");
        assert_eq!(events(vec![waits(30)], true), [wait], "it came while nobody was heard");
        let failed = inside::AgentError { kind: 1, ..Default::default() };
        let failed = events(vec![session(State::Error(failed), 40)], false);
        assert_eq!(failed, [("agent.error".to_owned(), "claude: rate_limit".to_owned())]);
    }
}
