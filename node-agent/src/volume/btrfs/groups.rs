//! Quota groups: one of level 1 per workspace, over its home, its `/tmp` and its snapshots.
//!
//! The number of a workspace's group is made of the last 48 bits of its id, which are random: it
//! is known without being written down anywhere, survives a crash at any line, and is never given
//! to another workspace. Amounts are read from the kernel's own files (Linux 5.9); before that,
//! and for who is in which group, `btrfs qgroup show` is asked.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use uuid::Uuid;
use warren_common::{Bytes, WorkspaceId};

use super::{
    VolumeError,
    program::{LONG, SOON, run},
};

/// A quota group: level 0 is one subvolume's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) level: u16,
    pub(super) number: u64,
}

impl Group {
    /// Returns the group of a workspace.
    pub(super) fn of(workspace: WorkspaceId) -> Self {
        let mut number = [0; 8];
        number[2..].copy_from_slice(&workspace.as_bytes()[10..]);
        // zero has a meaning of its own for some programs
        Self { level: 1, number: u64::from_be_bytes(number).max(1) }
    }

    /// Returns the group of one subvolume alone.
    pub(super) const fn subvolume(number: u64) -> Self {
        Self { level: 0, number }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.number)
    }
}

impl FromStr for Group {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (level, number) = text.split_once('/').ok_or(())?;
        Ok(Self { level: level.parse().map_err(drop)?, number: number.parse().map_err(drop)? })
    }
}

/// What a group counts and allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Everything that any of its subvolumes refers to, once.
    pub(super) referenced: Bytes,
    /// How much that may be; none where nothing is set.
    pub(super) limit: Option<Bytes>,
    /// The groups it is in.
    pub(super) parents: Vec<Group>,
}

/// The quota groups of one mounted filesystem.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    mount: PathBuf,
    /// `/sys/fs/btrfs/<uuid>/qgroups`.
    files: PathBuf,
}

impl Groups {
    pub(super) fn new(mount: &Path, uuid: Uuid) -> Self {
        let files = Path::new("/sys/fs/btrfs").join(uuid.to_string()).join("qgroups");
        Self { mount: mount.to_owned(), files }
    }

    /// Switches quotas on where they are off.
    pub(super) fn enable(&self) -> Result<(), VolumeError> {
        if fs::read_to_string(self.files.join("enabled")).is_ok_and(|text| text.trim() == "1") {
            return Ok(());
        }
        // older kernels have no such file, and enabling twice is fine
        run("btrfs", &[&"quota", &"enable", &self.mount], LONG).map(drop)
    }

    /// Whether the kernel says that what it counts is right; older kernels do not say.
    pub(super) fn consistent(&self) -> bool {
        let read = fs::read_to_string(self.files.join("inconsistent"));
        read.map_or(true, |text| text.trim() != "1")
    }

    /// Counts everything anew, in the background.
    pub(super) fn recount(&self) -> Result<(), VolumeError> {
        match run("btrfs", &[&"quota", &"rescan", &self.mount], SOON) {
            // it is being done
            Err(VolumeError::Program { said, .. }) if said.contains("in progress") => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Returns every group there is.
    pub(super) fn list(&self) -> Result<BTreeMap<Group, Row>, VolumeError> {
        let show = ["qgroup", "show", "--raw", "-p", "-r"];
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = Vec::new();
        arguments.extend(show.iter().map(|one| one as &dyn AsRef<std::ffi::OsStr>));
        arguments.push(&self.mount);
        Ok(parse(&run("btrfs", &arguments, SOON)?))
    }

    /// Returns one group with its amounts, its parents left out; none where it is not there.
    pub(super) fn get(&self, group: Group) -> Result<Option<Row>, VolumeError> {
        if !self.files.exists() {
            return Ok(self.list()?.remove(&group));
        }
        let folder = self.files.join(format!("{}_{}", group.level, group.number));
        let number = |file: &str| -> io::Result<u64> {
            let text = fs::read_to_string(folder.join(file))?;
            text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        };
        let read = || -> io::Result<Row> {
            let limited = number("limit_flags")? & 1 == 1;
            let limit = if limited { Some(Bytes(number("max_referenced")?)) } else { None };
            Ok(Row { referenced: Bytes(number("referenced")?), limit, parents: Vec::new() })
        };
        match read() {
            Ok(row) => Ok(Some(row)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => {
                Err(VolumeError::Io { operation: "read the quota group", path: folder, source })
            }
        }
    }

    /// Makes sure that the group is there and allows this much.
    pub(super) fn ensure(&self, group: Group, limit: Bytes) -> Result<(), VolumeError> {
        let there = self.get(group)?;
        if there.is_none() {
            self.qgroup("create", &[&group.to_string()])?;
        }
        match there.and_then(|row| row.limit) {
            Some(set) if set == limit => Ok(()),
            Some(_) | None => self.qgroup("limit", &[&limit.0.to_string(), &group.to_string()]),
        }
    }

    /// Takes the limit of a group away.
    pub(super) fn lift(&self, group: Group) -> Result<(), VolumeError> {
        self.qgroup("limit", &[&"none".to_owned(), &group.to_string()])
    }

    /// Puts a subvolume's group into another.
    pub(super) fn assign(&self, child: Group, parent: Group) -> Result<(), VolumeError> {
        self.qgroup("assign", &[&child.to_string(), &parent.to_string()])
    }

    /// Takes a subvolume's group out of another; one that is not in it is fine.
    pub(super) fn release(&self, child: Group, parent: Group) -> Result<(), VolumeError> {
        gone_is_fine(self.qgroup("remove", &[&child.to_string(), &parent.to_string()]))
    }

    /// Removes a group with whatever is still in it: a subvolume that somebody else deleted stays
    /// in it until the kernel has freed its blocks.
    pub(super) fn dissolve(&self, group: Group) -> Result<(), VolumeError> {
        if self.get(group)?.is_none() {
            return Ok(());
        }
        for (child, row) in self.list()? {
            if row.parents.contains(&group) {
                self.release(child, group)?;
            }
        }
        self.destroy(group)
    }

    /// Removes a group without members; gone is fine.
    pub(super) fn destroy(&self, group: Group) -> Result<(), VolumeError> {
        gone_is_fine(self.qgroup("destroy", &[&group.to_string()]))
    }

    fn qgroup(&self, verb: &str, arguments: &[&String]) -> Result<(), VolumeError> {
        let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"qgroup", &verb];
        all.extend(arguments.iter().map(|one| *one as &dyn AsRef<std::ffi::OsStr>));
        all.push(&self.mount);
        run("btrfs", &all, SOON).map(drop)
    }
}

fn gone_is_fine(outcome: Result<(), VolumeError>) -> Result<(), VolumeError> {
    match outcome {
        // the kernel's words for ENOENT, in the C locale
        Err(VolumeError::Program { said, .. }) if said.contains("No such file") => Ok(()),
        outcome => outcome,
    }
}

/// Reads the table of `btrfs qgroup show --raw -p -r`: group, referenced, exclusive, limit,
/// parents, and with newer programs a path. Lines that are no groups are headers.
fn parse(table: &str) -> BTreeMap<Group, Row> {
    let row = |line: &str| {
        let mut fields = line.split_whitespace();
        let group: Group = fields.next()?.parse().ok()?;
        let referenced = Bytes(fields.next()?.parse().ok()?);
        let limit = fields.nth(1)?.parse().ok().map(Bytes);
        let parents = fields.next().unwrap_or_default().split(',');
        let parents = parents.filter_map(|parent| parent.parse().ok()).collect();
        Some((group, Row { referenced, limit, parents }))
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As btrfs-progs 5.10 and 6.2 write it.
    const OLD: &str = "\
qgroupid         rfer         excl     max_rfer parent  \n\
--------         ----         ----     -------- ------  \n\
0/5             16384        16384         none ---     \n\
0/257           20480        20480         none 1/281474976710655\n\
1/281474976710655        40960        40960    104857600 ---     \n";
    const NEW: &str = "\
Qgroupid            Referenced    Exclusive  Max referenced Parent              Path \n\
--------            ----------    ---------  -------------- ------              ---- \n\
0/5                      16384        16384            none -                   <toplevel>\n\
0/257                    20480        20480            none 1/281474976710655   homes/w 1/x/home\n\
1/281474976710655        40960        40960       104857600 -                   <0 member qgroups>\n";

    #[test]
    fn both_tables_are_read_alike() {
        let rows = parse(NEW);
        assert_eq!(rows, parse(OLD));
        let group = Group { level: 1, number: 281_474_976_710_655 };
        assert_eq!(rows[&Group::subvolume(257)].parents, [group]);
        assert_eq!(rows[&group].limit, Some(Bytes::mib(100)));
        assert_eq!(rows[&Group::subvolume(5)].limit, None);
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn a_group_is_made_of_what_is_random_in_the_id() {
        let id: WorkspaceId = "0199a0b2-7f00-7000-8000-0123456789ab".parse().expect("an id");
        assert_eq!(Group::of(id), Group { level: 1, number: 0x0123_4567_89ab });
        let id: WorkspaceId = "0199a0b2-7f00-7000-8000-000000000000".parse().expect("an id");
        assert_eq!(Group::of(id).to_string(), "1/1");
        let id: WorkspaceId = "0199a0b2-7f00-7000-8000-ffffffffffff".parse().expect("an id");
        assert_eq!(Group::of(id).to_string(), "1/281474976710655", "the largest there is");
    }
}
