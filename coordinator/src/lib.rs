//! The coordinator: the shell around the model.
//!
//! It reads ([`config`]), listens, asks Raft and tells nodes; what is decided is decided in
//! `warren_model`.

pub mod api;
pub mod config;
pub mod hub;
pub mod live;
mod sync;
