//! Checkpoints: made on the way, two kept, and a way back when the newest is damaged.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::join_all;
use openraft::{
    entry::RaftEntry as _,
    impls::leader_id_adv::LeaderId,
    storage::{RaftLogStorage as _, RaftLogStorageExt as _},
};
use warren_model::ClusterState;

use super::{apply, create_client, has_client, open_single_with, options};
use crate::{
    raft::{
        Consensus, OpenError, Options, Tuning,
        checkpoint::{Checkpoints, VERSION},
        log::Log,
        types::{Entry, LogId, SnapshotMeta},
    },
    store::{self, Engine, Flusher, LogStore, fake::FakeStore, files},
};

fn every_ten(folder: &Path) -> Options {
    let tuning = Tuning { checkpoint_every: 10, ..Tuning::default() };
    Options { tuning, ..options(1, folder) }
}

fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("checkpoints")).expect("there");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    files.sort();
    files
}

fn damage(path: &Path) {
    let mut content = fs::read(path).expect("there");
    let middle = content.len() / 2;
    content[middle] ^= 0x40;
    fs::write(path, content).expect("written");
}

/// Waits until two checkpoints are there and neither one nor a purge is due: they happen beside the
/// proposals, and stopping waits for none.
async fn settled(consensus: &Consensus, folder: &Path) {
    let waiting = async {
        loop {
            let status = consensus.status();
            let due =
                status.last_log.zip(status.checkpoint).is_none_or(|(last, at)| last - at >= 10);
            // twenty are kept, and ten go together
            let kept = |(at, purged)| at < purged + 30;
            let purged = status.checkpoint.zip(status.purged).is_some_and(kept);
            if checkpoints(folder).len() == 2 && purged && !due && status.applied == status.last_log
            {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, waiting).await.expect("two checkpoints and a purge");
}

async fn filled(folder: &Path) {
    let consensus = open_single_with(every_ten(folder)).await;
    for count in 0..65 {
        apply(&consensus, create_client(&format!("c{count}"))).await;
    }
    settled(&consensus, folder).await;
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_newest_costs_a_longer_replay_and_two_damaged_ones_refuse() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let files = checkpoints(folder.path());
    assert_eq!(files.len(), 2, "two are kept: {files:?}");
    damage(&files[1]);
    let consensus = open_single_with(every_ten(folder.path())).await;
    let state = consensus.linearizable().await.expect("it leads");
    assert!((0..65).all(|count| has_client(&state, &format!("c{count}"))));
    let records = consensus.audit(1, 1000).await.expect("readable");
    assert_eq!(records.len() as u64, state.audit.sequence, "none lost, none twice");
    settled(&consensus, folder.path()).await;
    consensus.shutdown().await;

    for file in checkpoints(folder.path()) {
        damage(&file);
    }
    let before = checkpoints(folder.path());
    for _ in 0..2 {
        let error = Consensus::open(every_ten(folder.path())).await.err().expect("refused");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        let said = error.to_string();
        for part in ["no checkpoint reaches the log", "checksum", "warren cluster replace 1"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(checkpoints(folder.path()), before, "a refused start leaves all as it was");
    }
}

/// Returns up to which entry each checkpoint goes, the older one first.
fn reaches(folder: &Path) -> Vec<u64> {
    let of = |file: &PathBuf| {
        let loaded = Checkpoints::decode(&Bytes::from(fs::read(file).expect("read")));
        loaded.expect("whole").meta.last_log_id.expect("not empty").index
    };
    checkpoints(folder).iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_reaches_back_to_the_older_checkpoint_however_much_came_in_between() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let consensus = open_single_with(every_ten(folder.path())).await;
    let far = |reaches: &[u64]| reaches[1] - reaches[0] > 20;
    let mut clients = 65;
    // written and applied together: most often far more than openraft keeps between two checkpoints
    while !far(&reaches(folder.path())) {
        assert!(clients < 2000, "openraft alone keeps enough each time");
        let burst = (0..100).map(|count| create_client(&format!("b{clients}-{count}")));
        join_all(burst.map(|client| apply(&consensus, client))).await;
        clients += 100;
        settled(&consensus, folder.path()).await;
    }
    consensus.shutdown().await;
    let store = store::open(folder.path(), Engine::default()).expect("it opens");
    let (first, _) = store.bounds().expect("readable").expect("not empty");
    store.close().expect("closed");
    let reaches = reaches(folder.path());
    assert_eq!(first, reaches[0] + 1, "all before the older one is gone, and nothing after it");
    damage(&checkpoints(folder.path())[1]);
    let consensus = open_single_with(every_ten(folder.path())).await;
    let state = consensus.linearizable().await.expect("it leads");
    assert_eq!(state.clients.len(), clients);
    consensus.shutdown().await;
}

#[tokio::test]
async fn what_openraft_lets_go_stays_as_far_as_the_older_checkpoint_needs_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn LogStore> = Arc::new(FakeStore::default());
    let flusher = Flusher::start(store.clone()).expect("a thread");
    let (checkpoints, _) = Checkpoints::open(folder.path(), None).expect("an empty folder");
    let log = Log::open(store, flusher).expect("an empty log");
    let mut log = log.reach_back_to(checkpoints.reach());
    let id = |index| LogId::new(LeaderId { term: 1, node_id: 1 }, index);
    let write = |index| {
        let meta = SnapshotMeta { last_log_id: Some(id(index)), ..SnapshotMeta::default() };
        let content = Checkpoints::encode(&meta, &ClusterState::default()).expect("small");
        checkpoints.write(&meta, &content).expect("written");
    };
    let entries = (0..60).map(|index| Entry::new_blank(id(index)));
    log.blocking_append(entries).await.expect("appended");

    // openraft lets go up to an entry; that much is gone then
    let mut purge = async |upto| {
        log.purge(id(upto)).await.expect("purged");
        log.purged().expect("readable").map(|id| id.index)
    };
    write(18);
    assert_eq!(purge(8).await, None, "with one checkpoint the whole log is the way back");
    write(58);
    assert_eq!(purge(38).await, Some(18), "the older one ends there");
    assert_eq!(purge(39).await, Some(18));
    write(59);
    assert_eq!(purge(39).await, Some(39), "the older one needs less than openraft keeps");
    write(100);
    assert_eq!(purge(100).await, Some(100), "an installed one replaces the log");
    let (again, _) = Checkpoints::open(folder.path(), Some(id(40))).expect("it reads");
    assert_eq!(again.reach().first(), 60, "as before the restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_newer_version_refuses_the_start_and_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let newest = checkpoints(folder.path()).pop().expect("two");
    let content = Bytes::from(fs::read(&newest).expect("read"));
    let (version, payload) = files::unframe(&content, VERSION).expect("of today");
    assert_eq!(version, VERSION);
    fs::write(&newest, files::frame(VERSION + 1, &payload)).expect("written");
    let error = Consensus::open(every_ten(folder.path())).await.err().expect("refused");
    assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
    let said = error.to_string();
    let format = format!("format {}", VERSION + 1);
    assert!(said.contains(&format) && said.contains("start that version again"), "{said}");
    assert!(newest.exists(), "it is not set aside");
    fs::write(&newest, &content).expect("written");
    open_single_with(every_ten(folder.path())).await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_checkpoint_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let torn = folder.path().join("checkpoints/checkpoint-00000000000000009999.bin.tmp");
    fs::write(&torn, b"half").expect("written");
    let consensus = open_single_with(every_ten(folder.path())).await;
    assert!(!torn.exists());
    consensus.shutdown().await;
}
