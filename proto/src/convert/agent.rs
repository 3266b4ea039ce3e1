//! What an agent does. It comes from a workspace: every text is cleaned and cut, every list is cut.

use warren_common::{
    Timestamp,
    agent::{
        AgentKind, AgentState, AgentStatus, Confidence, Exit, Failure, FailureKind, Flags, Meter,
        Phase, Source, Tool, Wait, WaitKind,
    },
};

use super::{InvalidMessage, enumeration, required, unspecified};
use crate::pb::inside::v1::{self as pb, agent_state::State};

impl From<AgentStatus> for pb::AgentStatus {
    fn from(status: AgentStatus) -> Self {
        let event = match &status.source {
            Source::Hook(event) => event.clone(),
            _ => String::new(),
        };
        let (state, unknown) = match status.state {
            AgentState::Unknown { last } => (*last, true),
            known => (known, false),
        };
        Self {
            kind: status.kind.as_str().to_owned(),
            state: Some(pb::AgentState { state: state_to(state) }),
            unknown,
            since_unix_ms: status.since.0,
            last_activity_unix_ms: status.last_activity.0,
            source: pb::AgentSource::from(&status.source).into(),
            event,
            derived: status.confidence == Confidence::Derived,
            evidence_unix_ms: status.evidence.0,
            unseen: status.flags.unseen,
            stalled: status.flags.stalled,
            subagents: status.subagents,
            meter: (status.meter != Meter::default()).then(|| status.meter.into()),
        }
    }
}

impl From<Meter> for pb::AgentMeter {
    fn from(meter: Meter) -> Self {
        Self {
            model: meter.model,
            mode: meter.mode,
            context_tokens: meter.context_tokens,
            context_window: meter.context_window,
            input_tokens: meter.input_tokens,
            output_tokens: meter.output_tokens,
            cost_micro_usd: meter.cost_micro_usd,
        }
    }
}

impl From<pb::AgentMeter> for Meter {
    fn from(meter: pb::AgentMeter) -> Self {
        let read = Self {
            model: meter.model,
            mode: meter.mode,
            context_tokens: meter.context_tokens,
            context_window: meter.context_window,
            input_tokens: meter.input_tokens,
            output_tokens: meter.output_tokens,
            cost_micro_usd: meter.cost_micro_usd,
        };
        read.bounded()
    }
}

impl TryFrom<pb::AgentStatus> for AgentStatus {
    type Error = InvalidMessage;
    fn try_from(status: pb::AgentStatus) -> Result<Self, InvalidMessage> {
        let kind = AgentKind::named(&status.kind);
        // of control characters alone nothing is left
        if kind.as_str().is_empty() {
            return Err(InvalidMessage::new("kind", "is not set"));
        }
        let state = required("state", status.state.and_then(|state| state.state))?;
        let state = state_from(state).map_err(|error| error.within("state"))?;
        let state = match status.unknown {
            true => AgentState::Unknown { last: Box::new(state) },
            false => state,
        };
        let status = Self {
            kind,
            state,
            since: Timestamp(status.since_unix_ms),
            last_activity: Timestamp(status.last_activity_unix_ms),
            source: source(status.source, status.event)?,
            confidence: match status.derived {
                true => Confidence::Derived,
                false => Confidence::Exact,
            },
            evidence: Timestamp(status.evidence_unix_ms),
            flags: Flags { unseen: status.unseen, stalled: status.stalled },
            subagents: status.subagents,
            meter: status.meter.map(Meter::from).unwrap_or_default(),
        };
        Ok(status.bounded())
    }
}

/// Returns the bytes of an explanation, for the frames of a stream.
pub fn explanation_bytes(explanation: &pb::AgentExplanation) -> Vec<u8> {
    prost::Message::encode_to_vec(explanation)
}

/// Reads an explanation from the bytes of a stream's frames.
///
/// # Errors
/// They are none.
pub fn explanation(bytes: &[u8]) -> Result<pb::AgentExplanation, InvalidMessage> {
    let read = <pb::AgentExplanation as prost::Message>::decode(bytes);
    read.map_err(|error| InvalidMessage::new("explanation", error))
}

impl From<&Source> for pb::AgentSource {
    fn from(source: &Source) -> Self {
        match source {
            Source::Hook(_) => Self::Hook,
            Source::Registry => Self::Registry,
            Source::AppServer => Self::AppServer,
            Source::Title => Self::Title,
            Source::Screen => Self::Screen,
            Source::Process => Self::Process,
            Source::Tmux => Self::Tmux,
        }
    }
}

fn source(source: i32, event: String) -> Result<Source, InvalidMessage> {
    Ok(match enumeration("source", source)? {
        pb::AgentSource::Unspecified => return Err(unspecified("source")),
        pb::AgentSource::Hook => Source::Hook(event),
        pb::AgentSource::Registry => Source::Registry,
        pb::AgentSource::AppServer => Source::AppServer,
        pb::AgentSource::Title => Source::Title,
        pb::AgentSource::Screen => Source::Screen,
        pb::AgentSource::Process => Source::Process,
        pb::AgentSource::Tmux => Source::Tmux,
    })
}

/// None for an unknown state, which has no message of its own.
fn state_to(state: AgentState) -> Option<State> {
    Some(match state {
        AgentState::Starting => State::Starting(pb::AgentStarting {}),
        AgentState::Working { phase, tool } => State::Working(pb::AgentWorking {
            phase: phase.map_or(pb::AgentPhase::Unspecified, Into::into).into(),
            tool: tool.map(|tool| pb::AgentTool {
                name: tool.name,
                summary: tool.summary,
                since_unix_ms: tool.since.0,
            }),
        }),
        AgentState::Waiting(wait) => State::Waiting(pb::AgentWaiting {
            kind: pb::AgentWaitKind::from(wait.kind).into(),
            text: wait.text,
            options: wait.options,
            since_unix_ms: wait.since.0,
        }),
        AgentState::Background { tasks } => State::Background(pb::AgentBackground { tasks }),
        AgentState::Idle => State::Idle(pb::AgentIdle {}),
        AgentState::Error(failure) => State::Error(pb::AgentError {
            kind: pb::AgentErrorKind::from(failure.kind).into(),
            text: failure.text,
            retry_at_unix_ms: failure.retry_at.map(|at| at.0),
        }),
        AgentState::Exited(exit) => {
            State::Exited(pb::AgentExited { code: exit.code, signal: exit.signal, oom: exit.oom })
        }
        AgentState::Unknown { .. } => return None,
    })
}

fn state_from(state: State) -> Result<AgentState, InvalidMessage> {
    Ok(match state {
        State::Starting(_) => AgentState::Starting,
        State::Working(working) => AgentState::Working {
            phase: match working.phase {
                0 => None,
                number => Some(phase(enumeration("phase", number)?)?),
            },
            tool: working.tool.map(|tool| Tool {
                name: tool.name,
                summary: tool.summary,
                since: Timestamp(tool.since_unix_ms),
            }),
        },
        State::Waiting(wait) => AgentState::Waiting(Wait {
            kind: wait_kind(enumeration("kind", wait.kind)?)?,
            text: wait.text,
            options: wait.options,
            since: Timestamp(wait.since_unix_ms),
        }),
        State::Background(background) => AgentState::Background { tasks: background.tasks },
        State::Idle(_) => AgentState::Idle,
        State::Error(error) => AgentState::Error(Failure {
            kind: failure_kind(enumeration("kind", error.kind)?)?,
            text: error.text,
            retry_at: error.retry_at_unix_ms.map(Timestamp),
        }),
        State::Exited(exited) => {
            AgentState::Exited(Exit { code: exited.code, signal: exited.signal, oom: exited.oom })
        }
    })
}

/// Both ways between an enum of the vocabulary and one of the wire with the same names.
macro_rules! same_names {
    ($vocabulary:ident, $wire:ident, $from:ident, $field:literal, $($name:ident),+) => {
        impl From<$vocabulary> for pb::$wire {
            fn from(value: $vocabulary) -> Self {
                match value {
                    $($vocabulary::$name => Self::$name,)+
                }
            }
        }

        fn $from(value: pb::$wire) -> Result<$vocabulary, InvalidMessage> {
            match value {
                pb::$wire::Unspecified => Err(unspecified($field)),
                $(pb::$wire::$name => Ok($vocabulary::$name),)+
            }
        }
    };
}

same_names!(Phase, AgentPhase, phase, "phase", Tool, Thinking, Compacting, Retrying, Subagent);
same_names!(
    WaitKind,
    AgentWaitKind,
    wait_kind,
    "kind",
    Permission,
    Question,
    Plan,
    Elicitation,
    Setup
);
same_names!(
    FailureKind,
    AgentErrorKind,
    failure_kind,
    "kind",
    RateLimit,
    Auth,
    Overloaded,
    Billing,
    InvalidRequest,
    Other
);
