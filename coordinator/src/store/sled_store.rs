//! The log in sled 0.34, held the one way that survives a power cut.
//!
//! What has to be so, each point bought with a measurement: segments of 4 MiB and values of at
//! most 16 KiB (a tree page over a quarter of a segment goes to a blob file that is never fsynced);
//! no background flush (ours is the only one); a leftover `snap.*.generating` removed before
//! opening (sled refuses to open otherwise); `flush()` followed by `sync_data()` on sled's file
//! (on Linux sled's own flush is `sync_file_range`, which promises nothing).
//!
//! Keys of the log are the index and the number of the piece, big-endian; the first piece begins
//! with the length of the whole entry. One entry is written in one batch, so it is there whole or
//! not at all.

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use warren_common::Limits;

use super::{LogStore, Record, Slot, StoreError, files, panic_text};

/// Never change it: sled stores it, and a store opened with another one is refused.
const SEGMENT_BYTES: usize = 4 << 20;
/// What sled may keep of its pages in memory; a hint only.
const CACHE_BYTES: u64 = 64 << 20;
/// How much one batch writes at most, one entry aside: bounds what sled holds in one piece.
const BATCH_BYTES: usize = 1 << 20;
/// Keys removed in one batch.
const REMOVE_KEYS: usize = 4096;
/// Bytes of the length in front of the first piece.
const HEADER: usize = 4;
/// Pieces of one entry: the piece number is 16 bits.
const MAX_ENTRY: usize = (u16::MAX as usize) * Limits::STORE_VALUE_BYTES;
/// How long sled may take to give its lock back.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A log in one folder that belongs to sled alone.
pub struct SledStore {
    path: PathBuf,
    open: RwLock<Option<Open>>,
}

struct Open {
    db: sled::Db,
    log: sled::Tree,
    meta: sled::Tree,
    /// sled's own data file, opened a second time to fsync what sled only hands to the kernel.
    data: File,
}

impl SledStore {
    /// Opens or makes the store in `path`; blocks. sled panics over some kinds of damage; that is
    /// an error like any other.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        caught(path, || Self::open_files(path))
    }

    fn open_files(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(|e| StoreError::io("making the folder", path, e))?;
        remove_half_written_snapshots(path)?;
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let db = config.open().map_err(|error| open_error(path, error))?;
        let named = |operation| move |error| sled_error(path, operation, error);
        let log = db.open_tree("log").map_err(named("opening the log"))?;
        let meta = db.open_tree("meta").map_err(named("opening the named values"))?;
        db.flush().map_err(named("flushing a fresh store"))?;
        let file = path.join("db");
        let data = File::open(&file).map_err(|e| StoreError::io("opening", &file, e))?;
        data.sync_all().map_err(|e| StoreError::io("syncing", &file, e))?;
        files::sync_dir(path)?;
        if let Some(parent) = path.parent() {
            files::sync_dir(parent)?;
        }
        let store =
            Self { path: path.to_owned(), open: RwLock::new(Some(Open { db, log, meta, data })) };
        Ok(store)
    }

    /// Does what a sync would do without the fsync: hands everything to the kernel. Not enough on
    /// Linux, and here for the test that shows it.
    pub fn flush_without_sync(&self) -> Result<(), StoreError> {
        self.with(|open| open.db.flush().map(drop).map_err(self.error("flushing the log")))
    }

    fn with<T>(&self, act: impl FnOnce(&Open) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or(StoreError::Closed)?;
        caught(&self.path, || act(open))
    }

    fn error(&self, operation: &'static str) -> impl Fn(sled::Error) -> StoreError {
        let path = self.path.clone();
        move |error| sled_error(&path, operation, error)
    }

    /// Removes every key of the log in `range`, from the end backwards or from the front, so that a
    /// crash between two batches leaves no hole.
    fn remove(&self, from: u64, upto: u64, backwards: bool) -> Result<(), StoreError> {
        let range = key(from, 0)..=key(upto, u16::MAX);
        self.with(|open| {
            loop {
                let mut keys = open.log.range(range.clone()).keys();
                let mut batch = sled::Batch::default();
                let (mut count, mut entry) = (0, None);
                while let Some(key) = if backwards { keys.next_back() } else { keys.next() } {
                    let key = key.map_err(self.error("reading the log"))?;
                    // A batch ends between two entries: half an entry is damage.
                    let index = self.index_of(&key)?;
                    if count >= REMOVE_KEYS && entry != Some(index) {
                        break;
                    }
                    entry = Some(index);
                    batch.remove(key);
                    count += 1;
                }
                if count == 0 {
                    return Ok(());
                }
                open.log.apply_batch(batch).map_err(self.error("shortening the log"))?;
            }
        })
    }

    fn index_of(&self, key: &[u8]) -> Result<u64, StoreError> {
        match key.first_chunk::<8>() {
            Some(index) if key.len() == 10 => Ok(u64::from_be_bytes(*index)),
            Some(_) | None => Err(self.damaged(format!("a key of {} bytes in the log", key.len()))),
        }
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason }
    }
}

impl LogStore for SledStore {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        self.with(|open| {
            let (mut batch, mut bytes) = (sled::Batch::default(), 0);
            for (index, record) in records {
                if bytes > 0 && bytes + record.len() > BATCH_BYTES {
                    let full = std::mem::take(&mut batch);
                    open.log.apply_batch(full).map_err(self.error("appending to the log"))?;
                    bytes = 0;
                }
                split(*index, record, &mut batch)?;
                bytes += record.len();
            }
            open.log.apply_batch(batch).map_err(self.error("appending to the log"))
        })
    }

    fn read_range(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        if from >= to {
            return Ok(records);
        }
        self.with(|open| {
            let mut rows = open.log.range(key(from, 0)..key(to, 0)).peekable();
            while let Some(row) = rows.next() {
                let (first, value) = row.map_err(self.error("reading the log"))?;
                let index = self.index_of(&first)?;
                let (length, start) = value
                    .split_first_chunk::<HEADER>()
                    .map(|(length, start)| (u32::from_be_bytes(*length) as usize, start))
                    .filter(|_| first.ends_with(&[0, 0]))
                    .ok_or_else(|| self.damaged(format!("entry {index} has no beginning")))?;
                let mut record = BytesMut::with_capacity(length.min(MAX_ENTRY));
                record.extend_from_slice(start);
                let more = |next: &sled::Result<(sled::IVec, sled::IVec)>| match next {
                    Ok((next, _)) => next.starts_with(&index.to_be_bytes()),
                    Err(_) => true,
                };
                while let Some(piece) = rows.next_if(more) {
                    record.extend_from_slice(&piece.map_err(self.error("reading the log"))?.1);
                }
                if record.len() != length {
                    let found = record.len();
                    return Err(self.damaged(format!("entry {index}: {found} of {length} bytes")));
                }
                bytes = bytes.saturating_add(length);
                if bytes > max_bytes && !records.is_empty() {
                    break;
                }
                records.push((index, record.freeze()));
            }
            Ok(())
        })?;
        Ok(records)
    }

    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError> {
        self.with(|open| {
            let first = open.log.first().map_err(self.error("reading the log"))?;
            let last = open.log.last().map_err(self.error("reading the log"))?;
            match first.zip(last) {
                Some(((first, _), (last, _))) => {
                    Ok(Some((self.index_of(&first)?, self.index_of(&last)?)))
                }
                None => Ok(None),
            }
        })
    }

    fn truncate_from(&self, from: u64) -> Result<(), StoreError> {
        self.remove(from, u64::MAX, true)
    }

    fn purge(&self, upto: u64, purged: &[u8]) -> Result<(), StoreError> {
        // First the record, then the entries: what a crash leaves of them is removed when the log
        // is opened, while a purged entry without its record would be a hole.
        self.put(Slot::Purged, purged)?;
        self.remove(0, upto, false)
    }

    fn get(&self, slot: Slot) -> Result<Option<Bytes>, StoreError> {
        self.with(|open| {
            let value = open.meta.get(slot.name()).map_err(self.error("reading a named value"))?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn put(&self, slot: Slot, value: &[u8]) -> Result<(), StoreError> {
        if value.len() > Limits::STORE_VALUE_BYTES {
            let limit = Limits::STORE_VALUE_BYTES;
            return Err(StoreError::TooLong { bytes: value.len(), limit });
        }
        self.with(|open| {
            open.meta.insert(slot.name(), value).map_err(self.error("writing a named value"))?;
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.with(|open| {
            open.db.flush().map_err(self.error("flushing the log"))?;
            open.data.sync_data().map_err(|e| StoreError::io("syncing the log", &self.path, e))
        })
    }

    fn close(&self) -> Result<(), StoreError> {
        // sled releases its lock a few milliseconds after the last handle is gone.
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Open { db, log, meta, data }) = open else { return Ok(()) };
        drop((log, meta));
        drop(db);
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        loop {
            let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
            match rustix::fs::flock(&data, operation) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(StoreError::InUse { path: self.path.clone() });
                }
                Err(error) => {
                    return Err(StoreError::io("releasing the lock", &self.path, error.into()));
                }
            }
        }
    }
}

/// Returns the key of one piece of one entry.
fn key(index: u64, piece: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// Adds one entry to the batch, in pieces of at most [`Limits::STORE_VALUE_BYTES`].
fn split(index: u64, record: &[u8], batch: &mut sled::Batch) -> Result<(), StoreError> {
    let bytes = record.len();
    if bytes + HEADER > MAX_ENTRY {
        return Err(StoreError::TooLong { bytes, limit: MAX_ENTRY - HEADER });
    }
    let length = u32::try_from(bytes).expect("bounded by MAX_ENTRY");
    let (start, mut rest) = record.split_at(bytes.min(Limits::STORE_VALUE_BYTES - HEADER));
    batch.insert(&key(index, 0), [&length.to_be_bytes(), start].concat());
    let mut piece = 0_u16;
    while !rest.is_empty() {
        let (next, after) = rest.split_at(rest.len().min(Limits::STORE_VALUE_BYTES));
        piece += 1;
        batch.insert(&key(index, piece), next);
        rest = after;
    }
    Ok(())
}

/// A crash while sled wrote its index leaves a file that makes it refuse to open; the index is
/// derived data, so the file can go.
fn remove_half_written_snapshots(path: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(path).map_err(|e| StoreError::io("listing", path, e))?;
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::io("listing", path, e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let path = entry.path();
            fs::remove_file(&path).map_err(|e| StoreError::io("removing", &path, e))?;
            tracing::info!(path = %path.display(), "removed a half-written index of the store");
        }
    }
    Ok(())
}

/// Makes an error of a panic inside sled, which is how it meets some of what it did not write.
fn caught<T>(path: &Path, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let reason = format!("sled cannot read it: {}", panic_text(panic.as_ref()));
        Err(StoreError::Damaged { path: path.join("db"), reason })
    })
}

fn open_error(path: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(source) if source.to_string().contains("acquire lock") => {
            StoreError::InUse { path: path.to_owned() }
        }
        other => sled_error(path, "opening the store", other),
    }
}

fn sled_error(path: &Path, operation: &'static str, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(source) => StoreError::io(operation, path, source),
        sled::Error::Corruption { .. } => StoreError::Damaged {
            path: path.join("db"),
            reason: format!("{operation} found a broken page"),
        },
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_) => {
            StoreError::io(operation, path, io::Error::other(error.to_string()))
        }
    }
}

#[cfg(test)]
#[path = "sled_store_tests.rs"]
mod tests;
