//! Removing and measuring trees whose content is hostile.
//!
//! Whoever owned a tree chose its names, links and depth. So nothing here follows a link or goes
//! by a path of more than one name, and neither the stack nor the open files grow with the depth
//! of the tree: the standard library's walk does both, and a folder within a folder a few ten
//! thousand times over would end the agent.

use std::{
    collections::HashSet,
    ffi::CStr,
    io,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat},
    io::Errno,
};

/// Folders within folders that are walked by descent, each with an open file of ours.
const DEPTH: u32 = 64;
/// The longest a tree is measured; what was not reached by then is not counted.
const MEASURING: Duration = Duration::from_secs(30);
/// Files with several names that are told apart; more of them are counted at each name.
const LINKED: usize = 1 << 20;

/// Removes a tree, or the file or link in its place; gone is fine. What lies deeper than it is
/// walked is moved up to the top of the tree first.
///
/// # Errors
/// What the kernel refused.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let top = match folder(CWD, path) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(CWD, path, AtFlags::empty())?),
        Err(error) => return Err(error.into()),
    };
    let mut moved = Moved { top: &top, prefix: uuid::Uuid::now_v7().to_string(), count: 0 };
    empty(&top, DEPTH, &mut moved)?;
    Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

/// Where folders go that lie too deep, under names that nobody could guess.
struct Moved<'a> {
    top: &'a OwnedFd,
    prefix: String,
    count: u64,
}

/// Removes everything in a folder; looks again until it finds nothing.
fn empty(dir: &OwnedFd, depth: u32, moved: &mut Moved<'_>) -> Result<(), Errno> {
    loop {
        let mut found = false;
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            if is_self(entry.file_name()) {
                continue;
            }
            found = true;
            remove_entry(dir, (entry.file_name(), entry.file_type()), depth, moved)?;
        }
        if !found {
            return Ok(());
        }
    }
}

fn remove_entry(
    dir: &OwnedFd,
    (name, kind): (&CStr, FileType),
    depth: u32,
    moved: &mut Moved<'_>,
) -> Result<(), Errno> {
    if kind != FileType::Directory {
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // a filesystem that does not tell kinds
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    if depth == 0 {
        moved.count += 1;
        return renameat(dir, name, moved.top, format!("{}-{}", moved.prefix, moved.count));
    }
    let child = folder(dir, name)?;
    empty(&child, depth - 1, moved)?;
    unlinkat(dir, name, AtFlags::REMOVEDIR)
}

/// Adds up the blocks of every file below `path`, each inode once; nothing where it is not there.
/// What vanishes meanwhile counts nothing, nor does what lies deeper than [`DEPTH`] or was not
/// reached within [`MEASURING`]: the sum is for planning, not for a bill.
///
/// # Errors
/// The folder itself cannot be opened.
pub(super) fn measure(path: &Path) -> io::Result<u64> {
    let top = match folder(CWD, path) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut sum = Sum { bytes: 0, linked: HashSet::new(), until: Instant::now() + MEASURING };
    sum.add(&top, DEPTH);
    Ok(sum.bytes)
}

struct Sum {
    bytes: u64,
    linked: HashSet<(u64, u64)>,
    until: Instant,
}

impl Sum {
    fn add(&mut self, dir: &OwnedFd, depth: u32) {
        let Ok(entries) = Dir::read_from(dir) else { return };
        for entry in entries {
            let Ok(entry) = entry else { return };
            let name = entry.file_name();
            if is_self(name) {
                continue;
            }
            if Instant::now() > self.until {
                return;
            }
            let Ok(facts) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(facts.st_mode) == FileType::Directory {
                if depth > 0
                    && let Ok(child) = folder(dir, name)
                {
                    self.add(&child, depth - 1);
                }
            } else if facts.st_nlink > 1
                && self.linked.len() < LINKED
                && !self.linked.insert((facts.st_dev, facts.st_ino))
            {
                continue;
            }
            let blocks = u64::try_from(facts.st_blocks).unwrap_or(0);
            self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512));
        }
    }
}

/// Opens a folder that is no link.
pub(super) fn folder(
    dir: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

pub(super) fn is_self(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// Makes folders within folders, deeper than any path or stack goes.
    fn deep(path: &Path, depth: u32) {
        let mut dir = folder(CWD, path).expect("open");
        for _ in 0..depth {
            rustix::fs::mkdirat(&dir, "d", Mode::RWXU).expect("make");
            dir = folder(&dir, "d").expect("open");
        }
        let file = openat(&dir, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR);
        drop(file.expect("a file at the bottom"));
    }

    #[test]
    fn depth_is_no_weapon() {
        let folder = tempfile::tempdir().expect("folder");
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("plain/below")).expect("folders");
        fs::write(tree.join("plain/below/file"), "x").expect("write");
        deep(&tree, 5_000);
        measure(&tree).expect("measured");
        remove(&tree).expect("removed");
        assert!(!tree.exists());
        remove(&tree).expect("gone is fine");
    }

    #[test]
    fn links_are_neither_followed_nor_counted() {
        let folder = tempfile::tempdir().expect("folder");
        let (tree, outside) = (folder.path().join("tree"), folder.path().join("outside"));
        fs::create_dir(&tree).expect("folder");
        fs::create_dir(&outside).expect("folder");
        fs::write(outside.join("precious"), vec![1; 1 << 20]).expect("write");
        symlink(&outside, tree.join("link")).expect("link");
        symlink(&outside, folder.path().join("top")).expect("link");
        assert!(measure(&tree).expect("measured") < 1 << 20);
        measure(&folder.path().join("top")).expect_err("a link is no tree");
        remove(&tree).expect("removed");
        remove(&folder.path().join("top")).expect("the link is removed");
        assert!(outside.join("precious").exists());
    }
}
