//! The pages of PID 1 in a real Chromium. Not among the tests that always run: it needs Chromium and
//! packages of npm, which `cargo xtask views` brings.

#![allow(dead_code, reason = "a part of what the tests of PID 1 stand on")]

#[path = "../inside/agent.rs"]
mod agent;
mod browser;
#[path = "../inside/views.rs"]
mod views;
#[path = "../../src/wire.rs"]
mod wire;
#[path = "../inside/workspace.rs"]
mod workspace;
