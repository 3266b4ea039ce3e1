//! One replica: what it acknowledges is there after a restart, and it never acknowledges more.

use std::{sync::Arc, time::Duration};

use warren_common::{Limits, ReplicaId};
use warren_model::Outcome;

use super::{
    PATIENCE, apply, create_client, envelope, has_client, init_cluster, leads, open_single, options,
};
use crate::{
    raft::{Consensus, InitialiseError, OpenError, ProposeError, ReadError, ReplicaRole, Tuning},
    store::{StoreError, fake::FakeStore},
    watch::Gap,
};

#[tokio::test(flavor = "multi_thread")]
async fn state_and_audit_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let consensus = open_single(folder.path()).await;
    let mut changes = consensus.changes();
    let applied = apply(&consensus, create_client("acme")).await;
    assert!(matches!(applied.outcome, Outcome::Client(_)));
    let seen = changes.wait_for(|revision| *revision >= applied.revision);
    tokio::time::timeout(PATIENCE, seen).await.expect("in time").expect("it runs");
    let refused = consensus.propose(create_client("acme")).await.expect("it answers");
    assert!(refused.is_err(), "the name is taken");
    let before = consensus.linearizable().await.expect("it leads");
    assert!(has_client(&before, "acme"));
    let records = consensus.audit(1, 100).await.expect("readable");
    assert_eq!(records.len() as u64, before.audit.sequence);
    let again = consensus.initialise([(ReplicaId(1), String::new())].into()).await;
    assert_eq!(again, Err(InitialiseError::Already));
    consensus.shutdown().await;
    consensus.shutdown().await;
    assert!(matches!(consensus.linearizable().await, Err(ReadError::Stopped { .. })));

    let consensus = open_single(folder.path()).await;
    assert_eq!(consensus.linearizable().await.expect("it leads"), before);
    assert_eq!(consensus.audit(1, 100).await.expect("readable"), records);
    let verified = super::whole_audit(&folder.path().join("audit"));
    assert_eq!((verified.head, verified.gaps), (before.audit, vec![]));
    let status = consensus.status();
    assert_eq!((status.role, status.leader), (ReplicaRole::Leader, Some(ReplicaId(1))));
    assert_eq!(status.members.len(), 1);
    assert_eq!(status.applied, status.last_log);
    apply(&consensus, create_client("globex")).await;
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_alone_has_its_majority_however_long_nothing_happens() {
    let folder = tempfile::tempdir().expect("a folder");
    let tuning = Tuning::default();
    let consensus = open_single(folder.path()).await;
    apply(&consensus, create_client("acme")).await;
    tokio::time::sleep(tuning.election_max + Duration::from_millis(300)).await;
    assert_eq!(consensus.without_quorum(), None);
    let status = consensus.status();
    assert_eq!((status.leader, status.since_quorum), (Some(ReplicaId(1)), Some(Duration::ZERO)));
    consensus.shutdown().await;
}

/// Where the events that a replica keeps stand: revision and place in it.
fn kept(consensus: &Consensus) -> Vec<(u64, u32)> {
    let ring = consensus.events();
    let batch = ring.read(&ring.oldest()).expect("it is what is kept");
    batch.records.iter().map(|one| (one.event.revision.0, one.index)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_there_before_their_state_and_again_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let consensus = open_single(folder.path()).await;
    for count in 0..5 {
        let applied = apply(&consensus, create_client(&format!("c{count}"))).await;
        let read = consensus.linearizable().await.expect("it leads").revision;
        assert_eq!((read, consensus.events().newest().revision), (applied.revision, read));
    }
    let before = kept(&consensus);
    assert_eq!(before, (1..=6).map(|revision| (revision, 0)).collect::<Vec<_>>());
    assert_eq!(consensus.events().newest().incarnation, 7);
    consensus.shutdown().await;

    // no checkpoint yet: the whole log is replayed, and every event is told again
    let consensus = open_single(folder.path()).await;
    consensus.linearizable().await.expect("it leads");
    assert_eq!(kept(&consensus), before);
    consensus.checkpoint().await.expect("it runs");
    let written = async {
        while consensus.status().checkpoint.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("a checkpoint in time");
    apply(&consensus, create_client("after")).await;
    assert_eq!(kept(&consensus).len(), 7, "a checkpoint takes nothing from those who watch");
    consensus.shutdown().await;

    // now what is before the checkpoint is not replayed
    let consensus = open_single(folder.path()).await;
    consensus.linearizable().await.expect("it leads");
    assert_eq!(kept(&consensus), [(7, 0)]);
    let early = consensus.events().seek(7, warren_common::Revision(5));
    assert!(matches!(early, Err(Gap::TooOld { .. })), "{early:?}");
    assert!(consensus.events().seek(7, warren_common::Revision(6)).is_ok());
    consensus.shutdown().await;
}

/// The only replica of a cluster, leading, on a store that can be told to fail.
async fn on_a_fake() -> (tempfile::TempDir, Arc<FakeStore>, Consensus) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(FakeStore::default());
    let opened = Consensus::open_on(options(1, folder.path()), store.clone()).await;
    let consensus = opened.expect("it opens");
    consensus.initialise([(ReplicaId(1), String::new())].into()).await.expect("fresh");
    leads(&consensus).await;
    (folder, store, consensus)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_flush_is_never_acknowledged() {
    let (_folder, store, consensus) = on_a_fake().await;
    apply(&consensus, init_cluster()).await;
    let mut failure = consensus.failure();
    assert!(failure.borrow().is_none());

    store.fail_next_sync("no space left on device");
    let lost = consensus.propose(create_client("lost")).await;
    match lost {
        Err(ProposeError::Stopped { reason }) => assert!(reason.contains("no space"), "{reason}"),
        other => panic!("acknowledged or wrong: {other:?}"),
    }
    assert!(!has_client(&consensus.local(), "lost"), "applied without being durable");
    let failed = tokio::time::timeout(PATIENCE, failure.wait_for(|lost| lost.is_some())).await;
    assert!(failed.expect("in time").is_ok());
    let later = consensus.propose(create_client("later")).await;
    assert!(matches!(later, Err(ProposeError::Stopped { .. })), "{later:?}");
    assert!(consensus.linearizable().await.is_err());
    let mut leadership = consensus.leadership();
    let deposed = leadership.wait_for(|known| !known.leading);
    tokio::time::timeout(PATIENCE, deposed).await.expect("in time").expect("it tells");
    assert!(consensus.status().failure.expect("it says why").contains("no space"));
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_inside_consensus_is_told_as_a_failure() {
    let (_folder, store, consensus) = on_a_fake().await;
    let mut failure = consensus.failure();
    store.panic_at_next_append();
    let lost = consensus.propose(init_cluster()).await;
    assert!(matches!(lost, Err(ProposeError::Stopped { .. })), "{lost:?}");
    let failed = tokio::time::timeout(PATIENCE, failure.wait_for(|lost| lost.is_some())).await;
    assert!(failed.expect("in time").is_ok());
    let said = consensus.status().failure.expect("it says why");
    assert!(said.contains("panicked"), "{said}");
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_an_answer_in_time_is_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(FakeStore::default());
    let mut options = options(1, folder.path());
    options.tuning = Tuning { write_timeout: Duration::from_millis(200), ..Tuning::default() };
    let consensus = Consensus::open_on(options, store.clone()).await.expect("it opens");
    consensus.initialise([(ReplicaId(1), String::new())].into()).await.expect("fresh");
    leads(&consensus).await;
    apply(&consensus, init_cluster()).await;

    let slow = create_client("slow");
    let gate = store.hold_sync();
    assert_eq!(consensus.propose(slow.clone()).await, Err(ProposeError::Unknown));
    assert!(!has_client(&consensus.local(), "slow"));
    drop(gate);
    // The same request finds what the first one did.
    let answer = consensus.propose(slow).await.expect("the disk is back").expect("allowed");
    assert!(answer.repeated, "the first one took effect once the disk was back");
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_at_the_limit_goes_through_and_one_past_it_never_reaches_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let consensus = open_single(folder.path()).await;
    let sized = |bytes: usize| {
        let revoke = warren_model::command::RevokeCertificate {
            serial: vec![1],
            subject: "x".repeat(bytes),
            expires: warren_common::Timestamp(0),
        };
        envelope(warren_model::Command::RevokeCertificate(revoke))
    };
    let encoded = |bytes| postcard::to_stdvec(&sized(bytes)).expect("encodes").len();
    let fits = Limits::COMMAND_BYTES - (encoded(Limits::COMMAND_BYTES) - Limits::COMMAND_BYTES);
    assert_eq!(encoded(fits), Limits::COMMAND_BYTES);
    // The model may refuse it; the log takes it.
    let _answer = consensus.propose(sized(fits)).await.expect("it is logged");
    let last = consensus.status().last_log;
    let error = consensus.propose(sized(fits + 1)).await.expect_err("one byte too long");
    let limit = Limits::COMMAND_BYTES;
    assert_eq!(error, ProposeError::TooLarge { bytes: limit + 1, limit });
    assert_eq!(consensus.status().last_log, last);
    consensus.shutdown().await;
    let consensus = open_single(folder.path()).await;
    assert!(consensus.status().last_log > last, "the long entry was read back");
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_or_of_another_replica_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let consensus = open_single(folder.path()).await;
    let second = Consensus::open(options(1, folder.path())).await;
    assert!(
        matches!(second, Err(OpenError::Store(StoreError::InUse { .. }))),
        "{:?}",
        second.err()
    );
    consensus.shutdown().await;
    let other = Consensus::open(options(2, folder.path())).await;
    assert!(
        matches!(other, Err(OpenError::Store(StoreError::Foreign { .. }))),
        "{:?}",
        other.err()
    );
    open_single(folder.path()).await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reads_share_a_round() {
    let folder = tempfile::tempdir().expect("a folder");
    let consensus = open_single(folder.path()).await;
    let applied = apply(&consensus, create_client("acme")).await;
    let readers = (0..200).map(|_| {
        let consensus = consensus.clone();
        tokio::spawn(async move { consensus.linearizable().await })
    });
    for reader in readers.collect::<Vec<_>>() {
        let state = reader.await.expect("no panic").expect("it leads");
        assert!(state.revision >= applied.revision);
    }
    consensus.shutdown().await;
}
