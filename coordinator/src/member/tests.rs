//! The keystore among three coordinators, admission and removal, in one process.

use std::{collections::BTreeMap, time::Duration};

use warren_common::{Limits, ReplicaId, RequestId, Timestamp};
use warren_daemon::Secret;
use warren_model::{
    Command, Envelope,
    command::{RemoveReplica, RevokeCertificate, SetReplica},
};
use warren_proto::{
    ApiError,
    error::reason,
    pb::raft::v1::{self as pb, Admission},
};

use super::{Members, Removal, remove::may_drop};
use crate::{
    keystore::KeystoreError,
    raft::{
        Member, ReplicaRole, Status,
        tests::{
            PATIENCE, apply_anywhere, create_client, envelope,
            node::{Node, handles, know, known_three, leader},
        },
    },
};

fn secret(text: &str) -> Option<Secret<String>> {
    Some(Secret::new(text.to_owned()))
}

fn kept(members: &Members, name: &str) -> Option<String> {
    members.keystore().get(name).expect("good").map(|secret| secret.expose().clone())
}

/// Compares until this coordinator holds a value.
async fn comes(members: &Members, name: &str, value: Option<&str>) {
    let coming = async {
        while kept(members, name).as_deref() != value {
            members.compare().await;
        }
    };
    tokio::time::timeout(PATIENCE, coming).await.expect("in time");
}

/// Puts through whoever leads, until it is acknowledged.
async fn put(nodes: &BTreeMap<u64, Node>, name: &str, value: &str) {
    keep(nodes, name, secret(value)).await;
}

/// Likewise; none deletes it.
async fn keep(nodes: &BTreeMap<u64, Node>, name: &str, value: Option<Secret<String>>) {
    let putting = async {
        loop {
            let leading = leader(nodes).await;
            let term = nodes[&leading].consensus.status().term;
            match nodes[&leading].members.put_secret(name, value.clone(), term).await {
                Ok(()) => return,
                Err(error) => assert_ne!(error.reason, reason::INTERNAL, "{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, putting).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_secret_survives_whoever_wrote_it() {
    let mut nodes = known_three().await;
    let first = leader(&nodes).await;
    let late = nodes.keys().copied().find(|id| *id != first).expect("three of them");
    let away = nodes.remove(&late).expect("there").stop().await;
    put(&nodes, "client-a", "one").await;
    put(&nodes, "client-a", "two").await;
    let second = nodes.keys().copied().find(|id| *id != first).expect("the other");
    assert_eq!(kept(&nodes[&second].members, "client-a").as_deref(), Some("two"), "at once");

    // whoever wrote it dies; the one that was away takes it from the third
    let gone = nodes.remove(&first).expect("there").stop().await;
    nodes.insert(late, Node::again(late, away).await);
    comes(&nodes[&late].members, "client-a", Some("two")).await;
    put(&nodes, "client-a", "three").await;
    nodes.insert(first, Node::again(first, gone).await);
    comes(&nodes[&first].members, "client-a", Some("three")).await;

    keep(&nodes, "client-a", None).await;
    for node in nodes.values() {
        comes(&node.members, "client-a", None).await;
    }
    let digests = nodes.values().map(|node| node.members.keystore().digest().expect("read"));
    let digests: std::collections::BTreeSet<_> = digests.collect();
    assert_eq!(digests.len(), 1, "all the same");
    for node in nodes.into_values() {
        node.stop().await;
    }
}

/// Compares everywhere until nobody remembers that a secret was deleted.
async fn forgotten(nodes: &BTreeMap<u64, Node>, name: &str) {
    let forgetting = async {
        let known = |node: &Node| node.members.keystore().kept(name).expect("good").is_some();
        while nodes.values().any(known) {
            for node in nodes.values() {
                node.members.compare().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, forgetting).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_remembered_until_all_know_and_is_forgotten_then() {
    let mut nodes = known_three().await;
    put(&nodes, "client-a", "one").await;
    put(&nodes, "client-b", "stays").await;
    for node in nodes.values() {
        comes(&node.members, "client-a", Some("one")).await;
    }
    let leading = leader(&nodes).await;
    let late = nodes.keys().copied().find(|id| *id != leading).expect("another");
    let away = nodes.remove(&late).expect("there").stop().await;
    keep(&nodes, "client-a", None).await;
    for node in nodes.values() {
        assert!(!node.members.compare().await, "one does not answer");
        node.members.compare().await;
        let kept = node.members.keystore().kept("client-a").expect("good").expect("remembered");
        assert!(kept.stamp.deleted, "the one that is away has it yet");
    }
    nodes.insert(late, Node::again(late, away).await);
    comes(&nodes[&late].members, "client-a", None).await;
    forgotten(&nodes, "client-a").await;
    for node in nodes.values() {
        assert!(node.members.compare().await);
        assert!(!node.folder().join("keys/client-a.secret").exists(), "nobody gives it again");
        comes(&node.members, "client-b", Some("stays")).await;
    }
    // what is set after that is newer than what was, wherever that may come from
    put(&nodes, "client-a", "two").await;
    for node in nodes.values() {
        comes(&node.members, "client-a", Some("two")).await;
    }
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_in_an_earlier_term_is_not_written() {
    let nodes = known_three().await;
    put(&nodes, "k", "one").await;
    let leading = leader(&nodes).await;
    let term = nodes[&leading].consensus.status().term;
    let late = nodes[&leading].members.put_secret("k", secret("late"), term - 1).await;
    assert_eq!(kept(&nodes[&leading].members, "k").as_deref(), Some("one"));
    late.expect_err("of another term");
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vaults_that_differ_are_asked_for_together() {
    let nodes = known_three().await;
    let leading = leader(&nodes).await;
    let members = &nodes[&leading].members;
    for name in ["secret-aa-0-x", "secret-bb-0-x", "secret-cc-0-x", "vault-key-bb"] {
        members.keystore().write(name, secret("x").as_ref(), 1).expect("kept");
    }
    let asked = |vaults: Vec<String>| async move {
        let request = pb::ListSecretsRequest { vaults, ..Default::default() };
        let listed = members.list_here(request).await?;
        Ok::<_, ApiError>(listed.secrets.into_iter().map(|one| one.name).collect::<Vec<_>>())
    };
    let two = asked(vec!["bb".to_owned(), "aa".to_owned()]).await.expect("listed");
    assert_eq!(two, ["secret-aa-0-x", "secret-bb-0-x", "vault-key-bb"]);
    let all = asked(Vec::new()).await.expect("listed");
    assert!(all.contains(&"secret-cc-0-x".to_owned()) && all.len() > 3, "{all:?}");
    let many = (0..=Limits::PAGE).map(|number| number.to_string()).collect();
    assert_eq!(asked(many).await.expect_err("too many").reason, reason::INVALID_ARGUMENT);
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_keystore_is_compared_page_by_page() {
    let mut nodes = known_three().await;
    let leading = leader(&nodes).await;
    let away = nodes.keys().copied().find(|id| *id != leading).expect("another");
    let gone = nodes.remove(&away).expect("there").stop().await;
    let count = Limits::PAGE + 7;
    let keystore = nodes[&leading].members.keystore().clone();
    for number in 0..count {
        let name = format!("secret-shared-0-s{number}");
        keystore.write(&name, secret("x").as_ref(), 1).expect("kept");
        let vault = format!("vault-key-{:032x}", number + 1);
        keystore.write(&vault, secret("x").as_ref(), 1).expect("kept");
    }
    nodes.insert(away, Node::again(away, gone).await);
    let (here, there) = (keystore, nodes[&away].members.clone());
    let all = async {
        while there.keystore().digest().expect("read") != here.digest().expect("read") {
            there.compare().await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("in time");
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_never_acknowledged_comes_to_be_or_is_outdone() {
    let mut nodes = known_three().await;
    let first = leader(&nodes).await;
    // killed between its own fsync and the first push: nobody else has it
    let term = nodes[&first].consensus.status().term;
    let keystore = nodes[&first].members.keystore();
    keystore.write("lone", secret("unpushed").as_ref(), term).expect("kept here");
    keystore.write("raced", secret("unpushed").as_ref(), term).expect("kept here");
    let gone = nodes.remove(&first).expect("there").stop().await;
    put(&nodes, "raced", "acknowledged").await;
    nodes.insert(first, Node::again(first, gone).await);
    comes(&nodes[&first].members, "raced", Some("acknowledged")).await;
    for node in nodes.values() {
        comes(&node.members, "lone", Some("unpushed")).await;
        comes(&node.members, "raced", Some("acknowledged")).await;
    }
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged_and_damage_is_healed_by_another() {
    let mut nodes = known_three().await;
    put(&nodes, "k", "good").await;
    let leading = leader(&nodes).await;
    for node in nodes.values() {
        comes(&node.members, "k", Some("good")).await;
    }
    let file = nodes[&leading].folder().join("keys/k.secret");
    let text = std::fs::read_to_string(&file).expect("there").replace("good", "evil");
    std::fs::write(&file, text).expect("written");
    let members = &nodes[&leading].members;
    assert!(matches!(members.keystore().get("k"), Err(KeystoreError::Damaged(_))));
    assert!(members.compare().await, "all answered");
    assert_eq!(kept(members, "k").as_deref(), Some("good"));

    let others: Vec<u64> = nodes.keys().copied().filter(|id| *id != leading).collect();
    for id in others {
        nodes.remove(&id).expect("there").stop().await;
    }
    let term = nodes[&leading].consensus.status().term;
    let alone = nodes[&leading].members.put_secret("k", secret("alone"), term);
    let refused = tokio::time::timeout(PATIENCE, alone).await.expect("a deadline");
    refused.expect_err("no majority");
    for node in nodes.into_values() {
        node.stop().await;
    }
}

/// Admits through the wire, as a joining coordinator does; returns the steps.
async fn admit(nodes: &BTreeMap<u64, Node>, joining: u64) -> Result<Vec<Admission>, ApiError> {
    let leading = ReplicaId(leader(nodes).await);
    let node = &nodes[&joining];
    let told = |status: tonic::Status| ApiError::from(&status);
    let mut api = node.members.peer_at(leading, &nodes[&leading.0].address.to_string())?;
    let request = warren_proto::pb::raft::v1::AdmitRequest {
        api_address: format!("api-{joining}:1"),
        raft_address: node.address.to_string(),
    };
    let mut stream = api.admit(request).await.map_err(told)?.into_inner();
    let mut steps = Vec::new();
    while let Some(step) = stream.message().await.map_err(told)? {
        steps.push(step.admission());
    }
    Ok(steps)
}

fn removal(replica: u64, force: bool) -> (Envelope, Vec<u8>, bool) {
    let command = Command::RemoveReplica(RemoveReplica { replica: ReplicaId(replica) });
    (envelope(command), Vec::new(), force)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_is_admitted_once_and_removed_through_any_other() {
    let mut nodes = known_three().await;
    put(&nodes, "k", "good").await;
    nodes.insert(4, Node::blank(4).await);
    let unknown = admit(&nodes, 4).await.expect_err("the state does not know it");
    assert_eq!(unknown.reason, reason::NOT_FOUND);
    let known: Vec<_> = handles(&nodes).into_iter().take(3).collect();
    know(&known, 4, &nodes[&4]).await;
    let all = [Admission::Learner, Admission::CaughtUp, Admission::Keystore, Admission::Voter];
    assert_eq!(admit(&nodes, 4).await.expect("admitted"), all);
    assert_eq!(kept(&nodes[&4].members, "k").as_deref(), Some("good"), "before it votes");
    assert_eq!(admit(&nodes, 4).await.expect("so before"), all, "every step is found done");

    // through one that does not lead, and the one that goes leads
    let leading = leader(&nodes).await;
    let asked = nodes.keys().copied().find(|id| *id != leading).expect("four of them");
    let (command, serial, force) = removal(leading, false);
    let removed = nodes[&asked].members.remove((command, serial), force).await;
    removed.expect("three of four stay");
    let gone = nodes.remove(&leading).expect("there");
    apply_anywhere(&handles(&nodes), &create_client("after")).await;
    let state = nodes[&asked].sees("after").await;
    assert!(state.was_removed(ReplicaId(leading)));
    let members = nodes[&leader(&nodes).await].consensus.status().members;
    assert_eq!(members.len(), 3);
    let back = envelope(Command::SetReplica(SetReplica {
        replica: ReplicaId(leading),
        api_address: "x:1".to_owned(),
        raft_address: "x:2".to_owned(),
    }));
    let back = nodes[&asked].consensus.propose(Envelope { request: fresh(), ..back }).await;
    back.expect("written").expect_err("its id never returns");
    gone.stop().await;
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_the_state_refuses_leaves_the_group_as_it_was() {
    let nodes = known_three().await;
    let revoke = RevokeCertificate {
        serial: vec![9],
        subject: "tester".to_owned(),
        expires: Timestamp(u64::MAX),
    };
    apply_anywhere(&handles(&nodes), &envelope(Command::RevokeCertificate(revoke))).await;
    let spent = create_client("acme");
    apply_anywhere(&handles(&nodes), &spent).await;
    let leading = leader(&nodes).await;
    let other = nodes.keys().copied().find(|id| *id != leading).expect("three of them");
    nodes[&other].sees("acme").await;
    let (asked, _, force) = removal(other, true);
    let reused = Envelope { request: spent.request, ..asked.clone() };
    let cases = [
        ((reused, vec![]), reason::REQUEST_REUSED),
        ((asked, vec![9]), reason::CERTIFICATE_REVOKED),
    ];
    for (command, expected) in cases {
        let refused = nodes[&other].members.remove(command, force).await;
        assert_eq!(refused.expect_err("refused").reason, expected);
        let members = nodes[&leader(&nodes).await].consensus.status().members;
        assert_eq!(members.iter().filter(|member| member.voter).count(), 3, "{expected}");
    }
    for node in nodes.into_values() {
        node.stop().await;
    }
}

fn fresh() -> RequestId {
    RequestId::new(uuid::Uuid::now_v7())
}

/// A leader's view of a group: who votes, and how long ago each was heard of.
fn status(voters: &[(u64, Option<u64>)]) -> Status {
    let member = |(id, ago): &(u64, Option<u64>)| Member {
        replica: ReplicaId(*id),
        address: String::new(),
        voter: true,
        matched: Some(1),
        contact: ago.map(Duration::from_secs),
    };
    Status {
        replica: ReplicaId(1),
        role: ReplicaRole::Leader,
        term: 1,
        leader: Some(ReplicaId(1)),
        last_log: Some(1),
        committed: Some(1),
        applied: Some(1),
        checkpoint: None,
        purged: None,
        members: voters.iter().map(member).collect(),
        since_quorum: None,
        failure: None,
    }
}

#[test]
fn what_may_be_removed_is_what_the_rest_can_do_without() {
    const NOW: Option<u64> = Some(0);
    const LONG_AGO: Option<u64> = Some(600);
    let cases = [
        (&[(1, None)][..], 1, false, Err("NO_QUORUM_LEFT")),
        (&[(1, None)], 1, true, Err("NO_QUORUM_LEFT")),
        (&[(1, None), (2, NOW)], 2, false, Err("BARE_QUORUM")),
        (&[(1, None), (2, NOW)], 2, true, Ok(())),
        (&[(1, None), (2, NOW)], 1, true, Ok(())),
        (&[(1, None), (2, LONG_AGO)], 1, true, Err("NO_QUORUM_LEFT")),
        (&[(1, None), (2, NOW), (3, NOW)], 3, false, Err("BARE_QUORUM")),
        (&[(1, None), (2, NOW), (3, NOW)], 3, true, Ok(())),
        (&[(1, None), (2, NOW), (3, LONG_AGO)], 3, false, Err("BARE_QUORUM")),
        (&[(1, None), (2, NOW), (3, LONG_AGO)], 2, true, Err("NO_QUORUM_LEFT")),
        (&[(1, None), (2, NOW), (3, NOW), (4, NOW)], 4, false, Ok(())),
        (&[(1, None), (2, NOW), (3, NOW), (4, LONG_AGO)], 4, false, Ok(())),
        (&[(1, None), (2, NOW), (3, NOW), (4, LONG_AGO)], 3, false, Err("BARE_QUORUM")),
        (&[(1, None), (2, NOW), (3, NOW), (4, NOW), (5, NOW)], 5, false, Ok(())),
        (&[(1, None), (2, NOW)], 9, false, Ok(())),
    ];
    for (voters, gone, force, expected) in cases {
        let decided = may_drop(&status(voters), ReplicaId(gone), force);
        let refused = decided.err().map(|error| error.reason.into_owned());
        assert_eq!(refused.as_deref(), expected.err(), "{gone} of {voters:?}, force {force}");
    }
}

#[test]
fn a_removal_that_is_passed_on_stays_what_it_was() {
    let (envelope, _, force) = removal(2, true);
    let asked = Removal { envelope, serial: vec![7], force };
    let wire = asked.to_wire().expect("it encodes");
    let back = Removal::from_wire(&wire).expect("it decodes");
    assert_eq!((back.envelope, back.serial, back.force), (asked.envelope, vec![7], true));
    let odd = warren_proto::pb::raft::v1::DropRequest { envelope: vec![9].into(), ..wire };
    assert!(Removal::from_wire(&odd).is_err());
}
