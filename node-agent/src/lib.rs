//! The node agent: the hands of Warren on one server.

pub mod container;
pub mod engine;
pub mod host;
pub mod volume;
