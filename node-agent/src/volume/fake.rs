//! Homes for tests: plain folders owned by whoever runs the test, that can be told to fail.
//!
//! A file `fail-volume` beside the homes holds the code of the failure for every `ensure`:
//! `DISK_FULL` or anything else. Removing the file mends the disk. Where a file
//! `full-tmp-<workspace>` is, emptying that workspace's `/tmp` takes ten minutes.

use std::{fs, io, path::PathBuf, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use warren_common::{Bytes, WorkspaceId};

use super::{PoolSeen, Volume, VolumeAnswer, VolumeError, VolumeStore, plain::PlainStore};

/// Homes that need no right to give files away.
#[derive(Debug, Clone)]
pub struct FakeStore {
    plain: PlainStore,
    control: PathBuf,
}

impl FakeStore {
    /// Keeps homes below `root`; reads `root/fail-volume` at each `ensure`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let control = root.join("fail-volume");
        Self { plain: PlainStore::owned_by(root, owner), control }
    }
}

impl VolumeStore for FakeStore {
    fn ensure(&self, workspace: WorkspaceId, size: Bytes) -> VolumeAnswer<'_, Volume> {
        async move {
            match fs::read_to_string(&self.control) {
                Ok(code) if code.trim() == "DISK_FULL" => {
                    Err(VolumeError::DiskFull { operation: "make", path: self.control.clone() })
                }
                Ok(_) => Err(VolumeError::Io {
                    operation: "make",
                    path: self.control.clone(),
                    source: io::Error::other("told to fail"),
                }),
                Err(_) => self.plain.ensure(workspace, size).await,
            }
        }
        .boxed()
    }

    fn clear_tmp(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()> {
        let full = self.control.with_file_name(format!("full-tmp-{workspace}")).exists();
        async move {
            if full {
                tokio::time::sleep(Duration::from_secs(600)).await;
            }
            self.plain.clear_tmp(workspace).await
        }
        .boxed()
    }

    fn give(&self, workspace: WorkspaceId, base: (u32, u32)) -> VolumeAnswer<'_, ()> {
        self.plain.give(workspace, base)
    }

    fn exists(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, bool> {
        self.plain.exists(workspace)
    }

    fn remove(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()> {
        self.plain.remove(workspace)
    }

    fn usage(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, Bytes> {
        self.plain.usage(workspace)
    }

    /// Homes of a fake engine have no quota either, which is nobody's concern.
    fn pool(&self) -> BoxFuture<'_, PoolSeen> {
        let pool = self.plain.pool();
        async move { PoolSeen { findings: Vec::new(), ..pool.await } }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_fails_when_told_and_mends() {
        let folder = tempfile::tempdir().expect("folder");
        let store = FakeStore::new(folder.path());
        let workspace = "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id");
        fs::write(folder.path().join("fail-volume"), "DISK_FULL").expect("write");
        let error = store.ensure(workspace, Bytes::gib(1)).await.expect_err("told to");
        assert_eq!(error.code(), "DISK_FULL");
        fs::remove_file(folder.path().join("fail-volume")).expect("remove");
        assert!(store.ensure(workspace, Bytes::gib(1)).await.expect("mended").created);
    }
}
