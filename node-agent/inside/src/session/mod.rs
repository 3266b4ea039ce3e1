//! Sessions as they are ordered: which are to run, at which run, with which conversation.
//!
//! An order is level-triggered: each session has a task of its own that compares the newest with
//! what was done so far, and does the difference ([`one`]). A session whose program ended by itself
//! stays so, but for an agent that crashed; it runs anew when a higher run is asked for. [`program`]
//! makes command lines, [`worktree`] folders, [`book`] remembers over runs of the workspace, [`end`]
//! ends what runs, [`prompt`] types the first prompt, [`words`] are what agents are given.

pub(crate) mod book;
mod end;
mod one;
pub(crate) mod program;
mod prompt;
mod stale;
mod words;
mod worktree;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tokio::{
    sync::{Mutex, Semaphore, watch},
    task::JoinSet,
};
use warren_common::{Limits, status::clean};
use warren_proto::pb::inside::v1::{Session, Setup};

use self::{
    book::Book,
    one::{Goal, One, Wish},
    program::Program,
};
use crate::{
    agent::Agents,
    board::{Board, Outcome},
    config::Config,
    reaper::Reaper,
    step::session_step,
    tmux::Keeper,
};

/// Tasks at one time: of the sessions that are to be, and of as many that end.
const TASKS: usize = 2 * Limits::SESSIONS;

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
    /// Whose turn it is to change the repository.
    pub(crate) git: Arc<Mutex<()>>,
}

/// The sessions of one life of PID 1.
#[derive(Debug)]
pub(crate) struct Sessions {
    means: Means,
    /// Whose turn it is to be begun.
    turns: Arc<Semaphore>,
    /// The newest wish for each, by name.
    wishes: BTreeMap<String, watch::Sender<Wish>>,
    tasks: JoinSet<()>,
    /// Orders that name sessions have come: they say all there is to be.
    ordered: bool,
}

impl Sessions {
    /// Returns none yet.
    pub(crate) fn new(means: Means) -> Self {
        let turns = Arc::new(Semaphore::new(Limits::SESSIONS_AT_ONCE));
        let (wishes, tasks) = (BTreeMap::new(), JoinSet::new());
        Self { means, turns, wishes, tasks, ordered: false }
    }

    /// Removes what programs left locked that ended before this life of the workspace.
    pub(crate) fn clean(&self, checkout: Option<&Path>) {
        stale::clean(&self.means.config.home, checkout, SystemTime::now());
    }

    /// Has the sessions brought to what `setup` says; `work` is where those without a worktree work,
    /// and `checkout` the repository where there is one. Those that `planned` names have a step.
    pub(crate) async fn order(
        &mut self,
        setup: &Setup,
        (work, checkout): (&Path, Option<&Path>),
        planned: &[Session],
    ) {
        self.ordered |= setup.ordered;
        let wanted = || setup.sessions.iter().take(Limits::SESSIONS);
        self.means.keeper.in_order(wanted().map(|one| one.name.clone()).collect()).await;
        if self.ordered {
            self.end_others(setup);
            let named = |name: &str, all: &[Session]| all.iter().any(|one| one.name == name);
            self.means
                .book
                .keep(|name| named(name, &setup.sessions) || named(name, &setup.stopped));
        }
        for session in planned.iter().take(Limits::SESSIONS) {
            if wanted().all(|one| one.name != session.name) {
                self.means.board.end(&session_step(&session.name), &Outcome::Skipped);
            }
        }
        for session in wanted() {
            let wish = Wish {
                goal: Goal::Run,
                session: session.clone(),
                ordered: self.ordered,
                has_step: planned.iter().any(|one| one.name == session.name),
                work: work.to_owned(),
                checkout: checkout.map(Path::to_owned),
            };
            self.wish(wish).await;
        }
    }

    /// Has those end that are not to run any more.
    fn end_others(&mut self, setup: &Setup) {
        let find = |all: &[Session], name: &str| all.iter().find(|one| one.name == name).cloned();
        // the task of one that is gone ends when all of it has ended
        self.wishes.retain(|_, wishes| !wishes.is_closed());
        for (name, wishes) in &self.wishes {
            if find(&setup.sessions, name).is_some() {
                continue;
            }
            let stopped = find(&setup.stopped, name);
            wishes.send_modify(|wish| {
                wish.goal = if stopped.is_some() { Goal::Stop } else { Goal::Gone };
                wish.session = stopped.unwrap_or_else(|| wish.session.clone());
            });
        }
    }

    /// Tells the session's task, or begins one: a session that is to be has one.
    async fn wish(&mut self, wish: Wish) {
        let name = wish.session.name.clone();
        if let Some(known) = self.wishes.get(&name) {
            let has_step = known.borrow().has_step || wish.has_step;
            if known.send(Wish { has_step, ..wish.clone() }).is_ok() {
                return;
            }
        }
        while self.tasks.len() >= TASKS && self.tasks.join_next().await.is_some() {}
        while self.tasks.try_join_next().is_some() {}
        let one = One::new(self.means.clone(), Arc::clone(&self.turns), name.clone());
        let (sender, wishes) = watch::channel(wish);
        self.tasks.spawn(one.run(wishes));
        self.wishes.insert(name, sender);
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
