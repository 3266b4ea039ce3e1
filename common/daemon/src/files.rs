//! Files that are either the old one or the new one, whatever happens in between.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A secret that others may read is none.
    #[error("{path} is readable by others (mode {mode:03o}), run: chmod go= {path}", path = path.display())]
    TooOpen {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { action, path, source }
}

/// Makes a folder (0700) and those above it, where it is missing.
///
/// # Errors
/// The folder cannot be made.
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(failed("make folder", path))
}

/// Writes a file through a temporary one beside it: written, fsynced, renamed, folder fsynced.
///
/// # Errors
/// Any of these steps failed; the old file is as it was, unless it was the last step.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &temporary)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed("create", &temporary))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = renamed {
        // the first error is the one that matters
        let _ = fs::remove_file(&temporary);
        return Err(failed("write", path)(error));
    }
    sync_folder(folder)
}

/// Makes renames and removals in a folder durable.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(failed("sync folder", folder))
}

/// Reads a text; none where there is no such file.
///
/// # Errors
/// It cannot be read or is not UTF-8.
pub fn read_optional(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Reads a text that only its owner may read; none where there is no such file.
///
/// # Errors
/// As [`read_optional`], and [`FileError::TooOpen`] where group or others have any right to it.
pub fn read_private(path: &Path) -> Result<Option<String>, FileError> {
    match fs::metadata(path) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(FileError::TooOpen { path: path.to_owned(), mode });
            }
            read_optional(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Removes a file where it is there, durably.
///
/// # Errors
/// It cannot be removed.
pub fn remove_optional(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_replaced_whole_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sub/key.pem");
        private_folder(path.parent().expect("sub")).expect("made");
        write_atomic(&path, b"one", 0o600).expect("written");
        write_atomic(&path, b"two", 0o600).expect("replaced");
        assert_eq!(read_private(&path).expect("readable").as_deref(), Some("two"));
        let entries = fs::read_dir(path.parent().expect("sub")).expect("readable").count();
        assert_eq!(entries, 1, "no temporary file is left");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        let error = read_private(&path).expect_err("too open");
        assert!(error.to_string().contains("mode 640"), "{error}");
    }

    #[test]
    fn a_missing_file_is_none_and_a_missing_folder_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(read_private(&folder.path().join("x")).expect("no error").is_none());
        let error = write_atomic(&folder.path().join("no/x"), b"", 0o600).expect_err("no folder");
        assert!(error.to_string().starts_with("cannot create"), "{error}");
    }
}
