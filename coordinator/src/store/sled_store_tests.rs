//! The recipe's points, each where it could be forgotten.

use tempfile::TempDir;

use super::*;

fn open() -> (TempDir, SledStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SledStore::open(&folder.path().join("log")).expect("it opens");
    (folder, store)
}

fn reopen(folder: &TempDir, store: SledStore) -> SledStore {
    store.sync().expect("synced");
    store.close().expect("closed");
    SledStore::open(&folder.path().join("log")).expect("it opens again")
}

fn entry(index: u64, bytes: usize) -> Record {
    let content = (0..bytes).map(|at| (at as u64 * 31 + index) as u8).collect::<Vec<_>>();
    (index, Bytes::from(content))
}

#[test]
fn entries_around_the_limit_of_one_value_come_back_whole_and_make_no_blobs() {
    let (folder, store) = open();
    let limit = Limits::STORE_VALUE_BYTES;
    let sizes = [
        0,
        1,
        limit - HEADER - 1,
        limit - HEADER,
        limit - HEADER + 1,
        limit,
        2 * limit - HEADER,
        2 * limit - HEADER + 1,
        Limits::COMMAND_BYTES + 200,
    ];
    let records: Vec<_> = (0..).zip(sizes).map(|(index, size)| entry(index, size)).collect();
    store.append(&records).expect("appended");
    assert_eq!(store.read_range(0, u64::MAX, usize::MAX).expect("read"), records);
    let store = reopen(&folder, store);
    assert_eq!(store.read_range(0, 100, usize::MAX).expect("read"), records);
    assert_eq!(store.bounds().expect("read"), Some((0, 8)));
    store
        .with(|open| {
            for row in open.log.iter() {
                assert!(row.expect("read").1.len() <= limit, "a value over the limit");
            }
            Ok(())
        })
        .expect("open");
    // Enough of the longest for full leaves, and an fsync of each kind.
    let many: Vec<_> = (9..60).map(|index| entry(index, Limits::COMMAND_BYTES)).collect();
    store.append(&many).expect("appended");
    store.sync().expect("synced");
    assert_eq!(store.read_range(9, 60, usize::MAX).expect("read"), many);
    let blobs = fs::read_dir(folder.path().join("log/blobs"));
    assert_eq!(blobs.map_or(0, Iterator::count), 0, "sled never fsyncs blobs");
    let huge = entry(60, MAX_ENTRY);
    assert!(matches!(store.append(&[huge]), Err(StoreError::TooLong { .. })));
    assert!(matches!(store.put(Slot::Vote, &vec![0; limit + 1]), Err(StoreError::TooLong { .. })));
}

#[test]
fn reading_is_bounded_by_bytes_but_never_empty() {
    let (_folder, store) = open();
    let records: Vec<_> = (0..10).map(|index| entry(index, 100)).collect();
    store.append(&records).expect("appended");
    assert_eq!(store.read_range(0, 10, 350).expect("read"), records[..3]);
    assert_eq!(store.read_range(4, 10, 1).expect("read"), records[4..5]);
    assert_eq!(store.read_range(8, 100, usize::MAX).expect("read"), records[8..]);
    assert_eq!(store.read_range(5, 5, usize::MAX).expect("read"), []);
    assert_eq!(store.read_range(20, 30, usize::MAX).expect("read"), []);
}

#[test]
fn both_ends_can_be_cut_with_long_entries_and_over_several_batches() {
    let (folder, store) = open();
    let records: Vec<_> = (0..600).map(|index| entry(index, 200 * 1024 + 1)).collect();
    for some in records.chunks(20) {
        store.append(some).expect("appended");
    }
    store.truncate_from(590).expect("cut");
    assert_eq!(store.bounds().expect("read"), Some((0, 589)));
    store.append(&[entry(590, 3)]).expect("appended");
    store.purge(579, b"579").expect("purged");
    let store = reopen(&folder, store);
    assert_eq!(store.bounds().expect("read"), Some((580, 590)));
    assert_eq!(store.get(Slot::Purged).expect("read"), Some(Bytes::from_static(b"579")));
    let rest = store.read_range(0, u64::MAX, usize::MAX).expect("read");
    assert_eq!(rest.len(), 11);
    assert_eq!(rest[10], entry(590, 3), "not the longer one it replaced");
    store.truncate_from(0).expect("cut");
    assert_eq!(store.bounds().expect("read"), None);
}

#[test]
fn a_half_written_index_does_not_keep_the_store_shut() {
    let (folder, store) = open();
    store.put(Slot::Vote, b"vote").expect("put");
    store.sync().expect("synced");
    store.close().expect("closed");
    let leftover = folder.path().join("log/snap.0000000000000123.generating");
    fs::write(&leftover, b"half").expect("written");
    let store = SledStore::open(&folder.path().join("log")).expect("it opens");
    assert!(!leftover.exists());
    assert_eq!(store.get(Slot::Vote).expect("read"), Some(Bytes::from_static(b"vote")));
}

#[test]
fn the_lock_is_held_while_open_and_free_when_closed() {
    let (folder, store) = open();
    let path = folder.path().join("log");
    assert!(matches!(SledStore::open(&path), Err(StoreError::InUse { .. })));
    store.close().expect("closed");
    store.close().expect("closing twice is nothing");
    assert!(matches!(store.sync(), Err(StoreError::Closed)));
    for _ in 0..5 {
        SledStore::open(&path).expect("free at once").close().expect("closed");
    }
}

#[test]
fn a_full_volume_has_its_own_error() {
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let error = sled_error(Path::new("/x"), "flushing", sled::Error::Io(full));
    assert!(error.to_string().contains("no space left on the volume of /x"), "{error}");
    assert_eq!(error.into_io().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn an_entry_with_a_missing_piece_is_damage() {
    let (_folder, store) = open();
    store.append(&[entry(1, 3 * Limits::STORE_VALUE_BYTES)]).expect("appended");
    for piece in [1, 0] {
        store
            .with(|open| {
                open.log.remove(key(1, piece)).expect("removed");
                Ok(())
            })
            .expect("open");
        let read = store.read_range(0, 10, usize::MAX);
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
    }
}
