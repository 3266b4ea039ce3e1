//! Node connections: what nodes report, what they are told, and the tunnels they open.

pub mod tunnel;
