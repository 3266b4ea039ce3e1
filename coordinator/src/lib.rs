//! The coordinator: the shell around the model.
//!
//! It reads ([`config`]), listens, asks Raft and tells nodes; what is decided is decided in
//! `warren_model`. Start with [`run`] for the life of the process, [`raft`] for how coordinators
//! agree, [`api`] for what may be asked and [`authz`] by whom, [`hub`] for how nodes are told, [`watch`]
//! for what is told to whoever watches, and [`controller`] for when it is planned.

pub mod api;
pub mod audit;
pub mod authz;
pub mod backup;
pub mod bootstrap;
pub mod ca;
pub mod config;
pub mod controller;
pub mod hub;
pub mod install;
pub mod keystore;
pub mod live;
pub mod measure;
pub mod member;
pub mod raft;
pub mod run;
pub mod serve;
pub mod store;
mod sync;
pub mod watch;
