//! What the agents in the sessions do: seen from here, told by themselves, shown on the board.
//!
//! [`hook`] is the other end: what an agent's hook runs. [`socket`] takes what it sends, [`spool`]
//! keeps what could not be sent; [`codex`] listens to the daemon of Codex. [`roster`] knows whose it is and folds it; [`look`] is what tmux and
//! `/proc` show at each look. Who is believed is decided in [`warren_common::agent`].
//!
//! Everything here comes from the workspace and may be forged by what runs in it. It is bounded,
//! cleaned and shown, and nothing is done because of it.

mod codex;
mod detect;
mod entry;
mod explain;
pub(crate) mod hook;
mod keys;
pub(crate) mod look;
mod message;
mod pace;
mod registry;
mod roster;
mod screen;
mod socket;
mod spool;
pub(crate) mod tree;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::interval};
use warren_common::{
    Timestamp,
    agent::{AgentKind, AppServer},
};
use warren_proto::pb::inside::v1::{AgentExplanation, AgentStatus};

use self::roster::Roster;
use crate::{board::Board, clock, config::Config, journal::event, tmux::Seen};

/// Between two ticks of the arbiters where nothing else happens.
const TICK: Duration = Duration::from_secs(5);
/// Ticks between two lines of the log about what was not understood.
const TICKS_PER_LINE: u32 = 12;

/// The agents; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    roster: Arc<Mutex<Roster>>,
    board: Board,
    runtime: Arc<Path>,
    home: Arc<Path>,
    /// Wakes whoever looks at the sessions.
    wanted: Arc<Notify>,
}

/// A pane whose screen is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The session.
    pub(crate) session: String,
    /// tmux's id of the pane.
    pub(crate) pane: String,
}

impl Agents {
    /// Returns a roster without agents.
    pub(crate) fn new(config: &Config, board: Board) -> Self {
        let roster = Roster::new(config.home.join(registry::FOLDER));
        Self {
            roster: Arc::new(Mutex::new(roster)),
            board,
            runtime: config.runtime.as_path().into(),
            home: config.home.as_path().into(),
            wanted: Arc::default(),
        }
    }

    /// Listens and ticks for ever.
    pub(crate) async fn run(self) {
        tokio::join!(socket::run(&self), codex::run(&self), self.tick());
    }

    /// Takes what a look at the sessions shows; `sessions` are those that the board shows.
    pub(crate) fn look(&self, sessions: &[Seen]) {
        let spooled = spool::drain(&self.runtime);
        let now = now();
        let mut roster = self.roster();
        roster.look(sessions, now);
        for bytes in spooled {
            roster.take(&bytes, now);
        }
    }

    /// Returns what the session's agent does; none where there is no agent yet.
    pub(crate) fn status(&self, session: &str) -> Option<AgentStatus> {
        self.roster().status(session)
    }

    /// Returns the id of its conversation that the session's agent told last.
    pub(crate) fn thread(&self, session: &str) -> Option<String> {
        let roster = self.roster();
        let thread = &roster.entries.get(session)?.thread;
        (!thread.is_empty()).then(|| thread.clone())
    }

    /// Ends the turn of a thread of Codex, which goes on without a terminal; where that fails it goes on.
    pub(crate) async fn interrupt(&self, session: &str, thread: &str) {
        if let Err(error) = codex::interrupt(&self.home, thread).await {
            event!("session {session}: Codex's daemon was not told of its end: {error}");
        }
    }

    /// Whether the session's agent is of this kind.
    pub(crate) fn is(&self, session: &str, kind: &str) -> bool {
        let roster = self.roster();
        roster.entries.get(session).is_some_and(|entry| entry.kind().as_str() == kind)
    }

    /// Returns whether the sessions are to be looked at often.
    pub(crate) fn are_busy(&self) -> bool {
        self.roster().is_busy()
    }

    /// Waits until a look at the sessions is wanted. Cancel safe.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Returns the panes whose screen says more, a few at a time.
    pub(crate) fn wishes(&self) -> Vec<Wish> {
        self.roster().wishes(now())
    }

    /// Takes the text on a pane's screen.
    pub(crate) fn screen(&self, wish: &Wish, text: &str) {
        self.roster().screen(wish, text, now());
        self.publish();
    }

    /// Returns why the session's status is what it is.
    pub(crate) fn explain(&self, session: &str) -> AgentExplanation {
        self.roster().explain(session)
    }

    /// Takes one message of the reporter as it came.
    fn take(&self, bytes: &[u8]) {
        let mut roster = self.roster();
        if roster.take(bytes, now()) {
            self.wanted.notify_one();
        }
        drop(roster);
        self.publish();
    }

    /// Takes what Codex's daemon says of a thread.
    fn thread_told(&self, thread: &codex::Thread, status: AppServer, at: Timestamp) {
        self.roster().thread((thread, status), at, now());
        self.publish();
    }

    fn has_codex(&self) -> bool {
        self.roster().entries.values().any(|entry| *entry.kind() == AgentKind::Codex)
    }

    /// Puts on the board what changed.
    fn publish(&self) {
        for (session, status) in self.roster().changed() {
            self.board.agent(&session, status);
        }
    }

    async fn tick(&self) {
        let records = self.roster().records.clone();
        let mut watch = registry::Watch::new(records);
        let mut ticks = interval(TICK);
        let mut count: u32 = 0;
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    watch.renew();
                    count = count.wrapping_add(1);
                    self.pass(count.is_multiple_of(TICKS_PER_LINE));
                }
                () = watch.changed() => self.roster().look_at_records(now()),
            }
            self.publish();
        }
    }

    /// Lets time pass; `line`: it is time for a line of the log.
    fn pass(&self, line: bool) {
        let spooled = spool::drain(&self.runtime);
        let now = now();
        let mut roster = self.roster();
        for bytes in spooled {
            roster.take(&bytes, now);
        }
        roster.tick(now);
        let lost = if line { roster.lost() } else { 0 };
        drop(roster);
        if lost > 0 {
            event!(
                "{lost} messages of agents were of no use: not understood, or of no session here"
            );
        }
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        // nothing panics while it holds the roster; a half-done fold is still a bounded one
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> PathBuf {
        self.runtime.join(message::SOCKET)
    }
}

fn now() -> Timestamp {
    Timestamp(clock::now_ms())
}
