//! The startup steps: git identity, tools' logins, clone, setup script, sessions. In that order, each shown on the
//! board, and none of them able to stop the workspace: what needs a failed step is skipped and says
//! why, the sessions start anyway so that a person can look.

mod clone;
mod failure;
mod first_start;
mod identity;
mod mcp;
mod progress;
mod setup;
mod tools;

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use warren_common::{Limits, spec::Extras};
use warren_proto::pb::inside::v1::{Session, Setup};

use crate::{
    board::{Board, Outcome},
    config::Config,
    journal::{self, event},
    program::{self, RunError},
    reaper::Reaper,
    service::Services,
    session::{self, Sessions},
    text::{Piece, Tail},
    tmux::Keeper,
};

pub(crate) use setup::write_marker;

/// Between two looks at a step's output.
const OUTPUT_GAP: Duration = Duration::from_millis(100);

/// What every step works with.
#[derive(Debug, Clone)]
pub(crate) struct Startup {
    /// Where things are.
    pub(crate) config: Arc<Config>,
    /// Where progress goes.
    pub(crate) board: Board,
    /// What starts programs.
    pub(crate) reaper: Reaper,
    /// Where sessions go.
    pub(crate) keeper: Keeper,
    /// What sessions show themselves on.
    pub(crate) services: Services,
}

impl Startup {
    /// Runs the steps of the first setup, then brings the sessions to what later ones say.
    pub(crate) async fn run(
        self,
        mut sessions: Sessions,
        mut setups: watch::Receiver<Option<Arc<Setup>>>,
    ) {
        let Some(first) = next(&mut setups).await else { return };
        journal::run_for(&first.request_id);
        event!("run {} begins", self.config.run_serial);
        self.board.plan(&plan(&first));
        // Started early: it is ready when the first session is wanted.
        if let Err(error) = self.keeper.start().await {
            event!("tmux did not start: {error}");
        }
        sessions.clean(self.checkout(&first).as_deref());
        self.prepare(&first).await;
        self.services.display_is_up().await;
        // what was asked meanwhile counts
        let newest = setups.borrow_and_update().clone();
        let newest = newest.unwrap_or_else(|| Arc::clone(&first));
        self.order(&mut sessions, (&first, &newest), &first.sessions).await;
        while let Some(later) = next(&mut setups).await {
            self.order(&mut sessions, (&first, &later), &[]).await;
        }
    }

    async fn order(
        &self,
        sessions: &mut Sessions,
        (first, setup): (&Setup, &Setup),
        planned: &[Session],
    ) {
        let (work, checkout) = (self.work_folder(first), self.checkout(first));
        sessions.order(setup, (&work, checkout.as_deref()), planned).await;
    }

    async fn prepare(&self, setup: &Setup) {
        if has_identity(setup) {
            self.board.begin("git-identity", "git identity");
            self.board.end("git-identity", &identity::run(self, setup).await);
        }
        let tools = tools::wanted(setup);
        if let Some(tools) = &tools {
            self.board.begin(tools::STEP, "log in tools");
            self.board.end(tools::STEP, &tools::run(self, tools).await);
        }
        let mut cloned = true;
        if !setup.repo.is_empty() {
            self.board.begin("clone", &clone::title(setup));
            let outcome = clone::run(self, setup).await;
            cloned = !matches!(outcome, Outcome::Failed(_));
            self.board.end("clone", &outcome);
        }
        // before the script: it may add to them
        first_start::run(self, setup);
        mcp::run(self, setup);
        if !script(setup).is_empty() {
            self.board.begin("setup", "setup script");
            let outcome = if cloned {
                setup::run(self, setup).await
            } else {
                self.board.title("setup", "setup script (not run: the clone failed)");
                Outcome::Skipped
            };
            self.board.end("setup", &outcome);
            tools.as_ref().inspect(|tools| tools::link_again(tools));
        }
    }

    /// The checkout where there is one, else the home.
    fn work_folder(&self, setup: &Setup) -> PathBuf {
        self.checkout(setup).unwrap_or_else(|| self.config.home.clone())
    }

    fn checkout(&self, setup: &Setup) -> Option<PathBuf> {
        let checkout = below(&self.config.home, &setup.folder);
        checkout.filter(|folder| !setup.repo.is_empty() && folder.is_dir())
    }

    /// Runs a step's program; its lines go to `seen`, the container's log and the step's output.
    async fn watch(
        &self,
        step: &str,
        (command, limit): (std::process::Command, Duration),
        mut seen: impl FnMut(&Piece),
    ) -> Result<i32, RunError> {
        let mut tail = Tail::default();
        let mut shown = Instant::now();
        let code = program::lines(&self.reaper, command, limit, |piece| {
            if !piece.fleeting {
                journal::log(step, &piece.text);
            }
            tail.push(&piece);
            // A script that writes without pause must not keep this one thread busy.
            if shown.elapsed() > OUTPUT_GAP {
                self.board.output(step, tail.as_str());
                shown = Instant::now();
            }
            seen(&piece);
        });
        let code = code.await;
        self.board.output(step, tail.as_str());
        code
    }
}

/// Returns where a program beside the sessions starts: the checkout where there is one.
pub(crate) fn exec_folder(config: &Config, setup: Option<&Setup>) -> PathBuf {
    setup
        .filter(|setup| !setup.repo.is_empty())
        .and_then(|setup| below(&config.home, &setup.folder))
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(|| config.home.clone())
}

/// Returns the step of a session.
pub(crate) fn session_step(name: &str) -> String {
    format!("session:{name}")
}

async fn next(setups: &mut watch::Receiver<Option<Arc<Setup>>>) -> Option<Arc<Setup>> {
    loop {
        setups.changed().await.ok()?;
        if let Some(setup) = setups.borrow_and_update().clone() {
            return Some(setup);
        }
    }
}

/// The script without what stands in front of it.
fn script(setup: &Setup) -> &str {
    Extras::split(&setup.setup_script).1
}

fn has_identity(setup: &Setup) -> bool {
    !setup.git_name.is_empty() || !setup.git_email.is_empty()
}

fn plan(setup: &Setup) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    if has_identity(setup) {
        steps.push(("git-identity".to_owned(), "git identity".to_owned()));
    }
    if !setup.repo.is_empty() {
        steps.push(("clone".to_owned(), clone::title(setup)));
    }
    if !script(setup).is_empty() {
        steps.push(("setup".to_owned(), "setup script".to_owned()));
    }
    let sessions = setup.sessions.iter().take(Limits::SESSIONS);
    steps.extend(sessions.map(|session| (session_step(&session.name), session::title(session))));
    steps
}

/// Returns `home/folder` for a relative folder that stays below the home.
fn below(home: &Path, folder: &str) -> Option<PathBuf> {
    let path = Path::new(folder);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && path.components().next().is_some()).then(|| home.join(path))
}

/// Returns a duration on the wire, `default` for zero.
fn duration(ms: u64, default: Duration) -> Duration {
    if ms == 0 { default } else { Duration::from_millis(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stay_below_the_home() {
        let home = Path::new("/home/agent");
        assert_eq!(below(home, "web"), Some("/home/agent/web".into()));
        assert_eq!(below(home, "src/web"), Some("/home/agent/src/web".into()));
        for odd in ["", ".", "..", "../x", "/etc", "a/../../b"] {
            assert_eq!(below(home, odd), None, "{odd:?}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_planned() {
        let session =
            Session { name: "main".to_owned(), command: "x".repeat(200), ..Session::default() };
        let setup = Setup { sessions: vec![session], ..Setup::default() };
        let steps = plan(&setup);
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].0, "session:main");
        assert!(steps[0].1.starts_with("session main: xxx") && steps[0].1.ends_with("x…"));
    }
}
