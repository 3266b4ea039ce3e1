//! The coordinator: the shell around the model.
//!
//! It reads ([`config`]), listens, asks Raft and tells nodes; what is decided is decided in
//! `warren_model`. Start with [`raft`] for how coordinators agree, [`api`] for what may be asked,
//! [`hub`] for how nodes are told.

pub mod api;
pub mod audit;
pub mod ca;
pub mod config;
pub mod hub;
pub mod keystore;
pub mod live;
pub mod raft;
pub mod store;
mod sync;
