//! The first superblock of a btrfs filesystem, as far as it says what lies in a file: which
//! filesystem, and how large. Layout: `struct btrfs_super_block` of the kernel's
//! `include/uapi/linux/btrfs_tree.h`; every number is little-endian.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use uuid::Uuid;
use warren_common::Bytes;

/// Where the first superblock begins.
const OFFSET: u64 = 64 * 1024;
/// How much of it is read.
const LENGTH: usize = 4096;
const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// Places in the superblock.
const FSID: usize = 0x20;
const MAGIC_AT: usize = 0x40;
const TOTAL: usize = 0x70;
const LABEL: usize = 0x12b;
const LABEL_BYTES: usize = 256;

/// What a filesystem says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Which filesystem.
    pub(super) uuid: Uuid,
    /// The size it was made with or grown to.
    pub(super) total: Bytes,
    /// The name it was given when it was made.
    pub(super) label: String,
}

impl Superblock {
    /// Reads it from a file or device; none where there is no btrfs.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(OFFSET))?;
        let mut bytes = vec![0; LENGTH];
        match file.read_exact(&mut bytes) {
            Ok(()) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let part = |from: usize, length: usize| bytes.get(from..from + length);
        if part(MAGIC_AT, 8)? != MAGIC {
            return None;
        }
        let uuid = Uuid::from_slice(part(FSID, 16)?).ok()?;
        let total = Bytes(u64::from_le_bytes(part(TOTAL, 8)?.try_into().ok()?));
        let label = part(LABEL, LABEL_BYTES)?.split(|byte| *byte == 0).next()?;
        Some(Self { uuid, total, label: String::from_utf8_lossy(label).into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_is_read_and_anything_else_is_none() {
        let mut bytes = vec![0; LENGTH];
        assert_eq!(Superblock::parse(&bytes), None);
        bytes[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(MAGIC);
        bytes[FSID] = 7;
        bytes[TOTAL..TOTAL + 8].copy_from_slice(&Bytes::gib(3).0.to_le_bytes());
        bytes[LABEL..LABEL + 3].copy_from_slice(b"abc");
        let read = Superblock::parse(&bytes).expect("one");
        assert_eq!((read.total, read.label.as_str()), (Bytes::gib(3), "abc"));
        assert_eq!(read.uuid.as_bytes()[0], 7);
        assert_eq!(Superblock::parse(&bytes[..100]), None);
        let folder = tempfile::tempdir().expect("folder");
        let short = folder.path().join("short");
        std::fs::write(&short, "x").expect("written");
        assert_eq!(Superblock::read(&short).expect("readable"), None);
    }
}
