//! Secrets that the coordinators hold and Raft must not: the authorities' keys today, clients'
//! keys later. Plain files beside the store (folder 0700, files 0600), each written whole and
//! fsynced before it counts. A first line says which value it is ([`Stamp`]), so that coordinators
//! can tell the newer of two and a damaged one from a good one; `member/` copies them between
//! coordinators.

mod listing;
mod stamp;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use warren_daemon::{
    Secret,
    files::{self, FileError},
};

use crate::sync::locked;
use listing::Listing;
pub(crate) use listing::digests;
pub use listing::{Listed, group};
pub use stamp::Stamp;

const SUFFIX: &str = ".secret";

/// The folder of one coordinator's secrets. Clones share it.
#[derive(Debug, Clone)]
pub struct Keystore {
    path: Arc<Path>,
    /// Held from reading a stamp to writing the next: the highest number that was ever seen here.
    writing: Arc<Mutex<u64>>,
    listing: Arc<Mutex<Listing>>,
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
    /// A later leader has written it.
    #[error("the secret {name} was written by the leader of term {newer}, not of {term}")]
    Fenced {
        /// Which one.
        name: String,
        /// In which it was to be written.
        term: u64,
        /// In which it was.
        newer: u64,
    },
}

/// What became of a copy that another coordinator gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is kept now.
    New,
    /// It was here.
    Same,
    /// A newer one is here.
    Older,
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
        Ok(Self { path: path.into(), writing: Arc::default(), listing: Arc::default() })
    }

    /// Returns the secret of this name; none where there is none.
    ///
    /// # Errors
    /// The name is none, or the file is damaged, readable by others or not at all.
    pub fn get(&self, name: &str) -> Result<Option<Secret<String>>, KeystoreError> {
        let kept = self.kept(name);
        if matches!(kept, Err(KeystoreError::Damaged(_))) {
            // the listing may remember what it was, and a comparison would not heal it
            locked(&self.listing).remove(name);
        }
        Ok(kept?.filter(|kept| !kept.stamp.deleted).map(|kept| kept.content))
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
        self.keep((name, Some(secret)), None).map(drop)
    }

    /// Keeps a secret, or that it was deleted, as the leader of `term` decided; durable on this
    /// machine on return, and newer than every value of that term and of earlier ones.
    ///
    /// # Errors
    /// As [`Self::put`]; a later leader has written it.
    pub fn write(
        &self,
        name: &str,
        secret: Option<&Secret<String>>,
        term: u64,
    ) -> Result<Kept, KeystoreError> {
        self.keep((name, secret), Some(term))
    }

    fn keep(
        &self,
        (name, secret): (&str, Option<&Secret<String>>),
        term: Option<u64>,
    ) -> Result<Kept, KeystoreError> {
        let mut highest = locked(&self.writing);
        let before = match self.kept(name) {
            Ok(kept) => kept.map(|kept| kept.stamp),
            // what it was is lost; the value of the others, if they have one, is of no later term
            Err(KeystoreError::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
        let seen = before.as_ref().map_or(0, |before| before.term);
        let term = term.unwrap_or(seen);
        if seen > term {
            return Err(KeystoreError::Fenced { name: name.to_owned(), term, newer: seen });
        }
        // what was here and is forgotten may be elsewhere still, under a number of this term
        let number = before.map_or(*highest, |before| before.number).saturating_add(1);
        *highest = number.max(*highest);
        let empty = Secret::new(String::new());
        let content = secret.unwrap_or(&empty).clone();
        let stamp = Stamp::new((term, number), (secret.is_none(), content.expose()));
        let kept = Kept { stamp, content };
        self.store(name, &kept)?;
        Ok(kept)
    }

    /// Forgets that a secret was deleted, where this is what is known of it; whatever is written
    /// under its name later is newer. Returns whether it was.
    ///
    /// # Errors
    /// The file cannot be read or removed.
    pub fn forget(&self, name: &str, stamp: &Stamp) -> Result<bool, KeystoreError> {
        let mut highest = locked(&self.writing);
        match self.kept(name) {
            Ok(Some(kept)) if kept.stamp == *stamp && stamp.deleted => {}
            Ok(_) | Err(KeystoreError::Damaged(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        *highest = stamp.number.max(*highest);
        files::remove_optional(&self.file(name)?).map_err(KeystoreError::File)?;
        Ok(true)
    }

    /// Keeps what another coordinator has where that is newer, or where ours is damaged; durable
    /// on return.
    ///
    /// # Errors
    /// It is not what its stamp says, or as [`Self::put`].
    pub fn take(&self, name: &str, theirs: &Kept) -> Result<Taken, KeystoreError> {
        if !theirs.stamp.is_of(theirs.content.expose()) {
            return Err(KeystoreError::Damaged(name.to_owned()));
        }
        let mut highest = locked(&self.writing);
        *highest = theirs.stamp.number.max(*highest);
        match self.kept(name) {
            Ok(Some(ours)) if ours.stamp == theirs.stamp => return Ok(Taken::Same),
            Ok(Some(ours)) if ours.stamp > theirs.stamp => return Ok(Taken::Older),
            Ok(_) | Err(KeystoreError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        self.store(name, theirs)?;
        Ok(Taken::New)
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
        assert_eq!(two.take("k", &old).expect("asked"), Taken::Older);
        assert_eq!(one.take("k", &newer).expect("asked"), Taken::New);
        assert_eq!(one.take("k", &newer).expect("asked"), Taken::Same);
        assert_eq!(one.get("k").expect("good").expect("there").expose(), "newer");
        assert_eq!(one.digest().expect("read"), two.digest().expect("read"));
        let gone = one.write("k", None, 4).expect("kept");
        assert!(one.get("k").expect("good").is_none());
        assert!(gone.stamp > newer.stamp, "the same term, a later number");
        assert_eq!(two.take("k", &gone).expect("asked"), Taken::New, "a deletion is a value too");

        let path = folder.path().join("one/k.secret");
        let again = one.write("k", Some(&secret("again")), 5).expect("kept");
        let text = std::fs::read_to_string(&path).expect("there").replace("again", "agaim");
        std::fs::write(&path, text).expect("written");
        assert!(matches!(one.get("k"), Err(KeystoreError::Damaged(_))));
        assert!(one.stamps().expect("read").is_empty());
        assert_eq!(one.take("k", &again).expect("asked"), Taken::New, "a good copy heals it");
        let forged = Kept { content: secret("forged"), ..again };
        assert!(matches!(two.take("k", &forged), Err(KeystoreError::Damaged(_))));
    }

    #[test]
    fn what_a_deposed_leader_writes_late_loses() {
        let folder = tempfile::tempdir().expect("a folder");
        let [deposed, other] = ["deposed", "other"]
            .map(|name| Keystore::open(&folder.path().join(name)).expect("opened"));
        let secret = |text: &str| Secret::new(text.to_owned());
        // decided in term 3, and on its way
        let late = deposed.write("k", Some(&secret("late")), 3).expect("kept");
        let newer = other.write("k", Some(&secret("newer")), 4).expect("kept");
        assert_eq!(other.take("k", &late).expect("asked"), Taken::Older);
        // decided in term 3, written once the later leader's copy is here
        assert_eq!(deposed.take("k", &newer).expect("asked"), Taken::New);
        for secret in [Some(&secret("later")), None] {
            let refused = deposed.write("k", secret, 3).err().expect("fenced");
            assert!(
                matches!(refused, KeystoreError::Fenced { term: 3, newer: 4, .. }),
                "{refused}"
            );
        }
        assert_eq!(deposed.get("k").expect("good").expect("there").expose(), "newer");
    }

    #[test]
    fn a_deletion_is_forgotten_and_what_follows_is_newer_than_what_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, away] =
            ["one", "away"].map(|name| Keystore::open(&folder.path().join(name)).expect("opened"));
        let secret = |text: &str| Secret::new(text.to_owned());
        one.write("k", Some(&secret("first")), 3).expect("kept");
        let old = one.write("k", Some(&secret("second")), 3).expect("kept");
        away.take("k", &old).expect("kept");
        let gone = one.write("k", None, 3).expect("kept");
        assert!(!one.forget("k", &old.stamp).expect("asked"), "that is not what is known of it");
        assert!(one.forget("k", &gone.stamp).expect("asked"));
        assert!(one.kept("k").expect("good").is_none() && one.stamps().expect("read").is_empty());
        let anew = one.write("k", Some(&secret("anew")), 3).expect("kept");
        assert!(!one.forget("k", &gone.stamp).expect("asked"), "it is there again");
        assert_eq!(away.take("k", &anew).expect("asked"), Taken::New, "in the same term");
        assert_eq!(one.take("k", &old).expect("asked"), Taken::Older);
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
        let stamped = Stamp::new((0, 1), (false, "any"));
        assert!(stamped > Stamp::first("any other"), "whatever their hashes are");
        assert!(stamped > Stamp::first("a damaged line"), "whatever their hashes are");
        store.put("k", &Secret::new("next".to_owned())).expect("kept");
        assert!(store.kept("k").expect("good").expect("there").stamp > kept.stamp);
    }
}
