//! Certificate signing requests: proof of a key, and nothing else.

use rcgen::{CertificateSigningRequestParams, PublicKey, PublicKeyData};
use sha2::{Digest, Sha256};
use warren_common::Limits;

use super::CaError;

/// Length of an uncompressed point of P-256.
const POINT_BYTES: usize = 65;

/// A request whose signature was checked. What it asks for is dropped; its key is kept.
#[derive(Debug)]
pub struct SigningRequest {
    key: PublicKey,
}

impl SigningRequest {
    /// Reads and checks a request in PEM.
    ///
    /// # Errors
    /// [`CaError::Request`] where it is damaged, not signed by its own key, or its key is not ECDSA
    /// P-256.
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        let refused = |why: &str| CaError::Request(why.to_owned());
        if pem.len() > Limits::PEM_BYTES {
            return Err(refused("it is larger than any request"));
        }
        let request =
            CertificateSigningRequestParams::from_pem(pem).map_err(|error| match error {
                rcgen::Error::InvalidCertificationRequestSignature => {
                    refused("it is not signed by its own key")
                }
                other => refused(&other.to_string()),
            })?;
        let key = request.public_key;
        let point = key.der_bytes();
        let fits = point.len() == POINT_BYTES && point.first() == Some(&4);
        match key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256 && fits {
            true => Ok(Self { key }),
            false => Err(refused("its key is not ECDSA P-256")),
        }
    }

    /// Returns SHA-256 of the public key: the same machine asking again.
    pub fn key_hash(&self) -> [u8; 32] {
        Sha256::digest(self.key.der_bytes()).into()
    }

    pub(super) const fn key(&self) -> &PublicKey {
        &self.key
    }
}
