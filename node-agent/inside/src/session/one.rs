//! One session over its life: the newest wish for it is compared with what was done, and done.
//!
//! A wish that comes while the session is being begun is heeded at once, whatever git or a shell is
//! at: none waits for another session's either.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use warren_common::spec::AgentProgram;
use warren_proto::pb::inside::v1::Session;

use super::{
    Means, end,
    program::{Launch, Program},
    prompt, title,
    worktree::{self, Place},
};
use crate::{
    board::Outcome,
    clock,
    journal::event,
    program as run,
    step::session_step,
    tmux::{About, Crashes, Wanted},
};

/// A login shell that says whether a program is there.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// What is wanted of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// It runs, at the run that is asked for.
    Run,
    /// Nothing of it runs.
    Stop,
    /// It is no more.
    Gone,
}

/// The newest order of a session.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) goal: Goal,
    pub(super) session: Session,
    /// Orders name all sessions, so that one that was begun may be begun anew.
    pub(super) ordered: bool,
    /// The board has a step for its beginning.
    pub(super) has_step: bool,
    /// Where it works without a worktree.
    pub(super) work: PathBuf,
    /// The repository, where there is one.
    pub(super) checkout: Option<PathBuf>,
}

/// One session.
#[derive(Debug)]
pub(super) struct One {
    means: Means,
    /// How many may be begun at one time.
    turns: Arc<Semaphore>,
    name: String,
    /// Life and run that were begun last.
    begun: Option<(u64, u64)>,
    /// Its step has ended, or it has none.
    told: bool,
    /// Who waits to type its prompt.
    prompt: Option<JoinHandle<()>>,
}

impl One {
    /// Returns one of which nothing was done yet.
    pub(super) const fn new(means: Means, turns: Arc<Semaphore>, name: String) -> Self {
        Self { means, turns, name, begun: None, told: false, prompt: None }
    }

    /// Does what is wished, until it is gone or nobody wishes any more.
    pub(super) async fn run(mut self, mut wishes: watch::Receiver<Wish>) {
        loop {
            let wish = wishes.borrow_and_update().clone();
            match wish.goal {
                Goal::Run if !self.is_due(&wish) => {}
                Goal::Run => {
                    if !self.begin(&wish, &mut wishes).await {
                        // there is a newer wish
                        continue;
                    }
                }
                Goal::Stop | Goal::Gone => self.stop(&wish).await,
            }
            let is_newest = !wishes.has_changed().unwrap_or_default();
            if wish.goal == Goal::Gone && is_newest {
                return;
            }
            if wishes.changed().await.is_err() {
                return;
            }
        }
    }

    fn is_due(&self, wish: &Wish) -> bool {
        match self.begun {
            None => true,
            Some(_) if !wish.ordered => false,
            Some((life, run)) => life != wish.session.life || run < wish.session.run,
        }
    }

    /// Runs it anew; false where something else is wanted meanwhile.
    async fn begin(&mut self, wish: &Wish, wishes: &mut watch::Receiver<Wish>) -> bool {
        if self.begun.take().is_some() {
            end::begins(&self.means.keeper, &self.name).await;
            self.end().await;
        }
        let step = (wish.has_step && !self.told).then(|| session_step(&self.name));
        if let Some(step) = &step {
            self.means.board.begin(step, &title(&wish.session));
        }
        let prepared = tokio::select! {
            biased;
            prepared = self.prepare(wish) => prepared,
            () = overtaken(wish, wishes) => return false,
        };
        self.begun = Some((wish.session.life, wish.session.run));
        let outcome = self.start(&wish.session, prepared).await;
        if let Some(step) = &step {
            self.means.board.end(step, &outcome);
        } else if let Outcome::Failed(why) = outcome {
            event!("session {}: {why}", self.name);
        }
        self.told = true;
        true
    }

    /// Makes what it needs; says beside it what is missing.
    async fn prepare(&self, wish: &Wish) -> (Wanted, Option<String>) {
        let Wish { session, work, checkout, .. } = wish;
        let placed = worktree::Wish {
            reaper: &self.means.reaper,
            git: &self.means.git,
            work,
            checkout: checkout.as_deref(),
            session: &session.name,
            branch: &session.branch,
            known: self.means.book.knows(&session.name, session.life),
        };
        let (place, problem) = match placed.place().await {
            Ok(place) => (place, None),
            Err(why) => (Place::nowhere(), Some(why)),
        };
        let wanted = self.wanted(session, place);
        match (problem, wanted.launch.program.agent) {
            (None, Some(agent)) => {
                let problem = self.missing(agent).await;
                (wanted, problem)
            }
            (problem, _) => (wanted, problem),
        }
    }

    async fn start(&mut self, session: &Session, prepared: (Wanted, Option<String>)) -> Outcome {
        let (wanted, problem) = prepared;
        let means = &self.means;
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
            self.prompt = Some(tokio::spawn(prompt.run()));
        }
        Outcome::Done
    }

    /// Ends what runs of it and says what could not be ended.
    async fn stop(&mut self, wish: &Wish) {
        if wish.has_step && !std::mem::replace(&mut self.told, true) {
            self.means.board.end(&session_step(&self.name), &Outcome::Skipped);
        }
        if self.begun.take().is_none() {
            return;
        }
        end::begins(&self.means.keeper, &self.name).await;
        // whoever reads this may rely on it
        event!("session {} ends as asked", self.name);
        let left = self.end().await;
        if wish.goal == Goal::Stop && !left.is_empty() {
            let problem =
                format!("it was stopped, and this could not be ended: {}", left.join(", "));
            event!("session {}: {problem}", self.name);
            let wanted = self.wanted(&wish.session, Place::nowhere());
            self.means.keeper.fail(wanted, problem).await;
        }
    }

    async fn end(&mut self) -> Vec<String> {
        if let Some(prompt) = self.prompt.take() {
            prompt.abort();
        }
        end::session(&self.means.keeper, &self.means.agents, &self.name).await
    }

    fn wanted(&self, session: &Session, place: Place) -> Wanted {
        let program = Program::of(session);
        let Place { folder, branch, worktree } = place;
        // whoever wrote a command line says what becomes of it; an agent that was asked for is kept up
        let crashes = (!session.agent.is_empty()).then(Crashes::default);
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
            crashes,
        }
    }

    /// Returns what to do about an agent that is not there; none where it is.
    async fn missing(&self, agent: AgentProgram) -> Option<String> {
        // never closed
        let _turn = self.turns.acquire().await;
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

impl Drop for One {
    fn drop(&mut self) {
        if let Some(prompt) = &self.prompt {
            prompt.abort();
        }
    }
}

/// Waits until something else is wanted than this.
async fn overtaken(wish: &Wish, wishes: &mut watch::Receiver<Wish>) {
    let newer = |now: &Wish| {
        let run = |wish: &Wish| (wish.goal, wish.session.life, wish.session.run);
        run(now) != run(wish)
    };
    if wishes.wait_for(newer).await.is_err() {
        // nobody wishes any more
        std::future::pending::<()>().await;
    }
}
