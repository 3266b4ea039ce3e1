//! Keeps the tmux server and the asked-for sessions alive, and reports all sessions.
//!
//! A session whose program ends stays as it is, with its exit code. A session that a person closed
//! stays closed. Only a server that died is started again, with its sessions, and said so.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    signal::unix::Signal,
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use warren_common::{Limits, status::clean};
use warren_proto::pb::inside::v1::SessionStatus;

use super::{Seen, Tmux, TmuxError, list::COMMAND_SHOWN_BYTES};
use crate::{
    agent::Agents,
    board::{Board, Outcome},
    clock,
    journal::event,
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
/// The step that tells of restarts; it is not there before the first one.
const STEP: &str = "tmux";

/// A session that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) name: String,
    /// Its command line; empty for a login shell.
    pub(crate) command: String,
    /// Where it starts.
    pub(crate) folder: PathBuf,
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
    pub(crate) async fn add(&self, wanted: Wanted) -> Result<(), TmuxError> {
        let mut state = self.state.lock().await;
        state.wanted.push(wanted.clone());
        if self.tmux.has(&wanted.name).await {
            return Ok(());
        }
        self.tmux.create(&wanted).await?;
        drop(state);
        self.look().await.map(drop)
    }

    /// Polls for ever: at tmux's own hint (SIGUSR1, sent by its hooks), where an agent told more
    /// than is known of its session, else every few seconds.
    pub(crate) async fn run(self, mut hints: Signal) {
        let mut quiet = false;
        let mut pause = Duration::from_secs(1);
        loop {
            let wait = match quiet {
                _ if self.agents.are_busy() => POLL_BUSY,
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
        let state = self.state.lock().await;
        let seen = match list.await {
            Ok(seen) => seen,
            Err(TmuxError::NoServer) => {
                self.agents.look(&[]);
                self.board.sessions(Vec::new());
                return Err(TmuxError::NoServer);
            }
            Err(error) => return Err(error),
        };
        let before = (clock::now_ms() / 1000).saturating_sub(QUIET.as_secs());
        let quiet = seen.iter().all(|session| session.viewers == 0 && session.active < before);
        let seen = in_order(&state.wanted, seen);
        self.agents.look(&seen);
        let mut statuses = to_statuses(&state.wanted, seen);
        for status in &mut statuses {
            status.agent = self.agents.status(&status.name);
        }
        self.board.sessions(statuses);
        drop(state);
        self.look_at_screens().await;
        Ok(quiet)
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
        for wanted in &state.wanted {
            if outcome.is_ok() {
                outcome = self.tmux.create(wanted).await;
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

fn place(wanted: &[Wanted], name: &str) -> usize {
    wanted.iter().position(|wanted| wanted.name == name).unwrap_or(wanted.len())
}

/// The asked-for sessions first, in their order, then those made by hand, by name; at most
/// [`Limits::SESSIONS`] of them.
fn in_order(wanted: &[Wanted], mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort_by_key(|session| place(wanted, &session.name));
    seen.truncate(Limits::SESSIONS);
    seen
}

fn to_statuses(wanted: &[Wanted], seen: Vec<Seen>) -> Vec<SessionStatus> {
    let status = |session: Seen| {
        let asked = wanted.get(place(wanted, &session.name)).map(|wanted| wanted.command.as_str());
        let command = match asked {
            Some("") => "bash".to_owned(),
            Some(command) => clean(command, COMMAND_SHOWN_BYTES),
            None => session.command,
        };
        SessionStatus {
            name: session.name,
            command,
            running: session.exit.is_none(),
            exit_code: session.exit.unwrap_or_default(),
            started_unix_ms: session.created.saturating_mul(1000),
            active_unix_ms: session.active.saturating_mul(1000),
            viewers: session.viewers,
            panes: session.panes.iter().map(|pane| pane.process).collect(),
            agent: None,
        }
    };
    seen.into_iter().map(status).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, reaper::Reaper};

    #[tokio::test]
    async fn an_older_listing_never_comes_after_a_newer_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config {
            socket: folder.path().join("agent.sock"),
            run_serial: 1,
            workspace: None,
            home: folder.path().to_owned(),
            runtime: folder.path().to_owned(),
            display: None,
            display_size: String::new(),
            modules: folder.path().to_owned(),
        };
        let board = Board::new();
        let agents = Agents::new(&config, board.clone());
        let tmux = Tmux::new(&config, Reaper::new(folder.path()));
        let keeper = Keeper::new(tmux, board.clone(), agents);
        let (go, gone) = tokio::sync::oneshot::channel();
        let older = keeper.look_at(async {
            let _ = gone.await;
            Ok(vec![seen("older", None)])
        });
        let newer = keeper.look_at(async { Ok(vec![seen("newer", None)]) });
        let last = async {
            tokio::task::yield_now().await;
            go.send(()).expect("the older one waits");
        };
        let (older, newer, ()) = tokio::join!(biased; older, newer, last);
        assert!(older.is_ok() && newer.is_ok());
        let shown = board.subscribe().borrow().to_status().sessions;
        assert_eq!(shown.first().map(|session| session.name.as_str()), Some("newer"));
    }

    fn seen(name: &str, exit: Option<i32>) -> Seen {
        Seen {
            name: name.to_owned(),
            command: "vim".to_owned(),
            exit,
            created: 3,
            active: 4,
            viewers: 0,
            panes: Vec::new(),
        }
    }

    #[test]
    fn asked_for_sessions_come_first_in_their_order() {
        let wanted = |name: &str, command: &str| Wanted {
            name: name.to_owned(),
            command: command.to_owned(),
            folder: PathBuf::new(),
        };
        let ordered = |wanted: &[Wanted], seen| to_statuses(wanted, in_order(wanted, seen));
        let statuses = ordered(
            &[wanted("main", "claude --continue"), wanted("aux", ""), wanted("gone", "")],
            vec![seen("0", None), seen("aux", Some(2)), seen("main", None)],
        );
        let short: Vec<_> = statuses
            .iter()
            .map(|s| (s.name.as_str(), s.command.as_str(), s.running, s.exit_code))
            .collect();
        assert_eq!(
            short,
            [
                ("main", "claude --continue", true, 0),
                ("aux", "bash", false, 2),
                ("0", "vim", true, 0)
            ]
        );
        assert_eq!(statuses[0].started_unix_ms, 3000);
        let mut flood: Vec<Seen> = (0..99).map(|n| seen(&format!("a{n}"), None)).collect();
        flood.push(seen("main", None));
        let statuses = ordered(&[wanted("main", "")], flood);
        assert_eq!((statuses.len(), statuses[0].name.as_str()), (Limits::SESSIONS, "main"));
    }
}
