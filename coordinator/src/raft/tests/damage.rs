//! What a coordinator does with damaged files: it does not start under its old id, says which file
//! and what to do, and leaves the folder to whoever wants to look.

use std::{fs, path::Path};

use bytes::Bytes;

use super::{apply, create_client, open_single_with, options};
use crate::{
    raft::{
        Consensus, OpenError, Options,
        types::{Vote, encode},
    },
    store::{self, Engine, Slot},
};

fn on(engine: Engine, folder: &Path) -> Options {
    Options { engine, ..options(1, folder) }
}

async fn written(engine: Engine, folder: &Path) {
    let consensus = open_single_with(on(engine, folder)).await;
    for count in 0..20 {
        apply(&consensus, create_client(&format!("c{count}"))).await;
    }
    consensus.shutdown().await;
}

/// Opens a damaged replica twice: refused both times, in the same words.
async fn refused(engine: Engine, folder: &Path) -> String {
    let mut said = Vec::new();
    for _ in 0..2 {
        let error = Consensus::open(on(engine, folder)).await.err().expect("refused");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        said.push(error.to_string());
    }
    assert_eq!(said[0], said[1]);
    for part in ["does not start under its old id", "warren cluster replace 1", "restore a backup"]
    {
        assert!(said[0].contains(part), "{}", said[0]);
    }
    assert!(said[0].contains(&folder.display().to_string()), "{}", said[0]);
    said.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_opened_refuses_the_start() {
    for (engine, file) in [(Engine::Sled, "log/db"), (Engine::Redb, "log/log.redb")] {
        let folder = tempfile::tempdir().expect("a folder");
        written(engine, folder.path()).await;
        let path = folder.path().join(file);
        let content = fs::read(&path).expect("read");
        fs::write(&path, &content[..content.len() / 3]).expect("cut");
        // Each engine has its own words for it, and redb mends a shortened file into an older one.
        let first = Consensus::open(on(engine, folder.path())).await.err().expect("refused");
        assert!(matches!(first, OpenError::Damaged { .. }), "{engine}: {first:?}");
        assert!(refused(engine, folder.path()).await.contains("/log"));
        assert!(path.exists());
        fs::write(&path, &content).expect("written");
        fs::remove_file(&path).expect("removed");
        assert!(refused(engine, folder.path()).await.contains(file));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_and_votes_that_are_not_what_was_written_refuse_the_start() {
    let other = |folder: &Path, engine, change: &dyn Fn(&dyn store::LogStore)| {
        let store = store::open(folder, engine).expect("it opens");
        change(store.as_ref());
        store.sync().expect("synced");
        store.close().expect("closed");
    };
    for engine in Engine::ALL {
        let folder = tempfile::tempdir().expect("a folder");
        written(engine, folder.path()).await;
        let vote = encode(&Vote::new(0, 1)).expect("encoded");
        let good = store::open(folder.path(), engine).expect("it opens");
        let kept = good.get(Slot::Vote).expect("read").expect("it voted");
        let (_, last) = good.bounds().expect("read").expect("entries");
        let entries = good.read_range(last - 1, last + 1, usize::MAX).expect("read");
        good.close().expect("closed");

        other(folder.path(), engine, &|store| store.put(Slot::Vote, &vote).expect("put"));
        assert!(refused(engine, folder.path()).await.contains("its vote is of term 0"));
        other(folder.path(), engine, &|store| store.put(Slot::Vote, b"\x01").expect("put"));
        assert!(refused(engine, folder.path()).await.contains("vote"));
        other(folder.path(), engine, &|store| store.put(Slot::Vote, &kept).expect("put"));

        let twice = (last, entries[0].1.clone());
        other(folder.path(), engine, &|store| {
            store.truncate_from(last).expect("cut");
            store.append(std::slice::from_ref(&twice)).expect("appended");
        });
        assert!(refused(engine, folder.path()).await.contains("belongs"));
        let nonsense = (last, Bytes::from_static(b"\x01nonsense"));
        other(folder.path(), engine, &|store| {
            store.truncate_from(last).expect("cut");
            store.append(std::slice::from_ref(&nonsense)).expect("appended");
        });
        assert!(refused(engine, folder.path()).await.contains(&format!("log entry {last}")));
        other(folder.path(), engine, &|store| store.truncate_from(last).expect("cut"));
        assert!(refused(engine, folder.path()).await.contains("was committed"));
        other(folder.path(), engine, &|store| {
            store.append(std::slice::from_ref(&entries[1])).expect("appended");
        });
        open_single_with(on(engine, folder.path())).await.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_engine_is_no_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    written(Engine::Redb, folder.path()).await;
    let error = Consensus::open(on(Engine::Sled, folder.path())).await.err().expect("refused");
    assert!(matches!(error, OpenError::Store(store::StoreError::Foreign { .. })), "{error:?}");
    assert!(error.to_string().contains("set it to \"redb\""), "{error}");
}
