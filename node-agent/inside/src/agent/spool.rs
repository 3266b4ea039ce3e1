//! Messages that PID 1 did not take in time: one file each, named so that they sort by time.
//!
//! Any process of the workspace may write there. What is no message is removed; what cannot be
//! removed is left alone.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use warren_common::Timestamp;

use super::message::MESSAGE_BYTES;
use crate::files;

/// Name of the folder in the runtime folder.
const FOLDER: &str = "spool";
/// Messages kept; later ones are lost.
const KEPT: usize = 256;
/// Entries of the folder looked at, and messages taken, at one time.
const LOOKED_AT: usize = 1024;
const TAKEN: usize = 64;
/// A message that is not finished after this long never will be.
const HALF: Duration = Duration::from_secs(60);

/// Leaves a message for PID 1.
///
/// # Errors
/// What the file system says; where [`KEPT`] are there it is lost too.
pub(super) fn leave(runtime: &Path, at: Timestamp, bytes: &[u8]) -> io::Result<()> {
    let folder = runtime.join(FOLDER);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    if fs::read_dir(&folder)?.take(KEPT).count() == KEPT {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let name = format!("{:020}-{}", at.0, std::process::id());
    let half = folder.join(format!(".{name}"));
    fs::write(&half, bytes)?;
    fs::rename(&half, folder.join(name))
}

/// Takes the messages there are, the oldest first, a bounded number at a time.
pub(super) fn drain(runtime: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(runtime.join(FOLDER)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.take(LOOKED_AT).filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| is_finished(path));
    paths.sort();
    let mut messages = Vec::new();
    for path in paths.into_iter().take(TAKEN) {
        messages.extend(files::read(&path, MESSAGE_BYTES));
        // one that cannot be removed is a folder, which is none of ours
        let _ = fs::remove_file(&path);
    }
    messages
}

/// Returns whether nobody writes it any more; a left half is removed.
fn is_finished(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    if !name.is_some_and(|name| name.starts_with('.')) {
        return true;
    }
    let changed = fs::symlink_metadata(path).and_then(|file| file.modified());
    if changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > HALF)) {
        let _ = fs::remove_file(path);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_in_their_order_and_once() {
        let runtime = tempfile::tempdir().expect("a folder");
        assert!(drain(runtime.path()).is_empty());
        for at in [30, 7, 200] {
            let text = at.to_string();
            leave(runtime.path(), Timestamp(at), text.as_bytes()).expect("it is left");
        }
        assert_eq!(drain(runtime.path()), [b"7".to_vec(), b"30".to_vec(), b"200".to_vec()]);
        assert!(drain(runtime.path()).is_empty());
    }

    #[test]
    fn the_folder_is_bounded_and_what_is_none_of_ours_does_no_harm() {
        let runtime = tempfile::tempdir().expect("a folder");
        let path = runtime.path().join(FOLDER);
        fs::create_dir_all(path.join("a-folder/inside")).expect("a folder");
        std::os::unix::fs::symlink("/dev/zero", path.join("a-link")).expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, path.join("a-pipe"), rustix::fs::Mode::RWXU)
            .expect("a pipe");
        fs::write(path.join("a-large"), vec![b'x'; MESSAGE_BYTES + 1]).expect("a file");
        fs::write(path.join(".half"), "x").expect("a file");
        leave(runtime.path(), Timestamp(5), b"5").expect("it is left");
        assert_eq!(drain(runtime.path()), [b"5".to_vec()]);
        let left = fs::read_dir(&path).expect("a folder").count();
        assert_eq!(left, 2, "the folder and what may still be written");
        for at in 0..KEPT as u64 + 9 {
            let left = leave(runtime.path(), Timestamp(at), b"x");
            assert_eq!(left.is_ok(), at < KEPT as u64 - 2, "{at}");
        }
        assert_eq!(drain(runtime.path()).len(), TAKEN);
    }
}
