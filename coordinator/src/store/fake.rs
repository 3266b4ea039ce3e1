//! A log store in memory that can be told to fail, for tests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{LogStore, Record, Slot, StoreError};

/// The fake: everything is readable at once; a [`sync`](LogStore::sync) can fail or be held up.
#[derive(Default)]
pub struct FakeStore {
    inner: Mutex<Inner>,
    gate: Arc<Gate>,
}

/// How long a sync may be held: a test that hangs is a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Inner {
    log: BTreeMap<u64, Bytes>,
    slots: BTreeMap<Slot, Bytes>,
    syncs: usize,
    sync_error: Option<String>,
    append_panics: bool,
    closed: bool,
}

#[derive(Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

/// Holds every sync up until it is dropped.
pub struct HeldSync {
    gate: Arc<Gate>,
}

impl Drop for HeldSync {
    fn drop(&mut self) {
        self.gate.lock().0 = false;
        self.gate.changed.notify_all();
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, (bool, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` holds of (held, arrived).
    fn wait(&self, ready: impl Fn(&(bool, bool)) -> bool) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| !ready(state));
        let (_state, late) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "nobody came to a held sync");
    }
}

impl FakeStore {
    /// Lets the next sync fail with this text.
    pub fn fail_next_sync(&self, reason: &str) {
        self.lock().sync_error = Some(reason.to_owned());
    }

    /// Lets the next append panic.
    pub fn panic_at_next_append(&self) {
        self.lock().append_panics = true;
    }

    /// Counts the syncs so far, failed ones too.
    pub fn syncs(&self) -> usize {
        self.lock().syncs
    }

    /// Holds every sync up until the returned value is dropped.
    pub fn hold_sync(&self) -> HeldSync {
        *self.gate.lock() = (true, false);
        HeldSync { gate: self.gate.clone() }
    }

    /// Blocks until a held sync has begun.
    pub fn wait_for_sync(&self) {
        self.gate.wait(|(_, arrived)| *arrived);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let inner = self.lock();
        if inner.closed { Err(StoreError::Closed) } else { Ok(inner) }
    }
}

impl LogStore for FakeStore {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut inner = self.open()?;
        assert!(!std::mem::take(&mut inner.append_panics), "told to panic");
        inner.log.extend(records.iter().cloned());
        Ok(())
    }

    fn read_range(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        let inner = self.open()?;
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        if from >= to {
            return Ok(records);
        }
        for (index, record) in inner.log.range(from..to) {
            bytes = bytes.saturating_add(record.len());
            if bytes > max_bytes && !records.is_empty() {
                break;
            }
            records.push((*index, record.clone()));
        }
        Ok(records)
    }

    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let inner = self.open()?;
        let (first, last) = (inner.log.first_key_value(), inner.log.last_key_value());
        Ok(first.zip(last).map(|((first, _), (last, _))| (*first, *last)))
    }

    fn truncate_from(&self, from: u64) -> Result<(), StoreError> {
        self.open()?.log.split_off(&from);
        Ok(())
    }

    fn purge(&self, upto: u64, purged: &[u8]) -> Result<(), StoreError> {
        let mut inner = self.open()?;
        inner.slots.insert(Slot::Purged, Bytes::copy_from_slice(purged));
        inner.log.retain(|index, _| *index > upto);
        Ok(())
    }

    fn get(&self, slot: Slot) -> Result<Option<Bytes>, StoreError> {
        Ok(self.open()?.slots.get(&slot).cloned())
    }

    fn put(&self, slot: Slot, value: &[u8]) -> Result<(), StoreError> {
        self.open()?.slots.insert(slot, Bytes::copy_from_slice(value));
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.gate.lock().1 = true;
        self.gate.changed.notify_all();
        self.gate.wait(|(held, _)| !held);
        let mut inner = self.open()?;
        inner.syncs += 1;
        match inner.sync_error.take() {
            Some(reason) => Err(StoreError::Failed(reason)),
            None => Ok(()),
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.lock().closed = true;
        Ok(())
    }
}
