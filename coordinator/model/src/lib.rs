//! The pure core of Warren: what a cluster is, how it changes, what it decides.
//!
//! Commands go in, refusals and state come out; the planner turns state and observation into more
//! commands and says why. No I/O, no async, no clock, no randomness, no hash order, no logging:
//! `cargo xtask ci` proves the absences. Start with [`command`], then [`state`].

pub mod apply;
pub mod command;
pub mod state;

pub use apply::{Applied, Outcome, Refusal, RefusalCode};
pub use command::{Command, Envelope, Principal};
pub use state::ClusterState;
