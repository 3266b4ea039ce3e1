//! Secrets that the coordinators hold and Raft must not: the authorities' keys today, clients'
//! keys later. Plain files beside the store (folder 0700, files 0600), each written whole and
//! fsynced before it counts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use warren_daemon::{
    Secret,
    files::{self, FileError},
};

/// The folder of one coordinator's secrets. Clones share it.
#[derive(Debug, Clone)]
pub struct Keystore {
    path: Arc<Path>,
}

/// Why a secret cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// A name that could leave the folder.
    #[error("{0:?} is not the name of a secret: use a-z, 0-9 and '-'")]
    Name(String),
    /// The file cannot be read or written.
    #[error("the keystore cannot be used")]
    File(#[source] FileError),
}

impl Keystore {
    /// Opens the folder, making it where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: &Path) -> Result<Self, KeystoreError> {
        files::private_folder(path).map_err(KeystoreError::File)?;
        Ok(Self { path: path.into() })
    }

    /// Returns the secret of this name; none where there is none.
    ///
    /// # Errors
    /// The name is none, or the file is readable by others or not at all.
    pub fn get(&self, name: &str) -> Result<Option<Secret<String>>, KeystoreError> {
        let text = files::read_private(&self.file(name)?).map_err(KeystoreError::File)?;
        Ok(text.map(Secret::new))
    }

    /// Keeps a secret under this name, in place of one that was there; it is durable on return.
    ///
    /// # Errors
    /// The name is none, or the file cannot be written.
    pub fn put(&self, name: &str, secret: &Secret<String>) -> Result<(), KeystoreError> {
        files::write_atomic(&self.file(name)?, secret.expose().as_bytes(), 0o600)
            .map_err(KeystoreError::File)
    }

    /// Returns the names of every secret, in their order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, KeystoreError> {
        let failed = |source| {
            let path = self.path.to_path_buf();
            KeystoreError::File(FileError::Io { action: "list", path, source })
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let file = entry.map_err(failed)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".secret"));
            names.extend(name.filter(|name| self.file(name).is_ok()).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn file(&self, name: &str) -> Result<PathBuf, KeystoreError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match !name.is_empty() && name.len() <= 128 && name.bytes().all(plain) {
            true => Ok(self.path.join(format!("{name}.secret"))),
            false => Err(KeystoreError::Name(name.chars().take(128).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_private_replaceable_and_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let store = Keystore::open(&path).expect("opened");
        assert!(store.get("node-authority").expect("readable").is_none());
        for text in ["one", "two"] {
            store.put("node-authority", &Secret::new(text.to_owned())).expect("kept");
        }
        let kept = store.get("node-authority").expect("readable").expect("there");
        assert_eq!(kept.expose(), "two");
        let mode =
            |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("node-authority.secret")), 0o600);
        for name in ["", "../x", "a/b", "A", "a.b"] {
            assert!(matches!(store.get(name), Err(KeystoreError::Name(_))), "{name:?} passed");
        }
    }
}
