//! Secrets that the coordinators hold and Raft must not: the authorities' keys today, clients'
//! keys later. Plain files beside the store (folder 0700, files 0600), each written whole and
//! fsynced before it counts. A first line says which value it is ([`Stamp`]), so that coordinators
//! can tell the newer of two and a damaged one from a good one; `member/` copies them between
//! coordinators.

mod stamp;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use sha2::{Digest as _, Sha256};
use warren_daemon::{
    Secret,
    files::{self, FileError},
};

use crate::sync::locked;
pub use stamp::Stamp;

const SUFFIX: &str = ".secret";

/// The folder of one coordinator's secrets. Clones share it.
#[derive(Debug, Clone)]
pub struct Keystore {
    path: Arc<Path>,
    /// Held from reading a stamp to writing the next.
    writing: Arc<Mutex<()>>,
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
    /// The folder cannot be listed.
    #[error("the keystore cannot be listed")]
    List(#[source] std::io::Error),
    /// What is there is not what was written.
    #[error("the secret {0} is damaged")]
    Damaged(String),
}

/// A secret as it is kept and copied: what it is and which value of it.
#[derive(Clone)]
pub struct Kept {
    /// Which value.
    pub stamp: Stamp,
    /// Empty where it was deleted.
    pub content: Secret<String>,
}

impl Keystore {
    /// Opens the folder, making it where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: &Path) -> Result<Self, KeystoreError> {
        files::private_folder(path).map_err(KeystoreError::File)?;
        Ok(Self { path: path.into(), writing: Arc::default() })
    }

    /// Returns the secret of this name; none where there is none.
    ///
    /// # Errors
    /// The name is none, or the file is damaged, readable by others or not at all.
    pub fn get(&self, name: &str) -> Result<Option<Secret<String>>, KeystoreError> {
        let kept = self.kept(name)?.filter(|kept| !kept.stamp.deleted);
        Ok(kept.map(|kept| kept.content))
    }

    /// Returns the secret of this name with its stamp, deleted or not; none where there never was
    /// one.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn kept(&self, name: &str) -> Result<Option<Kept>, KeystoreError> {
        let text = files::read_private(&self.file(name)?).map_err(KeystoreError::File)?;
        let Some(text) = text.map(Secret::new) else { return Ok(None) };
        let damaged = || KeystoreError::Damaged(name.to_owned());
        let (stamp, content) = match Stamp::split(text.expose()) {
            Some((stamp, content)) => (stamp.ok_or_else(damaged)?, content),
            // of before there were stamps
            None => (Stamp::first(text.expose()), text.expose().as_str()),
        };
        match stamp.is_of(content) {
            true => Ok(Some(Kept { stamp, content: Secret::new(content.to_owned()) })),
            false => Err(damaged()),
        }
    }

    /// Keeps a secret under this name, in place of one that was there; it is durable on return,
    /// on this machine alone.
    ///
    /// # Errors
    /// The name is none, or the file cannot be written.
    pub fn put(&self, name: &str, secret: &Secret<String>) -> Result<(), KeystoreError> {
        self.write(name, Some(secret), 0).map(drop)
    }

    /// Keeps a secret, or that it was deleted, as the leader of `term`; durable on this machine on
    /// return, and newer than every value of an earlier term.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn write(
        &self,
        name: &str,
        secret: Option<&Secret<String>>,
        term: u64,
    ) -> Result<Kept, KeystoreError> {
        let _writing = locked(&self.writing);
        let before = match self.kept(name) {
            Ok(kept) => kept.map(|kept| kept.stamp),
            // what it was is lost; the value of the others, if they have one, is of no later term
            Err(KeystoreError::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
        let empty = Secret::new(String::new());
        let content = secret.unwrap_or(&empty).clone();
        let stamp = Stamp::after(before.as_ref(), term, (secret.is_none(), content.expose()));
        let kept = Kept { stamp, content };
        self.store(name, &kept)?;
        Ok(kept)
    }

    /// Keeps what another coordinator has where that is newer, or where ours is damaged; durable
    /// on return. Returns whether it was taken.
    ///
    /// # Errors
    /// It is not what its stamp says, or as [`Self::put`].
    pub fn take(&self, name: &str, theirs: &Kept) -> Result<bool, KeystoreError> {
        if !theirs.stamp.is_of(theirs.content.expose()) {
            return Err(KeystoreError::Damaged(name.to_owned()));
        }
        let _writing = locked(&self.writing);
        match self.kept(name) {
            Ok(Some(ours)) if ours.stamp >= theirs.stamp => return Ok(false),
            Ok(_) | Err(KeystoreError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        self.store(name, theirs)?;
        Ok(true)
    }

    /// Returns the stamps of all good secrets by name; a damaged one is left out, so that it is
    /// fetched again.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn stamps(&self) -> Result<BTreeMap<String, Stamp>, KeystoreError> {
        let mut stamps = BTreeMap::new();
        for entry in std::fs::read_dir(&self.path).map_err(KeystoreError::List)? {
            let file = entry.map_err(KeystoreError::List)?.file_name();
            let Some(name) = file.to_str().and_then(|file| file.strip_suffix(SUFFIX)) else {
                continue;
            };
            match self.kept(name) {
                Ok(Some(kept)) => drop(stamps.insert(name.to_owned(), kept.stamp)),
                Ok(None) | Err(KeystoreError::Name(_)) => {}
                Err(KeystoreError::Damaged(_)) => {
                    tracing::error!(name, "a secret in the keystore is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(stamps)
    }

    /// Returns SHA-256 over names and stamps: equal where two keystores hold the same.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn digest(&self) -> Result<[u8; 32], KeystoreError> {
        let mut hash = Sha256::new();
        for (name, stamp) in self.stamps()? {
            hash.update(format!("{name} {stamp}\n"));
        }
        Ok(hash.finalize().into())
    }

    fn store(&self, name: &str, kept: &Kept) -> Result<(), KeystoreError> {
        let text = Secret::new(format!("{}\n{}", kept.stamp, kept.content.expose()));
        files::write_atomic(&self.file(name)?, text.expose().as_bytes(), 0o600)
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
            true => Ok(self.path.join(format!("{name}{SUFFIX}"))),
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

    #[test]
    fn the_newer_of_two_holds_and_a_damaged_one_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = Keystore::open(&folder.path().join("one")).expect("opened");
        let two = Keystore::open(&folder.path().join("two")).expect("opened");
        let secret = |text: &str| Secret::new(text.to_owned());
        let old = one.write("k", Some(&secret("old")), 3).expect("kept");
        let newer = two.write("k", Some(&secret("newer")), 4).expect("kept");
        assert!(!two.take("k", &old).expect("asked"), "an older value is not taken");
        assert!(one.take("k", &newer).expect("asked"));
        assert_eq!(one.get("k").expect("good").expect("there").expose(), "newer");
        assert_eq!(one.digest().expect("read"), two.digest().expect("read"));
        let gone = one.write("k", None, 4).expect("kept");
        assert!(one.get("k").expect("good").is_none());
        assert!(gone.stamp > newer.stamp, "the same term, a later number");
        assert!(two.take("k", &gone).expect("asked"), "a deletion is a value too");

        let path = folder.path().join("one/k.secret");
        let again = one.write("k", Some(&secret("again")), 5).expect("kept");
        let text = std::fs::read_to_string(&path).expect("there").replace("again", "agaim");
        std::fs::write(&path, text).expect("written");
        assert!(matches!(one.get("k"), Err(KeystoreError::Damaged(_))));
        assert!(one.stamps().expect("read").is_empty());
        assert!(one.take("k", &again).expect("asked"), "a good copy heals it");
        let forged = Kept { content: secret("forged"), ..again };
        assert!(matches!(two.take("k", &forged), Err(KeystoreError::Damaged(_))));
    }

    #[test]
    fn a_file_of_before_there_were_stamps_is_the_first_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Keystore::open(folder.path()).expect("opened");
        let path = folder.path().join("k.secret");
        files::write_atomic(&path, b"plain\ntext", 0o600).expect("written");
        let kept = store.kept("k").expect("good").expect("there");
        assert_eq!(
            (kept.content.expose().as_str(), kept.stamp.term, kept.stamp.number),
            ("plain\ntext", 0, 0)
        );
        let stamped = Stamp::after(None, 0, (false, "any"));
        assert!(stamped > Stamp::first("any other"), "whatever their hashes are");
        assert!(stamped > Stamp::first("a damaged line"), "whatever their hashes are");
        store.put("k", &Secret::new("next".to_owned())).expect("kept");
        assert!(store.kept("k").expect("good").expect("there").stamp > kept.stamp);
    }
}
