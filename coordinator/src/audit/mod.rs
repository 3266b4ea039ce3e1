//! The audit records on disk: append-only segment files of JSON lines beside the checkpoints.
//!
//! JSON lines, not a packed format, because these files are read by people and by tools that are
//! not ours, years later and perhaps with nothing else left of the cluster: `jq` is enough, and a
//! torn last line is told from a whole one by its line feed. The first line of a segment says after
//! which record it begins, with that record's hash, so each segment can be checked by itself.
//!
//! The records are derived: applying the log makes them again. So they need no fsync of their own
//! before a checkpoint lets the log go, and after a crash the torn end is cut and written again from
//! the replay; records that are there already are compared, not repeated. A replica that was brought
//! up by another one's checkpoint has no records of before; the gap is stated by the next segment's
//! first line. Sealing and checking the chain is the model's business.

mod reader;
mod row;
mod segment;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use warren_model::audit::BrokenChain;

use crate::store::StoreError;

pub use reader::{Fit, Found, Gap, Search, read, search};
pub use verify::{Break, Verified, newest, verify, verify_while};
pub use writer::{AuditLog, AuditSync};

/// Why audit records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The disk failed.
    #[error("{}", .0.chain())]
    Store(StoreError),
    /// A file holds something that is not a record where records are known to have been.
    #[error(
        "{} line {line} is damaged ({reason}); keep a copy, move the file away, and the gap will \
         be recorded",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The records do not form a chain: somebody changed, removed or added one.
    #[error("{} was tampered with: {broken}", path.display())]
    Broken {
        /// The segment.
        path: PathBuf,
        /// Where the chain breaks.
        broken: BrokenChain,
    },
    /// The records on disk are of another history than the state.
    #[error(
        "audit record {sequence} on disk is not the one the log gives: the files belong to another \
         cluster or were changed"
    )]
    Diverged {
        /// Which record.
        sequence: u64,
    },
    /// Others read records from this disk.
    #[error(
        "{} others read audit records here at the moment",
        warren_common::Limits::AUDIT_READERS
    )]
    Busy,
    /// An earlier failure.
    #[error("{0}")]
    Failed(String),
}

impl AuditError {
    /// Returns what is wrong with the records, without the file's path.
    fn told(&self) -> String {
        match self {
            Self::Damaged { reason, .. } => reason.clone(),
            Self::Broken { broken, .. } => broken.to_string(),
            Self::Store(_) | Self::Diverged { .. } | Self::Busy | Self::Failed(_) => {
                self.to_string()
            }
        }
    }

    /// Returns it for openraft's storage traits.
    pub(crate) fn into_io(self) -> std::io::Error {
        match self {
            Self::Store(error) => error.into_io(),
            Self::Damaged { .. }
            | Self::Broken { .. }
            | Self::Diverged { .. }
            | Self::Busy
            | Self::Failed(_) => std::io::Error::other(self.to_string()),
        }
    }
}
