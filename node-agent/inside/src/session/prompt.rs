//! The first prompt of a session: typed once in its life, when its agent is ready for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{AgentStatus, Session, agent_state::State};

use super::Means;
use crate::{clock, journal::event, tmux::pane_of};

/// Between two looks at the agent.
const LOOK: Duration = Duration::from_millis(200);
/// For the agent to show what was typed.
const SHOWN: Duration = Duration::from_secs(5);
/// From then to the key that sends it.
const MOMENT: Duration = Duration::from_millis(500);
/// Between two attempts to note that the prompt is typed.
const ROOM: Duration = Duration::from_secs(2);

/// A prompt that waits for its agent.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) means: Means,
    pub(super) session: Session,
    /// When the session was begun: what an earlier agent of its name was is no sign.
    pub(super) begun: u64,
}

/// How an attempt to type went.
enum Attempt {
    Typed,
    /// It was not, and it cannot be noted that it was.
    NoRoom(String),
}

impl Prompt {
    /// Waits and types; what came in between is told of the session.
    pub(super) async fn run(self) {
        let Session { name, .. } = &self.session;
        let mut told = String::new();
        // as long as the session lives: somebody has to make room
        let problem = loop {
            match self.attempt().await {
                Ok(Attempt::Typed) => {
                    event!("session {name}: its prompt was typed");
                    if !told.is_empty() {
                        self.means.keeper.note(name, String::new()).await;
                    }
                    return;
                }
                Ok(Attempt::NoRoom(why)) => {
                    if told != why {
                        event!("session {name}: {why}");
                        self.means.keeper.note(name, why.clone()).await;
                        told = why;
                    }
                    sleep(ROOM).await;
                }
                Err(why) => break why,
            }
        };
        event!("session {name}: {problem}");
        self.means.keeper.note(name, problem).await;
    }

    async fn attempt(&self) -> Result<Attempt, String> {
        let Session { name, life, prompt, .. } = &self.session;
        self.ready().await?;
        let _turn = self.means.typing.lock().await;
        // before it: once too few is better than twice
        if let Err(error) = self.means.book.prompted(name, *life) {
            return Ok(Attempt::NoRoom(format!(
                "its prompt is not typed yet: that it was typed cannot be noted ({error}); make room \
                 in the home, and it is typed then"
            )));
        }
        let enter = ["Enter".to_owned()];
        let tmux = self.means.keeper.tmux();
        let typing = async {
            tmux.type_into(name, prompt, &[]).await?;
            self.shown().await;
            tmux.type_into(name, "", &enter).await
        };
        typing.await.map_err(|error| format!("its prompt may not have been typed: {error}"))?;
        Ok(Attempt::Typed)
    }

    /// Waits until the agent shows the end of the prompt, and a moment longer: it takes a key that comes
    /// with a text for a part of that, and on a busy machine the two come together. Some show of a long
    /// one only how long it is.
    async fn shown(&self) {
        let Session { name, prompt, .. } = &self.session;
        let words = prompt.split_whitespace().next_back().unwrap_or_default();
        let deadline = Instant::now() + SHOWN;
        while Instant::now() < deadline {
            sleep(LOOK).await;
            let screen = self.means.keeper.tmux().screen(&pane_of(name), 0).await;
            if screen.is_ok_and(|screen| screen.contains(words)) {
                break;
            }
        }
        sleep(MOMENT).await;
    }

    async fn ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + Limits::PROMPT_READY;
        loop {
            let status = self.means.agents.status(&self.session.name);
            let status = status.filter(|one| one.since_unix_ms >= self.begun);
            if status.as_ref().is_some_and(is_idle) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let limit = clock::span(Limits::PROMPT_READY);
                let stands = status.as_ref().map_or("was not seen", stands);
                return Err(format!(
                    "its prompt was not typed: the agent {stands} for {limit}; see the session, \
                     then type the prompt with session send"
                ));
            }
            sleep(LOOK).await;
        }
    }
}

fn state(status: &AgentStatus) -> Option<&State> {
    status.state.as_ref()?.state.as_ref()
}

fn is_idle(status: &AgentStatus) -> bool {
    matches!(state(status), Some(State::Idle(_)))
}

fn stands(status: &AgentStatus) -> &'static str {
    match state(status) {
        Some(State::Starting(_)) | None => "was starting",
        Some(State::Working(_) | State::Background(_)) => "was working",
        Some(State::Waiting(_)) => "was waiting for a person",
        Some(State::Idle(_)) => "was ready",
        Some(State::Error(_)) => "was in error",
        Some(State::Exited(_)) => "had ended",
    }
}
