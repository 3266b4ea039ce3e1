//! Giving a volume to the users of another range: what a change of the engine's user remapping asks
//! for.
//!
//! An engine that remaps users runs uid 1000 of a workspace as `base + 1000` of the host, so a home
//! that was made without is nobody's in there, and the other way round. Nothing runs while this is
//! done. As in `tree`, no link is followed and no path is longer than one name.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Dir, Gid, Mode, OFlags, Uid, chownat, openat, statat},
    io::Errno,
};

use super::tree;

/// What is being done, for errors.
pub(super) const GIVE: &str = "give to the workspace's user";
/// User and group that workspaces run as, as seen inside.
const OWNER: (u32, u32) = (1000, 1000);
/// How many ids a range has that an engine remaps to.
const RANGE: u32 = 65_536;
/// Folders within folders, each with an open file of ours.
const DEPTH: u32 = 256;

/// Gives a home or a `/tmp` to the users of the range that begins at `base` (0, 0: not remapped),
/// where it is of another one. Blocks; may be done again after a crash anywhere in it.
///
/// # Errors
/// What the kernel refused, or folders nested too deeply.
pub(super) fn give(path: &Path, base: (u32, u32)) -> io::Result<()> {
    if is_of(path, base)? {
        return Ok(());
    }
    let facts = fs::symlink_metadata(path)?;
    let from = (facts.uid().saturating_sub(OWNER.0), facts.gid().saturating_sub(OWNER.1));
    let shift = Shift { from, to: base };
    let top = tree::folder(CWD, path)?;
    shift.below(&top, DEPTH)?;
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

impl Shift {
    fn below(&self, dir: &impl std::os::fd::AsFd, depth: u32) -> Result<(), Errno> {
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if tree::is_self(name) {
                continue;
            }
            let facts = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let uid = moved(facts.st_uid, self.from.0, self.to.0);
            let gid = moved(facts.st_gid, self.from.1, self.to.1);
            let is_folder = rustix::fs::FileType::from_raw_mode(facts.st_mode)
                == rustix::fs::FileType::Directory;
            if is_folder {
                if depth == 0 {
                    return Err(Errno::LOOP);
                }
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
                let child = openat(dir, name, flags, Mode::empty())?;
                self.below(&child, depth - 1)?;
            }
            if uid.is_some() || gid.is_some() {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }
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
    use super::*;

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
