//! The secrets of workspaces on this node: files in memory, never on a disk.
//!
//! One filesystem in memory per node, root's, below the runtime folder; a folder per workspace in
//! it, which its container has bound read-only. A file belongs to the workspace's user and is put in
//! place whole, so that whoever reads sees the old value or the new one. The filesystem outlives a
//! restart of the agent and ends with the machine's boot. Nothing here knows where values come from.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::statfs,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use warren_common::{Limits, SecretName, WorkspaceId};
use warren_daemon::Secret;

/// The folder of the filesystem, below the runtime folder.
const FOLDER: &str = "secrets";
/// Ends the name of the file that says what a workspace's folder holds.
const HELD: &str = "held";
/// Where a file is written before it is put in place: beside the folders, which workspaces see.
const FRESH: &str = ".new";
/// User and group that workspaces run as, as seen inside.
const OWNER: u32 = 1000;
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

/// Secrets by name.
pub type Values = Vec<(SecretName, Secret<Vec<u8>>)>;

/// What a workspace's folder holds, as far as one may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The mark of the order that it was filled for.
    pub mark: u64,
    /// Where the ids begin that the engine gives to workspaces.
    pub base: (u32, u32),
}

/// The folders of all workspaces.
#[derive(Debug)]
pub struct Vaults {
    root: PathBuf,
    kind: Kind,
    /// Held while the filesystem is looked at and mounted.
    mounting: Mutex<()>,
}

/// Where the folders are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In memory that is never swapped out.
    Memory,
    /// In a plain folder, of whoever runs the agent: for the engine that runs nothing.
    Folder,
}

impl Vaults {
    /// Prepares nothing yet.
    pub fn new(runtime: &Path, kind: Kind) -> Self {
        Self { root: runtime.join(FOLDER), kind, mounting: Mutex::default() }
    }

    /// Returns a workspace's folder, whether it is there or not.
    pub fn dir(&self, workspace: WorkspaceId) -> PathBuf {
        self.root.join(workspace.to_string())
    }

    /// Returns what a workspace's folder holds; none where that is not known, as after a boot.
    pub fn held(&self, workspace: WorkspaceId) -> Option<Held> {
        let text = fs::read_to_string(self.note(workspace)).ok()?;
        let held = serde_json::from_str(&text).ok()?;
        self.dir(workspace).is_dir().then_some(held)
    }

    /// Makes a workspace's folder hold exactly these, and notes it. Blocks.
    ///
    /// # Errors
    /// The filesystem cannot be mounted, or a file not be written; some values may be the new ones
    /// then, and it is not noted.
    pub fn fill(&self, workspace: WorkspaceId, held: Held, values: &Values) -> io::Result<()> {
        self.ready()?;
        let filled = self.fill_in(workspace, held, values);
        if filled.is_err() {
            // what was written of a value is not left where nobody looks
            let _ = self.remove_fresh(workspace);
        }
        filled
    }

    fn fill_in(&self, workspace: WorkspaceId, held: Held, values: &Values) -> io::Result<()> {
        let dir = self.dir(workspace);
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        // of a fill that was broken off
        self.remove_fresh(workspace)?;
        let fresh = self.fresh(workspace);
        for (name, value) in values {
            self.write(&fresh, value.expose(), Some(held.base))?;
            fs::rename(&fresh, dir.join(name.as_str()))?;
        }
        let names: BTreeSet<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| names.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        let text = serde_json::to_string(&held).map_err(io::Error::other)?;
        self.write(&fresh, text.as_bytes(), None)?;
        fs::rename(&fresh, self.note(workspace))
    }

    /// Takes every secret of a workspace away, also from a container that still has the folder.
    pub fn remove(&self, workspace: WorkspaceId) {
        let dir = self.dir(workspace);
        let removed = [
            fs::remove_file(self.note(workspace)),
            self.remove_fresh(workspace),
            fs::remove_dir_all(&dir),
        ];
        for error in removed.into_iter().filter_map(Result::err) {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(%workspace, %error, "secrets cannot be taken away");
            }
        }
    }

    /// Takes away what fills left that an earlier agent did not finish.
    pub fn clean(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(FRESH)?.parse().ok());
            if let Some(Err(error)) = id.map(|id| self.remove_fresh(id)) {
                warn!(path = %entry.path().display(), %error, "a secret cannot be taken away");
            }
        }
    }

    /// Takes away what is there of workspaces that are not this node's any more.
    pub fn sweep(&self, is_ours: impl Fn(WorkspaceId) -> bool) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            // the folder itself, or a file beside it that is left of one
            let id = name.to_str().and_then(|name| name.split('.').next()?.parse().ok());
            if let Some(id) = id.filter(|id| !is_ours(*id)) {
                self.remove(id);
            }
        }
    }

    /// Takes the filesystem away with all that is in it; what is gone already is fine. Blocks.
    ///
    /// # Errors
    /// It cannot be unmounted.
    pub fn close(&self) -> io::Result<()> {
        match fs::metadata(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if self.kind == Kind::Memory && self.is_mounted()? {
            unmount(&self.root, UnmountFlags::empty())?;
        }
        fs::remove_dir_all(&self.root)
    }

    fn fresh(&self, workspace: WorkspaceId) -> PathBuf {
        self.root.join(format!("{workspace}{FRESH}"))
    }

    fn remove_fresh(&self, workspace: WorkspaceId) -> io::Result<()> {
        match fs::remove_file(self.fresh(workspace)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn note(&self, workspace: WorkspaceId) -> PathBuf {
        self.root.join(format!("{workspace}.{HELD}"))
    }

    fn write(&self, path: &Path, bytes: &[u8], base: Option<(u32, u32)>) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
        file.write_all(bytes)?;
        match (self.kind, base) {
            (Kind::Memory, Some((uid, gid))) => {
                let own = |base: u32| Some(base.saturating_add(OWNER));
                fchown(&file, own(uid), own(gid))
            }
            (Kind::Memory, None) | (Kind::Folder, _) => Ok(()),
        }
    }

    /// Makes sure of the filesystem.
    fn ready(&self) -> io::Result<()> {
        let _turn = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(&self.root)?;
        if self.kind == Kind::Folder || self.is_mounted()? {
            return Ok(());
        }
        let most = Limits::WORKSPACES_PER_NODE * 2 * Limits::SECRETS_PER_VAULT;
        let options = format!("mode=0755,size={}", most * Limits::SECRET_BYTES);
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let with = |kind: &str, options: String| -> io::Result<()> {
            let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
            Ok(mount("warren-secrets", &self.root, kind, flags, Some(options.as_c_str()))?)
        };
        let kind = match with("tmpfs", format!("{options},noswap")) {
            Ok(()) => "tmpfs, noswap",
            // kernels before 6.4: this one is never swapped out, and has no bound of its own
            Err(_) => with("ramfs", "mode=0755".to_owned()).map(|()| "ramfs")?,
        };
        info!(path = %self.root.display(), kind, "memory for secrets");
        Ok(())
    }

    /// Whether a filesystem of its own is mounted there, in memory: what stands on a disk is not
    /// written into.
    fn is_mounted(&self) -> io::Result<bool> {
        let above = self.root.parent().unwrap_or(Path::new("/"));
        let apart = fs::metadata(&self.root)?.dev() != fs::metadata(above)?.dev();
        let kind = statfs(&self.root)?.f_type;
        match (apart, kind) {
            (false, _) => Ok(false),
            (true, TMPFS | RAMFS) => Ok(true),
            (true, _) => Err(io::Error::other(format!(
                "something else is mounted at {}; unmount it",
                self.root.display()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        let value = |text: &str| Secret::new(text.as_bytes().to_vec());
        pairs.iter().map(|(name, text)| (name.parse().expect("a name"), value(text))).collect()
    }

    fn workspace() -> WorkspaceId {
        "0199a0b2-7f00-7000-8000-0000deadbeef".parse().expect("an id")
    }

    #[test]
    fn a_folder_holds_exactly_what_it_was_filled_with_last() {
        let runtime = tempfile::tempdir().expect("a folder");
        let vaults = Vaults::new(runtime.path(), Kind::Folder);
        let held = Held { mark: 7, base: (0, 0) };
        assert_eq!(vaults.held(workspace()), None);
        vaults.fill(workspace(), held, &values(&[("a", "one"), ("b", "two")])).expect("filled");
        assert_eq!(vaults.held(workspace()), Some(held));
        let dir = vaults.dir(workspace());
        let open = fs::File::open(dir.join("a")).expect("open");
        let next = Held { mark: 8, ..held };
        vaults.fill(workspace(), next, &values(&[("a", "three")])).expect("filled");
        assert_eq!(fs::read_to_string(dir.join("a")).expect("there"), "three");
        assert_eq!(io::read_to_string(open).expect("read"), "one", "a whole value, old or new");
        let names: Vec<_> = fs::read_dir(&dir).expect("listed").flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let mode = names[0].metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        // another agent finds it
        let again = Vaults::new(runtime.path(), Kind::Folder);
        assert_eq!(again.held(workspace()), Some(next));
        again.sweep(|_| true);
        assert!(dir.exists());
        again.sweep(|_| false);
        assert!(!dir.exists() && again.held(workspace()).is_none());
        again.remove(workspace());
    }

    #[test]
    fn what_a_broken_off_fill_left_is_taken_away_at_start_and_at_the_next_fill() {
        let runtime = tempfile::tempdir().expect("a folder");
        let vaults = Vaults::new(runtime.path(), Kind::Folder);
        let held = Held { mark: 7, base: (0, 0) };
        vaults.fill(workspace(), held, &values(&[("a", "one")])).expect("filled");
        let half = runtime.path().join(FOLDER).join(format!("{}{FRESH}", workspace()));
        let broken = || fs::write(&half, "canary").expect("written");
        broken();
        vaults.fill(workspace(), Held { mark: 0, ..held }, &Vec::new()).expect("filled");
        assert!(!half.exists());
        broken();
        Vaults::new(runtime.path(), Kind::Folder).clean();
        assert!(!half.exists() && vaults.held(workspace()).is_some());
        broken();
        vaults.sweep(|_| true);
        assert!(half.exists(), "another fill may be writing it");
        vaults.remove(workspace());
        assert!(!half.exists());
        // of a workspace that is gone but for this
        broken();
        vaults.sweep(|_| false);
        assert!(!half.exists());
        // a value that cannot be put in place
        fs::create_dir_all(vaults.dir(workspace()).join("a")).expect("in its way");
        fs::write(vaults.dir(workspace()).join("a/b"), "x").expect("written");
        vaults.fill(workspace(), held, &values(&[("a", "one")])).expect_err("a folder is there");
        assert!(!half.exists());
    }
}
