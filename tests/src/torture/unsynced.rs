//! The counter-proof: a store that acknowledges after sled's own flush, without the fsync, under
//! the same power cut.
//!
//! Why it is caught so surely: sled's flush makes the kernel write the pages it has, and they do
//! reach the disk. But the file has grown since it was last synced, and where it grew to is
//! metadata, which ext4 commits by itself only every five seconds. A cut before that leaves a file
//! that ends where it ended at the last fsync. So each try uses a fresh disk, writes more than one
//! of sled's segments, and is cut within two seconds of the opening fsync: everything that was
//! acknowledged in between is lost, or the store cannot be opened at all.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use warren_coordinator::store::{Flusher, LogStore, Record, SledStore, Slot, StoreError};

use super::{Moments, device::Disk};
use crate::Stage;

/// Bytes of an entry.
const ENTRY: usize = 600;

/// Which sync the flusher calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// sled's flush alone.
    FlushOnly,
    /// The store as it is.
    Synced,
}

/// What the cuts did to one arm.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// How many there were.
    pub cuts: usize,
    /// The store could not be opened or read.
    pub unopenable: usize,
    /// It was opened and had lost acknowledged entries.
    pub lossy: usize,
    /// How many of them, over all cuts.
    pub lost: u64,
    /// Entries acknowledged before their cut.
    pub acknowledged: u64,
}

impl Tally {
    /// Counts the cuts that did harm.
    pub fn caught(&self) -> usize {
        self.unopenable + self.lossy
    }

    /// Returns it as JSON.
    pub fn json(&self) -> Value {
        let Self { cuts, unopenable, lossy, lost, acknowledged } = self;
        json!({
            "cuts": cuts, "unopenable": unopenable, "lossy": lossy, "lost_entries": lost,
            "acknowledged": acknowledged,
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cuts, unopenable, lossy, lost, acknowledged } = self;
        write!(
            f,
            "{} of {cuts} cuts did harm: {unopenable} could not be opened, {lossy} had lost entries \
             ({lost} of {acknowledged} acknowledged ones)",
            self.caught()
        )
    }
}

/// Cuts the power of one arm up to `tries` times.
///
/// # Errors
/// Fails where the disk cannot be made.
pub fn cut_until_caught(
    stage: &Arc<Stage>,
    arm: Arm,
    tries: usize,
    moments: &mut Moments,
) -> Result<Tally> {
    let disk = Disk::new(stage, &stage.root().join("unsynced"))?;
    let mut tally = Tally::default();
    for _ in 0..tries {
        disk.renew()?;
        one(stage, &disk, (arm, moments), &mut tally)?;
    }
    Ok(tally)
}

fn one(
    stage: &Stage,
    disk: &Disk,
    (arm, moments): (Arm, &mut Moments),
    tally: &mut Tally,
) -> Result<()> {
    let folder = stage.root().join("unsynced/log");
    let store = Arc::new(SledStore::open(&folder)?);
    let flushed: Arc<dyn LogStore> = match arm {
        Arm::FlushOnly => Arc::new(FlushOnly(store.clone())),
        Arm::Synced => store.clone(),
    };
    let flusher = Flusher::start(flushed.clone())?;
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (stop, acknowledged, flusher) = (stop.clone(), acknowledged.clone(), flusher.clone());
        thread::spawn(move || write(&store, &flusher, &stop, &acknowledged))
    };
    thread::park_timeout(moments.between(300, 1500));
    // counted before the moment of the cut: what is acknowledged later is not held against it
    let must = acknowledged.load(Ordering::SeqCst);
    let frozen = disk.cut()?;
    stop.store(true, Ordering::SeqCst);
    drop(frozen);
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    flusher.stop();
    flushed.close()?;
    drop(flushed);
    anyhow::ensure!(must > 0, "nothing was acknowledged before the cut");
    disk.back()?;
    tally.cuts += 1;
    tally.acknowledged += must;
    match kept(&folder) {
        Ok(kept) if kept >= must => {}
        Ok(kept) => {
            tally.lossy += 1;
            tally.lost += must - kept;
        }
        Err(error) => {
            eprintln!("not to be opened after a cut: {error}");
            tally.unopenable += 1;
        }
    }
    Ok(())
}

/// Appends entries, each acknowledged before the next, until told to stop.
fn write(
    store: &SledStore,
    flusher: &Flusher,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for index in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        store.append(&[entry(index)])?;
        runtime.block_on(flusher.flushed()).context("the flush")?;
        acknowledged.store(index + 1, Ordering::SeqCst);
    }
    Ok(())
}

/// Opens what the cut left and counts the entries from the first on that are as they were written.
fn kept(folder: &std::path::Path) -> Result<u64, StoreError> {
    let store = SledStore::open(folder)?;
    let read = store.read_range(0, u64::MAX, usize::MAX);
    store.close()?;
    let same = (0..).zip(read?).take_while(|(index, record)| *record == entry(*index));
    Ok(same.count() as u64)
}

fn entry(index: u64) -> Record {
    (index, Bytes::from(index.to_be_bytes().repeat(ENTRY / 8)))
}

/// The store as it would be if sled's flush were enough.
struct FlushOnly(Arc<SledStore>);

impl LogStore for FlushOnly {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        self.0.append(records)
    }

    fn read_range(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        self.0.read_range(from, to, max_bytes)
    }

    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError> {
        self.0.bounds()
    }

    fn truncate_from(&self, from: u64) -> Result<(), StoreError> {
        self.0.truncate_from(from)
    }

    fn purge(&self, upto: u64, purged: &[u8]) -> Result<(), StoreError> {
        self.0.purge(upto, purged)
    }

    fn get(&self, slot: Slot) -> Result<Option<Bytes>, StoreError> {
        self.0.get(slot)
    }

    fn put(&self, slot: Slot, value: &[u8]) -> Result<(), StoreError> {
        self.0.put(slot, value)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.0.flush_without_sync()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.0.close()
    }
}
