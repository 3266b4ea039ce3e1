//! The disk under the Raft log: one small trait, the sled store behind it, and the flusher.
//!
//! A [`LogStore`] keeps opaque entries by index and a few small named values. Writing makes them
//! readable at once; only [`LogStore::sync`] makes them durable, and only the [`Flusher`]'s one
//! thread calls it, so many writes share one fsync. [`open`] gives the store of a state folder:
//! one of two engines, under a seal that notices when an engine comes back with less than it
//! promised. Nothing here knows what an entry means (that is `raft/`), and nothing outside this
//! folder names a database. [`files`] holds the other half of the durable state: whole files that
//! are replaced at one blow.

mod engine;
pub mod fake;
pub mod files;
mod flusher;
mod redb_store;
mod seal;
mod sled_row;
mod sled_store;
mod tail;

use std::{io, path::PathBuf};

use bytes::Bytes;

pub use engine::{Engine, UnknownEngine, open};
pub use flusher::{Done, Flusher, Lost};
pub use redb_store::RedbStore;
pub use seal::Sealed;
pub use sled_store::SledStore;

/// One log entry as the store sees it: its index and its encoding.
pub type Record = (u64, Bytes);

/// The small named values beside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The last vote this replica gave.
    Vote,
    /// The last log id known as committed; may be older than the truth after a crash.
    Committed,
    /// The last log id that was removed from the front of the log.
    Purged,
    /// Whose store it is.
    Replica,
    /// How often it was synced and where the log ended then; [`Sealed`] alone writes it.
    Seal,
}

impl Slot {
    /// Returns the name under which a store keeps it; part of the format on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Committed => "committed",
            Self::Purged => "purged",
            Self::Replica => "replica",
            Self::Seal => "seal",
        }
    }
}

/// A log on disk. Every write is visible to every reader when the call returns, and durable, in
/// the order of the calls, when a later [`sync`](Self::sync) has returned. A crash before that
/// keeps a prefix of the calls, and of an append perhaps only its first entries. Any error means
/// the replica must stop.
pub trait LogStore: Send + Sync + 'static {
    /// Adds entries at the end: indexes consecutive, the first one after the last there is.
    fn append(&self, records: &[Record]) -> Result<(), StoreError>;

    /// Returns the entries of `from..to` in order, ending early once `max_bytes` are exceeded; the
    /// first one is returned whatever its size. Indexes that are not there are left out.
    fn read_range(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Record>, StoreError>;

    /// Returns the first and the last index; none where the log is empty.
    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError>;

    /// Removes the entries with `index >= from`.
    fn truncate_from(&self, from: u64) -> Result<(), StoreError>;

    /// Sets [`Slot::Purged`] to `purged` and removes the entries with `index <= upto`.
    fn purge(&self, upto: u64, purged: &[u8]) -> Result<(), StoreError>;

    /// Returns a named value.
    fn get(&self, slot: Slot) -> Result<Option<Bytes>, StoreError>;

    /// Replaces a named value.
    fn put(&self, slot: Slot, value: &[u8]) -> Result<(), StoreError>;

    /// Makes everything written before the call durable. Blocks; never called twice after it failed.
    fn sync(&self) -> Result<(), StoreError>;

    /// Releases files and locks; every later call fails with [`StoreError::Closed`].
    fn close(&self) -> Result<(), StoreError>;
}

/// Why a store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The volume is full.
    #[error("no space left on the volume of {}: free some and start the coordinator again", path.display())]
    NoSpace {
        /// The folder written to.
        path: PathBuf,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The folder of the store.
        path: PathBuf,
    },
    /// The files are not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store belongs to another replica or was written by a newer version.
    #[error("{} cannot be used: {reason}", path.display())]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{operation} failed in {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// An entry is too long to be kept.
    #[error("a log entry of {bytes} bytes is longer than the {limit} the store can hold")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Storage failed earlier, and nothing has been written since.
    #[error("storage failed earlier: {0}")]
    Failed(String),
}

impl StoreError {
    /// Names an I/O failure, telling a full volume apart.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io { operation, path, source },
        }
    }

    /// Returns the error with its causes in one sentence, as an [`io::Error`] of the right kind.
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::NoSpace { .. } => io::ErrorKind::StorageFull,
            Self::InUse { .. } => io::ErrorKind::WouldBlock,
            Self::Damaged { .. } | Self::Foreign { .. } => io::ErrorKind::InvalidData,
            Self::Io { source, .. } => source.kind(),
            Self::TooLong { .. } => io::ErrorKind::InvalidInput,
            Self::Closed | Self::Failed(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, self.chain())
    }

    /// Returns the error with its causes in one sentence.
    pub fn chain(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            Self::NoSpace { .. }
            | Self::InUse { .. }
            | Self::Damaged { .. }
            | Self::Foreign { .. }
            | Self::TooLong { .. }
            | Self::Closed
            | Self::Failed(_) => self.to_string(),
        }
    }
}

/// Returns what a panic said, in one line.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
