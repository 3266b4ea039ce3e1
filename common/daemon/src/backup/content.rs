//! What stands inside a backup once it is open: a manifest for people, the state, the secrets.
//!
//! Sections one after the other: kind, length of the name, name, length of the body, body. The
//! coordinator alone knows how the state is encoded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use warren_common::Limits;
use zeroize::Zeroize as _;

use super::BackupError;
use crate::{Secret, sealed::SealKey};

/// The most that may stand in one backup.
pub(super) const LIMIT: usize = Limits::BACKUP_BYTES;

const MANIFEST: u8 = 1;
const STATE: u8 = 2;
const SECRET: u8 = 3;

/// What is in a backup, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Clients.
    pub clients: u64,
    /// Nodes that are not retired.
    pub nodes: u64,
    /// Workspaces.
    pub workspaces: u64,
    /// The newest audit record.
    pub audit_sequence: u64,
    /// Its hash, in hex.
    pub audit_hash: String,
    /// The values of clients' secrets that the state names; none in a file of before there were
    /// any.
    #[serde(default)]
    pub sealed: Vec<SealedValue>,
}

/// A value that must be among the secrets, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedValue {
    /// For people: whose secret, and its name.
    pub secret: String,
    /// The name of the key that seals it.
    pub key: String,
    /// The name that it stands under.
    pub file: String,
    /// What it was sealed for: no other value opens there.
    pub place: String,
}

impl SealedValue {
    /// Whether `secrets` hold this very value, and the key that opens it.
    pub fn is_in(&self, secrets: &BTreeMap<String, Secret<String>>) -> bool {
        let opens = || {
            let key = SealKey::from_text(secrets.get(&self.key)?).ok()?;
            key.open(self.place.as_bytes(), secrets.get(&self.file)?.expose()).ok()
        };
        opens().is_some()
    }
}

/// A backup that was opened, or that is to be sealed.
#[derive(Default)]
pub struct Content {
    /// What is in it.
    pub manifest: Manifest,
    /// The state, as the coordinator encodes it.
    pub state: Vec<u8>,
    /// The keystore, by name.
    pub secrets: BTreeMap<String, Secret<String>>,
}

impl Content {
    /// Checks that every value which the state names is there and opens.
    ///
    /// # Errors
    /// Names the first secret whose newest value is not.
    pub fn check(&self) -> Result<(), BackupError> {
        match self.manifest.sealed.iter().find(|one| !one.is_in(&self.secrets)) {
            Some(lost) => Err(BackupError::Lacks(lost.secret.clone())),
            None => Ok(()),
        }
    }

    /// Hands the encoding out piece by piece, so that no second copy of it is made.
    ///
    /// # Errors
    /// Those of `sink`; a name or body that is too long.
    pub fn encode(
        &self,
        mut sink: impl FnMut(&[u8]) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let manifest = serde_json::to_vec(&self.manifest);
        let manifest = manifest.map_err(|error| BackupError::Damaged(error.to_string()))?;
        let secrets = self.secrets.iter();
        let secrets = secrets.map(|(name, secret)| (SECRET, &**name, secret.expose().as_bytes()));
        let first = [(MANIFEST, "", &*manifest), (STATE, "", &*self.state)];
        for (kind, name, body) in first.into_iter().chain(secrets) {
            let too_long = |_| BackupError::TooLarge { limit: LIMIT };
            sink(&[kind])?;
            sink(&u16::try_from(name.len()).map_err(too_long)?.to_be_bytes())?;
            sink(name.as_bytes())?;
            sink(&(body.len() as u64).to_be_bytes())?;
            sink(body)?;
        }
        Ok(())
    }

    /// Reads what [`Self::encode`] wrote; the plain bytes are wiped.
    pub(super) fn decode(mut plain: Vec<u8>) -> Result<Self, BackupError> {
        let decoded = Self::sections(&plain);
        plain.zeroize();
        decoded
    }

    fn sections(plain: &[u8]) -> Result<Self, BackupError> {
        let damaged = |what: &str| BackupError::Damaged(what.to_owned());
        let mut content = Self::default();
        let (mut rest, mut manifest, mut state) = (plain, false, false);
        while let Some((kind, after)) = rest.split_first() {
            let section = section(after).ok_or_else(|| damaged("a section is incomplete"))?;
            let (name, body, after) = section;
            match *kind {
                MANIFEST => {
                    let read = serde_json::from_slice(body);
                    content.manifest = read.map_err(|_| damaged("its manifest"))?;
                    manifest = true;
                }
                STATE => {
                    content.state = body.to_vec();
                    state = true;
                }
                SECRET => {
                    let text = std::str::from_utf8(body).map_err(|_| damaged("a secret"))?;
                    let secret = Secret::new(text.to_owned());
                    content.secrets.insert(name.to_owned(), secret);
                }
                _ => return Err(damaged("a section of an unknown kind")),
            }
            rest = after;
        }
        if manifest && state { Ok(content) } else { Err(damaged("a section is missing")) }
    }
}

/// Returns name, body and what follows.
fn section(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (length, bytes) = bytes.split_first_chunk::<2>()?;
    let (name, bytes) = bytes.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (length, bytes) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (body, bytes) = bytes.split_at_checked(length)?;
    Some((std::str::from_utf8(name).ok()?, body, bytes))
}
