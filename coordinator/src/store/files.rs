//! Whole files that appear at one blow: written aside, fsynced, renamed, and the folder fsynced.
//!
//! A framed file begins with a magic, a version and the SHA-256 of what follows, so that a damaged
//! one is told from a good one before anything in it is believed.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::StoreError;

const MAGIC: &[u8; 6] = b"WARREN";
const HEADER: usize = 6 + 1 + 32;

/// Makes the names in `path` durable.
pub fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| StoreError::io("syncing the folder", path, e))
}

/// Makes a folder with its parents, durably.
pub fn make_dir(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|e| StoreError::io("making the folder", path, e))?;
    sync_dir(path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Writes `content` as `folder/name`: the file is there whole and durable, or not at all.
pub fn replace(folder: &Path, name: &str, content: &[u8]) -> Result<(), StoreError> {
    let aside = folder.join(format!("{name}.tmp"));
    let target = folder.join(name);
    let write = || -> io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&aside, &target)
    };
    if let Err(error) = write() {
        // A full volume must not stay full because of what could not be finished.
        let _ = fs::remove_file(&aside);
        return Err(StoreError::io("writing", &target, error));
    }
    sync_dir(folder)
}

/// Returns `payload` behind a header with `version` and checksum.
pub fn frame(version: u8, payload: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEADER + payload.len());
    framed.extend_from_slice(MAGIC);
    framed.extend_from_slice(&[version]);
    framed.extend_from_slice(&checksum(version, payload));
    framed.extend_from_slice(payload);
    framed.freeze()
}

/// Returns the checksum: over the payload, and from version 2 on over the version before it.
fn checksum(version: u8, payload: &[u8]) -> [u8; 32] {
    let hash = Sha256::new();
    let hash = if version > 1 { hash.chain_update([version]) } else { hash };
    hash.chain_update(payload).finalize().into()
}

/// What keeps a framed file from being read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is whole, and a newer version wrote it.
    #[error("{0}")]
    Newer(String),
    /// It is not what was written.
    #[error("{0}")]
    Damaged(String),
}

/// Returns version and payload of a framed file with a version up to `newest`, or what is wrong
/// with it. A version is believed only where the checksum holds.
pub fn unframe(framed: &Bytes, newest: u8) -> Result<(u8, Bytes), Unreadable> {
    if framed.len() < HEADER || !framed.starts_with(MAGIC) {
        let reason = format!("{} bytes without the header of a checkpoint", framed.len());
        return Err(Unreadable::Damaged(reason));
    }
    let version = framed[MAGIC.len()];
    let payload = framed.slice(HEADER..);
    let whole = framed[MAGIC.len() + 1..HEADER] == checksum(version, &payload);
    let unknown = format!("format {version} is not known here (newest {newest})");
    match version {
        _ if !whole => Err(Unreadable::Damaged("its checksum does not match".to_owned())),
        0 => Err(Unreadable::Damaged(unknown)),
        known if known <= newest => Ok((version, payload)),
        _ => Err(Unreadable::Newer(unknown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_a_cut_and_a_newer_format_are_told() {
        for version in [1, 2] {
            let good = frame(version, b"state");
            assert_eq!(unframe(&good, 2), Ok((version, Bytes::from_static(b"state"))));
            for (at, bit) in (0..good.len()).flat_map(|at| [(at, 1), (at, 2), (at, 128)]) {
                let mut bad = good.to_vec();
                bad[at] ^= bit;
                let read = unframe(&bad.into(), 2);
                assert!(matches!(read, Err(Unreadable::Damaged(_))), "byte {at}: {read:?}");
                assert!(unframe(&good.slice(..at), 2).is_err(), "cut to {at} bytes");
            }
        }
        let newer = unframe(&frame(2, b"state"), 1);
        assert!(
            matches!(&newer, Err(Unreadable::Newer(why)) if why.contains("format 2")),
            "{newer:?}"
        );
        let none = unframe(&frame(0, b"state"), 1);
        assert!(matches!(none, Err(Unreadable::Damaged(_))), "{none:?}");
    }

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        replace(folder.path(), "a", b"one").expect("written");
        replace(folder.path(), "a", b"two").expect("replaced");
        assert_eq!(fs::read(folder.path().join("a")).expect("there"), b"two");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        assert!(replace(&folder.path().join("missing"), "a", b"x").is_err());
    }
}
