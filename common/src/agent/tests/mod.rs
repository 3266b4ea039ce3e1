//! The rules one by one; `common/tests/agents` holds whole sequences.

mod laws;
mod rules;
mod table;

use super::*;
use crate::Timestamp;

/// When every test begins; late enough for stamps before it.
const BEGIN: u64 = 1_000_000;

fn at(ms: u64) -> Timestamp {
    Timestamp(BEGIN + ms)
}

fn arbiter(kind: AgentKind) -> Arbiter {
    Arbiter::new(kind, at(0))
}

fn hook(event: &str, about: &str) -> Report {
    let (event, about) = (event.to_owned(), about.to_owned());
    Report::Hook(Box::new(Hook { event, about, ..Hook::default() }))
}

fn tool(event: &str, tool: &str) -> Report {
    let (event, tool) = (event.to_owned(), tool.to_owned());
    Report::Hook(Box::new(Hook { event, tool, ..Hook::default() }))
}

fn registry(status: RegistryStatus) -> Report {
    Report::Registry(Registry { status, waiting_for: String::new(), live: true })
}

fn observe(arbiter: &mut Arbiter, ms: u64, report: Report) {
    arbiter.observe(Observation { at: at(ms), report });
}

fn state(arbiter: &Arbiter) -> StateName {
    arbiter.status().state.name()
}
