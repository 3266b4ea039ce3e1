//! The coordinator: the shell around the model.

pub mod audit;
pub mod raft;
pub mod store;
