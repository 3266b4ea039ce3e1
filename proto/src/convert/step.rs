//! Startup steps and sessions, which stand in `inside.v1` and in `node.v1` with the same fields.

use warren_common::{
    Limits, Timestamp,
    status::{SessionObserved, SessionState, StartupStep, StepState, clean, reason},
};

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
    ($message:path) => {
        impl From<SessionObserved> for $message {
            fn from(session: SessionObserved) -> Self {
                let (running, exit_code) = match session.state {
                    SessionState::Running => (true, 0),
                    SessionState::Exited { code } => (false, code),
                };
                Self {
                    name: session.name.into(),
                    command: session.command,
                    running,
                    exit_code,
                    started_unix_ms: session.started.0,
                    active_unix_ms: session.active.0,
                    viewers: session.viewers,
                }
            }
        }

        impl TryFrom<$message> for SessionObserved {
            type Error = InvalidMessage;
            fn try_from(session: $message) -> Result<Self, InvalidMessage> {
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
                })
            }
        }
    };
}

step!(pb::inside::v1::Step, pb::inside::v1::StepState);
session!(pb::inside::v1::SessionStatus);

#[cfg(feature = "grpc")]
step!(pb::node::v1::StartupStep, pb::node::v1::StepState);
#[cfg(feature = "grpc")]
session!(pb::node::v1::SessionObserved);
