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
    framed.extend_from_slice(&Sha256::digest(payload));
    framed.extend_from_slice(payload);
    framed.freeze()
}

/// Returns the payload of a framed file with a version up to `newest`, or what is wrong with it.
pub fn unframe(framed: &Bytes, newest: u8) -> Result<(u8, Bytes), String> {
    if framed.len() < HEADER || !framed.starts_with(MAGIC) {
        return Err(format!("{} bytes without the header of a checkpoint", framed.len()));
    }
    let version = framed[MAGIC.len()];
    if version == 0 || version > newest {
        return Err(format!("format {version} is not known here (newest {newest})"));
    }
    let payload = framed.slice(HEADER..);
    if framed[MAGIC.len() + 1..HEADER] != Sha256::digest(&payload)[..] {
        return Err("its checksum does not match".to_owned());
    }
    Ok((version, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_a_cut_and_a_newer_format_are_told() {
        let good = frame(1, b"state");
        assert_eq!(unframe(&good, 1), Ok((1, Bytes::from_static(b"state"))));
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert!(unframe(&bad.into(), 1).is_err(), "bit flipped in byte {at}");
            assert!(unframe(&good.slice(..at), 1).is_err(), "cut to {at} bytes");
        }
        assert!(unframe(&frame(2, b"state"), 1).expect_err("newer").contains("format 2"));
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
