//! The file of a cluster backup: what it says of itself, how it is sealed, what is in it.
//!
//! A file is a preamble (magic, format, a readable header, its SHA-256) and then segments of 64 KiB,
//! each sealed with ChaCha20-Poly1305 under a key of this file alone ([`seal`]). The nonce of a
//! segment counts and says whether it is the last, and the whole preamble is authenticated with each,
//! so nothing can be changed, left out, moved or cut off unnoticed. The key comes from a passphrase
//! through Argon2id ([`Kdf`]): the coordinator is given the key, never the passphrase. Inside stand
//! sections ([`content`]); what the state in them means is the coordinator's business.

pub mod content;
mod kdf;
pub mod seal;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use warren_common::{ClusterId, Timestamp};

pub use content::{Content, Manifest, SealedValue};
pub use kdf::{Kdf, PASSPHRASE_LEAST};
pub use seal::{Sealer, open};

use crate::Secret;

/// The format written today, and the newest one read.
pub const FORMAT: u8 = 1;
/// The longest header.
const HEADER_BYTES: usize = 64 * 1024;
const MAGIC: &[u8; 8] = b"WARRENBK";
/// Magic, format, length of the header.
const FIXED: usize = 8 + 1 + 4;
const DIGEST: usize = 32;

/// The key of one backup.
pub type BackupKey = Secret<[u8; 32]>;

/// What a backup says of itself to everybody; authenticated by everything behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// Its incarnation then.
    pub incarnation: u32,
    /// Revision of the state in it.
    pub revision: u64,
    /// Raft term when it was taken.
    pub term: u64,
    /// The log position that the state holds at least.
    pub index: u64,
    /// The highest replica id there ever was, so that the next one is new.
    pub last_replica: u64,
    /// When it was taken, by the coordinator's clock.
    pub taken: Timestamp,
    /// Version of the coordinator that wrote it.
    pub version: String,
    /// How the key is made from the passphrase.
    pub kdf: Kdf,
    /// First bytes of every nonce, in hex.
    pub nonce: String,
    /// Tells a wrong key from a damaged file, in hex.
    pub key_check: String,
}

/// Why a backup cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("this is no backup of a Warren cluster")]
    NotOne,
    /// It ends too early.
    #[error("the backup is cut off: it ends in the middle of {0}")]
    CutOff(&'static str),
    /// A newer version wrote it.
    #[error("the backup has format {found}, the newest known here is {FORMAT}: use a newer warren")]
    Newer {
        /// Its format.
        found: u8,
    },
    /// Bytes in it are not what was written.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// The passphrase does not open it.
    #[error("the passphrase does not open this backup")]
    WrongKey,
    /// The passphrase is of no use.
    #[error("{0}")]
    Passphrase(String),
    /// It is larger than allowed.
    #[error("the backup holds more than the {limit} bytes allowed")]
    TooLarge {
        /// The most there may be.
        limit: usize,
    },
    /// A secret that the state names has not its newest value in it.
    #[error("the backup lacks the newest value of the secret {0}")]
    Lacks(String),
    /// The file or stream failed.
    #[error("reading or writing the backup")]
    Io(#[source] std::io::Error),
    /// The system has no randomness to give.
    #[error("the system has no randomness to give")]
    Randomness,
    /// Cannot happen with keys of the right length.
    #[error("the backup cannot be sealed")]
    Seal,
}

impl Header {
    /// Returns the preamble: everything before the first segment.
    fn preamble(&self) -> Result<Vec<u8>, BackupError> {
        let json = serde_json::to_vec(self);
        let json = json.map_err(|error| BackupError::Damaged(error.to_string()))?;
        if json.len() > HEADER_BYTES {
            return Err(BackupError::TooLarge { limit: HEADER_BYTES });
        }
        let mut bytes = Vec::with_capacity(FIXED + json.len() + DIGEST);
        bytes.extend_from_slice(MAGIC);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&json);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        Ok(bytes)
    }

    /// Reads the preamble from the front of a backup: the header, and the digest that every segment
    /// is bound to. It is not authenticated before a segment was opened.
    ///
    /// # Errors
    /// The file is no backup, of a newer format, cut off or damaged.
    pub fn read(source: &mut impl std::io::Read) -> Result<(Self, [u8; 32]), BackupError> {
        let mut fixed = [0; FIXED];
        let had = seal::fill(source, &mut fixed)?;
        if had < MAGIC.len() || fixed[..MAGIC.len()] != MAGIC[..] {
            return Err(BackupError::NotOne);
        }
        if had < FIXED {
            return Err(BackupError::CutOff("its header"));
        }
        let (found, length) = (fixed[MAGIC.len()], &fixed[MAGIC.len() + 1..]);
        if found > FORMAT {
            return Err(BackupError::Newer { found });
        }
        let length = length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        if found == 0 || length > HEADER_BYTES {
            return Err(BackupError::Damaged("its header makes no sense".to_owned()));
        }
        let mut rest = vec![0; length + DIGEST];
        if seal::fill(source, &mut rest)? < rest.len() {
            return Err(BackupError::CutOff("its header"));
        }
        let (json, told) = rest.split_at(length);
        let digest: [u8; 32] =
            Sha256::new().chain_update(fixed).chain_update(json).finalize().into();
        if digest[..] != *told {
            return Err(BackupError::Damaged("its header has another checksum".to_owned()));
        }
        let header = serde_json::from_slice(json);
        let header =
            header.map_err(|error| BackupError::Damaged(format!("its header: {error}")))?;
        Ok((header, digest))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}
