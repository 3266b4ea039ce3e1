//! Which place a node keeps its homes in, from its configuration and from what is there.
//!
//! Homes that are there stay where they are: nothing here moves one, and a choice that would leave
//! homes behind is refused.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use warren_common::Bytes;

use super::{
    VolumeError,
    btrfs::{self, Place},
    findings::{Room, room},
};
use crate::host::capacity::{self, Disk};

/// The file of a pool where the configuration names none, in the state folder.
pub const POOL: &str = "pool.btrfs";
/// The folder of plain homes, in the state folder.
pub const HOMES: &str = "homes";
/// A pool that would be smaller is not made by itself.
const LEAST: Bytes = Bytes::gib(4);

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What is there; else btrfs where the machine can; else plain folders.
    Auto,
    /// Subvolumes with quotas.
    Btrfs,
    /// Plain folders without quotas.
    Plain,
}

/// How large a pool is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// This much, as long as the host is not left full.
    Fixed(Bytes),
    /// This many hundredths of what is free on its disk when it is made, but never what the host
    /// itself needs: a tenth of the disk, at least 2 GiB.
    Percent(u8),
}

/// A text that is no size of a pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an amount such as 100G nor a percentage of 1% to 95%")]
pub struct InvalidSize(String);

impl FromStr for Size {
    type Err = InvalidSize;
    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let invalid = || InvalidSize(text.chars().take(40).collect());
        match text.strip_suffix('%') {
            Some(number) => match number.trim().parse() {
                Ok(percent @ 1..=95) => Ok(Self::Percent(percent)),
                Ok(_) | Err(_) => Err(invalid()),
            },
            None => text.parse().map(Self::Fixed).map_err(|_| invalid()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Returns what a disk keeps for the host.
pub fn reserve(disk: Disk) -> Bytes {
    Bytes(disk.total.0 / 10).max(Bytes::gib(2))
}

/// Whether the host's disk would be full with this much more on it.
pub fn leaves_full(disk: Disk, more: Bytes) -> bool {
    more > disk.available || room(disk.total, disk.available.minus(more)) == Room::Full
}

impl Size {
    /// Returns how large a pool on this disk is made.
    ///
    /// # Errors
    /// Why it cannot be: the least pool does not fit, or the host would be left with too little.
    pub fn of(self, disk: Disk) -> Result<Bytes, String> {
        let Disk { total: _, available } = disk;
        let size = match self {
            Self::Fixed(size) => size,
            Self::Percent(percent) => {
                let share = u128::from(available.0) * u128::from(percent) / 100;
                let share = Bytes(u64::try_from(share).unwrap_or(u64::MAX));
                share.min(available.minus(reserve(disk)))
            }
        };
        let size = Bytes(size.0 - size.0 % Bytes::MIB);
        if size < btrfs::LEAST {
            let least = btrfs::LEAST;
            return Err(format!("{size} would be less than {least}; {available} is free"));
        }
        if leaves_full(disk, size) {
            return Err(format!("it needs {size}, {available} is free on the host's disk"));
        }
        Ok(size)
    }
}

/// The `[volumes]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which kind.
    pub kind: Kind,
    /// The pool's file, or a folder on btrfs.
    pub path: Option<PathBuf>,
    /// How large a new pool is.
    pub size: Size,
}

/// Where homes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// In subvolumes.
    Btrfs(Place),
    /// In plain folders.
    Plain,
}

/// What is there already, and what the machine can.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    plain_homes: usize,
    /// The path of the pool.
    path: PathBuf,
    /// There is a file at this path.
    is_file: bool,
    /// There is a folder at this path, or only one above it; and it is on btrfs.
    on_btrfs: bool,
    /// Programs and kernel for a pool.
    able: bool,
    disk: Disk,
}

/// Chooses.
///
/// # Errors
/// A choice that would leave homes behind, or files that cannot be looked at.
pub fn choose(wish: &Wish, state_dir: &Path) -> Result<Choice, VolumeError> {
    let facts = Facts::gather(wish, state_dir).map_err(|source| VolumeError::Io {
        operation: "look for homes in",
        path: state_dir.to_owned(),
        source,
    })?;
    decide(wish, &facts)
}

impl Facts {
    fn gather(wish: &Wish, state_dir: &Path) -> io::Result<Self> {
        let homes = match fs::read_dir(state_dir.join(HOMES)) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let path = wish.path.clone().unwrap_or_else(|| state_dir.join(POOL));
        let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        Ok(Self {
            plain_homes: homes,
            is_file: path.is_file(),
            on_btrfs: capacity::is_btrfs(there)?,
            disk: capacity::disk(there)?,
            able: btrfs::able(),
            path,
        })
    }
}

fn decide(wish: &Wish, facts: &Facts) -> Result<Choice, VolumeError> {
    let homes = facts.plain_homes;
    let left = |what: String, next: &str| Err(VolumeError::Pool { what, next: next.to_owned() });
    let btrfs = || {
        let (path, size) = (facts.path.clone(), wish.size);
        // without a path of its own a btrfs disk takes the homes itself: no filesystem in a file
        match facts.on_btrfs && !facts.is_file {
            true => Choice::Btrfs(Place::Folder(match wish.path {
                Some(_) => path,
                None => path.with_file_name("volumes"),
            })),
            false => Choice::Btrfs(Place::Loop { file: path, size }),
        }
    };
    match wish.kind {
        Kind::Plain if facts.is_file => left(
            format!("[volumes] kind is plain, but homes are in the pool {}", facts.path.display()),
            "set kind to auto or btrfs; if the pool holds nothing of worth, move it away",
        ),
        Kind::Plain => Ok(Choice::Plain),
        Kind::Btrfs if homes > 0 => left(
            format!("[volumes] kind is btrfs, but {homes} homes are plain folders"),
            "set kind to auto or plain; homes are not moved between kinds",
        ),
        Kind::Btrfs => Ok(btrfs()),
        Kind::Auto if homes > 0 => Ok(Choice::Plain),
        Kind::Auto if facts.is_file => Ok(btrfs()),
        Kind::Auto if facts.able && facts.on_btrfs => Ok(btrfs()),
        Kind::Auto if facts.able && wish.size.of(facts.disk).is_ok_and(|size| size >= LEAST) => {
            Ok(btrfs())
        }
        Kind::Auto => Ok(Choice::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(kind: Kind) -> Wish {
        Wish { kind, path: None, size: Size::Percent(75) }
    }

    fn facts() -> Facts {
        Facts {
            plain_homes: 0,
            path: "/state/pool.btrfs".into(),
            is_file: false,
            on_btrfs: false,
            able: true,
            disk: Disk { total: Bytes::gib(100), available: Bytes::gib(80) },
        }
    }

    fn pool() -> Choice {
        let file = "/state/pool.btrfs".into();
        Choice::Btrfs(Place::Loop { file, size: Size::Percent(75) })
    }

    #[test]
    fn by_itself_a_node_takes_what_is_there_and_else_the_best_it_can() {
        let auto = |facts: Facts| decide(&wish(Kind::Auto), &facts).expect("a choice");
        assert_eq!(auto(facts()), pool());
        assert_eq!(auto(Facts { plain_homes: 1, ..facts() }), Choice::Plain, "they stay");
        assert_eq!(auto(Facts { able: false, ..facts() }), Choice::Plain);
        assert_eq!(
            auto(Facts { able: false, is_file: true, ..facts() }),
            pool(),
            "homes are in it"
        );
        let small = Disk { total: Bytes::gib(20), available: Bytes::gib(5) };
        assert_eq!(auto(Facts { disk: small, ..facts() }), Choice::Plain);
        let folder = Choice::Btrfs(Place::Folder("/state/volumes".into()));
        let on_btrfs = Facts { on_btrfs: true, ..facts() };
        assert_eq!(auto(on_btrfs.clone()), folder);
        assert_eq!(auto(Facts { is_file: true, ..on_btrfs }), pool());
    }

    #[test]
    fn no_choice_leaves_homes_behind() {
        let homes = Facts { plain_homes: 3, ..facts() };
        let error = decide(&wish(Kind::Btrfs), &homes).expect_err("plain homes").to_string();
        assert!(error.contains("3 homes are plain folders; set kind"), "{error}");
        let pool = Facts { is_file: true, ..facts() };
        let error = decide(&wish(Kind::Plain), &pool).expect_err("a pool").to_string();
        assert!(error.contains("homes are in the pool /state/pool.btrfs"), "{error}");
    }

    #[test]
    fn sizes_leave_the_host_its_share() {
        let disk = Disk { total: Bytes::gib(100), available: Bytes::gib(40) };
        let of = |text: &str| text.parse::<Size>().expect("a size").of(disk);
        assert_eq!(of("75%"), Ok(Bytes::gib(30)));
        assert_eq!(of("95%"), Ok(Bytes::gib(30)), "a tenth of the disk stays free");
        assert_eq!(of("39G"), Ok(Bytes::gib(39)));
        let said = "it needs 39.5 GiB, 40 GiB is free on the host's disk";
        assert_eq!(of("39.5G").expect_err("the host would be full"), said);
        assert!(of("100M").expect_err("too small").contains("less than 512 MiB"));
        for text in ["0%", "96%", "x", "", "50 %x"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!("50%".parse::<Size>().expect("one").to_string(), "50%");
    }
}
