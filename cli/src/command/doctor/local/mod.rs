//! `warren doctor --local`: the coordinator and the node agent of this machine, without asking the
//! cluster. What is looked at stands in [`look`]; what it means, in [`judge`].

mod judge;
mod look;
mod probe;

use std::path::{Path, PathBuf};

use super::{facts::Looked, finding::Finding};

/// Looks at this machine and judges it.
pub(super) async fn findings(coordinator: &Path, node: &Path) -> Vec<Finding> {
    judge::machine(&look::machine(coordinator, node).await)
}

/// What is known of this machine.
#[derive(Debug)]
struct Machine {
    /// None where none is installed.
    coordinator: Option<Daemon>,
    node: Option<Daemon>,
    docker: Looked<Docker>,
    /// 1 or 2.
    cgroup: Looked<u8>,
    /// Whether something keeps the clock right.
    synchronised: Looked<bool>,
}

/// What is known of one of our daemons.
#[derive(Debug)]
struct Daemon {
    config: PathBuf,
    /// What its own program says of its configuration.
    configured: Looked<Result<(), String>>,
    state: PathBuf,
    /// Mode of the state folder; none where it is not there.
    state_mode: Looked<Option<u32>>,
    /// Keys in it that others may read, with their modes.
    open_to_others: Looked<Vec<(String, u32)>>,
    free_bytes: Looked<u64>,
    /// Where it said it listens, and what came of connecting.
    ports: Looked<Vec<Port>>,
    /// What its `/readyz` says: why it is not ready, or nothing.
    ready: Looked<Result<(), String>>,
    /// As `systemctl is-active` says.
    unit: Looked<String>,
}

#[derive(Debug)]
struct Port {
    name: String,
    address: String,
    open: Result<(), String>,
}

/// What Docker says of itself.
#[derive(Debug)]
enum Docker {
    Unreachable(String),
    Reachable { version: String, live_restore: bool },
}
