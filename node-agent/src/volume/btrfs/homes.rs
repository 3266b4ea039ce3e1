//! The volumes of workspaces in an open pool.
//!
//! A volume appears whole: its subvolumes are made in a folder beside its place, which is then
//! renamed. Each is in its workspace's quota group before a workspace sees it, so nothing of a
//! workspace's is written that is not counted; what a crash or a person left otherwise is put right by [`ensure`]. Removal renames the
//! folder away first, and goes on from there however often it is interrupted.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tracing::warn;
use warren_common::{Bytes, Limits, WorkspaceId};

use super::{
    Opened, VolumeError,
    groups::{Group, Groups},
    program::{LONG, SOON, run},
};
use crate::{
    host::capacity,
    volume::{
        Volume,
        files::{at, give, is_folder, make_folder, remove_all, seed, sync},
        shift::{self, GIVE},
    },
};

/// The inode of every subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`), and of nothing else in it.
const ROOT_INODE: u64 = 256;
/// Folders within a volume's own folder that may hold subvolumes: snapshots.
const DEPTH: u32 = 2;
/// A `/tmp` that is not yet in its place.
const NEW_TMP: &str = ".new-tmp";

/// Makes sure of a volume: new, repaired or as it is, with a quota of `size`.
pub(super) fn ensure(
    pool: &Opened,
    owner: (u32, u32),
    workspace: WorkspaceId,
    size: Bytes,
) -> Result<Volume, VolumeError> {
    let folder = pool.folder(workspace);
    let created = !is_folder(&folder)?;
    if created {
        make(pool, owner, workspace, size)?;
    } else {
        repair(pool, owner, workspace, size)?;
    }
    Ok(Volume { home: folder.join("home"), tmp: folder.join("tmp"), created, metered: true })
}

fn make(
    pool: &Opened,
    owner: (u32, u32),
    workspace: WorkspaceId,
    size: Bytes,
) -> Result<(), VolumeError> {
    let (folder, group) = (pool.folder(workspace), Group::of(workspace));
    let disk = capacity::disk(&pool.homes).map_err(at("measure", &pool.homes))?;
    if disk.available < Limits::DISK_MIN {
        return Err(VolumeError::DiskFull { operation: "make", path: folder });
    }
    alone(pool, workspace)?;
    let new = pool.homes.join(format!(".new-{workspace}"));
    // a start that was interrupted, or a removal: neither may lend its quota to the new home
    scrap(pool, &new, group)?;
    scrap(pool, &pool.homes.join(format!(".gone-{workspace}")), group)?;
    make_folder(&new, 0o700)?;
    let filled = fill(pool, &new, owner, (group, size));
    if let Err(error) = filled {
        // leaves no half home behind; the first error is the one that counts
        let _ = scrap(pool, &new, group);
        let _ = pool.groups.dissolve(group);
        return Err(error);
    }
    fs::rename(&new, &folder).map_err(at("name", &folder))?;
    sync(&pool.homes)
}

fn fill(
    pool: &Opened,
    new: &Path,
    owner: (u32, u32),
    (group, size): (Group, Bytes),
) -> Result<(), VolumeError> {
    pool.groups.ensure(group, size)?;
    let home = new.join("home");
    subvolume(&home, Some(group), 0o700)?;
    seed(&home, owner)?;
    make_tmp(pool, new, group, owner)?;
    sync(new)
}

/// Refuses where another volume's quota group would be this one's too: with random ids that takes
/// more workspaces than there are, and then nothing is lost but this start.
fn alone(pool: &Opened, workspace: WorkspaceId) -> Result<(), VolumeError> {
    for entry in fs::read_dir(&pool.homes).map_err(at("read", &pool.homes))? {
        let entry = entry.map_err(at("read", &pool.homes))?;
        let other = owner_of(&entry.file_name().to_string_lossy());
        if other.is_some_and(|other| other != workspace && Group::of(other) == Group::of(workspace))
        {
            let what = "its quota group would be the new workspace's: make that one again";
            return Err(VolumeError::InTheWay { path: entry.path(), what });
        }
    }
    Ok(())
}

/// Returns whose a folder among the homes is: whole, half made or half removed.
fn owner_of(name: &str) -> Option<WorkspaceId> {
    let name = name.strip_prefix(".new-").or_else(|| name.strip_prefix(".gone-")).unwrap_or(name);
    name.parse().ok()
}

fn repair(
    pool: &Opened,
    owner: (u32, u32),
    workspace: WorkspaceId,
    size: Bytes,
) -> Result<(), VolumeError> {
    let (folder, group) = (pool.folder(workspace), Group::of(workspace));
    let (home, tmp) = (folder.join("home"), folder.join("tmp"));
    if !is_folder(&home)? {
        return Err(VolumeError::InTheWay { path: folder, what: "a folder without a home" });
    }
    for path in [&home, &tmp] {
        if is_folder(path)? && !is_subvolume(path)? {
            let what = "a plain folder in the place of a subvolume: it would have no quota";
            return Err(VolumeError::InTheWay { path: path.clone(), what });
        }
    }
    pool.groups.ensure(group, size)?;
    let rows = pool.groups.list()?;
    for path in subvolumes(&folder)? {
        let own = number_of(&path)?;
        if rows.get(&own).is_none_or(|row| !row.parents.contains(&group)) {
            warn!(path = %path.display(), %group, "a volume was outside its quota, and is put in");
            pool.groups.assign(own, group)?;
        }
    }
    if is_folder(&tmp)? { Ok(()) } else { make_tmp(pool, &folder, group, owner) }
}

/// Replaces `/tmp` by an empty one; what was in it no longer counts at once.
pub(super) fn clear_tmp(
    pool: &Opened,
    owner: (u32, u32),
    workspace: WorkspaceId,
) -> Result<(), VolumeError> {
    let folder = pool.folder(workspace);
    if !is_folder(&folder)? {
        return Ok(());
    }
    let (tmp, group) = (folder.join("tmp"), Group::of(workspace));
    if is_folder(&tmp)? {
        delete(pool, &tmp, group)?;
    }
    make_tmp(pool, &folder, group, owner)
}

/// Makes `/tmp` beside its place and outside its quota group, and puts it in when it is as it should
/// be: in a group that is full its mode and owner could not be set, and no full home would start.
fn make_tmp(
    pool: &Opened,
    folder: &Path,
    group: Group,
    owner: (u32, u32),
) -> Result<(), VolumeError> {
    let (new, tmp) = (folder.join(NEW_TMP), folder.join("tmp"));
    if is_folder(&new)? {
        delete(pool, &new, group)?;
    }
    subvolume(&new, None, 0o1777)?;
    give(&new, owner)?;
    pool.groups.assign(number_of(&new)?, group)?;
    fs::rename(&new, &tmp).map_err(at("name", &new))
}

/// Gives home and `/tmp` to the users of another range. A change of owner writes, so the quota is
/// lifted meanwhile; it is set again here, and after a crash by the next [`ensure`].
pub(super) fn give_all(
    pool: &Opened,
    workspace: WorkspaceId,
    base: (u32, u32),
) -> Result<(), VolumeError> {
    let (folder, group) = (pool.folder(workspace), Group::of(workspace));
    let paths = [folder.join("home"), folder.join("tmp")];
    let mut foreign = Vec::new();
    for path in &paths {
        if !shift::is_of(path, base).map_err(at("look at", path))? {
            foreign.push(path);
        }
    }
    if foreign.is_empty() {
        return Ok(());
    }
    let limit = pool.groups.get(group)?.and_then(|row| row.limit);
    pool.groups.lift(group)?;
    let given =
        foreign.into_iter().try_for_each(|path| shift::give(path, base).map_err(at(GIVE, path)));
    match limit {
        Some(limit) => pool.groups.ensure(group, limit).and(given),
        None => given,
    }
}

/// Whether anything of the volume is here, a removal that was interrupted included.
pub(super) fn exists(pool: &Opened, workspace: WorkspaceId) -> Result<bool, VolumeError> {
    let gone = pool.homes.join(format!(".gone-{workspace}"));
    Ok(is_folder(&pool.folder(workspace))? || is_folder(&gone)?)
}

/// Removes subvolumes, then the quota group, then the folder that says there was one.
pub(super) fn remove(pool: &Opened, workspace: WorkspaceId) -> Result<(), VolumeError> {
    let (folder, group) = (pool.folder(workspace), Group::of(workspace));
    let gone = pool.homes.join(format!(".gone-{workspace}"));
    if is_folder(&folder)? {
        scrap(pool, &gone, group)?;
        fs::rename(&folder, &gone).map_err(at("name", &folder))?;
        sync(&pool.homes)?;
    }
    for rest in [gone, pool.homes.join(format!(".new-{workspace}"))] {
        if !is_folder(&rest)? {
            continue;
        }
        for path in subvolumes(&rest)? {
            delete(pool, &path, group)?;
        }
        pool.groups.dissolve(group)?;
        remove_all(&rest)?;
        sync(&pool.homes)?;
    }
    Ok(())
}

/// Removes a folder with its subvolumes; gone is fine.
fn scrap(pool: &Opened, folder: &Path, group: Group) -> Result<(), VolumeError> {
    if !is_folder(folder)? {
        return Ok(());
    }
    for path in subvolumes(folder)? {
        delete(pool, &path, group)?;
    }
    remove_all(folder)
}

/// Deletes one subvolume. It leaves its quota group first: the kernel frees the blocks later, and
/// they must not count against the workspace until then.
fn delete(pool: &Opened, path: &Path, group: Group) -> Result<(), VolumeError> {
    let own = number_of(path)?;
    pool.groups.release(own, group)?;
    if run("btrfs", &[&"subvolume", &"delete", &path], LONG).is_err() {
        // whoever gets round the system-call filter makes some within: they go first
        for within in nested(path)? {
            let mount = pool.mount();
            run("btrfs", &[&"subvolume", &"delete", &"--subvolid", &within, &mount], LONG)?;
        }
        run("btrfs", &[&"subvolume", &"delete", &path], LONG)?;
    }
    // a kernel that still frees it refuses, and it is swept later
    let _ = pool.groups.destroy(own);
    Ok(())
}

fn subvolume(path: &Path, group: Option<Group>, mode: u32) -> Result<(), VolumeError> {
    let made = match group.map(|group| group.to_string()) {
        Some(group) => run("btrfs", &[&"subvolume", &"create", &"-i", &group, &path], SOON),
        None => run("btrfs", &[&"subvolume", &"create", &path], SOON),
    };
    made.map_err(|error| full(error, path))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(path, mode).map_err(at("open", path))
}

/// Tells a disk that is full from a program that failed.
fn full(error: VolumeError, path: &Path) -> VolumeError {
    match &error {
        VolumeError::Program { said, .. }
            if said.contains("No space left") || said.contains("quota exceeded") =>
        {
            VolumeError::DiskFull { operation: "make", path: path.to_owned() }
        }
        _ => error,
    }
}

/// Returns the subvolumes in a volume's folder, and in plain folders within it, by path.
fn subvolumes(folder: &Path) -> Result<Vec<PathBuf>, VolumeError> {
    let mut found = Vec::new();
    let mut look = vec![(folder.to_owned(), DEPTH)];
    while let Some((within, depth)) = look.pop() {
        for entry in fs::read_dir(&within).map_err(at("read", &within))? {
            let path = entry.map_err(at("read", &within))?.path();
            let facts = fs::symlink_metadata(&path).map_err(at("look at", &path))?;
            if facts.is_dir() && facts.ino() == ROOT_INODE {
                found.push(path);
            } else if facts.is_dir() && depth > 1 {
                look.push((path, depth - 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_subvolume(path: &Path) -> Result<bool, VolumeError> {
    let facts = fs::symlink_metadata(path).map_err(at("look at", path))?;
    Ok(facts.is_dir() && facts.ino() == ROOT_INODE)
}

/// Returns the quota group of a subvolume alone.
fn number_of(path: &Path) -> Result<Group, VolumeError> {
    let told = run("btrfs", &[&"inspect-internal", &"rootid", &path], SOON)?;
    told.trim().parse().map(Group::subvolume).map_err(|_| VolumeError::Program {
        program: "btrfs inspect-internal rootid".to_owned(),
        said: format!("{:?} is no number", told.trim()),
    })
}

/// Returns the subvolumes within one, by number, each before the one it lies in: what lies in
/// another was made after it.
fn nested(path: &Path) -> Result<Vec<String>, VolumeError> {
    let mut found = Vec::new();
    let mut look = vec![number_of(path)?.number];
    let listed = run("btrfs", &[&"subvolume", &"list", &"-a", &path], LONG)?;
    let pair = |line: &str| {
        let mut words = line.split(' ');
        let id = words.nth(1)?.parse::<u64>().ok()?;
        Some((id, words.nth(4)?.parse::<u64>().ok()?))
    };
    let all: Vec<(u64, u64)> = listed.lines().filter_map(pair).collect();
    while let Some(top) = look.pop() {
        for (id, _) in all.iter().filter(|(_, within)| *within == top) {
            found.push(*id);
            look.push(*id);
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Returns what all homes take together.
pub(super) fn total(pool: &Opened) -> Result<Bytes, VolumeError> {
    let mut sum = Bytes(0);
    for (_, group) in owned(pool)? {
        sum = sum.plus(pool.groups.get(group)?.map_or(Bytes(0), |row| row.referenced));
    }
    Ok(sum)
}

/// Returns every workspace that has something in the pool, with its quota group.
pub(super) fn owned(pool: &Opened) -> Result<Vec<(WorkspaceId, Group)>, VolumeError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(&pool.homes).map_err(at("read", &pool.homes))? {
        let entry = entry.map_err(at("read", &pool.homes))?;
        let owner = owner_of(&entry.file_name().to_string_lossy());
        found.extend(owner.map(|workspace| (workspace, Group::of(workspace))));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Removes the groups of subvolumes that are gone; older kernels leave them behind.
pub(super) fn sweep(groups: &Groups, mount: &Path) -> Result<(), VolumeError> {
    let listed = run("btrfs", &[&"subvolume", &"list", &mount], LONG)?;
    let number = |line: &str| line.strip_prefix("ID ")?.split(' ').next()?.parse::<u64>().ok();
    let there: Vec<u64> = listed.lines().filter_map(number).collect();
    for group in groups.list()?.into_keys() {
        // 5 is the top of the filesystem, below 256 are the filesystem's own
        if group.level == 0 && group.number >= ROOT_INODE && !there.contains(&group.number) {
            // one that the kernel still frees is for the next time
            let _ = groups.destroy(group);
        }
    }
    Ok(())
}
