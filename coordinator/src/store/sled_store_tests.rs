//! The recipe's points, each where it could be forgotten.

use tempfile::TempDir;

use super::*;

fn open() -> (TempDir, SledStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SledStore::open(&folder.path().join("log")).expect("it opens");
    (folder, store)
}

fn entry(index: u64, bytes: usize) -> Record {
    let content = (0..bytes).map(|at| (at as u64 * 31 + index) as u8).collect::<Vec<_>>();
    (index, Bytes::from(content))
}

#[test]
fn long_entries_make_no_blobs() {
    let (folder, store) = open();
    let limit = Limits::STORE_VALUE_BYTES;
    // Enough of the longest for full leaves, and an fsync of each kind.
    let many: Vec<_> = (0..60).map(|index| entry(index, Limits::COMMAND_BYTES)).collect();
    store.append(&many).expect("appended");
    store.sync().expect("synced");
    assert_eq!(store.read_range(0, 60, usize::MAX).expect("read"), many);
    store
        .with(|open| {
            for row in open.log.iter() {
                assert!(row.expect("read").1.len() <= limit, "a value over the limit");
            }
            Ok(())
        })
        .expect("open");
    let blobs = fs::read_dir(folder.path().join("log/blobs"));
    assert_eq!(blobs.map_or(0, Iterator::count), 0, "sled never fsyncs blobs");
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
                open.log.remove(row::key(1, piece)).expect("removed");
                Ok(())
            })
            .expect("open");
        let read = store.read_range(0, 10, usize::MAX);
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
    }
}

#[test]
fn an_entry_that_stands_in_two_rows_is_told_once() {
    let (_folder, store) = open();
    let records: Vec<_> = (0..8).map(|index| entry(index, 10)).collect();
    store.append(&records).expect("appended");
    store
        .with(|open| {
            let stale = row::pieces(&[entry(3, 7), entry(4, 7)]).expect("short enough");
            open.log.insert(row::key(3, 0), &stale[0][..]).expect("inserted");
            Ok(())
        })
        .expect("open");
    assert_eq!(store.read_range(0, 8, usize::MAX).expect("read"), records);
    assert_eq!(store.read_range(1, 8, usize::MAX).expect("read"), records[1..]);
}
