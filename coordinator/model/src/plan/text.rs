//! The sentences of a decision: what people read on the command line and in the queue.

use warren_common::{Bytes, spec::Resources};

use crate::plan::{
    fit::{Cause, Need},
    place::Candidate,
};

/// Names in one list before it is cut.
const NAMES: usize = 4;

/// "placed on n2 (11.2 GiB free, 0 workspaces of acme)".
pub(crate) fn placed(best: &Candidate, need: &Need<'_>) -> String {
    let noun = if best.of_client == 1 { "workspace" } else { "workspaces" };
    format!(
        "placed on {} ({} free, {} {noun} of {})",
        best.name, best.free, best.of_client, need.client_name
    )
}

/// "it asks for 64 GiB; of 3 nodes 2 lack memory (largest free 11.2 GiB on n2), 1 is cordoned (n3)".
pub(crate) fn nowhere(candidates: &[Candidate], need: &Need<'_>) -> String {
    let mut groups: Vec<(Cause, Vec<&Candidate>)> = Vec::new();
    for candidate in candidates {
        let Some(misfit) = &candidate.misfit else { continue };
        match groups.iter_mut().find(|(cause, _)| *cause == misfit.cause) {
            Some((_, of)) => of.push(candidate),
            None => groups.push((misfit.cause, vec![candidate])),
        }
    }
    groups.sort_by_key(|(cause, of)| (usize::MAX - of.len(), *cause));
    let asks = asks(need.resources, &groups);
    let told = groups.iter().map(|(cause, of)| group(*cause, of));
    match candidates.len() {
        0 => format!("it asks for {asks}; the cluster has no nodes yet"),
        1 => format!("it asks for {asks}; the only node {}", told.collect::<String>()),
        many => {
            let counted = told.zip(&groups).map(|(told, (_, of))| format!("{} {told}", of.len()));
            let told: Vec<String> = counted.collect();
            format!("it asks for {asks}; of {many} nodes {}", told.join(", "))
        }
    }
}

/// Memory, and what else was lacking.
fn asks(asked: &Resources, groups: &[(Cause, Vec<&Candidate>)]) -> String {
    let lacking = |wanted: Cause| groups.iter().any(|(cause, _)| *cause == wanted);
    let mut all = vec![asked.memory.to_string()];
    if lacking(Cause::Swap) {
        all.push(format!("{} of swap", asked.swap));
    }
    if lacking(Cause::Disk) {
        all.push(format!("{} of disk", asked.disk));
    }
    if let Some(cpus) = asked.cpus.filter(|_| lacking(Cause::Cpu)) {
        all.push(format!("{cpus} cores"));
    }
    all.join(" and ")
}

fn group(cause: Cause, of: &[&Candidate]) -> String {
    let (one, several) = cause.phrase();
    let phrase = if of.len() == 1 { one } else { several };
    let more = match cause {
        Cause::Memory => {
            // the first of equals, as the names are in order
            let largest = of.iter().rev().max_by_key(|one| one.free);
            let free = largest.map_or(Bytes(0), |one| one.free);
            let name = largest.map(|one| one.name.to_string()).unwrap_or_default();
            format!("largest free {free} on {name}")
        }
        Cause::Pressure
        | Cause::Swap
        | Cause::Disk
        | Cause::Cpu
        | Cause::Finding
        | Cause::Label => {
            let detail = |one: &Candidate| one.misfit.as_ref().map(|misfit| misfit.detail.clone());
            let first = of.first().and_then(|one| Some((one.name.clone(), detail(one)?)));
            first.map(|(name, detail)| format!("{name}: {detail}")).unwrap_or_default()
        }
        Cause::Unregistered
        | Cause::NotReady
        | Cause::Cordoned
        | Cause::Draining
        | Cause::Retired
        | Cause::Overcommitted
        | Cause::NotPinned
        | Cause::Tier
        | Cause::OtherClient
        | Cause::Full => names(of),
    };
    format!("{phrase} ({more})")
}

fn names(of: &[&Candidate]) -> String {
    let mut names: Vec<String> = of.iter().take(NAMES).map(|one| one.name.to_string()).collect();
    if of.len() > NAMES {
        names.push(format!("{} more", of.len() - NAMES));
    }
    names.join(", ")
}
