//! The coordinator: the shell around the model.
//!
//! It reads ([`config`]), listens, asks Raft and tells nodes; what is decided is decided in
//! `warren_model`. Start with [`run`] for the life of the process, [`raft`] for how coordinators
//! agree, [`api`] for what may be asked and [`authz`] by whom, [`hub`] for how nodes are told, and
//! [`controller`] for when it is planned.

pub mod audit;
pub mod authz;
pub mod ca;
pub mod keystore;
pub mod raft;
pub mod store;
