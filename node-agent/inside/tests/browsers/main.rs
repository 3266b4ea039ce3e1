//! The real binary and real browsers: `cargo xtask browsers` prepares what they take and runs this.

#[allow(dead_code, reason = "what the other tests use of it")]
#[path = "../inside/agent.rs"]
mod agent;
mod drivers;
mod facts;
mod flags;
#[allow(dead_code, reason = "what the other tests use of it")]
#[path = "../inside/server.rs"]
mod server;
mod stand;
#[allow(dead_code, reason = "the binary's own framing, used from outside")]
#[path = "../../src/wire.rs"]
mod wire;
#[allow(dead_code, reason = "what the other tests use of it")]
#[path = "../inside/workspace.rs"]
mod workspace;
