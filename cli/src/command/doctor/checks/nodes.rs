//! The nodes: who reports, what their preflight found, whether anything can be placed.

use std::collections::BTreeMap;

use super::{counted, faults_or, rank};
use crate::{
    command::doctor::{
        facts::Facts,
        finding::{Check, Finding},
    },
    render::time::{age, rfc3339_seconds},
    view::node::{Finding as Preflight, Node},
};

const PART: &str = "nodes";
const LIVENESS: Check = Check::new(PART, "NODE_REPORTS");
const PREFLIGHT: Check = Check::new(PART, "NODE_PREFLIGHT");
const VERSION: Check = Check::new(PART, "NODE_VERSION");
const SCHEDULABLE: Check = Check::new(PART, "NODE_SCHEDULABLE");

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let nodes: Vec<&Node> = match &facts.nodes {
        Ok(nodes) => nodes.iter().filter(|node| node.availability != "retired").collect(),
        Err(why) => {
            let checks = [LIVENESS, PREFLIGHT, VERSION, SCHEDULABLE];
            return checks.map(|check| check.not_looked(why.clone())).to_vec();
        }
    };
    if nodes.is_empty() {
        let none = SCHEDULABLE.warning("there is no node: every workspace stays queued");
        let why = "there is no node";
        let others = [LIVENESS, PREFLIGHT, VERSION].map(|check| check.not_looked(why));
        let fix = "warren node token prints the command to run on a new machine";
        return others.into_iter().chain([none.fix(fix)]).collect();
    }
    let mut found = liveness(facts, &nodes);
    found.extend(preflight(&nodes));
    found.extend(versions(facts, &nodes));
    found.push(schedulable(&nodes));
    found
}

fn liveness(facts: &Facts, nodes: &[&Node]) -> Vec<Finding> {
    let fault = |node: &&Node| {
        let seen = node.last_seen_at.map_or_else(
            || "never seen".to_owned(),
            |at| format!("last seen {} ago ({})", age(at.0, facts.now), rfc3339_seconds(at.0)),
        );
        let held = counted(node.workspaces as usize, "workspace");
        let message = format!("{}, {seen}, {held} placed there: {}", node.liveness, node.reason);
        let fault = match node.liveness {
            "ready" => return None,
            "unreachable" | "lost" => LIVENESS.error(message),
            _ => LIVENESS.warning(message),
        };
        let fix =
            "on it: systemctl status warren-node-agent; and from it: port 7400 of a coordinator";
        Some(fault.about(&node.name).fix(fix))
    };
    let faults = nodes.iter().filter_map(fault).collect();
    faults_or(faults, || LIVENESS.ok(format!("{} ready", counted(nodes.len(), "node"))))
}

fn preflight(nodes: &[&Node]) -> Vec<Finding> {
    let fault = |node: &Node, found: &Preflight| {
        let message = format!("{}: {}", found.code, found.message);
        let finding = match found.level {
            "blocking" => PREFLIGHT.error(message),
            _ => PREFLIGHT.warning(message),
        };
        let finding = finding.about(&node.name);
        match &found.fix {
            Some(fix) => finding.fix(fix),
            None => finding.fix(format!("warren node show {}", node.name)),
        }
    };
    let faults = nodes.iter().flat_map(|node| {
        let own = node.facts.iter().flat_map(|facts| &facts.findings);
        node.findings.iter().chain(own).map(move |found| fault(node, found))
    });
    let mut found = faults_or(faults.collect(), || PREFLIGHT.ok("nothing was found on any node"));
    let unknown: Vec<&str> =
        nodes.iter().filter(|node| node.facts.is_none()).map(|node| node.name.as_str()).collect();
    if !unknown.is_empty() {
        found.push(PREFLIGHT.not_looked(format!("{} never told", unknown.join(", "))));
    }
    found
}

/// Compares the agents with the coordinators, or with each other where none answers.
fn versions(facts: &Facts, nodes: &[&Node]) -> Vec<Finding> {
    let of = |node: &Node| node.facts.as_ref().map(|facts| facts.version.clone());
    let known: Vec<(&Node, String)> =
        nodes.iter().filter_map(|node| Some((*node, of(node)?))).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, version) in &known {
        *counts.entry(version).or_default() += 1;
    }
    let usual = counts.iter().max_by_key(|(_, count)| **count).map(|(version, _)| *version);
    let theirs = facts.answering().map(|(_, one)| one.said.version.as_str());
    let theirs = theirs.max_by_key(|version| rank(version));
    let Some(wanted) = theirs.or(usual) else {
        return vec![VERSION.not_looked("no node told its version")];
    };
    let fault = |(node, version): &(&Node, String)| {
        (version != wanted).then(|| {
            let message = format!("its agent is {version}, the coordinators are {wanted}");
            let fix =
                "install the same version there, then restart warren-node-agent: workspaces run on";
            VERSION.warning(message).about(&node.name).fix(fix)
        })
    };
    let faults = known.iter().filter_map(fault).collect();
    faults_or(faults, || VERSION.ok(format!("all agents are {wanted}")))
}

fn schedulable(nodes: &[&Node]) -> Finding {
    let blocked = |node: &Node| {
        let found = node.facts.iter().flat_map(|facts| &facts.findings);
        found.into_iter().any(|found| found.level == "blocking")
    };
    let open =
        |node: &&&Node| node.availability == "active" && node.liveness == "ready" && !blocked(node);
    let (count, all) = (nodes.iter().filter(open).count(), nodes.len());
    if count > 0 {
        return SCHEDULABLE.ok(format!("{count} of {} may take workspaces", counted(all, "node")));
    }
    let why = |node: &&Node| match (node.availability, node.liveness) {
        ("active", "ready") => format!("{} is blocked by its preflight", node.name),
        ("active", liveness) => format!("{} is {liveness}", node.name),
        (availability, _) => format!("{} is {availability}", node.name),
    };
    let whys: Vec<String> = nodes.iter().take(5).map(why).collect();
    SCHEDULABLE
        .error(format!("no node may take workspaces: {}", whys.join(", ")))
        .fix("mend one of them, or warren node token for another one")
}
