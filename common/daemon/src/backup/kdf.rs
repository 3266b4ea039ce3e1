//! From a passphrase to a key.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use super::{BackupError, BackupKey, hex, unhex};
use crate::Secret;

/// The shortest passphrase, in characters.
pub const PASSPHRASE_LEAST: usize = 12;
/// RFC 9106, second recommended option: 64 MiB, three passes, four lanes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// What a header may ask for at most: it is not authenticated before the key is made.
const MEMORY_KIB_MOST: u32 = 1024 * 1024;
const PASSES_MOST: u32 = 16;
const LANES_MOST: u32 = 16;
const ALGORITHM: &str = "argon2id";

/// How a key is made from a passphrase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kdf {
    /// `argon2id`.
    pub algorithm: String,
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// 16 random bytes in hex; another passphrase or another salt is another key.
    pub salt: String,
}

impl Kdf {
    /// Makes the parameters of a new backup, with a fresh salt.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn fresh() -> Result<Self, BackupError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| BackupError::Randomness)?;
        Ok(Self {
            algorithm: ALGORITHM.to_owned(),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: hex(&salt),
        })
    }

    /// Refuses parameters that are unknown, weaker than ours by far, or made to exhaust a machine.
    ///
    /// # Errors
    /// Says which.
    pub fn check(&self) -> Result<[u8; 16], BackupError> {
        let refused = |what: &str| BackupError::Damaged(format!("its key derivation: {what}"));
        if self.algorithm != ALGORITHM {
            return Err(refused("an unknown algorithm"));
        }
        if !(8 * 1024..=MEMORY_KIB_MOST).contains(&self.memory_kib)
            || !(1..=PASSES_MOST).contains(&self.passes)
            || !(1..=LANES_MOST).contains(&self.lanes)
        {
            return Err(refused("its cost is out of bounds"));
        }
        unhex(&self.salt).ok_or_else(|| refused("its salt is none"))
    }

    /// Makes the key; takes about a second and the memory named. Blocks.
    ///
    /// # Errors
    /// The passphrase is too short, or the parameters are out of bounds.
    pub fn derive(&self, passphrase: &Secret<String>) -> Result<BackupKey, BackupError> {
        let salt = self.check()?;
        let text = passphrase.expose();
        if text.trim().chars().count() < PASSPHRASE_LEAST {
            let least = PASSPHRASE_LEAST;
            let why = format!("the passphrase is shorter than {least} characters");
            return Err(BackupError::Passphrase(why));
        }
        let wrong = |error: argon2::Error| BackupError::Damaged(error.to_string());
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32));
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(wrong)?);
        let mut key = [0; 32];
        argon.hash_password_into(text.as_bytes(), &salt, &mut key).map_err(wrong)?;
        Ok(Secret::new(key))
    }
}
