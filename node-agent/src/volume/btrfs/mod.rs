//! Homes as btrfs subvolumes, with one quota group per workspace:
//! `<pool>/homes/<workspace>/{home,tmp}`.
//!
//! The pool is a filesystem in a file that the agent makes and grows, or a folder of one that is
//! there (`site`). It is made, checked and mounted at the first use, and looked at again where it
//! was found wanting: an agent whose pool is broken runs on and says so. A full home is an EDQUOT
//! inside, and nothing else notices. See `homes` for the volumes, `groups` for the quotas,
//! [`pool`] for what a person does to the pool.

mod groups;
mod homes;
mod mounts;
pub mod pool;
mod program;
mod record;
mod site;
mod superblock;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tracing::{info, warn};
use uuid::Uuid;
use warren_common::{Bytes, WorkspaceId};
use warren_daemon::telemetry::Chain;

use super::{
    PoolKind, PoolSeen, Volume, VolumeAnswer, VolumeError, VolumeStore, blocking, findings,
};
use crate::host::capacity;
use groups::{Group, Groups};
use site::for_homes;
pub use site::{Place, Site};

/// The least pool.
pub const LEAST: Bytes = site::LEAST;
/// A pool that could not be opened is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// Whether this machine has what a pool in a file needs.
pub fn able() -> bool {
    let programs = ["btrfs", "mkfs.btrfs", "losetup", "mount"];
    let known = || {
        let list = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        list.lines().any(|line| line.trim() == "btrfs")
    };
    let root = rustix::process::geteuid().is_root();
    root && programs.iter().all(|program| program::find(program).is_some())
        // a kernel may have it as a module that nobody has needed yet
        && (known() || (program::run("modprobe", &[&"btrfs"], program::SOON).is_ok() && known()))
}

/// Homes in a pool.
#[derive(Debug, Clone)]
pub struct BtrfsStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    site: Site,
    owner: (u32, u32),
    state: Mutex<State>,
}

/// How the pool stands.
#[derive(Debug, Default)]
struct State {
    opened: Option<Opened>,
    /// When it could not be opened, and why, in words.
    failed: Option<(Instant, String, String)>,
}

/// A pool that is mounted and checked.
#[derive(Debug, Clone)]
struct Opened {
    homes: PathBuf,
    groups: Groups,
    uuid: Uuid,
}

impl BtrfsStore {
    /// Keeps homes in the pool of this site, which is made at the first use.
    pub fn new(site: Site) -> Self {
        Self::owned_by(site, super::files::OWNER)
    }

    /// Whether there is a pool to open, rather than one to be made.
    pub fn is_made(&self) -> bool {
        match &self.shared.site.place {
            Place::Loop { file, .. } => file.exists(),
            Place::Folder(_) => true,
        }
    }

    fn owned_by(site: Site, owner: (u32, u32)) -> Self {
        Self { shared: Arc::new(Shared { site, owner, state: Mutex::default() }) }
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &Opened) -> Result<T, VolumeError> + Send + 'static,
    ) -> VolumeAnswer<'static, T> {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared, &shared.opened()?))
    }
}

impl Shared {
    /// Returns the pool, opening it where that is not done yet or its mount has gone away.
    fn opened(&self) -> Result<Opened, VolumeError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &state.opened {
            if self.is_there(opened) {
                return Ok(opened.clone());
            }
            warn!(pool = %self.site.place.path().display(), "the pool is not mounted any more");
            state.opened = None;
        }
        if let Some((at, what, next)) = &state.failed
            && at.elapsed() < AGAIN
        {
            return Err(VolumeError::Pool { what: what.clone(), next: next.clone() });
        }
        match self.open() {
            Ok(opened) => {
                *state = State { opened: Some(opened.clone()), failed: None };
                Ok(opened)
            }
            Err(error) => {
                let (what, next) = match &error {
                    VolumeError::Pool { what, next } => (what.clone(), next.clone()),
                    other => (Chain(other).to_string(), "look at the agent's log".to_owned()),
                };
                if state.failed.as_ref().is_none_or(|(_, before, _)| *before != what) {
                    warn!(error = %Chain(&error), "the pool cannot be used; trying again");
                }
                state.failed = Some((Instant::now(), what, next));
                Err(error)
            }
        }
    }

    fn open(&self) -> Result<Opened, VolumeError> {
        let _lock = self.site.lock()?;
        let uuid = self.site.open()?;
        let homes = self.site.mount.join("homes");
        if !super::files::is_folder(&homes)? {
            super::files::make_folder(&homes, 0o700)?;
        }
        let groups = Groups::new(&self.site.mount, uuid);
        groups.enable()?;
        if !groups.consistent() {
            groups.recount()?;
        }
        // what stands in no home's way is for the log alone; on others' filesystem it is theirs
        if matches!(self.site.place, Place::Loop { .. })
            && let Err(error) = homes::sweep(&groups, &self.site.mount)
        {
            warn!(%error, "quota groups of removed volumes stay for now");
        }
        self.fill_holes();
        info!(pool = %self.site.place.path().display(), %uuid, "the pool is open");
        Ok(Opened { homes, groups, uuid })
    }

    /// Makes every block of the pool's file its own again: a file that was copied may have holes.
    fn fill_holes(&self) {
        let Place::Loop { file, .. } = &self.site.place else { return };
        let length = std::fs::metadata(file).map(|facts| Bytes(facts.len()));
        if let (Ok(length), Ok(holes)) = (length, site::holes(file))
            && holes > Bytes(0)
            && let Err(error) = site::filled(file, length)
        {
            warn!(error = %Chain(&error), %holes, "the pool's file has holes");
        }
    }

    /// Whether the pool is still mounted: what was written without it would be lost below it.
    fn is_there(&self, opened: &Opened) -> bool {
        opened.homes.is_dir() && capacity::is_btrfs(&self.site.mount).unwrap_or(false)
    }

    fn seen(&self) -> Result<PoolSeen, VolumeError> {
        let opened = self.opened()?;
        let mount = &self.site.mount;
        let failed = |source| VolumeError::Io { operation: "measure", path: mount.clone(), source };
        let disk = capacity::disk(mount).map_err(failed)?;
        let (kind, size) = match self.site.place {
            Place::Loop { .. } => (PoolKind::Loop, for_homes(disk.total)),
            // others fill it too: what homes can take is what is left and what they have
            Place::Folder(_) => {
                let homes = homes::total(&opened)?;
                (PoolKind::Folder, for_homes(disk.available).plus(homes))
            }
        };
        let mut findings: Vec<_> =
            findings::of_pool(disk.total, disk.available).into_iter().collect();
        // that it is mounted was seen above; the list of all mounts is long where much runs
        let facts = rustix::fs::statvfs(mount).map_err(|error| failed(error.into()))?;
        if facts.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            let error = self.site.open().err();
            findings.extend(error.as_ref().map(findings::unusable));
        }
        if !opened.groups.consistent() {
            findings.push(findings::counting());
        }
        if let Place::Loop { file, .. } = &self.site.place
            && site::holes(file).is_ok_and(|holes| holes > Bytes::mib(1))
        {
            findings.push(findings::sparse(file));
        }
        Ok(PoolSeen {
            kind,
            path: self.site.place.path().to_owned(),
            size,
            used: disk.total.minus(disk.available),
            available: disk.available,
            findings,
        })
    }
}

impl Opened {
    fn folder(&self, workspace: WorkspaceId) -> PathBuf {
        self.homes.join(workspace.to_string())
    }

    fn mount(&self) -> &Path {
        self.homes.parent().unwrap_or(&self.homes)
    }
}

impl VolumeStore for BtrfsStore {
    fn ensure(&self, workspace: WorkspaceId, size: Bytes) -> VolumeAnswer<'_, Volume> {
        self.run(move |shared, opened| homes::ensure(opened, shared.owner, workspace, size))
    }

    fn clear_tmp(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()> {
        self.run(move |shared, opened| homes::clear_tmp(opened, shared.owner, workspace))
    }

    fn give(&self, workspace: WorkspaceId, base: (u32, u32)) -> VolumeAnswer<'_, ()> {
        self.run(move |_, opened| homes::give_all(opened, workspace, base))
    }

    fn exists(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, bool> {
        self.run(move |_, opened| homes::exists(opened, workspace))
    }

    fn remove(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, ()> {
        self.run(move |_, opened| homes::remove(opened, workspace))
    }

    fn usage(&self, workspace: WorkspaceId) -> VolumeAnswer<'_, Bytes> {
        self.run(move |_, opened| {
            let row = opened.groups.get(Group::of(workspace))?;
            Ok(row.map_or(Bytes(0), |row| row.referenced))
        })
    }

    fn pool(&self) -> BoxFuture<'_, PoolSeen> {
        let shared = Arc::clone(&self.shared);
        async move {
            let path = shared.site.place.path().to_owned();
            let seen = blocking(move || shared.seen()).await;
            seen.unwrap_or_else(|error| PoolSeen { path, ..PoolSeen::broken(&error) })
        }
        .boxed()
    }
}
