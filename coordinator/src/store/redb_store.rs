//! The log in redb 4: one file of copy-on-write trees with a checksum on every page.
//!
//! redb has one writer at a time and fsyncs inside the commit. An append that waited for that
//! would wait for the disk on openraft's thread, so calls go to a [`Layer`] in memory, which
//! readers see on top of the database, and [`LogStore::sync`] writes the whole layer in one durable
//! transaction while the next one fills. A crash keeps the transactions that were committed: a
//! prefix of the calls, cut between two syncs.
//!
//! Pages are checked when the file is opened (the log is short: checkpoints keep it so), not when
//! they are read later.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadableDatabase as _, StorageError, TableDefinition,
};
use warren_common::Limits;

use super::{LogStore, Record, Slot, StoreError, files, panic_text, tail::Layer};

pub(super) const FILE: &str = "log.redb";
/// The file while it is made.
const UNFINISHED: &str = "log.redb.new";
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// What redb may keep of the file in memory.
const CACHE_BYTES: usize = 64 << 20;
/// Length of the longest entry; redb would take more, sled would not.
const MAX_ENTRY: usize = 1 << 30;

/// A log in one file.
pub struct RedbStore {
    path: PathBuf,
    db: RwLock<Option<Database>>,
    tail: Mutex<Tail>,
    /// Held over a sync: layers are written in their order.
    syncing: Mutex<()>,
}

/// What lies over the database: the layer being written, and the one that fills.
#[derive(Default)]
struct Tail {
    writing: Arc<Layer>,
    fresh: Layer,
}

impl RedbStore {
    /// Opens or makes the store in the folder `path`; blocks.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        files::make_dir(path)?;
        let (file, aside) = (path.join(FILE), path.join(UNFINISHED));
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("removing", &aside, error));
            }
            Ok(()) | Err(_) => {}
        }
        if !file.exists() {
            // Made aside, so that a kill leaves it whole or not at all. The tables are there from
            // the beginning: a missing one is damage.
            caught(&aside, || write(&database(&aside)?, &aside, &Layer::default()))?;
            let renamed = fs::rename(&aside, &file);
            renamed.map_err(|error| StoreError::io("making", &file, error))?;
        }
        let db = caught(&file, || database(&file))?;
        files::sync_dir(path)?;
        let tail = Mutex::new(Tail::default());
        Ok(Self { path: file, db: RwLock::new(Some(db)), tail, syncing: Mutex::new(()) })
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or(StoreError::Closed)?;
        caught(&self.path, || act(db))
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, call: impl FnOnce(&mut Layer)) -> Result<(), StoreError> {
        self.with(|_| {
            call(&mut self.tail().fresh);
            Ok(())
        })
    }

    /// Calls with the log as it is below both layers, and with them. They belong together: a layer
    /// leaves the tail only after it is in the database, and where it is in both it counts once.
    fn reading<T>(
        &self,
        act: impl FnOnce(&ReadOnlyTable<u64, &'static [u8]>, &Tail) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|db| {
            let tail = self.tail();
            let log = self.table(db, LOG)?;
            act(&log, &tail)
        })
    }

    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        db: &Database,
        table: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, StoreError> {
        let named = |error: redb::Error| general(&self.path, "reading the log", error);
        let read = db.begin_read().map_err(|error| named(error.into()))?;
        read.open_table(table).map_err(|error| named(error.into()))
    }

    fn read_error(&self) -> impl Fn(StorageError) -> StoreError {
        let path = self.path.clone();
        move |error| general(&path, "reading the log", error.into())
    }
}

impl LogStore for RedbStore {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let too_long = records.iter().find(|(_, record)| record.len() > MAX_ENTRY);
        if let Some((_, record)) = too_long {
            return Err(StoreError::TooLong { bytes: record.len(), limit: MAX_ENTRY });
        }
        self.told(|fresh| fresh.append(records))
    }

    fn read_range(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        // Takes one more; false when there is no room.
        let mut take = |record: Record| {
            bytes = bytes.saturating_add(record.1.len());
            let room = bytes <= max_bytes || records.is_empty();
            if room {
                records.push(record);
            }
            room
        };
        self.reading(|log, tail| {
            let middle = tail.fresh.below(from..to);
            let lowest = tail.writing.below(middle.clone());
            if lowest.start < lowest.end {
                for row in log.range(lowest).map_err(self.read_error())? {
                    let (index, entry) = row.map_err(self.read_error())?;
                    if !take((index.value(), Bytes::copy_from_slice(entry.value()))) {
                        return Ok(());
                    }
                }
            }
            let mut above = tail.writing.within(middle).chain(tail.fresh.within(from..to));
            above.all(take);
            Ok(())
        })?;
        Ok(records)
    }

    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError> {
        self.reading(|log, tail| {
            let middle = tail.fresh.below(0..u64::MAX);
            let lowest = tail.writing.below(middle.clone());
            let (mut first, mut last) = (None, None);
            if lowest.start < lowest.end {
                let mut rows = log.range(lowest).map_err(self.read_error())?;
                let (front, back) = (rows.next(), rows.next_back());
                let index = |row: redb::Result<(redb::AccessGuard<'_, u64>, _)>| {
                    row.map(|(index, _): (_, redb::AccessGuard<'_, &[u8]>)| index.value())
                };
                first = front.map(index).transpose().map_err(self.read_error())?;
                last = back.map(index).transpose().map_err(self.read_error())?.or(first);
            }
            let above = tail.writing.within(middle).chain(tail.fresh.within(0..u64::MAX));
            for (index, _) in above {
                first = first.or(Some(index));
                last = Some(index);
            }
            Ok(first.zip(last))
        })
    }

    fn truncate_from(&self, from: u64) -> Result<(), StoreError> {
        self.told(|fresh| fresh.truncate_from(from))
    }

    fn purge(&self, upto: u64, purged: &[u8]) -> Result<(), StoreError> {
        self.told(|fresh| fresh.purge(upto, purged))
    }

    fn get(&self, slot: Slot) -> Result<Option<Bytes>, StoreError> {
        self.with(|db| {
            let tail = self.tail();
            let told = tail.fresh.slots.get(&slot).or_else(|| tail.writing.slots.get(&slot));
            if let Some(value) = told {
                return Ok(Some(value.clone()));
            }
            let value = self.table(db, META)?.get(slot.name()).map_err(self.read_error())?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn put(&self, slot: Slot, value: &[u8]) -> Result<(), StoreError> {
        if value.len() > Limits::STORE_VALUE_BYTES {
            let limit = Limits::STORE_VALUE_BYTES;
            return Err(StoreError::TooLong { bytes: value.len(), limit });
        }
        self.told(|fresh| fresh.put(slot, value))
    }

    fn sync(&self) -> Result<(), StoreError> {
        let _alone = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = {
            let mut tail = self.tail();
            tail.writing = Arc::new(std::mem::take(&mut tail.fresh));
            tail.writing.clone()
        };
        if !layer.is_empty() {
            self.with(|db| write(db, &self.path, &layer))?;
        }
        self.tail().writing = Arc::default();
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        let synced = match self.sync() {
            // Closed before.
            Err(StoreError::Closed) => Ok(()),
            other => other,
        };
        // Dropping it releases the file's lock, whatever the last sync gave.
        drop(self.db.write().unwrap_or_else(PoisonError::into_inner).take());
        synced
    }
}

fn database(file: &Path) -> Result<Database, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder.create(file).map_err(|error| open_error(file, error))
}

/// Writes a layer in one durable transaction.
fn write(db: &Database, path: &Path, layer: &Layer) -> Result<(), StoreError> {
    let written = || -> Result<(), redb::Error> {
        let transaction = db.begin_write()?;
        {
            let mut log = transaction.open_table(LOG)?;
            if layer.floor > 0 {
                log.retain_in(..layer.floor, |_, _| false)?;
            }
            if layer.cut < u64::MAX {
                log.retain_in(layer.cut.., |_, _| false)?;
            }
            for (index, entry) in &layer.entries {
                log.insert(index, &entry[..])?;
            }
            let mut meta = transaction.open_table(META)?;
            for (slot, value) in &layer.slots {
                meta.insert(slot.name(), &value[..])?;
            }
        }
        transaction.commit()?;
        Ok(())
    };
    written().map_err(|error| general(path, "writing the log", error))
}

/// Makes an error of a panic inside redb, which is how a plain read may meet damage.
fn caught<T>(path: &Path, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let reason = format!("redb cannot read it: {}", panic_text(panic.as_ref()));
        Err(StoreError::Damaged { path: path.to_owned(), reason })
    })
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    let error = redb::Error::from(error);
    // What ends early or does not begin like a database is damage, whatever reported it.
    let odd = [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData];
    match error {
        redb::Error::Io(source) if odd.contains(&source.kind()) => {
            StoreError::Damaged { path: path.to_owned(), reason: source.to_string() }
        }
        error => general(path, "opening the store", error),
    }
}

fn general(path: &Path, operation: &'static str, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::Io(source) => StoreError::io(operation, path, source),
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path },
        redb::Error::UpgradeRequired(version) => {
            let reason = format!("it is in redb's file format {version}, which is not known here");
            StoreError::Foreign { path, reason }
        }
        error @ (redb::Error::Corrupted(_)
        | redb::Error::RepairAborted
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }) => {
            StoreError::Damaged { path, reason: error.to_string() }
        }
        // redb may add kinds; none of those there are today can be met here.
        error => StoreError::io(operation, path, io::Error::other(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_while_the_file_was_made_leaves_nothing_in_the_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let aside = folder.path().join(UNFINISHED);
        let whole = RedbStore::open(folder.path()).expect("it opens");
        whole.close().expect("closed");
        let made = fs::read(folder.path().join(FILE)).expect("there");
        // made in part, made without its tables, and made but not renamed
        drop(Database::create(folder.path().join("bare")).expect("made"));
        let bare = fs::read(folder.path().join("bare")).expect("there");
        for left in [&b""[..], &made[..made.len() / 2], &bare, &made] {
            fs::remove_file(folder.path().join(FILE)).expect("there");
            fs::write(&aside, left).expect("written");
            let store = RedbStore::open(folder.path()).expect("it opens");
            assert_eq!(store.bounds().expect("read"), None);
            assert_eq!(store.get(Slot::Vote).expect("its tables are there"), None);
            store.close().expect("closed");
            assert!(!aside.exists());
        }
    }
}
