//! What the trait promises, of every engine, as a state folder opens it.

use std::{fs, sync::Arc};

use tempfile::TempDir;
use warren_common::Limits;

use super::*;

/// Makes a test of each function for each engine.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sled {
            $(#[test] fn $test() { super::$test(crate::store::Engine::Sled); })*
        }
        mod redb {
            $(#[test] fn $test() { super::$test(crate::store::Engine::Redb); })*
        }
    };
}

mod damage;
mod layers;

on_both!(
    entries_around_the_limit_of_one_value_come_back_whole,
    reading_is_bounded_by_bytes_but_never_empty,
    both_ends_can_be_cut_with_long_entries_and_over_several_batches,
    everything_is_seen_at_once_and_kept_by_a_sync,
    the_lock_is_held_while_open_and_free_when_closed,
    another_engine_than_the_folders_is_refused,
);

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn opened(folder: &TempDir, engine: Engine) -> Arc<dyn LogStore> {
    open(folder.path(), engine).expect("it opens")
}

fn reopen(folder: &TempDir, engine: Engine, store: &dyn LogStore) -> Arc<dyn LogStore> {
    store.sync().expect("synced");
    store.close().expect("closed");
    opened(folder, engine)
}

fn entry(index: u64, bytes: usize) -> Record {
    let content = (0..bytes).map(|at| (at as u64 * 31 + index) as u8).collect::<Vec<_>>();
    (index, Bytes::from(content))
}

fn entries_around_the_limit_of_one_value_come_back_whole(engine: Engine) {
    let folder = folder();
    let store = opened(&folder, engine);
    let limit = Limits::STORE_VALUE_BYTES;
    let sizes = [0, 1, limit - 5, limit - 4, limit - 3, limit, 2 * limit - 4, 2 * limit - 3];
    let sizes = sizes.into_iter().chain([Limits::COMMAND_BYTES + 200]);
    let records: Vec<_> = (0..).zip(sizes).map(|(index, size)| entry(index, size)).collect();
    store.append(&records).expect("appended");
    assert_eq!(store.read_range(0, u64::MAX, usize::MAX).expect("read"), records);
    let store = reopen(&folder, engine, store.as_ref());
    assert_eq!(store.read_range(0, 100, usize::MAX).expect("read"), records);
    assert_eq!(store.bounds().expect("read"), Some((0, 8)));
    let huge = (9, Bytes::from(vec![0; (1 << 30) + 1]));
    assert!(matches!(store.append(&[huge]), Err(StoreError::TooLong { .. })));
    assert!(matches!(store.put(Slot::Vote, &vec![0; limit + 1]), Err(StoreError::TooLong { .. })));
    assert_eq!(store.bounds().expect("read"), Some((0, 8)), "a refused one leaves nothing");
}

fn reading_is_bounded_by_bytes_but_never_empty(engine: Engine) {
    let folder = folder();
    let store = opened(&folder, engine);
    let records: Vec<_> = (0..10).map(|index| entry(index, 100)).collect();
    store.append(&records).expect("appended");
    for _ in 0..2 {
        assert_eq!(store.read_range(0, 10, 350).expect("read"), records[..3]);
        assert_eq!(store.read_range(4, 10, 1).expect("read"), records[4..5]);
        assert_eq!(store.read_range(8, 100, usize::MAX).expect("read"), records[8..]);
        assert_eq!(store.read_range(5, 5, usize::MAX).expect("read"), []);
        assert_eq!(store.read_range(20, 30, usize::MAX).expect("read"), []);
        store.sync().expect("the second time from the database alone");
    }
}

fn both_ends_can_be_cut_with_long_entries_and_over_several_batches(engine: Engine) {
    let folder = folder();
    let store = opened(&folder, engine);
    let records: Vec<_> = (0..300).map(|index| entry(index, 200 * 1024 + 1)).collect();
    for some in records.chunks(20) {
        store.append(some).expect("appended");
    }
    store.sync().expect("synced");
    store.truncate_from(290).expect("cut");
    assert_eq!(store.bounds().expect("read"), Some((0, 289)));
    store.append(&[entry(290, 3)]).expect("appended");
    store.purge(279, b"279").expect("purged");
    assert_eq!(store.bounds().expect("read"), Some((280, 290)));
    let store = reopen(&folder, engine, store.as_ref());
    assert_eq!(store.bounds().expect("read"), Some((280, 290)));
    assert_eq!(store.get(Slot::Purged).expect("read"), Some(Bytes::from_static(b"279")));
    let rest = store.read_range(0, u64::MAX, usize::MAX).expect("read");
    assert_eq!(rest.len(), 11);
    assert_eq!(rest[10], entry(290, 3), "not the longer one it replaced");
    store.truncate_from(0).expect("cut");
    assert_eq!(store.bounds().expect("read"), None);
    let store = reopen(&folder, engine, store.as_ref());
    assert_eq!(store.bounds().expect("read"), None, "an emptied log is no damaged one");
}

fn everything_is_seen_at_once_and_kept_by_a_sync(engine: Engine) {
    let folder = folder();
    let store = opened(&folder, engine);
    store.put(Slot::Vote, b"one").expect("put");
    store.append(&[entry(0, 10), entry(1, 10)]).expect("appended");
    assert_eq!(store.get(Slot::Vote).expect("read"), Some(Bytes::from_static(b"one")));
    store.sync().expect("synced");
    store.put(Slot::Vote, b"two").expect("put");
    store.truncate_from(1).expect("cut");
    store.append(&[entry(1, 20)]).expect("appended");
    assert_eq!(store.get(Slot::Vote).expect("read"), Some(Bytes::from_static(b"two")));
    let store = reopen(&folder, engine, store.as_ref());
    assert_eq!(store.get(Slot::Vote).expect("read"), Some(Bytes::from_static(b"two")));
    let kept = store.read_range(0, 10, usize::MAX).expect("read");
    assert_eq!(kept, [entry(0, 10), entry(1, 20)]);
    // Purged beyond its end, as a checkpoint of another replica does, and begun again there.
    store.purge(9, b"9").expect("purged");
    assert_eq!(store.bounds().expect("read"), None);
    store.append(&[entry(10, 7)]).expect("appended");
    let store = reopen(&folder, engine, store.as_ref());
    assert_eq!(store.bounds().expect("read"), Some((10, 10)));
    store.truncate_from(10).expect("cut");
    let store = reopen(&folder, engine, store.as_ref());
    assert_eq!(store.bounds().expect("read"), None, "cut to nothing, not lost");
}

fn the_lock_is_held_while_open_and_free_when_closed(engine: Engine) {
    let folder = folder();
    let store = opened(&folder, engine);
    let second = open(folder.path(), engine).err();
    assert!(matches!(second, Some(StoreError::InUse { .. })), "{second:?}");
    store.close().expect("closed");
    store.close().expect("closing twice is nothing");
    assert!(matches!(store.sync(), Err(StoreError::Closed)));
    assert!(matches!(store.put(Slot::Vote, b""), Err(StoreError::Closed)));
    assert!(matches!(store.bounds(), Err(StoreError::Closed)));
    for _ in 0..5 {
        opened(&folder, engine).close().expect("free at once");
    }
}

fn another_engine_than_the_folders_is_refused(engine: Engine) {
    let folder = folder();
    opened(&folder, engine).close().expect("closed");
    let [other] = Engine::ALL
        .map(|one| (one != engine).then_some(one))
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()[..]
    else {
        panic!("there are two")
    };
    let said = open(folder.path(), other).err().expect("refused").to_string();
    assert!(said.contains(&format!("kept by {engine}")), "{said}");
    assert!(said.contains(&format!("set it to \"{engine}\"")), "{said}");
    opened(&folder, engine).close().expect("nothing was changed");
    fs::write(folder.path().join("log-engine"), "rocks\n").expect("written");
    let said = open(folder.path(), engine).err().expect("refused").to_string();
    assert!(said.contains("start the version that wrote it"), "{said}");
}

#[test]
fn a_folder_of_0_1_is_sleds() {
    let folder = folder();
    let before = SledStore::open(&folder.path().join("log")).expect("it opens");
    before.append(&[entry(0, 10)]).expect("appended");
    before.sync().expect("synced");
    before.close().expect("closed");
    assert!(matches!(open(folder.path(), Engine::Redb), Err(StoreError::Foreign { .. })));
    let store = opened(&folder, Engine::Sled);
    assert_eq!(store.bounds().expect("read"), Some((0, 0)));
}

#[test]
fn engines_have_names_and_no_others() {
    for engine in Engine::ALL {
        assert_eq!(engine.to_string().parse(), Ok(engine));
    }
    let error = "rocksdb".parse::<Engine>().expect_err("there is none");
    assert!(error.to_string().contains("\"sled\" and \"redb\""), "{error}");
}
