//! Three replicas in one process, over real gRPC on loopback without TLS.

use std::time::Duration;

use tokio::net::TcpListener;
use warren_common::{ReplicaId, Revision};

use super::{
    PATIENCE, apply, apply_anywhere, create_client, has_client, init_cluster,
    node::{Node, handles, leader, three},
};
use crate::{
    raft::{LedError, ReadError, Status},
    watch::Gap,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_is_replaced_and_catches_up_when_it_is_back() {
    let mut nodes = three().await;
    apply_anywhere(&handles(&nodes), &init_cluster()).await;
    let first = leader(&nodes).await;
    apply_anywhere(&handles(&nodes), &create_client("before")).await;
    for node in nodes.values() {
        node.sees("before").await;
    }
    let follower = nodes.iter().find(|(id, _)| **id != first).map(|(_, node)| node);
    let follower = &follower.expect("two of them").consensus;
    let read = follower.linearizable_leading().await;
    assert!(matches!(read, Err(ReadError::NotLeader { leader: Some(_) })), "{read:?}");
    let read = follower.linearizable().await.expect("it asks the leader");
    assert!(has_client(&read, "before"));
    apply(follower, create_client("through")).await;
    assert!(has_client(&follower.local(), "through"), "it reads its own writes");
    assert!(follower.age().is_some_and(|age| age < PATIENCE), "{:?}", follower.age());

    let Status { term, last_log, .. } = nodes[&first].consensus.status();
    let stopped = nodes.remove(&first).expect("it is there").stop().await;
    apply_anywhere(&handles(&nodes), &create_client("after")).await;
    let second = leader(&nodes).await;
    assert_ne!(first, second);
    assert!(nodes[&second].consensus.status().term > term);

    // So much that the log it needs is gone: it comes back through a checkpoint.
    let mut written = String::new();
    let purging = async {
        for count in 0.. {
            written = format!("c{count}");
            apply_anywhere(&handles(&nodes), &create_client(&written)).await;
            if nodes.values().all(|node| node.consensus.status().purged > last_log) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, purging).await.expect("the log is purged in time");
    let (folder, address) = stopped;
    let listener = TcpListener::bind(address).await.expect("its port is free");
    nodes.insert(first, Node::start(first, folder, listener).await);
    let state = nodes[&first].sees(&written).await;
    assert_eq!(state, nodes[&second].sees(&written).await);
    // It has no events of what the checkpoint holds, and says so to whoever watched before.
    let events = nodes[&first].consensus.events();
    let start = events.oldest().revision;
    assert!(matches!(events.seek(0, Revision(3)), Err(Gap::TooOld { .. })), "{start}");
    let told = events.read(&events.oldest()).expect("kept").records;
    assert!(told.iter().all(|one| one.event.revision > start));

    let whole = nodes.remove(&second).expect("it is there").stop().await;
    let verified = super::whole_audit(&whole.0.path().join("audit"));
    assert_eq!((verified.head, verified.gaps), (state.audit, vec![]));
    apply_anywhere(&handles(&nodes), &create_client("last")).await;
    let state = nodes[&first].sees("last").await;
    let back = nodes.remove(&first).expect("it is there").stop().await;
    let verified = super::whole_audit(&back.0.path().join("audit"));
    assert_eq!(verified.head, state.audit);
    assert_eq!(verified.gaps.len(), 1, "the records it never had are a stated gap");
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_and_a_lone_replica_serves_nothing() {
    let mut nodes = three().await;
    apply_anywhere(&handles(&nodes), &init_cluster()).await;
    let old = leader(&nodes).await;
    let to = if old == 1 { 2 } else { 1 };
    nodes[&old].consensus.transfer_to(ReplicaId(to)).await.expect("it takes over");
    nodes[&to].until("the new one leads", |known| known.leading).await;
    nodes[&old].until("the old one knows", |known| known.leader == Some(ReplicaId(to))).await;
    apply_anywhere(&handles(&nodes), &create_client("acme")).await;

    let others: Vec<u64> = nodes.keys().copied().filter(|id| *id != to).collect();
    for id in others {
        nodes.remove(&id).expect("it is there").stop().await;
    }
    let alone = &nodes[&to].consensus;
    let read = tokio::time::timeout(PATIENCE, alone.linearizable()).await.expect("a deadline");
    assert!(read.is_err(), "no majority, no read");
    let write = alone.propose(create_client("alone"));
    let write = tokio::time::timeout(Duration::from_secs(20), write).await.expect("a deadline");
    assert!(write.is_err(), "no majority, no write");
    assert!(!has_client(&alone.local(), "alone"));
    assert!(has_client(&alone.local(), "acme"), "what was applied can be read as old");
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_made_of_a_leaders_state_is_written_in_its_term_or_not_at_all() {
    let nodes = three().await;
    apply_anywhere(&handles(&nodes), &init_cluster()).await;
    let old = leader(&nodes).await;
    let (first, second) = (&nodes[&old].consensus, if old == 1 { 2 } else { 1 });
    let follower = &nodes[&second].consensus;
    assert!(follower.led().is_none(), "it does not lead");
    let led = first.led().expect("it leads");
    let written = first.propose_led(&led, create_client("acme"), &[]).await.expect("a majority");
    written.expect("the state allows it");
    assert!(has_client(first.led().expect("it leads").state(), "acme"), "it is there at once");

    // Away and back again: the same replica leads, in another term.
    first.transfer_to(ReplicaId(second)).await.expect("it takes over");
    nodes[&second].until("it leads", |known| known.leading).await;
    nodes[&old].until("it knows", |known| known.leader == Some(ReplicaId(second))).await;
    let late = first.propose_led(&led, create_client("late"), &[]).await;
    assert_eq!(late, Err(LedError::Over), "deposed");
    follower.transfer_to(ReplicaId(old)).await.expect("it takes over");
    nodes[&old].until("it leads again", |known| known.leading).await;
    let late = first.propose_led(&led, create_client("late"), &[]).await;
    assert_eq!(late, Err(LedError::Over), "what it read may have changed since");
    let led = first.led().expect("it leads");
    assert!(!has_client(led.state(), "late"));
    let written = first.propose_led(&led, create_client("new"), &[]).await.expect("a majority");
    written.expect("the state allows it");
    for node in nodes.into_values() {
        node.stop().await;
    }
}
