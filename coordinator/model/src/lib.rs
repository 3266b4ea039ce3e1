//! The pure core of Warren: what a cluster is, how it changes, what it decides.
//!
//! Commands go in, refusals and state come out; the planner turns state and observation into more
//! commands and says why. No I/O, no async, no clock, no randomness, no hash order, no logging:
//! `cargo xtask ci` proves the absences. Start with [`command`], then [`state`], then [`plan()`].

pub mod answer;
mod apply;
pub mod audit;
pub mod command;
pub mod diff;
pub mod event;
pub mod invariants;
pub mod live;
pub mod liveness;
mod node_spec;
mod observed;
pub mod plan;
pub mod state;

pub use answer::{Applied, Effect, Outcome, Refusal, RefusalCode};
pub use audit::{AuditHead, AuditObject, AuditRecord, verify_chain};
pub use command::{Command, Envelope, Principal};
pub use diff::{Action, Held, HeldContainer, HeldState, Next, diff, diff_recovering};
pub use event::{Event, EventKind};
pub use live::{LiveView, NodeLive, Opinion, Report, Seen};
pub use liveness::{
    LeaseStanding, Liveness, NodeStanding, Standing, is_heard, lease, liveness, standing,
};
pub use node_spec::node_spec;
pub use observed::Observed;
pub use plan::{Ask, Explanation, Plan, PlanReport, explain, plan, preview, reads_alike};
pub use state::ClusterState;
