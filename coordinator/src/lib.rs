//! The coordinator: the shell around the model.

pub mod authz;
pub mod ca;
pub mod keystore;
