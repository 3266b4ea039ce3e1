//! Programs that tell nothing of themselves: what their process and their terminal give away.

use super::state::{AgentState, Source, Wait, WaitKind};
use crate::{Limits, Timestamp};

/// What is known of a program from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// Since when it reads what a person types.
    reads: Option<Timestamp>,
    /// The question that a rule found on its screen; gone with the next output.
    promoted: Option<Wait>,
    /// When it began to be busy, and when it last was.
    busy: Option<(Timestamp, Timestamp)>,
    /// Whether it told its state itself, which then stands.
    pub(super) told: bool,
}

/// What a program seems to do.
pub(super) struct Seems {
    pub(super) state: AgentState,
    pub(super) since: Timestamp,
    pub(super) source: Source,
    pub(super) evidence: Timestamp,
}

impl Program {
    pub(super) fn wrote(&mut self, at: Timestamp) {
        self.promoted = None;
        self.was_busy(at);
    }

    pub(super) fn was_busy(&mut self, at: Timestamp) {
        let since = match self.busy {
            Some((since, last)) if at.since(last) < Limits::AGENT_BUSY => since,
            _ => at,
        };
        self.busy = Some((since, at));
    }

    pub(super) fn reads(&mut self, at: Timestamp, reads: bool) {
        self.reads = reads.then_some(self.reads.unwrap_or(at));
    }

    pub(super) fn promote(&mut self, wait: Wait) {
        self.promoted = Some(wait);
    }

    /// Returns whether it was ever busy.
    pub(super) const fn worked(&self) -> bool {
        self.busy.is_some()
    }

    /// Returns what it seems to do at `now`; none where nothing was seen of it since `up`.
    pub(super) fn seems(
        &self,
        up: Option<Timestamp>,
        lines: &str,
        now: Timestamp,
    ) -> Option<Seems> {
        if let Some(since) = self.reads {
            let text = lines.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            let wait = Wait {
                kind: WaitKind::Question,
                text: text.to_owned(),
                options: Vec::new(),
                since,
            };
            let state = AgentState::Waiting(wait);
            return Some(Seems { state, since, source: Source::Process, evidence: since });
        }
        if let Some(wait) = &self.promoted {
            let (since, state) = (wait.since, AgentState::Waiting(wait.clone()));
            return Some(Seems { state, since, source: Source::Screen, evidence: since });
        }
        match self.busy {
            Some((since, last)) if now.since(last) < Limits::AGENT_BUSY => {
                let state = AgentState::Working { phase: None, tool: None };
                Some(Seems { state, since, source: Source::Tmux, evidence: last })
            }
            Some((_, last)) => {
                let since = last.plus(Limits::AGENT_BUSY);
                Some(Seems { state: AgentState::Idle, since, source: Source::Tmux, evidence: last })
            }
            None => up.map(|up| Seems {
                state: AgentState::Idle,
                since: up,
                source: Source::Process,
                evidence: up,
            }),
        }
    }
}
