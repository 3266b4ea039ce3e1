//! What uses a cluster up, as it is printed: a line per workspace or node, the busiest first.

use std::cmp::Reverse;

use clap::ValueEnum;
use serde::Serialize;
use warren_common::{Bytes, Timestamp};

use super::{
    Moment,
    measure::{Pressure, cores, share},
    node::Node,
    workspace::Workspace,
};
use crate::render::{Tabular, time::rfc3339_seconds};

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// What waits most for memory, then what uses the most of its cap.
    #[default]
    Pressure,
    /// Processors in use.
    Cpu,
    /// Memory in use.
    Memory,
    /// The address.
    Name,
}

/// One workspace and what it uses.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkspaceLoad {
    pub(crate) address: String,
    pub(crate) node: Option<String>,
    pub(crate) status: String,
    pub(crate) milli_cpus: u32,
    /// Charged to it, less the file pages that nobody used lately.
    pub(crate) working_set_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_cap_bytes: u64,
    pub(crate) swap_bytes: u64,
    pub(crate) pids: u32,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) pressure: Pressure,
    pub(crate) oom_kills: u64,
    /// False where its node is silent: the rest is the past.
    pub(crate) live: bool,
    #[serde(skip)]
    note: String,
}

/// One node and what it uses.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NodeLoad {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) workspaces: u32,
    pub(crate) busy_milli_cpus: u32,
    pub(crate) milli_cpus: u32,
    pub(crate) load_milli: u32,
    pub(crate) memory_used_bytes: u64,
    pub(crate) memory_total_bytes: u64,
    pub(crate) swap_used_bytes: u64,
    pub(crate) swap_total_bytes: u64,
    pub(crate) disk_available_bytes: u64,
    /// None where its kernel does not measure it.
    pub(crate) memory_pressure: Option<Pressure>,
    pub(crate) cpu_pressure: Option<Pressure>,
    pub(crate) io_pressure: Option<Pressure>,
    pub(crate) last_seen_at: Option<Moment>,
    /// False where it is silent: the rest is the past.
    pub(crate) live: bool,
}

/// One look at the cluster.
#[derive(Debug, Serialize)]
pub(crate) struct Look {
    pub(crate) at: Moment,
    /// Left out where only workspaces are looked at, and the other way round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<Vec<NodeLoad>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workspaces: Option<Vec<WorkspaceLoad>>,
}

impl WorkspaceLoad {
    /// Takes what a workspace uses; `now` is what ages are counted to.
    pub(crate) fn new(workspace: Workspace, now: Timestamp) -> Self {
        let note = workspace.oom_note(Some(now)).unwrap_or_default();
        let usage = workspace.observed.as_ref().map(|seen| seen.usage.clone()).unwrap_or_default();
        let cap = match usage.memory_cap_bytes {
            0 => workspace.spec.resources.memory_bytes,
            held => held,
        };
        Self {
            address: workspace.address,
            node: workspace.node,
            status: workspace.status,
            milli_cpus: usage.milli_cpus,
            working_set_bytes: usage.working_set_bytes,
            memory_bytes: usage.memory_bytes,
            memory_cap_bytes: cap,
            swap_bytes: usage.swap_bytes,
            pids: usage.pids,
            received_bytes: usage.received_bytes,
            sent_bytes: usage.sent_bytes,
            pressure: usage.pressure,
            oom_kills: usage.oom_kills,
            live: workspace.observed_live,
            note,
        }
    }

    /// Part of the cap in use, per ten thousand.
    fn filled(&self) -> u64 {
        (self.working_set_bytes / 16).saturating_mul(10_000) / (self.memory_cap_bytes / 16).max(1)
    }
}

impl NodeLoad {
    /// Takes what a node uses.
    pub(crate) fn new(node: Node) -> Self {
        let status = node.status();
        let live = node.liveness == "ready";
        let usage = node.usage.unwrap_or_default();
        Self {
            name: node.name,
            status,
            workspaces: node.workspaces,
            busy_milli_cpus: usage.busy_milli_cpus,
            milli_cpus: node.facts.map_or(0, |facts| facts.milli_cpus),
            load_milli: usage.load_milli,
            memory_used_bytes: usage
                .memory_total_bytes
                .saturating_sub(usage.memory_available_bytes),
            memory_total_bytes: usage.memory_total_bytes,
            swap_used_bytes: usage.swap_total_bytes.saturating_sub(usage.swap_free_bytes),
            swap_total_bytes: usage.swap_total_bytes,
            disk_available_bytes: usage.disk_available_bytes,
            memory_pressure: usage.memory_pressure,
            cpu_pressure: usage.cpu_pressure,
            io_pressure: usage.io_pressure,
            last_seen_at: node.last_seen_at,
            live,
        }
    }
}

/// Sorts what is looked at; equal ones by name.
pub(crate) fn sort(look: &mut Look, by: Sort) {
    if let Some(all) = &mut look.workspaces {
        all.sort_by_cached_key(|one| {
            let waits = (one.pressure.full_60, one.pressure.some_60, one.filled());
            let first = match by {
                Sort::Pressure => waits,
                Sort::Cpu => (one.milli_cpus, 0, 0),
                Sort::Memory => (0, 0, one.working_set_bytes),
                Sort::Name => (0, 0, 0),
            };
            (Reverse((one.live, first)), one.address.clone())
        });
    }
    if let Some(all) = &mut look.nodes {
        all.sort_by_cached_key(|one| {
            let waits = one.memory_pressure.unwrap_or_default();
            let first = match by {
                Sort::Pressure => (waits.full_60, waits.some_60, one.memory_used_bytes),
                Sort::Cpu => (one.busy_milli_cpus, 0, 0),
                Sort::Memory => (0, 0, one.memory_used_bytes),
                Sort::Name => (0, 0, 0),
            };
            (Reverse((one.live, first)), one.name.clone())
        });
    }
}

impl Tabular for WorkspaceLoad {
    const HEADER: &'static [&'static str] = &[
        "WORKSPACE",
        "NODE",
        "CPU",
        "MEMORY",
        "OF",
        "SWAP",
        "PIDS",
        "IN",
        "OUT",
        "WAITS",
        "STATUS",
    ];
    const FLEXIBLE: usize = 10;

    fn row(&self, _: Timestamp) -> Vec<String> {
        let amount =
            |bytes: u64| if bytes == 0 { "-".to_owned() } else { Bytes(bytes).to_string() };
        let status = match self.note.as_str() {
            "" => self.status.clone(),
            note => format!("{}, {note}", self.status),
        };
        vec![
            self.address.clone(),
            self.node.clone().unwrap_or_default(),
            cores(self.milli_cpus),
            amount(self.working_set_bytes),
            Bytes(self.memory_cap_bytes).to_string(),
            amount(self.swap_bytes),
            self.pids.to_string(),
            amount(self.received_bytes),
            amount(self.sent_bytes),
            share(self.pressure.some_60),
            status,
        ]
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

impl Tabular for NodeLoad {
    const HEADER: &'static [&'static str] = &[
        "NODE",
        "WORKSPACES",
        "CPU",
        "OF",
        "LOAD",
        "MEMORY",
        "OF",
        "SWAP",
        "DISK FREE",
        "WAITS MEM",
        "CPU",
        "IO",
        "STATUS",
    ];
    const FLEXIBLE: usize = 12;

    fn row(&self, _: Timestamp) -> Vec<String> {
        let waits = |pressure: Option<Pressure>| {
            pressure.map_or_else(|| "?".to_owned(), |pressure| share(pressure.some_60))
        };
        let status = match self.last_seen_at.filter(|_| !self.live) {
            Some(at) => format!("{}, last seen {}", self.status, rfc3339_seconds(at.0)),
            None => self.status.clone(),
        };
        // a node that never told, and one of an older version
        let told = |text: String| if self.memory_total_bytes == 0 { "-".to_owned() } else { text };
        vec![
            self.name.clone(),
            self.workspaces.to_string(),
            told(cores(self.busy_milli_cpus)),
            told(cores(self.milli_cpus)),
            told(cores(self.load_milli)),
            told(Bytes(self.memory_used_bytes).to_string()),
            told(Bytes(self.memory_total_bytes).to_string()),
            told(Bytes(self.swap_used_bytes).to_string()),
            told(Bytes(self.disk_available_bytes).to_string()),
            waits(self.memory_pressure),
            waits(self.cpu_pressure),
            waits(self.io_pressure),
            status,
        ]
    }

    fn address(&self) -> String {
        self.name.clone()
    }
}
