//! The checks of a cluster: pure functions from facts to findings, one file for each part.

mod certificates;
mod coordinators;
mod here;
mod nodes;
mod storage;
#[cfg(test)]
mod tests;
mod workspaces;

use super::{
    facts::{Answer, Coordinator, Facts},
    finding::{Check, Finding, faults_or},
};

/// Asks every question, in the order in which they are printed.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    [
        here::check,
        coordinators::check,
        storage::check,
        certificates::check,
        nodes::check,
        workspaces::check,
    ]
    .iter()
    .flat_map(|part| part(facts))
    .collect()
}

/// Judges what each coordinator said of itself. Those that said nothing are named as not looked at.
fn each(
    facts: &Facts,
    check: Check,
    fault: impl Fn(&Coordinator, &Answer) -> Option<Finding>,
    ok: impl FnOnce() -> String,
) -> Vec<Finding> {
    let silent = facts.silent();
    if facts.answering().next().is_none() {
        return vec![check.not_looked("no coordinator answers")];
    }
    let faults = facts.answering().filter_map(|(one, answer)| fault(one, answer)).collect();
    let mut found = faults_or(faults, || check.ok(ok()));
    if !silent.is_empty() {
        let (who, verb) = (silent.join(", "), if silent.len() == 1 { "tells" } else { "tell" });
        found.push(check.not_looked(format!("{who} {verb} nothing")));
    }
    found
}

/// Orders versions by their numbers: 0.10.0 comes after 0.9.0.
fn rank(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0)).collect()
}

/// Returns "1 coordinator" or "3 coordinators".
fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
