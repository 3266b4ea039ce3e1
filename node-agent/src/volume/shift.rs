//! Giving a volume to the users of another range: what a change of the engine's user remapping asks
//! for.
//!
//! An engine that remaps users runs uid 1000 of a workspace as `base + 1000` of the host, so a home
//! that was made without is nobody's in there, and the other way round. Nothing runs while this is
//! done. As in `tree`, no link is followed, no path is longer than one name, and neither the stack nor
//! the open files grow with the depth of the tree: of each folder above the present one it is kept
//! which it is and where in it to go on, and the way up is `..`.

use std::{fs, io, mem::MaybeUninit, os::fd::OwnedFd, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, RawDir, SeekFrom, Uid, chownat, fstat, seek, statat},
    io::Errno,
};

use super::tree;

/// What is being done, for errors.
pub(super) const GIVE: &str = "give to the workspace's user";
/// User and group that workspaces run as, as seen inside.
const OWNER: (u32, u32) = (1000, 1000);
/// How many ids a range has that an engine remaps to.
const RANGE: u32 = 65_536;
/// Entries of a folder are read so many bytes at a time; the longest has less than 300.
const BUFFER: usize = 4096;

/// Gives a home or a `/tmp` to the users of the range that begins at `base` (0, 0: not remapped),
/// where it is of another one. Blocks; may be done again after a crash anywhere in it.
///
/// # Errors
/// What the kernel refused, or `ESTALE` where somebody moves folders meanwhile.
pub(super) fn give(path: &Path, base: (u32, u32)) -> io::Result<()> {
    if is_of(path, base)? {
        return Ok(());
    }
    let facts = fs::symlink_metadata(path)?;
    let from = (facts.uid().saturating_sub(OWNER.0), facts.gid().saturating_sub(OWNER.1));
    let shift = Shift { from, to: base };
    shift.below(tree::folder(CWD, path)?)?;
    // the top last: it is by it that a half done change is seen
    let (uid, gid) = owner(base);
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Returns whether a home or a `/tmp` is of this range's users.
///
/// # Errors
/// What the kernel refused.
pub(super) fn is_of(path: &Path, base: (u32, u32)) -> io::Result<bool> {
    let facts = fs::symlink_metadata(path)?;
    Ok((facts.uid(), facts.gid()) == owner(base))
}

fn owner(base: (u32, u32)) -> (u32, u32) {
    (base.0.saturating_add(OWNER.0), base.1.saturating_add(OWNER.1))
}

struct Shift {
    from: (u32, u32),
    to: (u32, u32),
}

/// A folder on the way down: which it is, and where its entries go on.
struct Above {
    identity: (u64, u64),
    next: u64,
}

impl Shift {
    fn below(&self, top: OwnedFd) -> Result<(), Errno> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut above: Vec<Above> = Vec::new();
        let (mut dir, mut from) = (top, 0);
        loop {
            if let Some((child, next)) = self.entries(&dir, from, &mut buffer)? {
                above.push(Above { identity: identity(&dir)?, next });
                (dir, from) = (child, 0);
                continue;
            }
            let Some(parent) = above.pop() else { return Ok(()) };
            dir = tree::folder(&dir, "..")?;
            if identity(&dir)? != parent.identity {
                return Err(Errno::STALE);
            }
            from = parent.next;
        }
    }

    /// Gives away the entries of a folder from a place in it on, until one is a folder: returns that
    /// one, and where to go on after it.
    fn entries(
        &self,
        dir: &OwnedFd,
        from: u64,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<Option<(OwnedFd, u64)>, Errno> {
        seek(dir, SeekFrom::Start(from))?;
        let mut entries = RawDir::new(dir, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if tree::is_self(name) {
                continue;
            }
            let facts = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let uid = moved(facts.st_uid, self.from.0, self.to.0).map(Uid::from_raw);
            let gid = moved(facts.st_gid, self.from.1, self.to.1).map(Gid::from_raw);
            if uid.is_some() || gid.is_some() {
                chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            if FileType::from_raw_mode(facts.st_mode) == FileType::Directory {
                return Ok(Some((tree::folder(dir, name)?, entry.next_entry_cookie())));
            }
        }
        Ok(None)
    }
}

fn identity(dir: &OwnedFd) -> Result<(u64, u64), Errno> {
    let facts = fstat(dir)?;
    Ok((facts.st_dev, facts.st_ino))
}

/// Returns the id in the new range; none where it is in it, or in neither.
fn moved(id: u32, from: u32, to: u32) -> Option<u32> {
    let within = |base: u32| id.checked_sub(base).filter(|offset| *offset < RANGE);
    if to != 0 && within(to).is_some() {
        return None;
    }
    let new = to.checked_add(within(from)?)?;
    (new != id).then_some(new)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{chown, lchown, symlink},
    };

    use rustix::fs::{Mode, OFlags, mkdirat, openat};

    use super::*;

    /// Makes folders within folders that all belong to the workspace's user, and a file at the end.
    fn deep(path: &Path, depth: u32) -> OwnedFd {
        let owner = (Some(Uid::from_raw(OWNER.0)), Some(Gid::from_raw(OWNER.1)));
        let give = |dir: &OwnedFd, name: &str| {
            chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).expect("given");
        };
        let mut dir = tree::folder(CWD, path).expect("open");
        for _ in 0..depth {
            mkdirat(&dir, "d", Mode::RWXU).expect("made");
            give(&dir, "d");
            dir = tree::folder(&dir, "d").expect("open");
        }
        drop(openat(&dir, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("a file"));
        give(&dir, "f");
        dir
    }

    fn owner(dir: &OwnedFd, name: &str) -> (u32, u32) {
        let facts = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).expect("there");
        (facts.st_uid, facts.st_gid)
    }

    #[test]
    fn a_home_is_given_away_however_deep_and_wide_it_is() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("left out: only root gives files away");
            return;
        }
        let folder = tempfile::tempdir().expect("folder");
        let home = folder.path().join("home");
        let outside = folder.path().join("outside");
        fs::write(&outside, "").expect("written");
        fs::create_dir(&home).expect("made");
        chown(&home, Some(1000), Some(1000)).expect("given");
        // more than one reading of each folder, with folders in between
        let wide = home.join("wide");
        for number in 0..400 {
            let below = wide.join(format!("{number:03}-with-a-name-of-some-length"));
            fs::create_dir_all(below.join("in")).expect("made");
            for path in [below.clone(), below.join("in"), below.join("in/file")] {
                if path.ends_with("file") {
                    fs::write(&path, "").expect("written");
                }
                chown(&path, Some(1000), Some(1000)).expect("given");
            }
        }
        symlink(&outside, home.join("link")).expect("made");
        lchown(home.join("link"), Some(1000), Some(1000)).expect("given");
        let bottom = deep(&home, 5_000);
        give(&home, (231_072, 231_072)).expect("given");
        let wanted = (232_072, 232_072);
        assert_eq!(owner(&bottom, "f"), wanted);
        let mut seen = 0;
        for entry in fs::read_dir(&wide).expect("readable").flatten() {
            for path in [entry.path(), entry.path().join("in"), entry.path().join("in/file")] {
                let facts = fs::symlink_metadata(&path).expect("there");
                assert_eq!((facts.uid(), facts.gid()), wanted, "{}", path.display());
                seen += 1;
            }
        }
        assert_eq!(seen, 1200);
        let link = fs::symlink_metadata(home.join("link")).expect("there");
        assert_eq!((link.uid(), link.gid()), wanted);
        assert_eq!(fs::metadata(&outside).expect("there").uid(), 0, "no link is followed");
        give(&home, (0, 0)).expect("and back");
        assert_eq!(owner(&bottom, "f"), OWNER);
        // the standard library's walk would end the test on so deep a tree
        tree::remove(&home).expect("removed");
    }

    #[test]
    fn an_id_moves_between_ranges_once_and_back() {
        assert_eq!(moved(1000, 0, 231_072), Some(232_072));
        assert_eq!(moved(232_072, 0, 231_072), None, "it is there already");
        assert_eq!(moved(232_072, 231_072, 0), Some(1000));
        assert_eq!(moved(1000, 231_072, 0), None, "it was never moved");
        assert_eq!(moved(232_072, 231_072, 500_000), Some(501_000));
        assert_eq!(moved(70_000, 0, 231_072), None, "in neither");
        assert_eq!(moved(0, 0, 231_072), Some(231_072));
    }
}
