//! The first prompt of a session: typed once in its life, when its agent is ready for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{AgentStatus, Session, agent_state::State};

use super::Means;
use crate::{clock, journal::event};

/// Between two looks at the agent.
const LOOK: Duration = Duration::from_millis(200);

/// A prompt that waits for its agent.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) means: Means,
    pub(super) session: Session,
    /// When the session was begun: what an earlier agent of its name was is no sign.
    pub(super) begun: u64,
}

impl Prompt {
    /// Waits and types; what came in between is told of the session.
    pub(super) async fn run(self) {
        let Session { name, life, prompt, .. } = &self.session;
        let problem = match self.ready().await {
            Err(why) => why,
            Ok(()) => {
                let _turn = self.means.typing.lock().await;
                // before it: once too few is better than twice
                self.means.book.prompted(name, *life);
                let enter = ["Enter".to_owned()];
                match self.means.keeper.tmux().type_into(name, prompt, &enter).await {
                    Ok(()) => {
                        event!("session {name}: its prompt was typed");
                        return;
                    }
                    Err(error) => format!("its prompt may not have been typed: {error}"),
                }
            }
        };
        event!("session {name}: {problem}");
        self.means.keeper.note(name, problem).await;
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
