//! The coordinator: the shell around the model.

pub mod ca;
pub mod keystore;
