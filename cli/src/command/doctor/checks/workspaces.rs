//! The workspaces: those that failed, wait for room, or are later than they should be.

use super::faults_or;
use crate::{
    command::doctor::{
        facts::Facts,
        finding::{Check, Finding},
    },
    render::time::age,
    view::workspace::Workspace,
};

const PART: &str = "workspaces";
const FAILED: Check = Check::new(PART, "WORKSPACE_FAILED");
const QUEUED: Check = Check::new(PART, "WORKSPACE_QUEUED");
const OVERDUE: Check = Check::new(PART, "WORKSPACE_OVERDUE");

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let all = match &facts.workspaces {
        Ok(all) => all,
        Err(why) => {
            return [FAILED, QUEUED, OVERDUE].map(|check| check.not_looked(why.clone())).to_vec();
        }
    };
    let mut found = failed(all);
    found.extend(queued(facts, all));
    found.extend(overdue(facts, all));
    found
}

fn failed(all: &[Workspace]) -> Vec<Finding> {
    let fault = |one: &&Workspace| {
        let fix =
            format!("warren workspace show {0}; mended: warren workspace start {0}", one.address);
        FAILED.error(one.reason.clone()).about(&one.address).fix(fix)
    };
    let failed: Vec<&Workspace> = all.iter().filter(|one| one.phase == "failed").collect();
    let faults = failed.iter().map(fault).collect();
    faults_or(faults, || FAILED.ok(format!("none of {}", all.len())))
}

fn queued(facts: &Facts, all: &[Workspace]) -> Vec<Finding> {
    let fault = |one: &&Workspace| {
        let since = one.phase_since.map_or_else(String::new, |at| age(at.0, facts.now));
        let message = format!("for {since}: {}", one.reason);
        let fix = format!("warren workspace explain {}", one.address);
        QUEUED.warning(message).about(&one.address).fix(fix)
    };
    let queued: Vec<&Workspace> = all.iter().filter(|one| one.phase == "queued").collect();
    let faults = queued.iter().map(fault).collect();
    faults_or(faults, || QUEUED.ok("none waits for room"))
}

fn overdue(facts: &Facts, all: &[Workspace]) -> Vec<Finding> {
    let fault = |one: &Workspace| {
        let deadline = one.phase_deadline.filter(|at| at.0 < facts.now)?;
        let late = age(deadline.0, facts.now);
        let message = format!("{} for {late} too long: {}", one.phase, one.reason);
        let fix =
            format!("warren workspace logs {0}, and the log of its node's agent", one.address);
        Some(OVERDUE.warning(message).about(&one.address).fix(fix))
    };
    let faults = all.iter().filter(|one| one.phase != "queued").filter_map(fault).collect();
    faults_or(faults, || OVERDUE.ok("none is later than it should be"))
}
