//! The status board: what PID 1 tells the node agent, written by whoever learns something.
//!
//! Every change wakes the subscribers; they take the newest picture, so a slow node agent costs
//! nothing here.

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};
use warren_common::{Limits, status::clean};
use warren_proto::pb::inside::v1::{
    AgentStatus, BrowserStatus, ServiceStatus, SessionStatus, Status, Step, StepState,
};

use crate::{clock, journal::event};

/// Shared by everything that has something to say.
#[derive(Debug, Clone)]
pub(crate) struct Board(Arc<watch::Sender<Picture>>);

/// The whole picture at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    steps: Vec<Entry>,
    planned: bool,
    sessions: Vec<SessionStatus>,
    services: Vec<ServiceStatus>,
    browsers: Vec<BrowserStatus>,
}

#[derive(Debug, Clone)]
struct Entry {
    step: Step,
    begun: Option<Instant>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Well.
    Done,
    /// It was not needed; its title says why.
    Skipped,
    /// Badly: what happened and what to do, in one sentence.
    Failed(String),
}

impl Board {
    /// Returns an empty board.
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Picture::default())))
    }

    /// Adds steps that are still to come; those already there are kept.
    pub(crate) fn plan(&self, steps: &[(String, String)]) {
        self.0.send_modify(|picture| {
            picture.planned = true;
            for (name, title) in steps {
                if picture.entry(name).is_none() {
                    picture.add(name, title, StepState::Pending);
                }
            }
        });
    }

    /// Marks a step as running; adds it where it was not planned.
    pub(crate) fn begin(&self, name: &str, title: &str) {
        event!("{title}");
        self.0.send_modify(|picture| {
            if picture.entry(name).is_none() {
                picture.add(name, title, StepState::Pending);
            }
            if let Some(entry) = picture.entry(name) {
                entry.begun = Some(Instant::now());
                entry.step.started_unix_ms = clock::now_ms();
                entry.step.set_state(StepState::Running);
            }
        });
        self.title(name, title);
    }

    /// Changes what people read of a step.
    pub(crate) fn title(&self, name: &str, title: &str) {
        let title = clean(title, Limits::REASON_BYTES);
        self.0.send_if_modified(|picture| match picture.entry(name) {
            Some(entry) if entry.step.title != title => {
                entry.step.title = title;
                true
            }
            Some(_) | None => false,
        });
    }

    /// Replaces the output kept of a step.
    pub(crate) fn output(&self, name: &str, output: &str) {
        self.0.send_modify(|picture| {
            if let Some(entry) = picture.entry(name) {
                entry.step.output = clean(output, Limits::STEP_OUTPUT_BYTES);
            }
        });
    }

    /// Ends a step.
    pub(crate) fn end(&self, name: &str, outcome: &Outcome) {
        self.0.send_modify(|picture| {
            let Some(entry) = picture.entry(name) else { return };
            entry.step.elapsed_ms = entry.elapsed_ms();
            let title = &entry.step.title;
            match outcome {
                Outcome::Done => {
                    event!("{title}: done in {} ms", entry.step.elapsed_ms);
                    entry.step.set_state(StepState::Done);
                }
                Outcome::Skipped => {
                    event!("{title}: skipped");
                    entry.step.set_state(StepState::Skipped);
                }
                Outcome::Failed(message) => {
                    let message = warren_common::status::reason(message);
                    event!("{title}: failed: {message}");
                    entry.step.message = message;
                    entry.step.set_state(StepState::Failed);
                }
            }
        });
    }

    /// Replaces the sessions; subscribers are only woken by a change. Of those that end, what was told
    /// last stands where their terminals are gone before all else of them is.
    pub(crate) fn sessions(&self, mut sessions: Vec<SessionStatus>, ending: &[String]) {
        self.0.send_if_modified(|picture| {
            let ends = |(_, one): &(usize, &SessionStatus)| {
                let there = sessions.iter().any(|other| other.name == one.name);
                one.running && !there && ending.contains(&one.name)
            };
            let ends = picture.sessions.iter().enumerate().filter(ends);
            let ends: Vec<(usize, SessionStatus)> =
                ends.map(|(place, one)| (place, without_terminals(one))).collect();
            sessions.truncate(Limits::SESSIONS.saturating_sub(ends.len()));
            for (place, one) in ends {
                sessions.insert(place.min(sessions.len()), one);
            }
            let changed = picture.sessions != sessions;
            picture.sessions = sessions;
            changed
        });
    }

    /// Replaces how a service stands, by its name; a new one comes last.
    pub(crate) fn service(&self, status: ServiceStatus) {
        self.0.send_if_modified(|picture| {
            let known = picture.services.iter_mut().find(|known| known.name == status.name);
            match known {
                Some(known) if *known == status => return false,
                Some(known) => *known = status,
                None => picture.services.push(status),
            }
            true
        });
    }

    /// Replaces what a session's agent does; nothing where there is no such session.
    pub(crate) fn agent(&self, session: &str, status: AgentStatus) {
        self.0.send_if_modified(|picture| {
            let known = picture.sessions.iter_mut().find(|known| known.name == session);
            let Some(known) = known else { return false };
            let changed = known.agent.as_ref() != Some(&status);
            known.agent = Some(status);
            changed
        });
    }

    /// Replaces the browsers; subscribers are only woken by a change.
    pub(crate) fn browsers(&self, browsers: Vec<BrowserStatus>) {
        self.0.send_if_modified(|picture| {
            let changed = picture.browsers != browsers;
            picture.browsers = browsers;
            changed
        });
    }

    /// Returns the session that has one of these processes in a pane.
    pub(crate) fn session_of(&self, processes: &[u32]) -> Option<String> {
        let picture = self.0.borrow();
        let has = |one: &&SessionStatus| one.panes.iter().any(|pane| processes.contains(pane));
        picture.sessions.iter().find(has).map(|one| one.name.clone())
    }

    /// Returns the title of the step that is running, where one is.
    pub(crate) fn running_step(&self) -> Option<String> {
        let picture = self.0.borrow();
        let running = |entry: &&Entry| entry.step.state() == StepState::Running;
        picture.steps.iter().find(running).map(|entry| entry.step.title.clone())
    }

    /// Returns whether a step of this name is still to come or running.
    pub(crate) fn awaits(&self, name: &str) -> bool {
        self.0.borrow().steps.iter().any(|entry| entry.step.name == name && !entry.ended())
    }

    /// Returns a receiver that wakes on each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Picture> {
        self.0.subscribe()
    }
}

/// Nobody sees it any more, and the numbers of its processes may be others'.
fn without_terminals(session: &SessionStatus) -> SessionStatus {
    SessionStatus { panes: Vec::new(), viewers: 0, ..session.clone() }
}

impl Picture {
    /// Returns the message of this picture, with the time running steps have taken so far.
    pub(crate) fn to_status(&self) -> Status {
        let steps = self.steps.iter().map(|entry| {
            let mut step = entry.step.clone();
            if step.state() == StepState::Running {
                step.elapsed_ms = entry.elapsed_ms();
            }
            step
        });
        Status {
            steps: steps.collect(),
            started: self.planned && self.steps.iter().all(Entry::ended),
            sessions: self.sessions.clone(),
            services: self.services.clone(),
            browsers: self.browsers.clone(),
        }
    }

    fn entry(&mut self, name: &str) -> Option<&mut Entry> {
        self.steps.iter_mut().find(|entry| entry.step.name == name)
    }

    fn add(&mut self, name: &str, title: &str, state: StepState) {
        let step = Step {
            name: name.to_owned(),
            title: clean(title, Limits::REASON_BYTES),
            state: state.into(),
            ..Step::default()
        };
        self.steps.push(Entry { step, begun: None });
    }
}

impl Entry {
    fn ended(&self) -> bool {
        match self.step.state() {
            StepState::Done | StepState::Skipped | StepState::Failed => true,
            StepState::Unspecified | StepState::Pending | StepState::Running => false,
        }
    }

    fn elapsed_ms(&self) -> u64 {
        let elapsed = self.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        elapsed.as_millis().try_into().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_common::{
        Timestamp,
        agent::{AgentKind, AgentState, Confidence, Flags, Meter, Source},
        browser::{self, BrowserId, Dialog, Page},
    };
    use warren_proto::convert::InsideStatus;

    fn plan(names: &[&str]) -> Board {
        let board = Board::new();
        let steps: Vec<_> = names.iter().map(|n| ((*n).to_owned(), (*n).to_owned())).collect();
        board.plan(&steps);
        board
    }

    /// An agent with more in the background than any other state carries.
    fn fullest_agent() -> AgentStatus {
        let status = warren_common::agent::AgentStatus {
            kind: AgentKind::named(&"k".repeat(99)),
            state: AgentState::Background { tasks: vec!["ä".repeat(999); 99] },
            since: Timestamp(u64::MAX),
            last_activity: Timestamp(u64::MAX),
            source: Source::Hook("e".repeat(99)),
            confidence: Confidence::Derived,
            evidence: Timestamp(u64::MAX),
            flags: Flags { unseen: true, stalled: true },
            subagents: u32::MAX,
            meter: Meter {
                model: "m".repeat(999),
                mode: "m".repeat(999),
                context_tokens: Some(u64::MAX),
                context_window: Some(u64::MAX),
                input_tokens: Some(u64::MAX),
                output_tokens: Some(u64::MAX),
                cost_micro_usd: Some(u64::MAX),
            },
        };
        status.bounded().into()
    }

    /// Browsers with more pages, and more on each, than are told.
    fn fullest_browsers() -> Vec<BrowserStatus> {
        let long = "ä".repeat(999);
        let dialog = Some(Dialog { kind: long.clone(), text: long.clone() });
        let page = |n: usize| Page {
            id: n.to_string(),
            url: long.clone(),
            title: long.clone(),
            last_error: long.clone(),
            navigated: Some(Timestamp(u64::MAX)),
            errors: u32::MAX,
            dialog: dialog.clone(),
            ..Page::default()
        };
        let browser = |pid: u32| browser::BrowserStatus {
            id: BrowserId { pid, start: u64::MAX },
            session: "s".repeat(40).parse().ok(),
            version: long.clone(),
            display: long.clone(),
            blind: long.clone(),
            since: Timestamp(u64::MAX),
            started: Timestamp(u64::MAX),
            evidence: Timestamp(u64::MAX),
            pages: (0..99).map(page).collect(),
            ..browser::BrowserStatus::default()
        };
        let all = (0..99).map(|pid| browser(pid).bounded()).collect();
        browser::fit(all).into_iter().map(Into::into).collect()
    }

    #[test]
    fn one_that_ends_stands_in_its_place_until_it_has_and_is_none_too_many() {
        let board = plan(&[]);
        let session = |name: &str| SessionStatus {
            name: name.to_owned(),
            running: true,
            panes: vec![7],
            viewers: 1,
            ..SessionStatus::default()
        };
        let told = || board.subscribe().borrow().to_status().sessions;
        let names = || told().iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        board.sessions(["a", "b", "c"].map(session).to_vec(), &[]);
        let ending = ["b".to_owned(), "never".to_owned()];
        board.sessions(["a", "c"].map(session).to_vec(), &ending);
        assert_eq!(names(), ["a", "b", "c"]);
        assert_eq!((told()[1].panes.len(), told()[1].viewers, told()[1].running), (0, 0, true));
        let many = (0..Limits::SESSIONS).map(|n| session(&format!("s{n}"))).collect();
        board.sessions(many, &ending);
        assert_eq!((names().len(), names()[1].as_str()), (Limits::SESSIONS, "b"));
        board.sessions(Vec::new(), &[]);
        assert!(names().is_empty());
    }

    #[test]
    fn an_agents_status_wakes_only_where_it_differs() {
        let board = plan(&[]);
        let session = SessionStatus { name: "main".to_owned(), ..SessionStatus::default() };
        board.sessions(vec![session], &[]);
        let mut seen = board.subscribe();
        seen.mark_unchanged();
        board.agent("other", fullest_agent());
        assert!(!seen.has_changed().expect("open"));
        board.agent("main", fullest_agent());
        assert!(seen.has_changed().expect("open"));
        seen.mark_unchanged();
        board.agent("main", fullest_agent());
        assert!(!seen.has_changed().expect("open"));
        let told = board.subscribe().borrow().to_status().sessions[0].agent.clone();
        assert_eq!(told, Some(fullest_agent()));
    }

    #[test]
    fn started_once_every_step_has_ended() {
        let board = Board::new();
        let status = |board: &Board| board.subscribe().borrow().to_status();
        assert!(!status(&board).started, "nothing was asked for yet");
        let board_of_two = plan(&["clone", "session:main"]);
        board_of_two.begin("clone", "git clone acme/web");
        assert_eq!(board_of_two.running_step().as_deref(), Some("git clone acme/web"));
        board_of_two.end("clone", &Outcome::Failed("not\nfound".to_owned()));
        assert!(!status(&board_of_two).started);
        assert!(board_of_two.awaits("session:main") && !board_of_two.awaits("clone"));
        board_of_two.end("session:main", &Outcome::Done);
        let status = status(&board_of_two);
        assert!(status.started, "a failed step does not hold up the workspace");
        assert_eq!(status.steps[0].message, "not found");
    }

    #[test]
    fn only_changes_wake() {
        let board = plan(&["clone"]);
        let mut seen = board.subscribe();
        seen.mark_unchanged();
        board.title("clone", "clone");
        board.sessions(Vec::new(), &[]);
        assert!(!seen.has_changed().expect("open"));
        board.title("clone", "git clone (1 object)");
        assert!(seen.has_changed().expect("open"));
    }

    #[test]
    fn the_fullest_status_fits_one_message_and_is_understood() {
        let board = Board::new();
        board.0.send_modify(|picture| {
            for number in 0..Limits::STEPS_INSIDE {
                let name = format!("session:{}{number}", "x".repeat(38));
                picture.add(&name, &"t".repeat(9999), StepState::Failed);
                let entry = picture.entry(&name).expect("just added");
                entry.step.message = warren_common::status::reason(&"m".repeat(9999));
            }
            for entry in &mut picture.steps[..2] {
                entry.step.output = clean(&"ä".repeat(8192), Limits::STEP_OUTPUT_BYTES);
            }
        });
        let session = SessionStatus {
            name: "n".repeat(40),
            command: "c".repeat(crate::tmux::COMMAND_SHOWN_BYTES),
            panes: vec![u32::MAX; Limits::PANES],
            agent: Some(fullest_agent()),
            ..SessionStatus::default()
        };
        board.sessions(vec![session; Limits::SESSIONS], &[]);
        board.browsers(fullest_browsers());
        let status = board.subscribe().borrow().to_status();
        let size = prost::Message::encoded_len(&status);
        assert!(size < Limits::INSIDE_MESSAGE_BYTES, "{size}");
        // The node agent takes it as it is, with nothing cut.
        let taken = InsideStatus::try_from(status.clone()).expect("a status");
        assert_eq!(Status::from(taken), status);
    }
}
