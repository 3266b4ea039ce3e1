//! The status of a coding agent: what it may be, what may be seen of it, and who is believed.
//!
//! Every agent has several sources that each tell a part and each with its own delay. An
//! [`Observation`] is what one source said, with the time it speaks of. The [`Arbiter`] folds them
//! in the order of those times, whatever order they arrive in, into one [`AgentStatus`]; it keeps
//! the evidence for `warren session explain`. [`Attention`] says who needs a person first.
//!
//! Nothing here reads a clock, a file or a socket: the caller brings observations and ticks. Which
//! session an observation belongs to is the caller's to know as well. What the model says of its
//! own work (a summary, an outcome) never drives a status and is not here.

mod arbiter;
mod attention;
mod failure;
mod fold;
mod meaning;
mod meter;
mod observation;
mod program;
mod state;

#[cfg(test)]
mod tests;

pub use arbiter::{Arbiter, Evidence};
pub use attention::{Attention, AttentionKey};
pub use failure::{Failure, FailureKind};
pub use fold::{Verdict, Why};
pub use meaning::title as title_of;
pub use meter::Meter;
pub use observation::{
    AppServer, Ask, Hook, Observation, Process, Registry, RegistryStatus, Report, Screen, Tmux,
};
pub use state::{
    AgentKind, AgentState, AgentStatus, Confidence, Exit, Flags, Phase, Source, StateName, Tool,
    Wait, WaitKind,
};
