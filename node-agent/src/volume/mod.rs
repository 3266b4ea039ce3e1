//! Home volumes: where a workspace's files live between and across its runs.
//!
//! A volume is only ever removed because an order says so; nothing here cleans up on its own.
//! [`plain`] keeps them as folders; the fake beside it can be told to fail.

pub mod fake;
pub mod plain;
pub mod shift;
mod tree;

use std::{io, path::PathBuf};

use futures_util::future::BoxFuture;
use warren_common::{Bytes, WorkspaceId};

/// The outcome of a volume call, to be awaited. Dropping it abandons the wait, not the work.
pub type VolumeAnswer<'a, T> = BoxFuture<'a, Result<T, VolumeError>>;

/// A place that keeps home volumes.
pub trait VolumeStore: Send + Sync + 'static {
    /// Makes sure the workspace has its home (seeded when new) and its `/tmp`, owned by uid 1000.
    fn ensure(&self, workspace: WorkspaceId, size: Bytes) -> VolumeAnswer<'_, Volume>;

    /// Empties the workspace's `/tmp`; only between runs.
    fn clear_tmp(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()>;

    /// Returns whether the workspace has a home here.
    fn exists(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, bool>;

    /// Removes home and `/tmp` for good; gone is fine. Never follows a symbolic link.
    fn remove(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()>;

    /// Returns the disk the home takes. Walks every file: ask seldom.
    fn usage(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, Bytes>;
}

/// One workspace's folders on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The home, to be mounted at `/home/agent`.
    pub home: PathBuf,
    /// Disk-backed `/tmp`, in the same pool.
    pub tmp: PathBuf,
    /// Whether this call made it.
    pub created: bool,
}

/// A volume call that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The disk of the homes is full.
    #[error("cannot {operation} {}: no space is left on the disk of the homes", path.display())]
    DiskFull {
        /// What was being done.
        operation: &'static str,
        /// To which path.
        path: PathBuf,
    },
    /// Something that is not ours stands in the way.
    #[error("{} is in the way: {what}", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The filesystem refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// Returns the stable code for `RunState::Failed`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DiskFull { .. } => "DISK_FULL",
            Self::InTheWay { .. } => "VOLUME_IN_THE_WAY",
            Self::Io { .. } => "VOLUME_FAILED",
        }
    }

    /// Returns whether the same call can succeed later without anybody changing the order.
    pub const fn retry(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Io { .. } => true,
            Self::InTheWay { .. } => false,
        }
    }
}
