//! A seal over a store: it notices when less comes back than was acknowledged.
//!
//! Both engines end a damaged log where the damage begins, as if the rest had never been synced:
//! that is right after a crash and wrong after a disk that forgot. So each sync first counts itself
//! inside the store, and when it has succeeded writes the count to a small file beside it. A store
//! that comes back with a lower count than the file, or that ends before the entry it was sealed
//! with, has lost what was acknowledged.
//!
//! The file needs no fsync: it is written after the store is durable, so after a power cut it is
//! at worst older than the store, which proves less but never accuses wrongly.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{LogStore, Record, Slot, StoreError, files};

const NAME: &str = "log-seal";
const MAGIC: &[u8; 8] = b"WARRENS1";
/// Magic, count, and half of their SHA-256.
const RECORD: usize = 8 + 8 + 16;
/// The two places written in turn, a sector apart: a torn write leaves the one before it.
const PLACES: [u64; 2] = [0, 512];

/// A store under a seal.
pub struct Sealed {
    store: Arc<dyn LogStore>,
    path: PathBuf,
    file: File,
    seal: Mutex<Seal>,
}

/// What stands in [`Slot::Seal`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seal {
    /// How often the store was synced.
    count: u64,
    /// The index after the last entry: the log reaches at least so far.
    next: u64,
}

impl Seal {
    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.count.to_be_bytes());
        bytes[8..].copy_from_slice(&self.next.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (count, next) = bytes.split_at_checked(8)?;
        let (count, next) = (count.try_into().ok()?, next.try_into().ok()?);
        Some(Self { count: u64::from_be_bytes(count), next: u64::from_be_bytes(next) })
    }
}

impl Sealed {
    /// Checks the store in the state folder against its seal and goes on from there; blocks.
    pub fn open(store: Arc<dyn LogStore>, folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(NAME);
        let damaged = |reason: String| StoreError::Damaged { path: folder.join("log"), reason };
        let kept = store.get(Slot::Seal)?;
        let seal = match &kept {
            Some(kept) => Seal::from_bytes(kept)
                .ok_or_else(|| damaged(format!("a seal of {} bytes", kept.len())))?,
            None => Seal::default(),
        };
        let acknowledged = read(&path)?;
        if seal.count < acknowledged {
            let (count, path) = (seal.count, path.display());
            return Err(damaged(format!(
                "it ends with sync {count}, and {path} says that sync {acknowledged} succeeded"
            )));
        }
        let end = end_of(store.as_ref())?;
        if end.is_none_or(|end| end < seal.next) && seal.next > 0 {
            let found = end.map_or_else(|| "is empty".to_owned(), |end| format!("ends at {end}"));
            return Err(damaged(format!("its log {found}, and it was synced up to {}", seal.next)));
        }
        let file = prepare(&path, folder)?;
        Ok(Self { store, path, file, seal: Mutex::new(seal) })
    }

    fn lock(&self) -> MutexGuard<'_, Seal> {
        self.seal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the log ends before `next`, ahead of the change that makes it so.
    fn lower(&self, next: u64) -> Result<(), StoreError> {
        let mut seal = self.lock();
        if seal.next > next {
            seal.next = next;
            self.store.put(Slot::Seal, &seal.to_bytes())?;
        }
        Ok(())
    }
}

impl LogStore for Sealed {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        self.store.append(records)?;
        if let Some((last, _)) = records.last() {
            let mut seal = self.lock();
            seal.next = seal.next.max(last.saturating_add(1));
        }
        Ok(())
    }

    fn read_range(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        self.store.read_range(from, to, max_bytes)
    }

    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError> {
        self.store.bounds()
    }

    fn truncate_from(&self, from: u64) -> Result<(), StoreError> {
        let emptied = self.store.bounds()?.is_none_or(|(first, _)| first >= from);
        self.lower(if emptied { 0 } else { from })?;
        self.store.truncate_from(from)
    }

    fn purge(&self, upto: u64, purged: &[u8]) -> Result<(), StoreError> {
        if self.store.bounds()?.is_none_or(|(_, last)| last <= upto) {
            self.lower(0)?;
        }
        self.store.purge(upto, purged)
    }

    fn get(&self, slot: Slot) -> Result<Option<Bytes>, StoreError> {
        self.store.get(slot)
    }

    fn put(&self, slot: Slot, value: &[u8]) -> Result<(), StoreError> {
        self.store.put(slot, value)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let sealed = {
            let mut seal = self.lock();
            seal.count = seal.count.saturating_add(1);
            self.store.put(Slot::Seal, &seal.to_bytes())?;
            *seal
        };
        self.store.sync()?;
        let place = PLACES[usize::from(sealed.count % 2 == 1)];
        let written = self.file.write_all_at(&record(sealed.count), place);
        written.map_err(|e| StoreError::io("writing", &self.path, e))
    }

    fn close(&self) -> Result<(), StoreError> {
        self.store.close()
    }
}

/// Refuses a log whose file is gone although it was synced: an engine would begin an empty one.
pub(super) fn expect_file(folder: &Path, file: &Path) -> Result<(), StoreError> {
    let acknowledged = read(&folder.join(NAME))?;
    let bytes = fs::metadata(file).map_or(0, |metadata| metadata.len());
    if acknowledged > 0 && bytes == 0 {
        let reason = format!("it is missing or empty, and it was synced {acknowledged} times");
        return Err(StoreError::Damaged { path: file.to_owned(), reason });
    }
    Ok(())
}

/// Returns the index after the last entry; none where the log is empty.
fn end_of(store: &dyn LogStore) -> Result<Option<u64>, StoreError> {
    Ok(store.bounds()?.map(|(_, last)| last.saturating_add(1)))
}

fn record(count: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(MAGIC);
    record[8..16].copy_from_slice(&count.to_be_bytes());
    let hash = Sha256::digest(&record[..16]);
    record[16..].copy_from_slice(&hash[..16]);
    record
}

/// Returns the highest count that can be read; zero where there is none. A torn or missing record
/// proves nothing, so it accuses nobody.
fn read(path: &Path) -> Result<u64, StoreError> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StoreError::io("reading", path, error)),
    };
    let count = |place: u64| {
        let found = content.get(usize::try_from(place).ok()?..)?.get(..RECORD)?;
        let count = u64::from_be_bytes(found[8..16].try_into().ok()?);
        (found == record(count)).then_some(count)
    };
    Ok(PLACES.into_iter().filter_map(count).max().unwrap_or(0))
}

/// Opens the file, making it with its space where there is none, so that a full disk is met now.
fn prepare(path: &Path, folder: &Path) -> Result<File, StoreError> {
    if !path.exists() {
        files::replace(folder, NAME, &[0; 1024])?;
    }
    let opened = OpenOptions::new().write(true).open(path);
    opened.map_err(|e| StoreError::io("opening", path, e))
}
