//! Sessions as they are ordered: which are to run, at which run, with which conversation.
//!
//! An order is level-triggered: the newest is compared with what was done so far, and the difference
//! is done. A session whose program ended by itself stays so; it runs anew when a higher run is
//! asked for. [`program`] makes command lines, [`worktree`] folders, [`book`] remembers over runs of
//! the workspace, [`end`] ends what runs, [`prompt`] types the first prompt.

pub(crate) mod book;
mod end;
pub(crate) mod program;
mod prompt;
mod stale;
mod worktree;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::Mutex, task::JoinHandle};
use warren_common::{Limits, spec::AgentProgram, status::clean};
use warren_proto::pb::inside::v1::{Session, Setup};

use self::{
    book::Book,
    program::{Launch, Program},
    worktree::Place,
};
use crate::{
    agent::Agents,
    board::{Board, Outcome},
    clock,
    config::Config,
    journal::event,
    program as run,
    reaper::Reaper,
    step::session_step,
    tmux::{About, Keeper, Wanted},
};

/// A login shell that says whether a program is there.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// What sessions are made with.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    /// Where things are.
    pub(crate) config: Arc<Config>,
    /// Where progress goes.
    pub(crate) board: Board,
    /// What starts programs.
    pub(crate) reaper: Reaper,
    /// Where sessions go.
    pub(crate) keeper: Keeper,
    /// What their agents do.
    pub(crate) agents: Agents,
    /// What is remembered of them.
    pub(crate) book: Book,
    /// Whose turn it is to type.
    pub(crate) typing: Arc<Mutex<()>>,
}

/// The sessions of one life of PID 1.
#[derive(Debug)]
pub(crate) struct Sessions {
    means: Means,
    /// Life and run of those that were begun, by name.
    begun: BTreeMap<String, (u64, u64)>,
    /// Orders that name sessions have come: they say all there is to be.
    ordered: bool,
    /// Who waits to type a prompt, by session.
    prompts: BTreeMap<String, JoinHandle<()>>,
}

impl Sessions {
    /// Returns none yet.
    pub(crate) fn new(means: Means) -> Self {
        Self { means, begun: BTreeMap::new(), ordered: false, prompts: BTreeMap::new() }
    }

    /// Removes what programs left locked that ended before this life of the workspace.
    pub(crate) fn clean(&self, checkout: Option<&Path>) {
        stale::clean(&self.means.config.home, checkout, SystemTime::now());
    }

    /// Brings the sessions to what `setup` says; `work` is where those without a worktree work, and
    /// `checkout` the repository where there is one. The first order has a step for each.
    pub(crate) async fn order(
        &mut self,
        setup: &Setup,
        (work, checkout): (&Path, Option<&Path>),
        is_first: bool,
    ) {
        self.ordered |= setup.ordered;
        if self.ordered {
            self.end_others(setup).await;
        }
        for session in setup.sessions.iter().take(Limits::SESSIONS) {
            match self.begun.get(&session.name) {
                Some((life, run)) if *life == session.life && *run >= session.run => continue,
                Some(_) if !self.ordered => continue,
                Some(_) => drop(self.end(&session.name).await),
                None => {}
            }
            self.begun.insert(session.name.clone(), (session.life, session.run));
            let step = is_first.then(|| session_step(&session.name));
            if let Some(step) = &step {
                self.means.board.begin(step, &title(session));
            }
            let outcome = self.begin(session, (work, checkout)).await;
            if let Some(step) = &step {
                self.means.board.end(step, &outcome);
            } else if let Outcome::Failed(why) = outcome {
                event!("session {}: {why}", session.name);
            }
        }
    }

    /// Ends those that are not to run any more.
    async fn end_others(&mut self, setup: &Setup) {
        let names = |sessions: &[Session], name: &str| sessions.iter().any(|one| one.name == name);
        let others: Vec<String> =
            self.begun.keys().filter(|name| !names(&setup.sessions, name)).cloned().collect();
        for name in others {
            event!("session {name} ends as asked");
            let left = self.end(&name).await;
            self.begun.remove(&name);
            let stopped = setup.stopped.iter().find(|one| one.name == name);
            match stopped {
                None => self.means.book.forget(&name),
                Some(session) if !left.is_empty() => self.remains(session, &left).await,
                Some(_) => {}
            }
        }
    }

    async fn end(&mut self, name: &str) -> Vec<String> {
        if let Some(prompt) = self.prompts.remove(name) {
            prompt.abort();
        }
        let codex = self.means.keeper.codex_sessions().await;
        let daemon = match codex.as_slice() {
            [only] if only == name => end::Daemon::Ends,
            _ => end::Daemon::Stays,
        };
        end::session(&self.means.keeper, name, daemon).await
    }

    /// Says what could not be ended.
    async fn remains(&self, session: &Session, left: &[String]) {
        let problem = format!("it was stopped, and this could not be ended: {}", left.join(", "));
        event!("session {}: {problem}", session.name);
        let wanted = self.wanted(session, Place::nowhere());
        self.means.keeper.fail(wanted, problem).await;
    }

    fn wanted(&self, session: &Session, place: Place) -> Wanted {
        let program = Program::of(session);
        let Place { folder, branch, worktree } = place;
        Wanted {
            name: session.name.clone(),
            command: program.shown(),
            folder,
            launch: Launch {
                program,
                name: session.name.clone(),
                life: session.life,
                run: session.run,
                conversation: session.conversation,
                home: self.means.config.home.clone(),
                book: self.means.book.clone(),
            },
            about: About { run: session.run, branch, worktree, ..About::default() },
        }
    }

    async fn begin(
        &mut self,
        session: &Session,
        (work, checkout): (&Path, Option<&Path>),
    ) -> Outcome {
        let means = &self.means;
        let placed = worktree::Wish {
            reaper: &means.reaper,
            work,
            checkout,
            session: &session.name,
            branch: &session.branch,
            known: means.book.knows(&session.name, session.life),
        };
        let (place, mut problem) = match placed.place().await {
            Ok(place) => (place, None),
            Err(why) => (Place::nowhere(), Some(why)),
        };
        let wanted = self.wanted(session, place);
        if let (None, Some(agent)) = (&problem, wanted.launch.program.agent) {
            problem = self.missing(agent).await;
        }
        if let Some(problem) = problem {
            means.keeper.fail(wanted, problem.clone()).await;
            return Outcome::Failed(problem);
        }
        let begun = clock::now_ms();
        if let Err(error) = means.keeper.add(wanted).await {
            return Outcome::Failed(error.to_string());
        }
        if !session.prompt.is_empty() && !means.book.is_prompted(&session.name, session.life) {
            let prompt = prompt::Prompt { means: means.clone(), session: session.clone(), begun };
            self.prompts.insert(session.name.clone(), tokio::spawn(prompt.run()));
        }
        Outcome::Done
    }

    /// Returns what to do about an agent that is not there; none where it is.
    async fn missing(&self, agent: AgentProgram) -> Option<String> {
        let mut command = Command::new("bash");
        command.args(["-lc", "command -v -- \"$0\"", agent.as_str()]);
        command.current_dir(&self.means.config.home);
        match run::output(&self.means.reaper, command, LOOK_LIMIT).await {
            Ok(done) if done.code == 0 => None,
            Ok(_) => Some(format!(
                "{agent} is not in this workspace's PATH: use an image that has it, or install it, \
                 then run the session again"
            )),
            Err(error) => Some(format!("whether {agent} is there is not known: {error}")),
        }
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.prompts.values().for_each(JoinHandle::abort);
    }
}

/// Returns what people read of a session's step.
pub(crate) fn title(session: &Session) -> String {
    let shown = Program::of(session).shown();
    let command = if shown.is_empty() { "bash" } else { &shown };
    let shown: String = command.chars().take(80).collect();
    let dots = if shown.len() < command.len() { "…" } else { "" };
    format!("session {}: {shown}{dots}", session.name)
}

/// A reason from what a program said: its last line.
fn last_line(text: &str) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    clean(line.unwrap_or("it said nothing"), 300)
}

/// Where the worktrees of a checkout are: beside it.
pub(crate) fn worktrees(checkout: &Path) -> PathBuf {
    let mut name = checkout.file_name().unwrap_or_default().to_os_string();
    name.push(".worktrees");
    checkout.with_file_name(name)
}
