//! Audit records over crashes and changes: a torn end heals, a changed record refuses the start.

use std::{fs, path::PathBuf};

use super::{apply, create_client, open_single, options};
use crate::{
    audit::{self, AuditError},
    raft::{Consensus, OpenError},
};

async fn written(folder: &std::path::Path) -> PathBuf {
    let consensus = open_single(folder).await;
    for count in 0..5 {
        apply(&consensus, create_client(&format!("c{count}"))).await;
    }
    consensus.shutdown().await;
    folder.join("audit/audit-00000000000000000001.jsonl")
}

/// Waits until the whole log is applied again, and stops.
async fn applied(consensus: &Consensus) {
    super::leads(consensus).await;
    consensus.linearizable().await.expect("it leads");
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_or_lost_end_is_written_again_from_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path()).await;
    let whole = fs::read(&file).expect("there");
    let line_ends: Vec<_> = whole
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    assert_eq!(line_ends.len(), 1 + 6, "a header, the cluster, five clients");
    for cut in [whole.len() - 1, whole.len() - 20, line_ends[4], line_ends[2] + 3, line_ends[0]] {
        fs::write(&file, &whole[..cut]).expect("written");
        applied(&open_single(folder.path()).await).await;
        assert_eq!(fs::read(&file).expect("there"), whole, "cut to {cut} bytes");
    }
    // As a file system may leave it after a power cut: longer, but not written.
    let zeros = [&whole[..line_ends[5]], &[0; 64]].concat();
    fs::write(&file, zeros).expect("written");
    applied(&open_single(folder.path()).await).await;
    assert_eq!(fs::read(&file).expect("there"), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_record_refuses_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path()).await;
    let whole = fs::read_to_string(&file).expect("there");
    fs::write(&file, whole.replacen("tester", "nobody", 1)).expect("written");
    let error = Consensus::open(options(1, folder.path())).await.err().expect("refused");
    assert!(matches!(error, OpenError::Audit(AuditError::Broken { .. })), "{error:?}");
    let found = audit::verify(&folder.path().join("audit"), None).expect("read");
    let broken = found.broken.expect("found");
    assert_eq!((broken.sequence, broken.line, found.records), (1, 2, 0));
    fs::write(&file, &whole).expect("written");
    open_single(folder.path()).await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_anywhere_is_refused_or_written_again_from_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path()).await;
    let whole = fs::read(&file).expect("there");
    let records = folder.path().join("audit");
    let before = audit::read(&records, 1, 100).expect("read");
    let (mut refused, mut mended) = (0, 0);
    for step in 0..16 {
        let at = whole.len() * step / 16;
        let mut changed = whole.clone();
        changed[at] ^= 1 << (step % 7);
        fs::write(&file, &changed).expect("written");
        match Consensus::open(options(1, folder.path())).await {
            Ok(consensus) => {
                applied(&consensus).await;
                // The same record: a hex digit may have become a capital one.
                let kept = audit::read(&records, 1, 100).expect("read");
                assert_eq!(kept, before, "byte {at} was kept changed");
                mended += 1;
            }
            Err(OpenError::Audit(_)) => {
                assert_eq!(fs::read(&file).expect("there"), changed, "byte {at}: it was touched");
                refused += 1;
            }
            Err(error) => panic!("byte {at}: {error}"),
        }
        fs::write(&file, &whole).expect("written");
    }
    assert!(refused > 0 && mended > 0, "{refused} refused, {mended} written again");
    open_single(folder.path()).await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_another_cluster_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = tempfile::tempdir().expect("a folder");
    let file = written(folder.path()).await;
    let foreign = written(other.path()).await;
    fs::copy(foreign, &file).expect("copied");
    // It opens or not, but it must never go on as if nothing were.
    match Consensus::open(options(1, folder.path())).await {
        Err(error) => assert!(error_says(&error, "another"), "{error:?}"),
        Ok(consensus) => {
            let mut failure = consensus.failure();
            let failed = failure.wait_for(|lost| lost.is_some());
            let failed = tokio::time::timeout(super::PATIENCE, failed).await;
            let reason = failed.expect("in time").expect("it tells").clone();
            assert!(reason.is_some_and(|lost| lost.reason.contains("another cluster")));
            consensus.shutdown().await;
        }
    }
}

fn error_says(error: &OpenError, text: &str) -> bool {
    error.to_string().contains(text)
        || std::error::Error::source(error).is_some_and(|source| source.to_string().contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_record_is_looked_for_whoever_else_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let consensus = open_single(folder.path()).await;
    apply(&consensus, create_client("c1")).await;
    let head = consensus.local().audit;
    let readers = u32::try_from(warren_common::Limits::AUDIT_READERS).expect("few");
    let turns = consensus.inner.audit_turns.clone().acquire_many_owned(readers).await;
    assert_eq!(consensus.newest_audit(head).await.expect("it has a turn of its own"), None);
    drop(turns);
    let look = consensus.inner.audit_look.clone().acquire_owned().await;
    let busy = consensus.newest_audit(head).await.expect_err("it does not wait");
    assert!(matches!(busy, AuditError::Busy), "{busy}");
    drop(look);
    fs::remove_file(folder.path().join("audit/audit-00000000000000000001.jsonl")).expect("gone");
    let told = consensus.newest_audit(head).await.expect("read").expect("it is missed");
    assert!(told.contains("not on disk"), "{told}");
    consensus.shutdown().await;
}
