//! The node's own swap file: made, switched on, and taken away again, as the configuration says.
//!
//! Workspaces get swap only as an explicit share, and a share needs swap to be there. The file is
//! fallocated (a hole would be found in the middle of swapping), readable by root alone, and used
//! through the distribution's own `mkswap` and `swapon`. What cannot work is refused with its
//! reason, which becomes a finding of the node; nothing else of the node depends on it.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::fs::{FallocateFlags, IFlags, fallocate, fstatfs, ioctl_getflags, ioctl_setflags};
use tokio::{process::Command, time::timeout};
use tracing::info;
use warren_common::Bytes;

use super::capacity;

/// Making and switching on.
const PROGRAM: Duration = Duration::from_secs(60);
/// Switching off reads everything back into memory.
const OFF: Duration = Duration::from_secs(900);
/// Part of the disk that must be left beside the file: one in so many.
const LEFT: u64 = 10;
/// A file may be this much larger than what the kernel shows of it: its header.
const HEADER: u64 = 64 * 1024;

const BTRFS: i64 = 0x9123_683e;
/// Filesystems that cannot hold swap, and what they are called.
const UNFIT: [(i64, &str); 8] = [
    (0x0102_1994, "tmpfs, which is memory itself"),
    (0x8584_58f6, "ramfs, which is memory itself"),
    (0x794c_7630, "overlayfs, which has no blocks of its own"),
    (0x6969, "NFS: the network may need memory to be reached"),
    (0xff53_4d42, "CIFS: the network may need memory to be reached"),
    (0x6573_5546, "FUSE: its program may need memory to run"),
    (0x2fc1_2fc1, "ZFS, which cannot hold swap files"),
    (0xca45_1a4e, "bcachefs, which cannot hold swap files"),
];

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapConfig {
    /// Its size; none for no swap file.
    pub size: Option<Bytes>,
    /// Where it lies.
    pub file: PathBuf,
    /// The kernel's priority: higher is used first; none leaves it to the kernel.
    pub priority: Option<u16>,
}

/// Why there is no swap file.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The place cannot hold one.
    #[error("{} is on {why}", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What it is on.
        why: &'static str,
    },
    /// Copy-on-write cannot be switched off, and swap must not move.
    #[error("{} is on btrfs and could not be exempted from copy-on-write: {source}", file.display())]
    CopyOnWrite {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Too little would be left.
    #[error("{size} of swap in {} would leave less than a tenth of its disk ({available} are free)", file.display())]
    NoRoom {
        /// The file.
        file: PathBuf,
        /// What was asked for.
        size: Bytes,
        /// What is free.
        available: Bytes,
    },
    /// Something else lies there.
    #[error("{} is there and is no swap file of Warren's", file.display())]
    Taken {
        /// The file.
        file: PathBuf,
    },
    /// A step failed.
    #[error("cannot {what} {}: {source}", file.display())]
    Io {
        /// Which.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Brings the swap file in line with the configuration. It may be called again at any time, also
/// after it was killed half way. `state` is the node's folder, where it notes which file is its.
///
/// # Errors
/// Why there is none, or why one is still there.
pub async fn settle(config: &SwapConfig, state: &Path) -> Result<(), SwapError> {
    let note = state.join("swapfile.path");
    let noted = fs::read_to_string(&note).ok().map(|path| PathBuf::from(path.trim_end()));
    let wanted = config.size.map(|size| (config.file.as_path(), size));
    let keeps = |file: &Path| wanted.is_some_and(|(path, _)| path == file);
    if let Some(old) = noted.as_deref().filter(|old| !keeps(old)) {
        take_away(old).await?;
        fs::remove_file(&note).map_err(|source| failed("remove the note of", old, source))?;
    }
    let Some((file, size)) = wanted else { return Ok(()) };
    let active = active_size(file);
    if active.is_some_and(|active| size.minus(active).0 <= HEADER && active <= size) {
        return Ok(());
    }
    let ours = noted.as_deref() == Some(file);
    if !ours && file.exists() {
        return Err(SwapError::Taken { file: file.to_owned() });
    }
    if ours {
        take_away(file).await?;
    }
    let text = format!("{}\n", file.display());
    fs::write(&note, text).map_err(|source| failed("note", file, source))?;
    let made = make(file, size, config.priority).await;
    if made.is_err() {
        // what is half made would be taken for a stranger's at the next start
        let _ = fs::remove_file(file);
        let _ = fs::remove_file(&note);
    }
    made
}

async fn make(file: &Path, size: Bytes, priority: Option<u16>) -> Result<(), SwapError> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(|source| failed("make the folder of", file, source))?;
    let room =
        capacity::disk(folder).map_err(|source| failed("look at the disk of", file, source))?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let made = opened.map_err(|source| failed("make", file, source))?;
    fit(&made, file)?;
    if room.available.minus(size).0 < room.total.0 / LEFT {
        return Err(SwapError::NoRoom { file: file.to_owned(), size, available: room.available });
    }
    let secret = made.set_permissions(Permissions::from_mode(0o600));
    secret.map_err(|source| failed("guard", file, source))?;
    fallocate(&made, FallocateFlags::empty(), 0, size.0)
        .map_err(|error| failed("allocate", file, error.into()))?;
    made.sync_all().map_err(|source| failed("write", file, source))?;
    drop(made);
    run("mkswap", &[], file, PROGRAM).await?;
    let priority = priority.map(|priority| format!("--priority={priority}"));
    run("swapon", priority.as_slice(), file, PROGRAM).await?;
    info!(file = %file.display(), %size, "swap file switched on");
    Ok(())
}

/// Checks that the filesystem can hold swap; on btrfs exempts the file, empty as it still is, from
/// copy-on-write.
fn fit(made: &File, file: &Path) -> Result<(), SwapError> {
    let system = fstatfs(made).map_err(|error| failed("look at", file, error.into()))?;
    let kind = system.f_type & 0xffff_ffff;
    if let Some((_, why)) = UNFIT.iter().find(|(magic, _)| *magic == kind) {
        return Err(SwapError::Unfit { file: file.to_owned(), why });
    }
    if kind != BTRFS {
        return Ok(());
    }
    let exempted = ioctl_getflags(made)
        .and_then(|flags| ioctl_setflags(made, flags | IFlags::NOCOW))
        .and_then(|()| ioctl_getflags(made));
    match exempted {
        Ok(flags) if flags.contains(IFlags::NOCOW) => Ok(()),
        Ok(_) => {
            let source = io::Error::other("it takes no such flag here (is it compressed?)");
            Err(SwapError::CopyOnWrite { file: file.to_owned(), source })
        }
        Err(error) => Err(SwapError::CopyOnWrite { file: file.to_owned(), source: error.into() }),
    }
}

async fn take_away(file: &Path) -> Result<(), SwapError> {
    if active_size(file).is_some() {
        run("swapoff", &[], file, OFF).await?;
        info!(file = %file.display(), "swap file switched off");
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", file, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns the size of a swap file that is in use.
fn active_size(file: &Path) -> Option<Bytes> {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    active_in(&swaps, file)
}

fn active_in(swaps: &str, file: &Path) -> Option<Bytes> {
    let path = file.to_string_lossy().replace(' ', "\\040");
    let line = swaps.lines().find(|line| line.split_ascii_whitespace().next() == Some(&path))?;
    let kib: u64 = line.split_ascii_whitespace().nth(2)?.parse().ok()?;
    Some(Bytes(kib * 1024))
}

async fn run(
    program: &'static str,
    arguments: &[String],
    file: &Path,
    deadline: Duration,
) -> Result<(), SwapError> {
    let mut command = Command::new(program);
    command.args(arguments).arg(file).stdin(Stdio::null()).kill_on_drop(true);
    let done = timeout(deadline, command.output()).await;
    let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let done = done.map_err(|source| failed(program, file, source))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(failed(program, file, io::Error::other(said)))
}

fn failed(what: &'static str, file: &Path, source: io::Error) -> SwapError {
    SwapError::Io { what, file: file.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_found_by_its_path() {
        let swaps = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                     /dev/vda2                               partition\t2097148\t0\t-2\n\
                     /var/lib/a\\040b/swapfile               file\t\t65532\t\t0\t\t10\n";
        let size = active_in(swaps, Path::new("/var/lib/a b/swapfile"));
        assert_eq!(size, Some(Bytes(65_532 * 1024)));
        assert_eq!(active_in(swaps, Path::new("/var/lib/a")), None);
    }

    #[tokio::test]
    async fn memory_cannot_hold_swap_and_nothing_is_left_of_the_attempt() {
        let state = tempfile::tempdir().expect("folder");
        let file = PathBuf::from(format!("/dev/shm/warren-test-swap-{}", std::process::id()));
        let config = SwapConfig { size: Some(Bytes::mib(16)), file: file.clone(), priority: None };
        let refused = settle(&config, state.path()).await.expect_err("refused").to_string();
        assert!(refused.contains("tmpfs, which is memory itself"), "{refused}");
        assert!(!file.exists());
        settle(&SwapConfig { size: None, ..config }, state.path()).await.expect("nothing to do");
    }

    #[tokio::test]
    async fn a_file_of_somebody_elses_is_left_alone() {
        let state = tempfile::tempdir().expect("folder");
        let file = state.path().join("precious");
        fs::write(&file, "data").expect("written");
        let config = SwapConfig { size: Some(Bytes::mib(16)), file: file.clone(), priority: None };
        let refused = settle(&config, state.path()).await.expect_err("refused");
        assert!(matches!(refused, SwapError::Taken { .. }), "{refused}");
        settle(&SwapConfig { size: None, ..config }, state.path()).await.expect("nothing to do");
        assert_eq!(fs::read_to_string(&file).expect("there"), "data");
    }

    #[tokio::test]
    async fn a_disk_is_never_filled_with_swap() {
        let state = tempfile::tempdir().expect("folder");
        let file = state.path().join("swapfile");
        let config =
            SwapConfig { size: Some(Bytes::gib(1 << 20)), file: file.clone(), priority: None };
        let refused = settle(&config, state.path()).await.expect_err("refused");
        let fits = matches!(refused, SwapError::NoRoom { .. } | SwapError::Unfit { .. });
        assert!(fits && !file.exists(), "{refused}");
    }
}
