//! Sessions as coordinators tell them, whenever one stands otherwise.
//!
//! What is told is what nodes report, so it has no revision to go on from: after a coordinator was
//! lost the next one tells all of them again. Rows that say nothing new are passed over, and so are
//! stays in a state that were told before ([`Stays`]).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use warren_common::{Timestamp, agent::StateName};
use warren_proto::pb::admin::v1 as pb;

use super::{
    Follow,
    lines::Lines,
    source::{Source, Told},
};
use crate::{
    api::{Api, Listed},
    error::{Error, Kind, Outcome},
    render::Output,
    view::{event::Event, session::Session},
};

/// A coordinator that tells sessions begins with them right after it caught up.
const BEGIN: Duration = Duration::from_secs(5);

fn older() -> Error {
    let message = "the coordinator does not tell sessions as they change";
    let error = Error::new(Kind::Failed, "UNIMPLEMENTED", message.to_owned());
    error.why("it is older than this warren".to_owned()).next("upgrade the coordinators".to_owned())
}

/// One piece of what is told.
pub(crate) enum Seen {
    /// A session stands so.
    Stands(Box<Session>),
    /// The session of this address is there no more.
    Gone(String),
    /// All that there are were told since the beginning, or since a coordinator was lost.
    All,
}

/// Listens for sessions.
pub(crate) struct Watching {
    source: Source,
    pieces: VecDeque<Seen>,
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
    /// That there are no events; it must tell of sessions by then.
    CaughtUp(Instant),
    Sessions,
}

impl Watching {
    /// Prepares to listen to what the request names; opens nothing yet.
    pub(crate) fn new(
        request: pb::WatchRequest,
        patience: Option<Duration>,
        output: &Output,
    ) -> Self {
        let request = pb::WatchRequest { sessions: true, no_events: true, ..request };
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
    pub(crate) async fn next(&mut self, api: &mut Api) -> Result<Seen, Error> {
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
                    Err(_) if self.source.is_open() => return Err(older()),
                    Err(_) => continue,
                },
                Heard::Nothing | Heard::Sessions => self.source.next(api).await?,
            };
            match (told, &self.heard) {
                (Told::Sessions(sessions), _) => {
                    self.heard = Heard::Sessions;
                    self.take(sessions);
                }
                (Told::CaughtUp, Heard::Nothing) => {
                    self.heard = Heard::CaughtUp(Instant::now() + BEGIN);
                }
                // nothing is asked for but sessions, and they begin anew by themselves
                (Told::CaughtUp | Told::Events(_) | Told::Moved | Told::Resync(_), _) => {}
            }
        }
    }

    fn take(&mut self, told: pb::Sessions) {
        self.now = Timestamp(told.served_unix_ms);
        if told.begins {
            self.again = Some(BTreeSet::new());
        }
        for session in told.sessions.into_iter().map(Session::from) {
            if let Some(again) = &mut self.again {
                again.insert(session.address.clone());
            }
            self.there.insert(session.address.clone());
            self.pieces.push_back(Seen::Stands(Box::new(session)));
        }
        for gone in told.gone {
            let address = format!("{}/{}/{}", gone.client, gone.workspace, gone.session);
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

/// A watched list of sessions.
pub(crate) struct Sessions<'a, H> {
    pub(crate) follow: Follow<'a>,
    /// Whether a session belongs into the list.
    pub(crate) holds: H,
}

impl<H: Fn(&Session) -> bool> Sessions<'_, H> {
    /// Lists and follows until the command is interrupted.
    ///
    /// # Errors
    /// The list or the watch is refused, or no coordinator answers any more.
    pub(crate) async fn run(
        self,
        api: &mut Api,
        list: impl AsyncFn(&mut Api) -> Result<Listed<Session>, Error>,
    ) -> Outcome {
        let Follow { app, request, empty } = self.follow;
        let mut lines = Lines::new(&app.output);
        let mut watching = Watching::new(request, app.timeout(), &app.output);
        let listed = list(api).await?;
        watching.there = listed.items.iter().map(|one| one.address.clone()).collect();
        lines.list(listed, empty)?;
        loop {
            let piece = watching.next(api).await?;
            let now = watching.now();
            match piece {
                Seen::Stands(session) if (self.holds)(&session) => lines.stands(*session, now)?,
                Seen::Stands(session) => lines.gone(&session.address, now)?,
                Seen::Gone(address) => lines.gone(&address, now)?,
                Seen::All => {}
            }
        }
    }
}

/// Which stays of agents in states that need a person were told.
#[derive(Default)]
pub(super) struct Stays {
    told: BTreeMap<String, (StateName, Timestamp)>,
    /// Agents that were so when the watch began are no news.
    begun: bool,
}

impl Stays {
    /// Returns the events in an answer: one for each agent that came to wait, failed or ended badly,
    /// and none for a stay that was told before, by whichever coordinator.
    pub(super) fn events(&mut self, told: pb::Sessions) -> Vec<Event> {
        let mut events = Vec::new();
        for session in told.sessions.into_iter().map(Session::from) {
            let Some(agent) = &session.seen.agent else { continue };
            let Some((event, detail)) = agent.news() else { continue };
            let stay = agent.stay();
            if self.told.insert(session.address.clone(), stay) != Some(stay) && self.begun {
                events.push(Event::of_agent((event, detail), stay.1, session));
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
    fn a_wait_is_an_event_once_whoever_tells_it() {
        let mut stays = Stays::default();
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
