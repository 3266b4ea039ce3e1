//! The real binary against real tmux and git, with a node agent played by the test.
//!
//! Nothing here is PID 1: the binary behaves the same either way. Every test has a home, a runtime
//! folder and a socket of its own in one temporary folder.

mod agent;
mod agents;
mod connect;
mod daemon;
mod devtools;
mod editor;
mod leaving;
mod logins;
mod order_faults;
mod orders;
mod rogues;
mod screen;
mod server;
mod sessions;
mod start;
mod stop;
mod streams;
mod trouble;
mod views;
mod windows;
#[allow(dead_code, reason = "the binary's own framing, used from outside")]
#[path = "../../src/wire.rs"]
mod wire;
mod workspace;
