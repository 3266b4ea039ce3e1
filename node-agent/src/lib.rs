//! The node agent: the hands of Warren on one server.
//!
//! [`uplink`] brings the node's one document from the leader, the [`ledger`] keeps it, the
//! [`reconciler`] makes it so through [`engine`], [`volume`] and [`inside`], and what it sees goes
//! up again. Nothing here decides where a workspace runs. Start with [`agent`].

pub mod agent;
pub mod board;
pub mod config;
pub mod container;
pub mod engine;
mod facts;
pub mod gauge;
pub mod hooks;
pub mod host;
mod images;
pub mod inside;
pub mod join;
pub mod lease;
pub mod leave;
pub mod ledger;
pub mod measure;
pub mod network;
pub mod reconciler;
pub mod removed;
pub mod seat;
pub mod secrets;
pub mod tunnel;
pub mod uplink;
pub mod volume;
