//! Startup steps and sessions, which stand in `inside.v1` and in `node.v1` with the same fields.

use warren_common::{
    Limits, Timestamp,
    agent::AgentStatus,
    measure::Kill,
    status::{SessionObserved, SessionRun, SessionState, StartupStep, StepState, clean, reason},
};

#[cfg(feature = "grpc")]
use super::convert;
use super::{InvalidMessage, enumeration, parse, unspecified};
use crate::pb;

macro_rules! step {
    ($message:path, $state:path) => {
        impl From<StartupStep> for $message {
            fn from(step: StartupStep) -> Self {
                use $state as Wire;
                let (state, message) = match step.state {
                    StepState::Pending => (Wire::Pending, String::new()),
                    StepState::Running => (Wire::Running, String::new()),
                    StepState::Done => (Wire::Done, String::new()),
                    StepState::Skipped => (Wire::Skipped, String::new()),
                    StepState::Failed { message } => (Wire::Failed, message),
                };
                Self {
                    name: step.name,
                    title: step.title,
                    state: state.into(),
                    message,
                    started_unix_ms: step.started.0,
                    elapsed_ms: step.elapsed_ms,
                    output: step.output,
                }
            }
        }

        impl TryFrom<$message> for StartupStep {
            type Error = InvalidMessage;
            fn try_from(step: $message) -> Result<Self, InvalidMessage> {
                use $state as Wire;
                let state = match enumeration("state", step.state)? {
                    Wire::Unspecified => return Err(unspecified("state")),
                    Wire::Pending => StepState::Pending,
                    Wire::Running => StepState::Running,
                    Wire::Done => StepState::Done,
                    Wire::Skipped => StepState::Skipped,
                    Wire::Failed => StepState::Failed { message: reason(&step.message) },
                };
                let name = clean(&step.name, Limits::LABEL_BYTES);
                if name.is_empty() {
                    return Err(InvalidMessage::new("name", "is not set"));
                }
                Ok(Self {
                    name,
                    title: reason(&step.title),
                    state,
                    started: Timestamp(step.started_unix_ms),
                    elapsed_ms: step.elapsed_ms,
                    output: clean(&step.output, Limits::STEP_OUTPUT_BYTES),
                })
            }
        }
    };
}

macro_rules! session {
    ($message:path, $own:ident, $out:expr, $in:expr) => {
        impl From<SessionObserved> for $message {
            fn from(session: SessionObserved) -> Self {
                let (running, exit_code) = match session.state {
                    SessionState::Running => (true, 0),
                    SessionState::Exited { code } => (false, code),
                };
                let (panes, killed) = (session.panes, session.killed);
                let run = session.run.map(|run| *run).unwrap_or_default();
                Self {
                    name: session.name.into(),
                    command: session.command,
                    running,
                    exit_code,
                    started_unix_ms: session.started.0,
                    active_unix_ms: session.active.0,
                    viewers: session.viewers,
                    $own: $out(panes, killed),
                    agent: session.agent.map(|agent| (*agent).into()),
                    run: run.run,
                    branch: run.branch,
                    worktree: run.worktree,
                    conversation: run.conversation,
                    resumed: run.resumed,
                    problem: run.problem,
                }
            }
        }

        impl TryFrom<$message> for SessionObserved {
            type Error = InvalidMessage;
            fn try_from(session: $message) -> Result<Self, InvalidMessage> {
                let (panes, killed) = $in(session.$own)?;
                let run = SessionRun {
                    run: session.run,
                    branch: clean(&session.branch, Limits::LABEL_BYTES),
                    worktree: clean(&session.worktree, Limits::WORKTREE_BYTES),
                    conversation: clean(&session.conversation, Limits::AGENT_NAME_BYTES),
                    resumed: session.resumed,
                    problem: reason(&session.problem),
                };
                let run = Some(Box::new(run)).filter(|run| **run != SessionRun::default());
                Ok(Self {
                    name: parse("name", &session.name)?,
                    command: clean(&session.command, Limits::SESSION_COMMAND_BYTES),
                    state: match session.running {
                        true => SessionState::Running,
                        false => SessionState::Exited { code: session.exit_code },
                    },
                    started: Timestamp(session.started_unix_ms),
                    active: Timestamp(session.active_unix_ms),
                    viewers: session.viewers,
                    panes,
                    killed,
                    agent: session.agent.and_then(agent),
                    run,
                })
            }
        }
    };
}

/// Reads an agent's status. One that cannot be read is none: it comes from a workspace, or from a
/// later version, and must not cost a node its whole report.
fn agent(status: pb::inside::v1::AgentStatus) -> Option<Box<AgentStatus>> {
    AgentStatus::try_from(status).ok().map(Box::new)
}

/// What only one of the two messages carries: its panes, or who was killed in it.
type Own = Result<(Vec<u32>, Option<Kill>), InvalidMessage>;

fn panes(mut panes: Vec<u32>) -> Own {
    panes.truncate(Limits::PANES);
    Ok((panes, None))
}

step!(pb::inside::v1::Step, pb::inside::v1::StepState);
session!(pb::inside::v1::SessionStatus, panes, |panes, _: Option<Kill>| panes, panes);

#[cfg(feature = "grpc")]
fn killed(kill: Option<pb::node::v1::Kill>) -> Own {
    Ok((Vec::new(), kill.map(|kill| convert("killed", kill)).transpose()?))
}

#[cfg(feature = "grpc")]
step!(pb::node::v1::StartupStep, pb::node::v1::StepState);
#[cfg(feature = "grpc")]
session!(
    pb::node::v1::SessionObserved,
    killed,
    |_: Vec<u32>, killed: Option<Kill>| killed.map(Into::into),
    killed
);
