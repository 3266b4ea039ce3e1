//! Where a pool is, and how its filesystem comes to be mounted: made once, checked and mounted at
//! each start.
//!
//! A file that is short, another's or damaged is refused with what to do; nothing is repaired here
//! that could lose a home. What a crash left half done (a file without a filesystem, one that grew
//! without its filesystem, a loop device without a mount) is finished.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use tracing::{info, warn};
use uuid::Uuid;
use warren_common::{Bytes, Limits};

use super::{
    VolumeError,
    mounts::{self, Mounted},
    program::{LONG, SOON, run},
    record::Record,
    superblock::Superblock,
};
use crate::{
    host::capacity,
    volume::{
        choose::Size,
        files::{at, is_folder, make_folder, sync},
    },
};

/// The label of every pool we make.
const LABEL: &str = "warren-homes";
/// The least pool: below it btrfs has hardly room for its own.
pub(super) const LEAST: Bytes = Bytes::mib(512);
/// A filesystem ends at a multiple of its sector size, so it may be this much shorter than its file.
const SLACK: Bytes = Bytes::mib(1);

/// Where homes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file with a filesystem of its own, made with this size where it is not there.
    Loop {
        /// The file.
        file: PathBuf,
        /// How large it is made.
        size: Size,
    },
    /// In a folder of a btrfs filesystem.
    Folder(PathBuf),
}

impl Place {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Loop { file, .. } => file,
            Self::Folder(path) => path,
        }
    }
}

/// The folders and files around a pool.
#[derive(Debug, Clone)]
pub struct Site {
    pub(super) place: Place,
    /// Where the pool is mounted.
    pub(super) mount: PathBuf,
    record: PathBuf,
    lock: PathBuf,
}

impl Site {
    /// Names the pool of the agent with this state folder.
    pub fn new(state_dir: &Path, place: Place) -> Self {
        Self {
            place,
            mount: state_dir.join("pool"),
            record: state_dir.join("pool.json"),
            lock: state_dir.join("pool.lock"),
        }
    }

    /// Keeps others from changing the pool until the lock is dropped: the agent and the commands of
    /// `warren-node-agent pool` do it one at a time.
    pub(super) fn lock(&self) -> Result<File, VolumeError> {
        let mut open = OpenOptions::new();
        open.create(true).truncate(false).write(true).mode(0o600);
        let file = open.open(&self.lock).map_err(at("open", &self.lock))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| at("lock", &self.lock)(error.into()))?;
        Ok(file)
    }

    /// Makes, checks and mounts; the caller holds the lock. Returns the filesystem's id.
    pub(super) fn open(&self) -> Result<Uuid, VolumeError> {
        let uuid = match &self.place {
            Place::Loop { file, size } => self.open_loop(file, size)?,
            Place::Folder(path) => self.open_folder(path)?,
        };
        let mounted = self.mounted()?.ok_or_else(|| not_mounted(&self.mount))?;
        if mounted.read_only {
            return Err(VolumeError::Pool {
                what: format!("the pool {} is read-only", self.place.path().display()),
                next:
                    "the kernel log says why: after an error stop the workspaces, unmount it, and \
                       look at it with btrfs check"
                        .to_owned(),
            });
        }
        Ok(uuid)
    }

    fn open_loop(&self, file: &Path, size: &Size) -> Result<Uuid, VolumeError> {
        let record = Record::read(&self.record)?;
        if !file.exists() {
            self.make(file, size, record.as_ref())?;
        }
        let found = Superblock::read(file).map_err(at("read", file))?;
        let length = Bytes(fs::metadata(file).map_err(at("look at", file))?.len());
        let superblock = checked(file, found, length, record.as_ref())?;
        if record.is_none_or(|record| record.path != file) {
            Record::new(superblock.uuid, file).write(&self.record)?;
        }
        self.attach_and_mount(file)?;
        if length > superblock.total.plus(SLACK) {
            info!(pool = %file.display(), size = %length, "finishing what grew half");
            self.stretch(file)?;
        }
        Ok(superblock.uuid)
    }

    /// Makes the pool beside its place: filled first, then with a filesystem, then known, then named.
    fn make(&self, file: &Path, size: &Size, record: Option<&Record>) -> Result<(), VolumeError> {
        let new = file.with_extension("btrfs.new");
        if let Some(record) = record {
            let half = Superblock::read(&new).ok().flatten();
            if half.is_none_or(|half| half.uuid != record.uuid) {
                return Err(VolumeError::Pool {
                    what: format!("the pool {} is gone, and homes were in it", file.display()),
                    next: format!(
                        "put it back; to begin with no homes at all, remove {}",
                        self.record.display()
                    ),
                });
            }
            return rename(&new, file);
        }
        let folder = file.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(at("make", folder))?;
        let disk = capacity::disk(folder).map_err(at("measure", folder))?;
        let size = size.of(disk).map_err(|what| VolumeError::Pool {
            what: format!("the pool {} cannot be made: {what}", file.display()),
            next: "free space, or set [volumes] size and path in the agent's configuration"
                .to_owned(),
        })?;
        let begun = filled(&new, size).and_then(|()| {
            // discarding would make holes in the file again
            run("mkfs.btrfs", &[&"-q", &"-f", &"-K", &"-L", &LABEL, &new], LONG)
        });
        if let Err(error) = begun {
            // leaves no half pool behind; the first error is the one that counts
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        let made = Superblock::read(&new).map_err(at("read", &new))?;
        let made = made.ok_or_else(|| damaged(&new))?;
        Record::new(made.uuid, file).write(&self.record)?;
        rename(&new, file)?;
        info!(pool = %file.display(), %size, "the pool of homes was made");
        Ok(())
    }

    /// Mounts the pool where it is not, through the loop device that holds it already or a new one.
    fn attach_and_mount(&self, file: &Path) -> Result<(), VolumeError> {
        let devices = mounts::loops_of(file).map_err(at("look at", file))?;
        if let Some(mounted) = self.mounted()? {
            return match devices.contains(&mounted.source) {
                true => Ok(()),
                false => Err(in_the_way(&self.mount, &mounted)),
            };
        }
        self.mount_point()?;
        let (device, fresh) = match devices.into_iter().next() {
            Some(device) => (device, false),
            None => {
                let device = run("losetup", &[&"--find", &"--show", &file], SOON)?;
                (device.trim().to_owned(), true)
            }
        };
        // past the host's page cache, where the filesystem below can do that
        if let Err(error) = run("losetup", &[&"--direct-io=on", &device], SOON) {
            info!(%error, "the pool is read and written through the host's page cache");
        }
        let mount = self.mount_device(&device);
        if fresh {
            // the kernel lets go of it when it is unmounted: a mount holds it until then
            let freed = run("losetup", &[&"--detach", &device], SOON);
            if let Err(error) = freed {
                warn!(%error, device, "the loop device stays after the pool is unmounted");
            }
        }
        mount.map_err(|error| match error {
            VolumeError::Program { said, .. } => VolumeError::Pool {
                what: format!("the pool {} cannot be mounted: {said}", file.display()),
                next: "the kernel log says more; look at it with btrfs check --readonly before \
                       anything else is tried"
                    .to_owned(),
            },
            other => other,
        })
    }

    fn mount_device(&self, device: &str) -> Result<(), VolumeError> {
        // freed blocks are not given back to the host: the file would get holes
        let options = "nosuid,nodev,noatime,nodiscard";
        let mount = &self.mount;
        run("mount", &[&"-t", &"btrfs", &"-o", &options, &device, &mount], LONG).map(drop)
    }

    fn mount_point(&self) -> Result<(), VolumeError> {
        if !is_folder(&self.mount)? {
            return make_folder(&self.mount, 0o700);
        }
        let mut inside = fs::read_dir(&self.mount).map_err(at("read", &self.mount))?;
        match inside.next() {
            None => Ok(()),
            Some(_) => Err(VolumeError::InTheWay {
                path: self.mount.clone(),
                what: "it holds files where the pool is to be mounted: move them away",
            }),
        }
    }

    /// Tells the kernel and the filesystem how long the file is now.
    pub(super) fn stretch(&self, file: &Path) -> Result<(), VolumeError> {
        let mounted = self.mounted()?.ok_or_else(|| not_mounted(&self.mount))?;
        run("losetup", &[&"--set-capacity", &mounted.source], SOON)?;
        run("btrfs", &[&"filesystem", &"resize", &"max", &self.mount], LONG)?;
        info!(pool = %file.display(), "the pool of homes has the size of its file");
        Ok(())
    }

    fn open_folder(&self, path: &Path) -> Result<Uuid, VolumeError> {
        fs::create_dir_all(path).map_err(at("make", path))?;
        if !capacity::is_btrfs(path).map_err(at("look at", path))? {
            return Err(VolumeError::Pool {
                what: format!("{} is not on a btrfs filesystem", path.display()),
                next: "set [volumes] path to a file, which then gets a filesystem of its own"
                    .to_owned(),
            });
        }
        let uuid = uuid_of(path)?;
        let record = Record::read(&self.record)?;
        if let Some(record) = &record
            && record.uuid != uuid
        {
            return Err(another(path, uuid, record));
        }
        if record.is_none() {
            Record::new(uuid, path).write(&self.record)?;
        }
        match self.mounted()? {
            None => {
                self.mount_point()?;
                run("mount", &[&"--bind", &path, &self.mount], SOON)?;
            }
            Some(mounted) if uuid_of(&self.mount)? != uuid => {
                return Err(in_the_way(&self.mount, &mounted));
            }
            Some(_) => {}
        }
        if self.mounted()?.is_some_and(|mounted| mounted.open) {
            run("mount", &[&"-o", &"remount,bind,nosuid,nodev", &self.mount], SOON)?;
        }
        Ok(uuid)
    }

    /// Returns what is mounted as the pool; none where nothing is.
    pub(super) fn mounted(&self) -> Result<Option<Mounted>, VolumeError> {
        // the kernel tells paths without links in them
        let path = match fs::canonicalize(&self.mount) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("look at", &self.mount)(error)),
        };
        mounts::at(&path).map_err(at("look at mounts of", &path))
    }
}

/// Says whether a file is the pool it should be.
fn checked(
    file: &Path,
    found: Option<Superblock>,
    length: Bytes,
    record: Option<&Record>,
) -> Result<Superblock, VolumeError> {
    let found = found.ok_or_else(|| damaged(file))?;
    match record {
        Some(record) if record.uuid != found.uuid => return Err(another(file, found.uuid, record)),
        None if found.label != LABEL => {
            return Err(VolumeError::Pool {
                what: format!("{} holds a filesystem that is not Warren's", file.display()),
                next: "move it away, or set [volumes] path to another file".to_owned(),
            });
        }
        Some(_) | None => {}
    }
    if length < found.total {
        return Err(VolumeError::Pool {
            what: format!(
                "{} is cut short: {length} of {}, the rest of its homes is missing",
                file.display(),
                found.total
            ),
            next: "restore the whole file; do not mount it as it is".to_owned(),
        });
    }
    Ok(found)
}

fn damaged(file: &Path) -> VolumeError {
    VolumeError::Pool {
        what: format!("{} holds no btrfs filesystem, or a damaged one", file.display()),
        next: "look at it with btrfs rescue super-recover; if it is something else, move it away"
            .to_owned(),
    }
}

fn another(path: &Path, found: Uuid, record: &Record) -> VolumeError {
    VolumeError::Pool {
        what: format!(
            "{} holds filesystem {found}, the homes of this node are in {}",
            path.display(),
            record.uuid
        ),
        next: format!("put back what was at {}", record.path.display()),
    }
}

fn in_the_way(mount: &Path, mounted: &Mounted) -> VolumeError {
    VolumeError::Pool {
        what: format!("{} ({}) is mounted at {}", mounted.source, mounted.kind, mount.display()),
        next: format!("unmount it: umount {}", mount.display()),
    }
}

fn not_mounted(mount: &Path) -> VolumeError {
    VolumeError::Pool {
        what: format!("the pool is not mounted at {}", mount.display()),
        next: "it is mounted by the agent: look at its log".to_owned(),
    }
}

/// Makes a file of this length with every block its own, or makes an existing one that long.
pub(super) fn filled(file: &Path, size: Bytes) -> Result<(), VolumeError> {
    let mut open = OpenOptions::new();
    open.create(true).truncate(false).write(true).mode(0o600);
    let opened = open.open(file).map_err(at("open", file))?;
    fallocate(&opened, FallocateFlags::empty(), 0, size.0)
        .map_err(|error| at("fill", file)(error.into()))?;
    opened.sync_all().map_err(at("sync", file))
}

/// Returns what a file of this length lacks in blocks of its own.
pub(super) fn holes(file: &Path) -> io::Result<Bytes> {
    let facts = fs::metadata(file)?;
    Ok(Bytes(facts.len()).minus(Bytes(facts.blocks() * 512)))
}

fn rename(new: &Path, file: &Path) -> Result<(), VolumeError> {
    fs::rename(new, file).map_err(at("name", file))?;
    sync(file.parent().unwrap_or(Path::new("/")))
}

/// Asks which filesystem a mounted path is on.
fn uuid_of(path: &Path) -> Result<Uuid, VolumeError> {
    let ask = || {
        let mounted = mounts::holding(&fs::canonicalize(path)?)?;
        match mounted {
            Some(mounted) => mounts::filesystem_on(&mounted.source),
            None => Ok(None),
        }
    };
    let uuid = ask().map_err(at("look at mounts of", path))?;
    uuid.ok_or_else(|| VolumeError::Pool {
        what: format!("the kernel does not tell which filesystem {} is on", path.display()),
        next: "set [volumes] path to a folder of a btrfs filesystem on a disk of this machine"
            .to_owned(),
    })
}

/// What a pool that is given to homes keeps for the filesystem itself: a twentieth, and 128 MiB.
pub(super) fn for_homes(whole: Bytes) -> Bytes {
    whole.minus(Bytes(whole.0 / 20)).minus(Limits::DISK_MIN).minus(Limits::DISK_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(uuid: u128, total: Bytes, label: &str) -> Superblock {
        Superblock { uuid: Uuid::from_u128(uuid), total, label: label.to_owned() }
    }

    #[test]
    fn a_pool_that_is_short_or_another_is_refused_with_what_to_do() {
        let (file, size) = (Path::new("/pool"), Bytes::gib(4));
        let record = Record::new(Uuid::from_u128(1), file);
        let ours = || Some(superblock(1, size, LABEL));
        let check = |found, length, record| checked(file, found, length, record);
        assert!(check(ours(), size, Some(&record)).is_ok());
        assert!(check(ours(), size.plus(Bytes::gib(1)), None).is_ok(), "it grew");
        for (found, length, record, words) in [
            (None, size, Some(&record), "holds no btrfs"),
            (ours(), Bytes::gib(3), Some(&record), "cut short: 3 GiB of 4 GiB"),
            (Some(superblock(2, size, LABEL)), size, Some(&record), "put back"),
            (Some(superblock(1, size, "data")), size, None, "not Warren's"),
        ] {
            let error = check(found, length, record).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!((error.code(), error.retry()), ("POOL_UNUSABLE", true));
        }
    }

    #[test]
    fn homes_get_what_the_filesystem_does_not_need() {
        assert_eq!(for_homes(Bytes::gib(100)), Bytes::gib(95).minus(Bytes::mib(128)));
        assert_eq!(for_homes(Bytes::mib(64)), Bytes(0));
    }
}
