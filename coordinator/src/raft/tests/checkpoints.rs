//! Checkpoints: made on the way, two kept, and a way back when the newest is damaged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{apply, create_client, has_client, open_single_with, options};
use crate::raft::{Consensus, OpenError, Options, Tuning};

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

async fn filled(folder: &Path) {
    let consensus = open_single_with(every_ten(folder)).await;
    for count in 0..65 {
        apply(&consensus, create_client(&format!("c{count}"))).await;
    }
    // The last ones are written beside the proposals; stopping waits for none, so look for two.
    let written = async {
        while checkpoints(folder).len() < 2 || consensus.status().purged.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, written).await.expect("two checkpoints and a purge");
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
    consensus.shutdown().await;

    for file in checkpoints(folder.path()) {
        damage(&file);
    }
    let error = Consensus::open(every_ten(folder.path())).await.err().expect("refused");
    let OpenError::Checkpoint { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("no checkpoint reaches the log"), "{reason}");
    let again = Consensus::open(every_ten(folder.path())).await.err().expect("still refused");
    assert!(matches!(again, OpenError::Checkpoint { .. }), "{again}");
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
