//! The coordinators among themselves: who answers, who votes, who is behind.

use std::{collections::BTreeSet, time::Duration};

use super::{counted, each, faults_or, rank};
use crate::{
    command::doctor::{
        facts::{Answer, Coordinator, Facts, Unanswered},
        finding::{Check, Finding},
    },
    render::time::spell,
    view::cluster::{Cluster, Replica, SILENT_MS, Unreviewed},
};

const PART: &str = "coordinators";
const ANSWERS: Check = Check::new(PART, "COORDINATOR_ANSWERS");
const CLUSTER: Check = Check::new(PART, "COORDINATOR_CLUSTER");
const VERSION: Check = Check::new(PART, "COORDINATOR_VERSION");
const QUORUM: Check = Check::new(PART, "QUORUM");
const ODD: Check = Check::new(PART, "VOTERS_ODD");
const CONTACT: Check = Check::new(PART, "LAST_CONTACT");
const LAG: Check = Check::new(PART, "REPLICATION_LAG");
const MEMBERSHIP: Check = Check::new(PART, "MEMBERSHIP");
const RECOVERY: Check = Check::new(PART, "RECOVERY");
const REVIEW: Check = Check::new(PART, "ALLOWED_REVIEWED");

/// More entries than that are not caught up by the next few heartbeats.
const LAG_ENTRIES: u64 = 1000;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut found = answers(facts);
    found.extend(same_cluster(facts));
    found.extend(versions(facts));
    found.extend(quorum(facts));
    match &facts.cluster {
        Ok(cluster) => {
            found.push(odd(cluster));
            found.extend(contact(cluster));
            found.extend(lag(cluster));
            found.extend(membership(facts, cluster));
            found.push(recovery(cluster));
            found.extend(review(cluster));
        }
        Err(why) => {
            let checks = [ODD, CONTACT, LAG, MEMBERSHIP, RECOVERY, REVIEW];
            found.extend(checks.iter().map(|check| check.not_looked(why.clone())));
        }
    }
    found
}

fn answers(facts: &Facts) -> Vec<Finding> {
    if facts.coordinators.is_empty() {
        return vec![ANSWERS.not_looked("no coordinator's address is known")];
    }
    let file = facts.own.as_ref().map_or("the context", |own| &own.file);
    let fault = |one: &Coordinator| {
        let why = match one.answer.as_ref().err()? {
            Unanswered::Silent(why) => why,
            Unanswered::Refused { why, next } => {
                let next = next.clone().unwrap_or_else(|| "look at its log".to_owned());
                let finding = ANSWERS.error(format!("answers, but {why}"));
                return Some(finding.about(one.label()).fix(next));
            }
        };
        let address = &one.address;
        let heard = facts.cluster.as_ref().ok().and_then(|cluster| {
            let row = cluster.replicas.iter().find(|row| Some(row.id) == one.id)?;
            Some(row.trouble.is_none())
        });
        let finding = match (one.id, heard) {
            (Some(_), Some(true)) => ANSWERS
                .warning(format!("not from here ({why}), though the others hear it"))
                .fix(format!("open {address} for this machine, and compare: warren context show")),
            (None, _) if facts.cluster.is_ok() => ANSWERS
                .warning(format!("the cluster names no coordinator here, and none answers: {why}"))
                .fix(format!("where it was removed, take {address} out of {file}; else start it")),
            _ => ANSWERS.error(format!("does not answer at {address}: {why}")).fix(format!(
                "on its machine: systemctl start warren-coordinator, and look at its log; lost for \
                 good: warren cluster replace {}",
                one.id.map_or_else(|| "N".to_owned(), |id| id.to_string())
            )),
        };
        Some(finding.about(one.label()))
    };
    let faults = facts.coordinators.iter().filter_map(fault).collect();
    let all = facts.coordinators.len();
    faults_or(faults, || ANSWERS.ok(format!("{all} of {all} answer")))
}

fn same_cluster(facts: &Facts) -> Vec<Finding> {
    let Ok(own) = &facts.own else {
        return vec![CLUSTER.not_looked("there is no context to compare with")];
    };
    each(
        facts,
        CLUSTER,
        |one, answer| {
            let said = &answer.said;
            if said.cluster_id == own.cluster_id {
                return None;
            }
            let message = format!(
                "is of cluster {} ({}), the context of {} ({})",
                said.cluster_name, said.cluster_id, own.cluster, own.cluster_id
            );
            let fix =
                format!("warren context show {}: take the address out or correct it", own.context);
            Some(CLUSTER.error(message).about(one.label()).fix(fix))
        },
        || format!("all of cluster {} ({})", own.cluster, own.cluster_id),
    )
}

fn versions(facts: &Facts) -> Vec<Finding> {
    let all: BTreeSet<&str> = facts.answering().map(|(_, one)| one.said.version.as_str()).collect();
    let newest = all.iter().copied().max_by_key(|version| rank(version));
    let newest = newest.unwrap_or(facts.version);
    let mut found = each(
        facts,
        VERSION,
        |one, answer| {
            let version = &answer.said.version;
            (version != newest).then(|| {
                let message = format!("runs {version}, others {newest}");
                let fix = "install the same version there, then restart warren-coordinator";
                VERSION.warning(message).about(one.label()).fix(fix)
            })
        },
        || format!("all run {newest}"),
    );
    if !all.is_empty() && !all.contains(facts.version) {
        let message = format!("this command is {}, the coordinators {newest}", facts.version);
        found.push(VERSION.warning(message).about("this machine").fix("install the same version"));
    }
    found
}

fn quorum(facts: &Facts) -> Vec<Finding> {
    let cluster = match &facts.cluster {
        Ok(cluster) => cluster,
        Err(why) => return vec![no_majority(facts, why)],
    };
    let fault = |(one, answer): (&Coordinator, &Answer)| {
        let without = answer.said.without_quorum_ms.filter(|ago| *ago > SILENT_MS)?;
        let since = spell(Duration::from_millis(without));
        let message = format!("hears no majority for {since}: what it is asked alone fails");
        let fix = "see that the Raft ports (7401) are open among the coordinators, and its log";
        Some(QUORUM.error(message).about(one.label()).fix(fix))
    };
    let mut found: Vec<Finding> = facts.answering().filter_map(fault).collect();
    let voters: Vec<&Replica> = cluster.replicas.iter().filter(|one| one.voter).collect();
    let answering = voters.iter().filter(|one| one.trouble.is_none()).count();
    let needed = voters.len() / 2 + 1;
    let told = format!(
        "{answering} of {} voters answer the coordinator that was asked, quorum {needed}",
        voters.len()
    );
    let all = match answering.checked_sub(needed) {
        // a majority answered this very question
        None => {
            QUORUM.warning(format!("{told}: it is about to be lost")).fix("warren cluster status")
        }
        Some(0) if voters.len() > 1 => QUORUM
            .warning(format!("{told}: the next failure stops every change"))
            .fix("bring back those that do not answer, or warren cluster token for another one"),
        Some(0) => QUORUM.ok(format!("{told}; warren cluster token adds another")),
        Some(spare) => QUORUM.ok(format!("{told}: {spare} more may fail")),
    };
    if found.is_empty() || all.is_bad() {
        found.push(all);
    }
    found
}

/// Judges a cluster that did not answer as a whole: one that hears a majority belies the others.
fn no_majority(facts: &Facts, why: &str) -> Finding {
    let silences: Option<Vec<u64>> =
        facts.answering().map(|(_, one)| one.said.without_quorum_ms).collect();
    let Some(shortest) = silences.and_then(|all| all.into_iter().min()) else {
        return QUORUM.not_looked(why);
    };
    let since = spell(Duration::from_millis(shortest));
    let message = format!("no majority for {since}: nothing can be changed; workspaces run on");
    QUORUM.error(message).fix(
        "start the coordinators that do not answer; lost for good, on one survivor: \
         warren cluster recover",
    )
}

fn odd(cluster: &Cluster) -> Finding {
    let voters = cluster.replicas.iter().filter(|one| one.voter).count();
    match voters % 2 {
        1 => ODD.ok(counted(voters, "voter")),
        _ => ODD
            .warning(format!(
                "{voters} voters may lose no more than {} may",
                voters.saturating_sub(1)
            ))
            .fix("warren cluster token adds one, warren cluster remove N takes one out"),
    }
}

fn contact(cluster: &Cluster) -> Vec<Finding> {
    if cluster.leader.is_none() {
        return vec![CONTACT.not_looked("nobody leads at the moment")];
    }
    let fault = |one: &Replica| {
        let trouble = one.trouble.as_ref();
        let old = match one.contact_ms {
            Some(ago) => ago > SILENT_MS,
            None => one.voter,
        };
        if trouble.is_none() && !old {
            return None;
        }
        let ago = one.contact_ms.map_or_else(
            || "never since it leads".to_owned(),
            |ago| format!("{} ago", spell(Duration::from_millis(ago))),
        );
        let why = trouble.map_or_else(String::new, |why| format!(" ({why})"));
        let message = format!("the leader last heard it {ago}{why}");
        let fix = format!("see that it runs, and that {} is open among them", one.raft_address);
        Some(CONTACT.error(message).about(format!("coordinator {}", one.id)).fix(fix))
    };
    let faults = cluster.replicas.iter().filter_map(fault).collect();
    let limit = SILENT_MS / 1000;
    faults_or(faults, || CONTACT.ok(format!("the leader heard every voter within {limit} s")))
}

fn lag(cluster: &Cluster) -> Vec<Finding> {
    let told = |one: &Replica| format!("coordinator {}", one.id);
    let fault = |one: &Replica| match one.lag_entries {
        Some(0..=LAG_ENTRIES) => None,
        Some(behind) => {
            let message = format!("lacks {behind} entries of the leader's log");
            let fix = "wait where it has just started; else look at its disk and its network";
            Some(LAG.warning(message).about(told(one)).fix(fix))
        }
        None => Some(LAG.not_looked("nobody knows how far it is").about(told(one))),
    };
    let faults = cluster.replicas.iter().filter_map(fault).collect();
    let most = cluster.replicas.iter().filter_map(|one| one.lag_entries).max().unwrap_or(0);
    faults_or(faults, || LAG.ok(format!("at most {most} entries behind")))
}

fn membership(facts: &Facts, cluster: &Cluster) -> Vec<Finding> {
    let joining = |one: &Replica| {
        let what = match one.role {
            "joining" => "has a number, but is not in the group yet",
            "learner" => "has no vote yet",
            _ => return None,
        };
        let fix = format!(
            "start it, or repeat the join command there; to give it up: warren cluster remove {}",
            one.id
        );
        let message = format!("{what}: its joining is half done");
        Some(MEMBERSHIP.warning(message).about(format!("coordinator {}", one.id)).fix(fix))
    };
    let mut faults: Vec<Finding> = cluster.replicas.iter().filter_map(joining).collect();
    let leads = |id: u64| Some(id) == cluster.leader;
    let Some((_, leader)) = facts.answering().find(|(_, one)| leads(one.said.replica_id)) else {
        let why = "the leader does not answer from here: it alone knows of half done removals";
        faults.push(MEMBERSHIP.not_looked(why));
        return faults;
    };
    let leaving = &leader.said.leaving_replica_ids;
    faults.extend(leaving.iter().map(|id| {
        let message = "is still in the group: its removal is half done";
        let fix = format!("warren cluster remove {id}");
        MEMBERSHIP.warning(message).about(format!("coordinator {id}")).fix(fix)
    }));
    faults_or(faults, || MEMBERSHIP.ok("no joining or removal is half done"))
}

fn recovery(cluster: &Cluster) -> Finding {
    match &cluster.recovery {
        None => RECOVERY.ok("the cluster is not recovering"),
        Some(recovery) => RECOVERY.warning(recovery.text()).fix(
            "start the node agents that are awaited; gone for good: warren cluster recovery skip NODE",
        ),
    }
}

fn review(cluster: &Cluster) -> Vec<Finding> {
    let fault = |one: &Unreviewed| {
        REVIEW.warning(one.text()).about(format!("client {}", one.client)).fix(one.fix())
    };
    let faults = cluster.unreviewed_clients.iter().map(fault).collect();
    faults_or(faults, || REVIEW.ok("no client may reach what a backup alone says"))
}
