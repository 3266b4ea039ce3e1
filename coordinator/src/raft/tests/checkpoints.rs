//! Checkpoints: made on the way, two kept, and a way back when the newest is damaged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{apply, create_client, has_client, open_single_with, options};
use crate::{
    raft::{Consensus, OpenError, Options, Tuning},
    store::files,
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

/// Waits until two checkpoints are there and none is due: they are written beside the proposals,
/// and stopping waits for none.
async fn settled(consensus: &Consensus, folder: &Path) {
    let waiting = async {
        loop {
            let status = consensus.status();
            let due =
                status.last_log.zip(status.checkpoint).is_none_or(|(last, at)| last - at >= 10);
            let written = checkpoints(folder).len() >= 2 && status.purged.is_some();
            if written && !due && status.applied == status.last_log {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_newer_version_refuses_the_start_and_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let newest = checkpoints(folder.path()).pop().expect("two");
    let content = Bytes::from(fs::read(&newest).expect("read"));
    let (version, payload) = files::unframe(&content, 2).expect("of today");
    assert_eq!(version, 2);
    fs::write(&newest, files::frame(3, &payload)).expect("written");
    let error = Consensus::open(every_ten(folder.path())).await.err().expect("refused");
    assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("format 3") && said.contains("start that version again"), "{said}");
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
