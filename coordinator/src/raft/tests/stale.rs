//! What a replica says of the age of its own state, with a majority and without one.

use std::time::{Duration, Instant};

use warren_common::Revision;

use super::{
    PATIENCE, apply, apply_anywhere, create_client, has_client, init_cluster,
    node::{Node, handles, leader, three},
    open_single,
};
use crate::raft::{Consensus, ReadError, Tuning};

/// More than heartbeats take, on a busy machine.
const FRESH: Duration = Duration::from_secs(2);

async fn until(what: &str, ready: impl Fn() -> bool) {
    let waiting = async {
        while !ready() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn fresh(consensus: &Consensus) -> bool {
    consensus.age().is_some_and(|age| age < FRESH)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_at_another_replica_by_its_revision() {
    let nodes = three().await;
    apply_anywhere(&handles(&nodes), &init_cluster()).await;
    let leading = leader(&nodes).await;
    let leader = &nodes[&leading].consensus;
    let others = || nodes.iter().filter(|(id, _)| **id != leading).map(|(_, node)| node);
    for round in 0..20 {
        let name = format!("c{round}");
        let applied = apply(leader, create_client(&name)).await;
        for Node { consensus, .. } in others() {
            consensus.reaches(applied.revision).await.expect("it comes that far");
            assert!(has_client(&consensus.local(), &name), "{name} is missing");
        }
    }
    let known = leader.local().revision;
    let wanted = Revision(known.0 + 1);
    let Node { consensus: follower, .. } = others().next().expect("two of them");
    let behind = follower.reaches(wanted).await;
    assert_eq!(behind, Err(ReadError::Behind { revision: known, wanted }));
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_a_replica_tells_how_long_it_has_known_nothing_new() {
    for survivor_led in [true, false] {
        let mut nodes = three().await;
        apply_anywhere(&handles(&nodes), &init_cluster()).await;
        apply_anywhere(&handles(&nodes), &create_client("acme")).await;
        for node in nodes.values() {
            node.sees("acme").await;
            until("its state is of now", || fresh(&node.consensus)).await;
            assert_eq!(node.consensus.without_quorum(), None, "somebody leads");
        }
        let leading = leader(&nodes).await;
        let kept = nodes.keys().copied().find(|id| (*id == leading) == survivor_led);
        let kept = nodes.remove(&kept.expect("one of three")).expect("it is there");
        let lost = Instant::now();
        for node in nodes.into_values() {
            node.stop().await;
        }
        let gone = Instant::now();
        let age = || kept.consensus.age().expect("it has heard a leader, or led");
        until("it grows", || age() > FRESH).await;
        until("it grows on", || age() > FRESH + Duration::from_millis(500)).await;
        let (told, since) = (age(), lost.elapsed());
        assert!(told <= since + FRESH, "{told:?} of {since:?}");
        let (silent, on_its_way) = (gone.elapsed(), Tuning::default().rpc_timeout);
        assert!(age() + on_its_way >= silent, "{:?} of {silent:?}", age());
        let alone = kept.consensus.without_quorum();
        assert!(alone.is_some_and(|alone| alone > FRESH), "{alone:?}: nobody leads");
        assert!(kept.consensus.linearizable().await.is_err(), "no majority, no such read");
        assert!(has_client(&kept.consensus.local(), "acme"), "what was applied can be read");
        // started anew it has heard of nobody, so it cannot say
        let id = kept.consensus.status().replica.0;
        let again = Node::again(id, kept.stop().await).await;
        assert_eq!(again.consensus.age(), None);
        again.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_voter_is_always_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let consensus = open_single(folder.path()).await;
    until("it holds everything", || fresh(&consensus)).await;
    consensus.shutdown().await;
}
