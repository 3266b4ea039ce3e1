//! Home volumes: where a workspace's files live between and across its runs.
//!
//! A volume is only ever removed because an order says so; nothing here cleans up on its own.
//! [`btrfs`] keeps them as subvolumes with a quota each, [`plain`] as folders without; the fake can
//! be told to fail. [`choose`] says which of them a node has.

pub mod btrfs;
pub mod choose;
pub mod fake;
mod files;
pub mod findings;
pub mod plain;
mod shift;
mod tree;

use std::{io, path::PathBuf, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use warren_common::{Bytes, WorkspaceId, status::Finding};

/// The outcome of a volume call, to be awaited. Dropping it abandons the wait, not the work.
pub type VolumeAnswer<'a, T> = BoxFuture<'a, Result<T, VolumeError>>;

/// A place that keeps home volumes.
pub trait VolumeStore: Send + Sync + 'static {
    /// Makes sure the workspace has its home (seeded when new) and its `/tmp`, owned by uid 1000,
    /// with a quota of `size` over both where there are quotas: also one that was made with another
    /// size, or half made.
    fn ensure(&self, workspace: WorkspaceId, size: Bytes) -> VolumeAnswer<'_, Volume>;

    /// Empties the workspace's `/tmp`; only between runs.
    fn clear_tmp(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()>;

    /// Gives home and `/tmp`, which are there, to the users of the range that begins at `base`
    /// (0, 0: not remapped), however full the home is; only between runs.
    fn give(&self, workspace: WorkspaceId, base: (u32, u32)) -> VolumeAnswer<'_, ()>;

    /// Returns whether the workspace has a home here.
    fn exists(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, bool>;

    /// Removes home and `/tmp` for good; gone is fine. Never follows a symbolic link.
    fn remove(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()>;

    /// Returns the disk that home and `/tmp` take; nothing where there are none. Cheap where the
    /// volume is metered; elsewhere it walks every file: ask seldom.
    fn usage(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, Bytes>;

    /// Looks at the place itself. Never fails: what is wrong with it is among its findings.
    fn pool(&self) -> BoxFuture<'_, PoolSeen>;
}

/// The place that keeps the homes, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSeen {
    /// What it is.
    pub kind: PoolKind,
    /// Where it is: the pool's file, or the folder.
    pub path: PathBuf,
    /// What homes can take in all; of a plain folder the size of its filesystem.
    pub size: Bytes,
    /// What is taken of it.
    pub used: Bytes,
    /// What is left.
    pub available: Bytes,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// What keeps the homes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// A btrfs filesystem in a file of its own.
    Loop,
    /// A folder of a btrfs filesystem that holds other things too.
    Folder,
    /// A folder of any filesystem, without quotas.
    Plain,
    /// It cannot be used.
    Broken,
}

impl PoolKind {
    /// Returns the word for people and the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loop => "btrfs pool",
            Self::Folder => "btrfs folder",
            Self::Plain => "plain folder",
            Self::Broken => "unusable",
        }
    }
}

impl PoolSeen {
    /// Returns a place that cannot be used, and why.
    pub fn broken(error: &VolumeError) -> Self {
        let none = Bytes(0);
        let findings = vec![findings::unusable(error)];
        let (kind, path) = (PoolKind::Broken, PathBuf::new());
        Self { kind, path, size: none, used: none, available: none, findings }
    }
}

/// Runs file work where it may block.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> VolumeAnswer<'static, T> {
    let task = tokio::task::spawn_blocking(work);
    async move {
        task.await.unwrap_or_else(|error| {
            let (operation, path) = ("finish file work", PathBuf::new());
            Err(VolumeError::Io { operation, path, source: io::Error::other(error) })
        })
    }
    .boxed()
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
    /// Whether its size is enforced and its use is known at no cost.
    pub metered: bool,
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
    /// The pool is not as it should be, or cannot be made.
    #[error("{what}; {next}")]
    Pool {
        /// What is wrong with it, in one sentence.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// A program did not do what it was asked.
    #[error("{program} failed: {said}")]
    Program {
        /// The command line.
        program: String,
        /// What it wrote.
        said: String,
    },
    /// A program did not end in time; what it was doing may go on.
    #[error("{program} did not end within {} s", after.as_secs())]
    Timeout {
        /// The command line.
        program: String,
        /// The deadline.
        after: Duration,
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
            Self::Pool { .. } => "POOL_UNUSABLE",
            Self::Io { .. } | Self::Program { .. } | Self::Timeout { .. } => "VOLUME_FAILED",
        }
    }

    /// Returns whether the same call can succeed later without anybody changing the order.
    pub const fn retry(&self) -> bool {
        match self {
            Self::DiskFull { .. }
            | Self::Io { .. }
            | Self::Pool { .. }
            | Self::Program { .. }
            | Self::Timeout { .. } => true,
            Self::InTheWay { .. } => false,
        }
    }
}
