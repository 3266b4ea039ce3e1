//! Each fault, from fabricated answers, and the code it is found under.

use warren_common::Timestamp;
use warren_proto::pb::{admin::v1 as pb, node::v1 as node};

use super::*;
use crate::{
    command::doctor::{
        facts::{LastBackup, Own, Unanswered},
        finding::Level,
    },
    error::Kind,
    view::{cluster::Cluster, node::Node, workspace::Workspace},
};

const NOW: u64 = 1_767_323_045_000;
const DAY: u64 = 24 * 3600 * 1000;

fn said(id: u64) -> pb::InspectCoordinatorResponse {
    pb::InspectCoordinatorResponse {
        replica_id: id,
        cluster_id: "c1".to_owned(),
        cluster_name: "demo".to_owned(),
        version: "0.1.0".to_owned(),
        now_unix_ms: NOW,
        leader_replica_id: 1,
        engine: "sled".to_owned(),
        log_entries: 9_000,
        since_checkpoint_entries: 4_000,
        checkpoint_every_entries: 5_000,
        checkpoint_unix_ms: NOW - 3_600_000,
        log_bytes: 40 << 20,
        disk_free_bytes: 50 << 30,
        disk_bytes: 100 << 30,
        keystore_digest: vec![7; 32].into(),
        audit_sequence: 120,
        people_told: true,
        coordinator_holders: 3,
        ..Default::default()
    }
}

fn coordinator(id: u64) -> Coordinator {
    let answer = Ok(Answer { said: said(id), ahead_ms: 40 });
    Coordinator { id: Some(id), address: format!("10.0.0.{id}:7400"), answer }
}

fn silent(why: &str) -> Result<Answer, Unanswered> {
    Err(Unanswered::Silent(why.to_owned()))
}

fn replica(id: u64) -> pb::Replica {
    let role = if id == 1 { pb::ReplicaRole::Leader } else { pb::ReplicaRole::Voter };
    pb::Replica {
        id,
        api_address: format!("10.0.0.{id}:7400"),
        raft_address: format!("10.0.0.{id}:7401"),
        voter: true,
        role: role.into(),
        lag_entries: Some(0),
        contact_ms: Some(0),
        version: "0.1.0".to_owned(),
        ..Default::default()
    }
}

fn cluster(change: impl FnOnce(&mut pb::GetClusterResponse)) -> Cluster {
    let mut cluster = pb::GetClusterResponse {
        name: "demo".to_owned(),
        cluster_id: "c1".to_owned(),
        leader_replica_id: 1,
        replicas: (1..=3).map(replica).collect(),
        ..Default::default()
    };
    change(&mut cluster);
    cluster.into()
}

fn node(change: impl FnOnce(&mut pb::Node)) -> Node {
    let mut node = pb::Node {
        name: "n1".to_owned(),
        availability: pb::NodeAvailability::Active.into(),
        liveness: pb::NodeLiveness::Ready.into(),
        last_seen_unix_ms: NOW - 1000,
        facts: Some(node::NodeFacts { version: "0.1.0".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    change(&mut node);
    node.into()
}

fn workspace(phase: pb::Phase, change: impl FnOnce(&mut pb::Workspace)) -> Workspace {
    let mut workspace = pb::Workspace {
        client: "acme".to_owned(),
        name: "web".to_owned(),
        phase: phase.into(),
        reason: "because".to_owned(),
        phase_since_unix_ms: NOW - 60_000,
        ..Default::default()
    };
    change(&mut workspace);
    workspace.into()
}

fn whole() -> Facts {
    Facts {
        here: Timestamp(NOW),
        now: Timestamp(NOW),
        version: "0.1.0",
        own: Ok(Own {
            context: "demo".to_owned(),
            file: "/home/ann/.config/warren/config.toml".to_owned(),
            cluster: "demo".to_owned(),
            cluster_id: "c1".to_owned(),
            person: "ann".to_owned(),
            expires: Timestamp(NOW + 80 * DAY),
        }),
        open_to_others: Ok(Vec::new()),
        cluster: Ok(cluster(|_| {})),
        coordinators: (1..=3).map(coordinator).collect(),
        nodes: Ok(vec![node(|_| {})]),
        workspaces: Ok(vec![workspace(pb::Phase::Active, |_| {})]),
        backup: Ok(LastBackup::Taken { at: Timestamp(NOW - DAY), by: "ann".to_owned() }),
    }
}

type Bad = Vec<(&'static str, Level)>;

/// Returns what is not ok after a change, and that each says what to do.
fn after(change: impl FnOnce(&mut Facts)) -> Bad {
    let mut facts = whole();
    change(&mut facts);
    let found = all(&facts);
    for one in &found {
        let told = matches!(one.level, Level::Ok | Level::NotLooked) || one.fix.is_some();
        assert!(told, "{} says what to do", one.code);
        assert!(!one.message.is_empty(), "{} says something", one.code);
    }
    let bad = found.into_iter().filter(|one| one.level != Level::Ok);
    bad.map(|one| (one.code, one.level)).collect()
}

/// The same after a change of what the second coordinator said.
fn said_by_two(change: impl FnOnce(&mut pb::InspectCoordinatorResponse)) -> Bad {
    after(|facts| {
        let answer = facts.coordinators[1].answer.as_mut().expect("it answers");
        change(&mut answer.said);
    })
}

#[test]
fn a_cluster_in_order_is_ok_and_every_check_says_so() {
    assert_eq!(after(|_| {}), []);
    let found = all(&whole());
    let mut codes: Vec<&str> = found.iter().map(|one| one.code).collect();
    assert_eq!(codes.len(), 31, "{codes:?}");
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 31, "each once");
}

#[test]
fn faults_of_this_machine() {
    use Level::{Error, NotLooked, Warning};
    let one = |code, level| vec![(code, level)];
    let expires = |days: i64| {
        after(move |facts| {
            let end = NOW.saturating_add_signed(days * i64::try_from(DAY).expect("small"));
            facts.own.as_mut().expect("there").expires = Timestamp(end);
        })
    };
    assert_eq!(expires(-1), one("CONTEXT_CERTIFICATE", Error));
    assert_eq!(expires(10), one("CONTEXT_CERTIFICATE", Warning));
    let open = after(|facts| facts.open_to_others = Ok(vec![("/k".to_owned(), 0o640)]));
    assert_eq!(open, one("CONTEXT_FILES", Error));
    let ahead = |ms| {
        after(move |facts| facts.coordinators[2].answer.as_mut().expect("there").ahead_ms = ms)
    };
    assert_eq!(ahead(-4_999), []);
    assert_eq!(ahead(-5_000), one("CLOCK", Warning));
    assert_eq!(ahead(90_000), one("CLOCK", Error));
    let none = after(|facts| facts.own = Err(crate::error::Error::new(Kind::NotFound, "NO", "no")));
    let blind = [("CONTEXT_CERTIFICATE", NotLooked), ("COORDINATOR_CLUSTER", NotLooked)];
    assert_eq!(none, [&[("CONTEXT", Level::Error)], &blind[..]].concat());
}

#[test]
fn faults_among_the_coordinators() {
    use Level::{Error, NotLooked, Warning};
    let one = |code, level| vec![(code, level)];
    let other = said_by_two(|said| said.cluster_id = "c2".to_owned());
    assert_eq!(other, one("COORDINATOR_CLUSTER", Error));
    let old = said_by_two(|said| said.version = "0.0.9".to_owned());
    assert_eq!(old, one("COORDINATOR_VERSION", Warning));
    assert_eq!(after(|facts| facts.version = "0.2.0"), one("COORDINATOR_VERSION", Warning));
    let newer = after(|facts| {
        for (place, version) in ["0.10.0", "0.9.0", "0.10.0"].into_iter().enumerate() {
            let answer = facts.coordinators[place].answer.as_mut().expect("it answers");
            answer.said.version = version.to_owned();
        }
        facts.version = "0.10.0";
        facts.nodes = Ok(Vec::new());
    });
    let versions = newer.iter().filter(|(code, _)| *code == "COORDINATOR_VERSION");
    assert_eq!(versions.count(), 1, "0.9.0 is the older one: {newer:?}");
    let with = |change: fn(&mut pb::GetClusterResponse)| {
        after(move |facts| facts.cluster = Ok(cluster(change)))
    };
    let three = with(|cluster| cluster.replicas[2].lag_entries = Some(1001));
    assert_eq!(three, one("REPLICATION_LAG", Warning));
    assert_eq!(with(|c| c.replicas[2].lag_entries = None), one("REPLICATION_LAG", NotLooked));
    assert_eq!(with(|c| c.replicas[2].contact_ms = Some(5_001)), one("LAST_CONTACT", Error));
    assert_eq!(with(|c| c.replicas[2].contact_ms = None), one("LAST_CONTACT", Error));
    // it answers this machine and hears none of the others
    let cut_off = |ago| said_by_two(move |said| said.without_quorum_ms = Some(ago));
    assert_eq!(cut_off(5_001), one("QUORUM", Error));
    assert_eq!(cut_off(5_000), []);
    let unled = with(|cluster| cluster.leader_replica_id = 0);
    assert_eq!(unled, [("LAST_CONTACT", NotLooked), ("MEMBERSHIP", NotLooked)]);
    let refused = after(|facts| {
        let (why, next) = ("vera may not ask".to_owned(), Some("ask an administrator".to_owned()));
        facts.coordinators[1].answer = Err(Unanswered::Refused { why, next });
    });
    assert!(refused.contains(&("COORDINATOR_ANSWERS", Error)), "{refused:?}");
    let two = with(|cluster| cluster.replicas.truncate(2));
    assert_eq!(two, [("QUORUM", Warning), ("VOTERS_ODD", Warning)]);
    assert_eq!(with(|cluster| cluster.replicas.truncate(1)), [], "one is a whole cluster");
    let learner = with(|cluster| {
        let role = pb::ReplicaRole::Learner.into();
        cluster.replicas.push(pb::Replica { voter: false, role, ..replica(4) });
    });
    assert_eq!(learner, one("MEMBERSHIP", Warning));
    let leaving = after(|facts| {
        let leader = facts.coordinators[0].answer.as_mut().expect("it answers");
        leader.said.leaving_replica_ids = vec![9];
    });
    assert_eq!(leaving, one("MEMBERSHIP", Warning));
    let unseen = after(|facts| facts.coordinators[0].answer = silent("no route"));
    assert!(unseen.contains(&("MEMBERSHIP", NotLooked)), "{unseen:?}");
    let recovering = with(|cluster| cluster.recovery = Some(pb::Recovery::default()));
    assert_eq!(recovering, one("RECOVERY", Warning));
    let reopened = with(|cluster| {
        let allowed = vec!["10.1.2.0/24:5432/tcp".to_owned()];
        let client = "acme".to_owned();
        cluster.unreviewed_clients = vec![pb::UnreviewedClient { client, allowed }];
    });
    assert_eq!(reopened, one("ALLOWED_REVIEWED", Warning));
}

#[test]
fn a_coordinator_that_is_down_is_named_and_nothing_of_it_is_called_ok() {
    let down = |facts: &mut Facts| {
        facts.coordinators[2].answer = silent("no coordinator answers");
    };
    let mut facts = whole();
    down(&mut facts);
    facts.cluster = Ok(cluster(|cluster| {
        cluster.replicas[2].trouble = "refused".to_owned();
        cluster.replicas[2].contact_ms = Some(65_000);
    }));
    let found = all(&facts);
    let errors: Vec<_> = found.iter().filter(|one| one.level == Level::Error).collect();
    let codes: Vec<_> = errors.iter().map(|one| one.code).collect();
    assert_eq!(codes, ["COORDINATOR_ANSWERS", "LAST_CONTACT"]);
    assert!(errors.iter().all(|one| one.subject.as_deref() == Some("coordinator 3")));
    assert!(errors[0].fix.as_ref().expect("a fix").contains("warren cluster replace 3"));
    let unseen = found.iter().filter(|one| one.level == Level::NotLooked);
    assert!(unseen.clone().count() >= 8, "its disk, its keys and so on");
    assert!(unseen.into_iter().all(|one| one.message.contains("coordinator 3")));
    // the others hear it: only this machine does not
    let from_here = after(down);
    assert!(from_here.contains(&("COORDINATOR_ANSWERS", Level::Warning)), "{from_here:?}");
    assert!(from_here.iter().all(|(_, level)| *level != Level::Error), "{from_here:?}");
    // an address that only the context knows
    let stray = after(|facts| {
        facts.coordinators.push(Coordinator {
            id: None,
            address: "10.0.0.9:7400".to_owned(),
            answer: silent("refused"),
        });
    });
    assert_eq!(stray, [("COORDINATOR_ANSWERS", Level::Warning)]);
}

#[test]
fn without_a_quorum_it_is_said_and_the_rest_is_not_looked_at() {
    let bad = after(|facts| {
        let why = || "no majority of coordinators answers".to_owned();
        for one in &mut facts.coordinators[1..] {
            one.answer = silent("refused");
        }
        let first = facts.coordinators[0].answer.as_mut().expect("it answers");
        first.said.without_quorum_ms = Some(90_000);
        facts.cluster = Err(why());
        facts.nodes = Err(why());
        facts.workspaces = Err(why());
        facts.backup = Err(why());
    });
    let errors: Vec<_> = bad.iter().filter(|(_, level)| *level == Level::Error).collect();
    assert_eq!(
        errors,
        [
            &("COORDINATOR_ANSWERS", Level::Error),
            &("COORDINATOR_ANSWERS", Level::Error),
            &("QUORUM", Level::Error)
        ]
    );
    for code in ["REPLICATION_LAG", "NODE_REPORTS", "WORKSPACE_FAILED", "BACKUP"] {
        assert!(bad.contains(&(code, Level::NotLooked)), "{code}");
    }
}

#[test]
fn one_that_hears_a_majority_belies_the_others() {
    let level = |silences: [Option<u64>; 3]| {
        let mut facts = whole();
        facts.cluster = Err("no answer in time".to_owned());
        for (one, without) in facts.coordinators.iter_mut().zip(silences) {
            one.answer.as_mut().expect("it answers").said.without_quorum_ms = without;
        }
        let found = all(&facts);
        let quorum = found.iter().find(|one| one.code == "QUORUM").expect("it is asked");
        quorum.level
    };
    assert_eq!(level([Some(90_000), Some(70_000), Some(1_000)]), Level::Error);
    assert_eq!(level([Some(90_000), None, Some(70_000)]), Level::NotLooked);
    assert_eq!(level([None, None, None]), Level::NotLooked);
}

#[test]
fn faults_of_storage_and_certificates() {
    use Level::{Error, NotLooked, Warning};
    let one = |code, level| vec![(code, level)];
    let disk = |free| said_by_two(move |said| said.disk_free_bytes = free);
    assert_eq!(disk(100 << 20), one("DISK_FREE", Error));
    assert_eq!(disk(9 << 30), one("DISK_FREE", Warning));
    let failed = said_by_two(|said| said.storage_trouble = "disk".to_owned());
    assert_eq!(failed, one("STORAGE", Error));
    assert_eq!(
        said_by_two(|said| said.since_checkpoint_entries = 15_001),
        one("CHECKPOINT", Warning)
    );
    assert_eq!(said_by_two(|said| said.log_entries = 45_001), one("LOG_SIZE", Warning));
    assert_eq!(said_by_two(|said| said.log_bytes = 3 << 30), one("LOG_SIZE", Warning));
    let missing = said_by_two(|said| said.missing_secrets = vec!["node-authority".to_owned()]);
    assert_eq!(missing, one("KEYSTORE", Error));
    let differs = said_by_two(|said| said.keystore_digest = vec![8; 32].into());
    assert_eq!(differs, one("KEYSTORE", Warning));
    let audit = said_by_two(|said| said.audit_trouble = "gone".to_owned());
    assert_eq!(audit, one("AUDIT_HEAD", Error));
    let busy = said_by_two(|said| said.audit_unseen = "another look is under way".to_owned());
    assert_eq!(busy, one("AUDIT_HEAD", NotLooked));
    let old = LastBackup::Taken { at: Timestamp(NOW - 8 * DAY), by: "ann".to_owned() };
    assert_eq!(after(|facts| facts.backup = Ok(old)), one("BACKUP", Warning));
    assert_eq!(after(|facts| facts.backup = Ok(LastBackup::Never)), one("BACKUP", Warning));
    assert_eq!(after(|facts| facts.backup = Err("no".to_owned())), one("BACKUP", NotLooked));

    let due = |kind: pb::CertificateHolder, end: u64| {
        said_by_two(move |said| {
            said.audit_sequence = 121;
            let name = "x".to_owned();
            let due = pb::CertificateDue { kind: kind.into(), name, expires_unix_ms: end };
            said.certificates.push(due);
        })
    };
    use pb::CertificateHolder::{Coordinator, Node, Person};
    assert_eq!(due(Coordinator, NOW + DAY), one("CERTIFICATE_COORDINATORS", Warning));
    assert_eq!(due(Coordinator, NOW), one("CERTIFICATE_COORDINATORS", Error));
    let nobody = after(|facts| {
        for one in &mut facts.coordinators {
            one.answer.as_mut().expect("it answers").said.coordinator_holders = 0;
        }
    });
    assert_eq!(nobody, one("CERTIFICATE_COORDINATORS", NotLooked));
    assert_eq!(due(Node, NOW - DAY), one("CERTIFICATE_NODES", Error));
    assert_eq!(due(Person, NOW - DAY), one("CERTIFICATE_PEOPLE", Warning));
    let unseen = after(|facts| {
        for one in &mut facts.coordinators {
            one.answer.as_mut().expect("it answers").said.people_told = false;
        }
    });
    assert_eq!(unseen, one("CERTIFICATE_PEOPLE", NotLooked));
}

#[test]
fn faults_of_nodes_and_workspaces() {
    use Level::{Error, NotLooked, Warning};
    let with = |change: fn(&mut pb::Node)| {
        after(move |facts| facts.nodes = Ok(vec![node(|_| {}), node(change)]))
    };
    let only = |change: fn(&mut pb::Node)| after(move |facts| facts.nodes = Ok(vec![node(change)]));
    let suspect = with(|node| node.liveness = pb::NodeLiveness::Suspect.into());
    assert_eq!(suspect, [("NODE_REPORTS", Warning)]);
    let silent = with(|node| node.liveness = pb::NodeLiveness::Unreachable.into());
    assert_eq!(silent, [("NODE_REPORTS", Error)]);
    let finding = |level: node::FindingLevel| node::Finding {
        code: "X1".to_owned(),
        level: level.into(),
        message: "found".to_owned(),
        fix: String::new(),
    };
    let found = |level| {
        after(move |facts| {
            let bad = node(|node| {
                node.facts.as_mut().expect("there").findings.push(finding(level));
            });
            facts.nodes = Ok(vec![node(|_| {}), bad]);
        })
    };
    assert_eq!(found(node::FindingLevel::Warning), [("NODE_PREFLIGHT", Warning)]);
    assert_eq!(found(node::FindingLevel::Blocking), [("NODE_PREFLIGHT", Error)]);
    assert_eq!(with(|node| node.facts = None), [("NODE_PREFLIGHT", NotLooked)]);
    let old = with(|node| node.facts.as_mut().expect("there").version = "0.0.1".to_owned());
    assert_eq!(old, [("NODE_VERSION", Warning)]);
    let cordoned = only(|node| node.availability = pb::NodeAvailability::Cordoned.into());
    assert_eq!(cordoned, [("NODE_SCHEDULABLE", Error)]);
    let retired = with(|node| {
        node.availability = pb::NodeAvailability::Retired.into();
        node.liveness = pb::NodeLiveness::Unreachable.into();
    });
    assert_eq!(retired, [], "it was put out on purpose");
    let none = after(|facts| facts.nodes = Ok(Vec::new()));
    assert_eq!(none[3], ("NODE_SCHEDULABLE", Warning));

    let with = |phase, change: fn(&mut pb::Workspace)| {
        after(move |facts| facts.workspaces = Ok(vec![workspace(phase, change)]))
    };
    assert_eq!(with(pb::Phase::Failed, |_| {}), [("WORKSPACE_FAILED", Error)]);
    assert_eq!(with(pb::Phase::Queued, |_| {}), [("WORKSPACE_QUEUED", Warning)]);
    let late = with(pb::Phase::Preparing, |one| one.phase_deadline_unix_ms = Some(NOW - 1));
    assert_eq!(late, [("WORKSPACE_OVERDUE", Warning)]);
    let in_time = with(pb::Phase::Preparing, |one| one.phase_deadline_unix_ms = Some(NOW + 1));
    assert_eq!(in_time, []);
}
