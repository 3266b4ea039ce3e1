//! Stories told on real parts: real Docker, real tmux, real mutual TLS, several hosts.
//!
//! Each test builds an installation of its own (`warren_tests::Lab`) and needs root and the
//! workspace image; `./deploy/test e2e` prepares both.

mod agents;
mod browsers;
mod drift;
mod harness;
mod hosts;
mod images;
mod isolation;
mod memory;
mod neighbours;
mod opening;
mod opinions;
mod pulse;
mod quickstart;
mod refusals;
mod restarts;
mod secrets;
mod sessions;
mod swap;
mod three_hosts;
mod tiers;
mod viewers;
mod volumes;
