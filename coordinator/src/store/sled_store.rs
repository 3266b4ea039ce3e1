//! The log in sled 0.34, held the one way that survives a power cut.
//!
//! What has to be so, each point bought with a measurement: segments of 4 MiB and values of at
//! most 16 KiB (a tree page over a quarter of a segment goes to a blob file that is never fsynced);
//! no background flush (ours is the only one); a leftover `snap.*.generating` removed before
//! opening (sled refuses to open otherwise); `flush()` followed by `sync_data()` on sled's file
//! (on Linux sled's own flush is `sync_file_range`, which promises nothing).
//!
//! How entries become rows is [`super::sled_row`]'s business. A row of one piece is a plain insert,
//! because each of sled's batches has its buffer written out twice before its time; only a row of
//! several pieces is a batch, so that it is there whole or not at all.

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use warren_common::Limits;

use super::{LogStore, Record, Slot, StoreError, files, panic_text, sled_row as row};

/// Never change it: sled stores it, and a store opened with another one is refused.
const SEGMENT_BYTES: usize = 4 << 20;
/// What sled may keep of its pages in memory; a hint only.
const CACHE_BYTES: u64 = 64 << 20;
/// Keys removed in one batch.
const REMOVE_KEYS: usize = 4096;
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

    /// Removes every row whose first entry is in `from..=upto`, from the end backwards or from the
    /// front, so that a crash between two batches leaves no hole.
    fn remove(&self, from: u64, upto: u64, backwards: bool) -> Result<(), StoreError> {
        let range = row::key(from, 0)..=row::key(upto, u16::MAX);
        self.with(|open| {
            loop {
                let mut keys = open.log.range(range.clone()).keys();
                let mut batch = sled::Batch::default();
                let (mut count, mut entry) = (0, None);
                while let Some(key) = if backwards { keys.next_back() } else { keys.next() } {
                    let key = key.map_err(self.error("reading the log"))?;
                    // A batch ends between two rows: half an entry is damage.
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
        let odd = || self.damaged(format!("a key of {} bytes in the log", key.len()));
        row::parse(key).map(|(index, _)| index).ok_or_else(odd)
    }

    /// Returns the index of the row that holds entry `index`, or would; none where the log begins
    /// after it.
    fn row_with(&self, open: &Open, index: u64) -> Result<Option<u64>, StoreError> {
        let last = open.log.range(..=row::key(index, u16::MAX)).next_back();
        let Some(row) = last else { return Ok(None) };
        self.index_of(&row.map_err(self.error("reading the log"))?.0).map(Some)
    }

    /// Calls `take` with the entries of each row, from the row of entry `from` on, until it says
    /// that it has enough. A row that begins inside the one before it is left out: an entry is told
    /// once.
    fn walk(
        &self,
        open: &Open,
        from: u64,
        mut take: impl FnMut(Vec<Record>) -> bool,
    ) -> Result<(), StoreError> {
        let begin = self.row_with(open, from)?.unwrap_or(from);
        let mut left = open.log.range(row::key(begin, 0)..).peekable();
        let mut taken: Option<u64> = None;
        while let Some(first) = left.next() {
            let (key, value) = first.map_err(self.error("reading the log"))?;
            let index = self.index_of(&key)?;
            if !key.ends_with(&[0, 0]) {
                return Err(self.damaged(format!("entry {index} has no beginning")));
            }
            let mut pieces = vec![Bytes::copy_from_slice(&value)];
            let more = |next: &sled::Result<(sled::IVec, sled::IVec)>| match next {
                Ok((next, _)) => next.starts_with(&index.to_be_bytes()),
                Err(_) => true,
            };
            while let Some(piece) = left.next_if(more) {
                let (_, value) = piece.map_err(self.error("reading the log"))?;
                pieces.push(Bytes::copy_from_slice(&value));
            }
            if taken >= Some(index) {
                continue;
            }
            let entries = row::entries(index, pieces).map_err(|reason| self.damaged(reason))?;
            taken = entries.last().map(|(last, _)| *last);
            if !take(entries) {
                break;
            }
        }
        Ok(())
    }

    /// Returns the entries of the row of entry `index` that come before it and from it on; both are
    /// empty where it has none or begins its row.
    fn halves(&self, open: &Open, index: u64) -> Result<(Vec<Record>, Vec<Record>), StoreError> {
        let mut halves = Default::default();
        if self.row_with(open, index)?.is_some_and(|begin| begin < index) {
            self.walk(open, index, |entries| {
                halves = entries.into_iter().partition(|(at, _)| *at < index);
                false
            })?;
        }
        Ok(halves)
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason }
    }
}

impl LogStore for SledStore {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let rows = row::rows(records).map(|row| Ok((row[0].0, row::pieces(row)?)));
        // all of them first: what is too long leaves nothing
        let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
        self.with(|open| {
            for (index, pieces) in rows {
                let written = match &pieces[..] {
                    [whole] => open.log.insert(row::key(index, 0), &whole[..]).map(drop),
                    pieces => {
                        let mut batch = sled::Batch::default();
                        for (number, piece) in (0..).zip(pieces) {
                            batch.insert(&row::key(index, number), &piece[..]);
                        }
                        open.log.apply_batch(batch)
                    }
                };
                written.map_err(self.error("appending to the log"))?;
            }
            Ok(())
        })
    }

    fn read_range(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        if from >= to {
            return Ok(records);
        }
        self.with(|open| {
            self.walk(open, from, |entries| {
                for (index, record) in entries.into_iter().filter(|(index, _)| *index >= from) {
                    bytes = bytes.saturating_add(record.len());
                    if index >= to || bytes > max_bytes && !records.is_empty() {
                        return false;
                    }
                    records.push((index, record));
                }
                true
            })
        })?;
        Ok(records)
    }

    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError> {
        self.with(|open| {
            let first = open.log.first().map_err(self.error("reading the log"))?;
            let Some((first, _)) = first else { return Ok(None) };
            let mut last = None;
            self.walk(open, u64::MAX, |entries| {
                last = entries.last().map(|(index, _)| *index);
                true
            })?;
            let last = last.ok_or_else(|| self.damaged("its last row is empty".to_owned()))?;
            Ok(Some((self.index_of(&first)?, last)))
        })
    }

    fn truncate_from(&self, from: u64) -> Result<(), StoreError> {
        self.remove(from, u64::MAX, true)?;
        let (kept, cut) = self.with(|open| self.halves(open, from))?;
        if cut.is_empty() { Ok(()) } else { self.append(&kept) }
    }

    fn purge(&self, upto: u64, purged: &[u8]) -> Result<(), StoreError> {
        // First the record, then the entries: what a crash leaves of them is removed when the log
        // is opened, while a purged entry without its record would be a hole.
        self.put(Slot::Purged, purged)?;
        let after = upto.saturating_add(1);
        self.with(|open| {
            let (gone, kept) = self.halves(open, after)?;
            if let (Some((begin, _)), [(first, _), ..]) = (gone.first(), &kept[..]) {
                let mut batch = sled::Batch::default();
                batch.remove(&row::key(*begin, 0));
                for (number, piece) in (0..).zip(row::pieces(&kept)?) {
                    batch.insert(&row::key(*first, number), &piece[..]);
                }
                open.log.apply_batch(batch).map_err(self.error("shortening the log"))?;
            }
            Ok(())
        })?;
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
