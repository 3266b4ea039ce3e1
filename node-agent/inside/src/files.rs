//! Files in folders that belong to the workspace, where anything may stand: a pipe that waits for a
//! reader, a link that leads elsewhere, a file without end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::{Mode, OFlags, open};

/// Opens a plain file of at most `most` bytes and returns how many it has; never waits for a pipe and
/// follows no link.
pub(crate) fn open_plain(path: &Path, most: usize) -> Option<(File, usize)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let length = usize::try_from(metadata.len()).ok().filter(|length| *length <= most)?;
    Some((file, length))
}

/// Reads a plain file of at most `most` bytes, as [`open_plain`] opens it.
pub(crate) fn read(path: &Path, most: usize) -> Option<Vec<u8>> {
    let (file, _) = open_plain(path, most)?;
    let mut bytes = Vec::new();
    let room = u64::try_from(most).unwrap_or(u64::MAX);
    // it may have grown meanwhile
    file.take(room.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= most).then_some(bytes)
}

/// Returns whether this is a file that may be run.
pub(crate) fn runs(path: &Path) -> bool {
    let mode = fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.mode());
    mode.is_some_and(|mode| mode & 0o111 != 0)
}

/// Returns whether a plain file holds exactly `text`.
pub(crate) fn holds(path: &Path, text: &str) -> bool {
    read(path, text.len()).is_some_and(|bytes| bytes == text.as_bytes())
}

/// Writes a new file of this mode in the place of whatever stood there; it is on the disk then.
///
/// # Errors
/// What the file system says: a folder is not removed, and nothing made meanwhile is opened.
pub(crate) fn write_anew(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    write(path, text, mode)?.sync_all()
}

/// The same without waiting for the disk.
///
/// # Errors
/// As those of [`write_anew`].
pub(crate) fn write_unsynced(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    write(path, text, mode).map(drop)
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // the kernel follows no link for a file that must be new
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, mkfifoat};

    use super::*;

    #[test]
    fn nothing_that_stands_there_is_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let other = folder.path().join("other");
        mkfifoat(CWD, &path, Mode::RWXU).expect("a pipe");
        assert_eq!(read(&path, 9), None);
        write_anew(&path, "first", 0o644).expect("written");
        fs::remove_file(&path).expect("it was there");
        std::os::unix::fs::symlink(&other, &path).expect("a link");
        write_anew(&path, "second", 0o600).expect("written");
        assert!(!other.exists(), "it is not written through");
        assert!(holds(&path, "second") && !holds(&path, "second or not") && !holds(&path, "sec"));
        assert_eq!(read(&path, 5), None, "it is longer");
        assert!(write_anew(folder.path(), "x", 0o600).is_err(), "a folder stays");
    }
}
