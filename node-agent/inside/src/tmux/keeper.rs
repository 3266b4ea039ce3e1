//! Keeps the tmux server and the asked-for sessions alive, and reports all sessions.
//!
//! A session whose program ends stays as it is, with its exit code. A session that a person closed
//! stays closed. A server that died is started again, with its sessions, and said so; so is an agent
//! that crashed, where its session asks for that.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    signal::unix::Signal,
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use warren_common::Limits;

use super::{
    Seen, Tmux, TmuxError,
    crash::{Crashes, Turn},
    told::to_statuses,
};
use crate::{
    agent::Agents,
    board::{Board, Outcome},
    clock,
    journal::event,
    session::program::Launch,
};

/// Between two looks at the sessions while an agent works or somebody watches.
const POLL_BUSY: Duration = Duration::from_millis(500);
/// The same when tmux reports nothing by itself.
const POLL: Duration = Duration::from_secs(1);
/// The same while nobody watches and nothing was written for [`QUIET`]: tmux still reports at once
/// whatever starts or ends, and many idle workspaces cost a node little.
const POLL_QUIET: Duration = Duration::from_secs(3);
const QUIET: Duration = Duration::from_secs(30);
/// Between two looks when it reports without pause.
const POLL_GAP: Duration = Duration::from_millis(50);
/// A server that ran this long is started again at once.
const STEADY: Duration = Duration::from_secs(60);
const RESTART_MOST: Duration = Duration::from_secs(30);
/// Lines above the screen where the last words of a program are: tmux scrolls for its own.
const WORDS: u32 = 4;
/// The step that tells of restarts; it is not there before the first one.
const STEP: &str = "tmux";

/// A session that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) name: String,
    /// Its command line as people read it; empty for a login shell.
    pub(crate) command: String,
    /// Where it starts.
    pub(crate) folder: PathBuf,
    /// What starts it.
    pub(crate) launch: Launch,
    /// What is told of it.
    pub(crate) about: About,
    /// How often its agent crashed; none where it stays as it ended.
    pub(crate) crashes: Option<Crashes>,
}

/// What is told of a session beside what is seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// The run that was asked for.
    pub(crate) run: u64,
    /// What is checked out where it works.
    pub(crate) branch: String,
    /// Its own worktree; empty without one.
    pub(crate) worktree: String,
    /// It went on with its conversation.
    pub(crate) resumed: bool,
    /// Why it is not as it was asked for; empty where it is.
    pub(crate) problem: String,
    /// Since when it does not run because of that; none where it was begun.
    pub(crate) failed: Option<u64>,
    /// It ends because somebody asked, and runs until all of it has ended.
    pub(crate) ending: bool,
    /// What an earlier agent of this name told as its conversation: that is not this one's.
    pub(crate) earlier: String,
}

/// Shared by startup, which adds sessions, and streams, which show them.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    tmux: Tmux,
    board: Board,
    agents: Agents,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order they were asked for.
    wanted: Vec<Wanted>,
    /// That order.
    names: Vec<String>,
    /// When the server was last started; none before the first session.
    started: Option<Instant>,
    restarts: u32,
}

impl Keeper {
    /// Returns a keeper with nothing to keep.
    pub(crate) fn new(tmux: Tmux, board: Board, agents: Agents) -> Self {
        Self { tmux, board, agents, state: Arc::default() }
    }

    /// The server it keeps.
    pub(crate) const fn tmux(&self) -> &Tmux {
        &self.tmux
    }

    /// Starts the server.
    ///
    /// # Errors
    /// Fails where tmux is missing or cannot run here.
    pub(crate) async fn start(&self) -> Result<(), TmuxError> {
        let mut state = self.state.lock().await;
        self.tmux.start().await?;
        state.started = Some(Instant::now());
        Ok(())
    }

    /// Makes a session and keeps it; one of this name that is there already is taken as it is.
    ///
    /// # Errors
    /// Fails where tmux does; it is made with the next restart of the server then.
    pub(crate) async fn add(&self, mut wanted: Wanted) -> Result<(), TmuxError> {
        let mut state = self.state.lock().await;
        wanted.about.earlier = self.agents.thread(&wanted.name).unwrap_or_default();
        let there = self.tmux.has(&wanted.name).await;
        let made = if there { Ok(()) } else { self.make(&mut wanted).await };
        state.put(wanted);
        made?;
        drop(state);
        self.look().await.map(drop)
    }

    async fn make(&self, wanted: &mut Wanted) -> Result<(), TmuxError> {
        let line = wanted.starts();
        self.tmux.create(wanted, &line).await
    }

    /// Says in which order the sessions are shown.
    pub(crate) async fn in_order(&self, names: Vec<String>) {
        let mut state = self.state.lock().await;
        state.names = names;
        state.sort();
    }

    /// Tells of a session that was not begun.
    pub(crate) async fn fail(&self, mut wanted: Wanted, problem: String) {
        (wanted.about.problem, wanted.about.failed) = (problem, Some(clock::now_ms()));
        self.state.lock().await.put(wanted);
        // the next look tells it too
        let _ = self.look().await;
    }

    /// Tells what is wrong with a session that runs.
    pub(crate) async fn note(&self, name: &str, problem: String) {
        let mut state = self.state.lock().await;
        let known = state.wanted.iter_mut().find(|wanted| wanted.name == name);
        if let Some(wanted) = known {
            wanted.about.problem = problem;
        }
        drop(state);
        let _ = self.look().await;
    }

    /// Ends the terminals of a session and keeps it no longer.
    pub(crate) async fn close(&self, name: &str) {
        let mut state = self.state.lock().await;
        state.wanted.retain(|wanted| wanted.name != name);
        // a person may have closed it, or the server died
        let _ = self.tmux.close(name).await;
        drop(state);
        let _ = self.look().await;
    }

    /// Notes that a session ends because somebody asked: whatever ends in it now did not crash; `runs`:
    /// something of it is there.
    pub(crate) async fn ending(&self, name: &str, runs: bool) {
        let mut state = self.state.lock().await;
        let known = state.wanted.iter_mut().find(|wanted| wanted.name == name);
        if let Some(wanted) = known {
            (wanted.crashes, wanted.about.ending) = (None, runs);
        }
    }

    /// Polls for ever: at tmux's own hint (SIGUSR1, sent by its hooks), where an agent told more
    /// than is known of its session, else every few seconds.
    pub(crate) async fn run(self, mut hints: Signal) {
        let mut quiet = false;
        let mut pause = Duration::from_secs(1);
        loop {
            let due = |wanted: &Wanted| wanted.crashes.as_ref().is_some_and(Crashes::is_due);
            let due = self.state.lock().await.wanted.iter().any(due);
            let wait = match quiet {
                _ if due || self.agents.are_busy() => POLL_BUSY,
                true => POLL_QUIET,
                false => POLL,
            };
            let woken = async {
                tokio::select! {
                    _ = hints.recv() => {}
                    () = self.agents.wanted() => {}
                }
            };
            // A hint or the end of the wait: both mean to look.
            let _ = timeout(wait, woken).await;
            let Some(started) = self.state.lock().await.started else { continue };
            match self.look().await {
                Err(TmuxError::NoServer) => {
                    if started.elapsed() > STEADY {
                        pause = Duration::from_secs(1);
                    } else {
                        sleep(pause).await;
                        pause = (pause * 2).min(RESTART_MOST);
                    }
                    self.restart().await;
                }
                Err(error) => {
                    event!("the sessions could not be listed: {error}");
                    sleep(POLL).await;
                }
                Ok(now) => {
                    quiet = now;
                    sleep(POLL_GAP).await;
                }
            }
        }
    }

    /// Puts the sessions there are on the board; returns whether all of them are quiet.
    async fn look(&self) -> Result<bool, TmuxError> {
        self.look_at(self.tmux.list()).await
    }

    async fn look_at(
        &self,
        list: impl Future<Output = Result<Vec<Seen>, TmuxError>>,
    ) -> Result<bool, TmuxError> {
        // before the list is made: an older one must not come after a newer one
        let mut state = self.state.lock().await;
        let seen = match list.await {
            Ok(seen) => seen,
            Err(TmuxError::NoServer) => {
                self.agents.look(&[]);
                self.board.sessions(Vec::new(), &state.ending());
                return Err(TmuxError::NoServer);
            }
            Err(error) => return Err(error),
        };
        let before = (clock::now_ms() / 1000).saturating_sub(QUIET.as_secs());
        let quiet = seen.iter().all(|session| session.viewers == 0 && session.active < before);
        let mut seen = in_order(&state.wanted, seen);
        if self.look_at_crashes(&mut state, &seen).await {
            // what was seen is of before: an agent may have told of itself since
            seen = in_order(&state.wanted, self.tmux.list().await?);
        }
        self.agents.look(&seen);
        self.note_conversations(&state.wanted);
        let mut statuses = to_statuses(&state.wanted, seen);
        for status in statuses.iter_mut().filter(|status| status.agent.is_none()) {
            status.agent = self.agents.status(&status.name);
        }
        self.board.sessions(statuses, &state.ending());
        drop(state);
        self.look_at_screens().await;
        Ok(quiet)
    }

    /// Starts agents again that crashed, when their time has come; returns whether one was.
    async fn look_at_crashes(&self, state: &mut State, seen: &[Seen]) -> bool {
        let mut started = false;
        for wanted in &mut state.wanted {
            let Some(mut crashes) = wanted.crashes.take() else { continue };
            let now = Instant::now();
            let seen = seen.iter().find(|seen| seen.name == wanted.name);
            let first = seen.and_then(|seen| Some((seen.exit, &seen.panes.first()?.id)));
            let Some((exit, pane)) = first else {
                // a person closed it
                crashes.started(now);
                wanted.crashes = Some(crashes);
                continue;
            };
            let turn = crashes.look(exit, now);
            let mut failed = None;
            match turn {
                Turn::Crashed(code) => {
                    let words = self.tmux.screen(pane, WORDS).await.unwrap_or_default();
                    crashes.crashed((code, &words), now);
                }
                Turn::Start => {
                    let line = wanted.starts();
                    failed = self.tmux.respawn((wanted, pane), &line).await.err();
                    crashes.started(now);
                    started = true;
                }
                Turn::Nothing | Turn::Well => {}
            }
            if turn != Turn::Nothing {
                wanted.about.problem = match failed {
                    Some(error) => format!("{}, which failed: {error}", crashes.problem()),
                    None => crashes.problem(),
                };
                event!("session {}: {}", wanted.name, wanted.about.problem);
            }
            wanted.crashes = Some(crashes);
        }
        started
    }

    /// An agent may have begun another conversation by itself.
    fn note_conversations(&self, wanted: &[Wanted]) {
        for Wanted { name, launch, about, .. } in wanted {
            let Some(agent) = launch.program.agent else { continue };
            let told = self.agents.thread(name).filter(|_| self.agents.is(name, agent.as_str()));
            if let Some(thread) = told.filter(|thread| *thread != about.earlier) {
                launch.book.told(name, launch.life, &thread);
            }
        }
    }

    async fn look_at_screens(&self) {
        for wish in self.agents.wishes() {
            // the pane may have gone since
            if let Ok(text) = self.tmux.screen(&wish.pane, 0).await {
                self.agents.screen(&wish, &text);
            }
        }
    }

    async fn restart(&self) {
        let mut state = self.state.lock().await;
        state.restarts += 1;
        state.started = Some(Instant::now());
        let times = state.restarts;
        self.board.begin(STEP, "tmux server: it died, starting it and its sessions again");
        let mut outcome = self.tmux.start().await;
        let comes = |wanted: &&mut Wanted| wanted.about.failed.is_none() && !wanted.about.ending;
        for wanted in state.wanted.iter_mut().filter(comes) {
            if outcome.is_ok() {
                outcome = self.make(wanted).await;
            }
        }
        let outcome = match outcome {
            Ok(()) => {
                let title = format!("tmux server: it died and was started again ({times}×)");
                self.board.title(STEP, &title);
                Outcome::Done
            }
            Err(error) => Outcome::Failed(format!("the sessions are gone: {error}")),
        };
        self.board.end(STEP, &outcome);
    }
}

impl State {
    /// Adds a session in the place of one of its name.
    fn put(&mut self, wanted: Wanted) {
        match self.wanted.iter_mut().find(|known| known.name == wanted.name) {
            Some(known) => *known = wanted,
            None => self.wanted.push(wanted),
        }
        self.sort();
    }

    /// Returns which sessions end because somebody asked.
    fn ending(&self) -> Vec<String> {
        let ending = self.wanted.iter().filter(|wanted| wanted.about.ending);
        ending.map(|wanted| wanted.name.clone()).collect()
    }

    fn sort(&mut self) {
        let Self { wanted, names, .. } = self;
        let place = |name: &String| names.iter().position(|known| known == name);
        wanted.sort_by_key(|one| place(&one.name).unwrap_or(usize::MAX));
    }
}

impl Wanted {
    /// Returns the command line of a start now.
    fn starts(&mut self) -> String {
        let (line, resumed) = self.launch.line();
        self.about.resumed = resumed;
        if let Some(crashes) = &mut self.crashes {
            crashes.started(Instant::now());
        }
        line
    }
}

pub(super) fn place(wanted: &[Wanted], name: &str) -> usize {
    wanted.iter().position(|wanted| wanted.name == name).unwrap_or(wanted.len())
}

/// The asked-for sessions first, in their order, then those made by hand, by name; at most
/// [`Limits::SESSIONS`] of them.
fn in_order(wanted: &[Wanted], mut seen: Vec<Seen>) -> Vec<Seen> {
    for session in &mut seen {
        let asked = wanted.get(place(wanted, &session.name));
        session.agent = asked.and_then(|wanted| wanted.launch.program.agent);
        if asked.is_some_and(|wanted| wanted.about.ending) {
            // how its agent ends is what was asked for, and no news
            session.panes.retain(|pane| !pane.dead);
        }
    }
    seen.sort_by_key(|session| place(wanted, &session.name));
    seen.truncate(Limits::SESSIONS);
    seen
}

#[cfg(test)]
mod tests;
