//! Homes as folders of any filesystem: `<root>/<workspace>/{home,tmp}`.
//!
//! The folder of a workspace belongs to root and is shut to everybody else; only what is bound
//! into the container, `home` and `tmp`, belongs to the workspace's user. A home appears whole
//! (made beside its place, then renamed) and goes whole (renamed away, then removed). The size
//! asked for is not enforced here: a plain folder has no quota.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use warren_common::{Bytes, Limits, WorkspaceId};

use super::{
    PoolKind, PoolSeen, Volume, VolumeAnswer, VolumeError, VolumeStore, blocking,
    files::{OWNER, at, give, is_folder, make_folder, remove_all, seed, sync},
    findings,
    shift::{self, GIVE},
    tree,
};

/// Homes below one folder.
#[derive(Debug, Clone)]
pub struct PlainStore {
    root: Arc<Path>,
    owner: (u32, u32),
}

impl PlainStore {
    /// Keeps homes below `root`, which is made at the first use.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::owned_by(root, OWNER)
    }

    /// The same with another owner, for processes that may not give files away.
    pub(super) fn owned_by(root: impl Into<PathBuf>, owner: (u32, u32)) -> Self {
        Self { root: root.into().into(), owner }
    }

    fn folder(&self, workspace: WorkspaceId) -> PathBuf {
        self.root.join(workspace.to_string())
    }

    fn make(&self, workspace: WorkspaceId) -> Result<Volume, VolumeError> {
        let folder = self.folder(workspace);
        let (home, tmp) = (folder.join("home"), folder.join("tmp"));
        let created = !is_folder(&folder)?;
        if created {
            self.make_new(workspace, &folder)?;
        } else if !is_folder(&home)? {
            return Err(VolumeError::InTheWay { path: folder, what: "a folder without a home" });
        }
        if !is_folder(&tmp)? {
            self.make_tmp(&tmp)?;
        }
        Ok(Volume { home, tmp, created, metered: false })
    }

    fn make_new(&self, workspace: WorkspaceId, folder: &Path) -> Result<(), VolumeError> {
        if !is_folder(&self.root)? {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.root)
                .map_err(at("make", &self.root))?;
        }
        let disk = crate::host::capacity::disk(&self.root).map_err(at("measure", &self.root))?;
        if disk.available < Limits::DISK_MIN {
            let path = folder.to_owned();
            return Err(VolumeError::DiskFull { operation: "make", path });
        }
        let new = self.root.join(format!(".new-{workspace}"));
        remove_all(&new)?;
        make_folder(&new, 0o700)?;
        let filled = self.fill(&new);
        if filled.is_err() {
            // leaves no half home behind; the first error is the one that counts
            let _ = remove_all(&new);
        }
        filled?;
        fs::rename(&new, folder).map_err(at("name", folder))?;
        sync(&self.root)
    }

    fn fill(&self, new: &Path) -> Result<(), VolumeError> {
        let home = new.join("home");
        make_folder(&home, 0o700)?;
        seed(&home, self.owner)?;
        self.make_tmp(&new.join("tmp"))?;
        sync(new)
    }

    fn make_tmp(&self, tmp: &Path) -> Result<(), VolumeError> {
        make_folder(tmp, 0o1777)?;
        give(tmp, self.owner)
    }

    fn empty_tmp(&self, workspace: WorkspaceId) -> Result<(), VolumeError> {
        let folder = self.folder(workspace);
        if !is_folder(&folder)? {
            return Ok(());
        }
        let tmp = folder.join("tmp");
        remove_all(&tmp)?;
        self.make_tmp(&tmp)
    }

    fn delete(&self, workspace: WorkspaceId) -> Result<(), VolumeError> {
        let (folder, gone) = (self.folder(workspace), self.root.join(format!(".gone-{workspace}")));
        remove_all(&gone)?;
        if is_folder(&folder)? {
            fs::rename(&folder, &gone).map_err(at("name", &folder))?;
            sync(&self.root)?;
            remove_all(&gone)?;
        }
        remove_all(&self.root.join(format!(".new-{workspace}")))
    }

    /// Runs file work where it may block.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, VolumeError> + Send + 'static,
    ) -> VolumeAnswer<'static, T> {
        let store = self.clone();
        blocking(move || work(&store))
    }

    fn seen(&self) -> PoolSeen {
        // before the first home the folder is not there, and the disk is its parent's
        let there = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let (size, available) = crate::host::capacity::disk(there)
            .map_or_else(|_| Default::default(), |disk| (disk.total, disk.available));
        PoolSeen {
            kind: PoolKind::Plain,
            path: self.root.to_path_buf(),
            size,
            used: size.minus(available),
            available,
            findings: vec![findings::no_quota()],
        }
    }
}

impl VolumeStore for PlainStore {
    fn ensure(&self, workspace: WorkspaceId, _size: Bytes) -> VolumeAnswer<'_, Volume> {
        self.run(move |store| store.make(workspace))
    }

    fn clear_tmp(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()> {
        self.run(move |store| store.empty_tmp(workspace))
    }

    fn give(&self, workspace: WorkspaceId, base: (u32, u32)) -> VolumeAnswer<'_, ()> {
        self.run(move |store| {
            let folder = store.folder(workspace);
            for path in [folder.join("home"), folder.join("tmp")] {
                shift::give(&path, base).map_err(at(GIVE, &path))?;
            }
            Ok(())
        })
    }

    fn exists(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, bool> {
        self.run(move |store| is_folder(&store.folder(workspace)))
    }

    fn remove(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()> {
        self.run(move |store| store.delete(workspace))
    }

    fn usage(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, Bytes> {
        self.run(move |store| {
            let folder = store.folder(workspace);
            tree::measure(&folder).map(Bytes).map_err(at("measure", &folder))
        })
    }

    fn pool(&self) -> BoxFuture<'_, PoolSeen> {
        let seen = self.run(|store| Ok(store.seen()));
        async move { seen.await.unwrap_or_else(|error| PoolSeen::broken(&error)) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        os::unix::fs::{MetadataExt as _, symlink},
    };

    use super::*;

    fn workspace() -> WorkspaceId {
        "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id")
    }

    /// A store in a folder of its own, owned by whoever runs the test.
    fn store() -> (tempfile::TempDir, PlainStore) {
        let folder = tempfile::tempdir().expect("folder");
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let store = PlainStore::owned_by(folder.path().join("homes"), owner);
        (folder, store)
    }

    #[tokio::test]
    async fn a_home_is_made_once_and_kept() {
        let (_folder, store) = store();
        let made = store.ensure(workspace(), Bytes::gib(1)).await.expect("made");
        assert!(made.created);
        assert!(fs::read_to_string(made.home.join(".profile")).expect("seeded").contains("PATH"));
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o7777;
        assert_eq!(mode(&store.root), 0o700);
        assert_eq!(mode(made.home.parent().expect("a parent")), 0o700);
        assert_eq!(mode(&made.home), 0o700);
        assert_eq!(mode(&made.tmp), 0o1777);
        fs::write(made.home.join("work"), "kept").expect("write");
        fs::remove_file(made.home.join(".profile")).expect("remove");
        let again = store.ensure(workspace(), Bytes::gib(1)).await.expect("kept");
        assert!(!again.created);
        assert_eq!(fs::read_to_string(again.home.join("work")).expect("kept"), "kept");
        assert!(!again.home.join(".profile").exists(), "a home is seeded once");
    }

    #[tokio::test]
    async fn tmp_is_emptied_and_the_home_is_not() {
        let (_folder, store) = store();
        let made = store.ensure(workspace(), Bytes::gib(1)).await.expect("made");
        fs::write(made.tmp.join("x"), "").expect("write");
        fs::write(made.home.join("x"), "").expect("write");
        store.clear_tmp(workspace()).await.expect("emptied");
        assert!(made.tmp.is_dir() && !made.tmp.join("x").exists());
        assert!(made.home.join("x").exists());
    }

    #[tokio::test]
    async fn removal_is_whole_idempotent_and_follows_no_link() {
        let (folder, store) = store();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).expect("folder");
        fs::write(outside.join("precious"), "x").expect("write");
        let made = store.ensure(workspace(), Bytes::gib(1)).await.expect("made");
        symlink(&outside, made.home.join("link")).expect("link");
        fs::remove_dir(&made.tmp).expect("remove");
        symlink(&outside, &made.tmp).expect("link");
        store.remove(workspace()).await.expect("removed");
        assert!(outside.join("precious").exists());
        assert!(!store.exists(workspace()).await.expect("asked"));
        store.remove(workspace()).await.expect("gone is fine");
        assert_eq!(fs::read_dir(&*store.root).expect("root").count(), 0, "nothing is left");
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_a_folder_is_refused() {
        let (folder, store) = store();
        let made = store.ensure(workspace(), Bytes::gib(1)).await.expect("made");
        fs::remove_dir_all(&made.tmp).expect("remove");
        symlink(folder.path(), &made.tmp).expect("link");
        let error = store.ensure(workspace(), Bytes::gib(1)).await.expect_err("a link");
        assert_eq!((error.code(), error.retry()), ("VOLUME_IN_THE_WAY", false));
    }

    #[tokio::test]
    async fn what_a_crash_left_half_made_is_made_anew() {
        let (_folder, store) = store();
        let half = store.root.join(format!(".new-{}", workspace()));
        fs::create_dir_all(half.join("home/odd")).expect("folder");
        let made = store.ensure(workspace(), Bytes::gib(1)).await.expect("made");
        assert!(made.created && !made.home.join("odd").exists());
    }

    #[tokio::test]
    async fn usage_counts_what_is_written() {
        let (_folder, store) = store();
        assert_eq!(store.usage(workspace()).await.expect("asked"), Bytes(0));
        let made = store.ensure(workspace(), Bytes::gib(1)).await.expect("made");
        fs::write(made.home.join("big"), vec![1u8; 1 << 20]).expect("write");
        fs::hard_link(made.home.join("big"), made.home.join("again")).expect("link");
        let usage = store.usage(workspace()).await.expect("asked");
        assert!(usage >= Bytes::mib(1) && usage < Bytes::mib(2), "{usage}");
    }

    #[test]
    fn a_full_disk_says_so() {
        let error = at("write", Path::new("/x"))(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((error.code(), error.retry()), ("DISK_FULL", true));
        assert_eq!(error.to_string(), "cannot write /x: no space is left on the disk of the homes");
    }
}
