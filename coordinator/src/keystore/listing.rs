//! What a keystore holds, without the contents: stamps by name, a digest for each vault, and what is
//! only known to be deleted.
//!
//! A file that has not changed since it was read is not read again: with thousands of them a
//! comparison costs a look at the folder.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};

use super::{Keystore, KeystoreError, SUFFIX, Stamp};
use crate::sync::locked;

/// A file that was written this shortly before it was read may have been written again at the same
/// time of a coarse clock.
const FRESH: Duration = Duration::from_secs(2);

/// The stamps of files as they were read, with what tells that a file is another by now.
#[derive(Debug, Default)]
pub(super) struct Listing(BTreeMap<String, (Mark, Stamp)>);

impl Listing {
    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

type Mark = (u64, u64, i64, i64);

/// One secret of a keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which value of it.
    pub stamp: Stamp,
    /// When it was written here.
    pub written: SystemTime,
}

/// Returns the vault of a file, by its name: empty for what belongs to none.
pub fn group(name: &str) -> &str {
    match (name.strip_prefix("vault-key-"), name.strip_prefix("secret-")) {
        (Some(vault), _) => vault,
        (None, Some(rest)) => rest.split('-').next().unwrap_or_default(),
        (None, None) => "",
    }
}

impl Keystore {
    /// Returns the stamps of all good secrets by name; a damaged one is left out, so that it is
    /// fetched again.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn stamps(&self) -> Result<BTreeMap<String, Stamp>, KeystoreError> {
        Ok(self.list()?.into_iter().map(|(name, listed)| (name, listed.stamp)).collect())
    }

    /// As [`Self::stamps`], with when each was written.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<BTreeMap<String, Listed>, KeystoreError> {
        let mut all = BTreeMap::new();
        let mut known = locked(&self.listing);
        let mut next = BTreeMap::new();
        for entry in std::fs::read_dir(&self.path).map_err(KeystoreError::List)? {
            let entry = entry.map_err(KeystoreError::List)?;
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|file| file.strip_suffix(SUFFIX)) else {
                continue;
            };
            // one that went meanwhile is not there
            let Ok(facts) = entry.metadata() else { continue };
            let written = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let mark = mark(&facts);
            let seen = known.0.get(name).filter(|(seen, _)| *seen == mark);
            let stamp = match seen {
                Some((_, stamp)) => Some(stamp.clone()),
                None => self.stamp(name)?,
            };
            let Some(stamp) = stamp else { continue };
            if written.elapsed().is_ok_and(|age| age > FRESH) {
                next.insert(name.to_owned(), (mark, stamp.clone()));
            }
            all.insert(name.to_owned(), Listed { stamp, written });
        }
        known.0 = next;
        drop(known);
        let highest = all.values().map(|listed| listed.stamp.number).max().unwrap_or_default();
        let mut writing = locked(&self.writing);
        *writing = highest.max(*writing);
        Ok(all)
    }

    fn stamp(&self, name: &str) -> Result<Option<Stamp>, KeystoreError> {
        match self.kept(name) {
            Ok(kept) => Ok(kept.map(|kept| kept.stamp)),
            Err(KeystoreError::Name(_)) => Ok(None),
            Err(KeystoreError::Damaged(_)) => {
                tracing::error!(name, "a secret in the keystore is damaged");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns SHA-256 over names and stamps of what is not deleted: equal where two keystores hold
    /// the same.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn digest(&self) -> Result<[u8; 32], KeystoreError> {
        let mut hash = Sha256::new();
        for (name, stamp) in self.stamps()?.iter().filter(|(_, stamp)| !stamp.deleted) {
            hash.update(format!("{name} {stamp}\n"));
        }
        Ok(hash.finalize().into())
    }
}

/// Returns SHA-256 over names and stamps, of each vault: deletions count here.
pub(crate) fn digests(listed: &BTreeMap<String, Stamp>) -> BTreeMap<String, [u8; 32]> {
    let mut hashes: BTreeMap<&str, Sha256> = BTreeMap::new();
    for (name, stamp) in listed {
        hashes.entry(group(name)).or_default().update(format!("{name} {stamp}\n"));
    }
    let done = hashes.into_iter();
    done.map(|(vault, hash)| (vault.to_owned(), hash.finalize().into())).collect()
}

fn mark(facts: &Metadata) -> Mark {
    (facts.ino(), facts.len(), facts.mtime(), facts.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use warren_daemon::Secret;

    use super::*;

    #[test]
    fn files_belong_to_vaults_by_their_names_and_each_vault_has_a_digest() {
        assert_eq!(group("vault-key-shared"), "shared");
        assert_eq!(group("secret-00ab-1-git-token"), "00ab");
        assert_eq!(group("node-authority"), "");
        let folder = tempfile::tempdir().expect("a folder");
        let store = Keystore::open(folder.path()).expect("opened");
        let put = |name: &str, text: &str| {
            store.put(name, &Secret::new(text.to_owned())).expect("kept");
        };
        put("secret-aa-0-x", "one");
        put("secret-bb-0-x", "one");
        let before = digests(&store.stamps().expect("read"));
        put("secret-aa-0-x", "two");
        let after = digests(&store.stamps().expect("read"));
        assert_ne!(before["aa"], after["aa"]);
        assert_eq!(before["bb"], after["bb"]);
    }

    #[test]
    fn a_file_is_read_again_once_it_is_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Keystore::open(folder.path()).expect("opened");
        let kept = store.write("k", Some(&Secret::new("one".to_owned())), 1).expect("kept");
        let path = folder.path().join("k.secret");
        let old = SystemTime::now() - Duration::from_secs(60);
        let date = |path: &std::path::Path, time: SystemTime| {
            let file = std::fs::File::options().write(true).open(path).expect("there");
            file.set_modified(time).expect("dated");
        };
        date(&path, old);
        assert_eq!(store.stamps().expect("read")["k"], kept.stamp);
        assert_eq!(locked(&store.listing).0.len(), 1, "it is remembered");
        // damaged in place, which its mark does not tell
        let text = std::fs::read_to_string(&path).expect("there");
        std::fs::write(&path, text.replace("one", "eno")).expect("written");
        date(&path, old);
        assert_eq!(store.stamps().expect("read")["k"], kept.stamp);
        assert!(matches!(store.get("k"), Err(KeystoreError::Damaged(_))));
        assert!(store.stamps().expect("read").is_empty(), "reading it told");
        std::fs::write(&path, text.replace("one", "eno")).expect("written");
        assert!(store.stamps().expect("read").is_empty(), "it is damaged");
        let again = store.write("k", Some(&Secret::new("two".to_owned())), 1).expect("kept");
        assert_eq!(store.stamps().expect("read")["k"], again.stamp);
        assert!(locked(&store.listing).0.is_empty(), "too fresh to be remembered");
    }
}
