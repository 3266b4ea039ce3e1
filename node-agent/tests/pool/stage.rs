//! A pool of a test's own, and what is done to it.
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use uuid::Uuid;
use warren_common::{Bytes, WorkspaceId};
use warren_node_agent::volume::{
    Volume, VolumeStore as _,
    btrfs::{self, BtrfsStore, Place, Site},
    choose::Size,
};

/// Large enough for two homes, small enough to be filled in a second.
pub(crate) const POOL: Bytes = Bytes::mib(640);

/// A pool in a folder of its own.
pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) store: BtrfsStore,
}

impl Stage {
    /// Makes one; none where this machine cannot.
    pub(crate) fn new() -> Option<Self> {
        if !btrfs::able() {
            eprintln!("SKIPPED: not root, or no btrfs-progs, or no btrfs in the kernel");
            return None;
        }
        let folder = tempfile::tempdir().expect("folder");
        let store = store(folder.path());
        Some(Self { folder, store })
    }

    pub(crate) fn state(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.state().join("pool.btrfs")
    }

    pub(crate) fn mount(&self) -> PathBuf {
        self.state().join("pool")
    }

    /// The agent dies and another comes; the pool stays mounted.
    pub(crate) fn restart(&mut self) {
        self.store = store(self.folder.path());
    }

    /// The machine goes down: nothing is mounted, no loop device is left.
    pub(crate) fn power_off(&mut self) {
        run("umount", &[&self.mount().to_string_lossy()]);
        self.restart();
        assert_eq!(self.loops(), "", "a loop device outlived its mount");
    }

    pub(crate) fn loops(&self) -> String {
        run(
            "losetup",
            &["--noheadings", "--output", "NAME", "--associated", &self.file().to_string_lossy()],
        )
    }

    pub(crate) async fn volume(&self, workspace: WorkspaceId, size: Bytes) -> Volume {
        self.store.ensure(workspace, size).await.expect("a volume")
    }

    pub(crate) async fn codes(&self) -> Vec<String> {
        self.store.pool().await.findings.into_iter().map(|finding| finding.code).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mount()).output();
    }
}

pub(crate) fn store(state: &Path) -> BtrfsStore {
    let place = Place::Loop { file: state.join("pool.btrfs"), size: Size::Fixed(POOL) };
    BtrfsStore::new(Site::new(state, place))
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program");
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn workspace() -> WorkspaceId {
    WorkspaceId::new(Uuid::now_v7())
}

/// Writes until nothing more can be written; returns the error and how much went in.
pub(crate) fn fill(path: &Path) -> (std::io::ErrorKind, Bytes) {
    fill_by(path, 1 << 20)
}

/// The same in steps of this many bytes: the last step that fits no more is what stays free.
pub(crate) fn fill_by(path: &Path, step: usize) -> (std::io::ErrorKind, Bytes) {
    let mut file = match OpenOptions::new().create(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) => return (error.kind(), Bytes(0)),
    };
    let chunk = vec![7_u8; step];
    let mut written = 0;
    loop {
        match file.write_all(&chunk).and_then(|()| file.sync_data()) {
            Ok(()) => written += chunk.len() as u64,
            Err(error) => return (error.kind(), Bytes(written)),
        }
    }
}

pub(crate) fn write(path: &Path, mib: usize) {
    fs::write(path, vec![1_u8; mib << 20]).expect("written");
    run("sync", &["-f", &path.to_string_lossy()]);
}

/// Waits for what the kernel does in the background.
pub(crate) async fn wait(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: not within 60 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
