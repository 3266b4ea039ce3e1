//! A seeded folder is a replica like any other: it leads alone, writes, restarts and takes learners.

use std::collections::BTreeSet;

use warren_common::ReplicaId;
use warren_model::{
    Command,
    command::{BeginIncarnation, SetReplica},
};

use super::{apply, create_client, envelope, has_client, leads, open_single, options};
use crate::{
    raft::{Consensus, Options, Seed, SeedError, decode_state, encode_state, salvage, seed},
    store::Engine,
};

fn seeding(folder: &std::path::Path, replica: u64, state: warren_model::ClusterState) -> Seed {
    Seed {
        folder: folder.to_owned(),
        engine: Engine::default(),
        replica: ReplicaId(replica),
        address: "127.0.0.1:1".to_owned(),
        term: 9,
        index: 500,
        state,
    }
}

fn begin(incarnation: u32, replica: u64) -> warren_model::Envelope {
    let replica = SetReplica {
        replica: ReplicaId(replica),
        api_address: "127.0.0.1:1".to_owned(),
        raft_address: "127.0.0.1:2".to_owned(),
    };
    let reason = "restored".to_owned();
    let mut envelope =
        envelope(Command::BeginIncarnation(BeginIncarnation { incarnation, replica, reason }));
    envelope.principal = warren_model::Principal::Coordinator(ReplicaId(2));
    envelope
}

/// The state of a cluster with a client.
async fn made() -> warren_model::ClusterState {
    let folder = tempfile::tempdir().expect("a folder");
    let consensus = open_single(folder.path()).await;
    apply(&consensus, create_client("acme")).await;
    let state = consensus.linearizable().await.expect("it leads");
    consensus.shutdown().await;
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeded_replica_leads_alone_writes_and_starts_again() {
    let before = made().await;
    let state = decode_state(&encode_state(&before).expect("encoded")).expect("the same");
    assert_eq!(state, before);
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..3 {
        seed(&seeding(folder.path(), 2, state.clone())).expect("seeded, however often");
    }
    for round in 0..2 {
        let consensus = Consensus::open(options(2, folder.path())).await.expect("it opens");
        leads(&consensus).await;
        let found = consensus.linearizable().await.expect("it leads");
        assert!(has_client(&found, "acme"), "round {round}");
        assert!(consensus.status().term > 9, "a new term");
        let voters: Vec<_> = consensus.status().members.into_iter().map(|m| m.replica).collect();
        assert_eq!(voters, [ReplicaId(2)]);
        apply(&consensus, begin(77, 2)).await;
        apply(&consensus, create_client(&format!("new{round}"))).await;
        let found = consensus.local();
        assert_eq!(found.cluster.expect("one").incarnation, 77);
        assert!(found.recovery.is_some(), "it recovers");
        // seeding again does not touch a replica that has gone on
        consensus.shutdown().await;
        seed(&seeding(folder.path(), 2, state.clone())).expect("nothing to do");
    }
    let other = seed(&seeding(folder.path(), 3, state)).expect_err("another replica's");
    assert!(matches!(other, SeedError::Taken(_)), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_was_cut_off_is_finished_by_the_next() {
    let state = made().await;
    let folder = tempfile::tempdir().expect("a folder");
    // what a crash leaves: the checkpoint is there, the slots and their seal are not
    seed(&seeding(folder.path(), 2, state.clone())).expect("seeded");
    std::fs::remove_dir_all(folder.path().join("log")).expect("removed");
    std::fs::remove_file(folder.path().join("log-seal")).expect("removed");
    seed(&seeding(folder.path(), 2, state)).expect("finished");
    let consensus = Consensus::open(options(2, folder.path())).await.expect("it opens");
    leads(&consensus).await;
    assert!(has_client(&consensus.local(), "acme"));
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_s_whole_log_is_salvaged_with_its_audit_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let consensus = open_single(folder.path()).await;
    for count in 0..30 {
        apply(&consensus, create_client(&format!("c{count}"))).await;
    }
    let (state, status) = (consensus.local(), consensus.status());
    consensus.shutdown().await;
    // records that were not written before the end are written from the log
    for entry in std::fs::read_dir(folder.path().join("audit")).expect("there") {
        std::fs::remove_file(entry.expect("listed").path()).expect("removed");
    }
    let found = salvage(folder.path(), Engine::default()).expect("readable");
    assert_eq!(found.state, state);
    assert_eq!((found.replica, found.term), (Some(ReplicaId(1)), status.term));
    assert_eq!(Some(found.index), status.last_log);
    assert_eq!(found.replicas, BTreeSet::from([1]));
    let again = salvage(folder.path(), Engine::default()).expect("readable again");
    assert_eq!((again.state, again.index), (found.state, found.index));
    let records = crate::audit::read(&folder.path().join("audit"), 1, 1000).expect("readable");
    assert_eq!(records.len() as u64, state.audit.sequence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_seeded_and_salvaged_on_the_engine_it_was_made_for() {
    let engine = Engine::Redb;
    let folder = tempfile::tempdir().expect("a folder");
    seed(&Seed { engine, ..seeding(folder.path(), 2, made().await) }).expect("seeded");
    let options = Options { engine, ..options(2, folder.path()) };
    let consensus = Consensus::open(options).await.expect("it opens");
    leads(&consensus).await;
    apply(&consensus, create_client("globex")).await;
    consensus.shutdown().await;
    let found = salvage(folder.path(), engine).expect("readable");
    assert!(has_client(&found.state, "acme") && has_client(&found.state, "globex"));
    assert!(salvage(folder.path(), Engine::Sled).is_err(), "it is not sled's");
}
