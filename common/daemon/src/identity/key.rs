//! Keys, signing requests, and certificates with their keys.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};
use warren_common::Limits;
use zeroize::Zeroizing;

use super::{IdentityError, Peer, tls};
use crate::Secret;

/// An ECDSA P-256 key of this process.
pub struct Key(KeyPair);

impl Key {
    /// Makes a fresh one.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<Self, IdentityError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        pair.map(Self).map_err(|source| IdentityError::Make { what: "a key", source })
    }

    /// Reads one that [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// It is no PKCS#8 key in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let pair = KeyPair::from_pem(pem);
        pair.map(Self).map_err(|source| IdentityError::Make { what: "use of a key", source })
    }

    /// Returns it as PKCS#8 in PEM.
    pub fn to_pem(&self) -> Secret<String> {
        Secret::new(self.0.serialize_pem())
    }

    /// Returns a signing request in PEM. It proves possession of the key and asks for nothing: who
    /// the certificate names is decided by whoever signs.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn request(&self) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "warren");
        let failed = |source| IdentityError::Make { what: "a signing request", source };
        params.serialize_request(&self.0).and_then(|request| request.pem()).map_err(failed)
    }

    /// Returns SHA-256 of the public key (its point, not its DER wrapping).
    pub fn public_hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.public_key_raw()).into()
    }

    /// Returns the key pair, for whoever signs with it.
    pub const fn pair(&self) -> &KeyPair {
        &self.0
    }

    /// Gives up the key pair, for whoever signs with it.
    pub fn into_pair(self) -> KeyPair {
        self.0
    }
}

/// A certificate chain with the key of its leaf, ready for TLS.
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    key_hash: [u8; 32],
    peer: Peer,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        let (chain, peer) = (self.chain.clone(), self.peer.clone());
        Self { chain, key: self.key.clone_key(), key_hash: self.key_hash, peer }
    }
}

impl Credentials {
    /// Joins a key and a chain, leaf first.
    ///
    /// # Errors
    /// The chain is not PEM, names nobody, or belongs to another key.
    pub fn new(key_pem: &Secret<String>, chain_pem: &str) -> Result<Self, IdentityError> {
        let chain = certificates("the certificate", chain_pem)?;
        let leaf = chain.first().ok_or_else(|| pem_error("the certificate", "it is empty"))?;
        let peer = Peer::from_certificate(leaf).map_err(IdentityError::Peer)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.expose().as_bytes())
            .map_err(|error| pem_error("the key", error))?;
        tls::check_pair(&chain, &key)?;
        let key_hash = Key::from_pem(key_pem.expose())?.public_hash();
        Ok(Self { chain, key, key_hash, peer })
    }

    /// Reads key and chain from one text, in any order.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        Self::new(&Secret::new(pem.to_owned()), pem)
    }

    /// Returns whom the certificate names.
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns SHA-256 of the public key (its point, not its DER wrapping), as [`Key::public_hash`].
    pub const fn key_hash(&self) -> [u8; 32] {
        self.key_hash
    }

    /// Returns base64 of SHA-256 over the public key as the certificate wraps it: what curl takes as
    /// `--pinnedpubkey sha256//…`. None where the certificate cannot be read, which TLS excludes.
    pub fn public_key_pin(&self) -> Option<String> {
        let (_, leaf) = x509_parser::parse_x509_certificate(self.chain.first()?).ok()?;
        Some(STANDARD.encode(Sha256::digest(leaf.public_key().raw)))
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// Reads every certificate of a PEM text; other sections are passed over.
///
/// # Errors
/// A section is damaged, or the text is longer than [`Limits::PEM_BYTES`]. `what` names it.
pub fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    if pem.len() > Limits::PEM_BYTES {
        return Err(pem_error(what, format!("it has {} bytes", pem.len())));
    }
    // the text may hold a key beside the certificates
    let bytes = Zeroizing::new(pem.as_bytes().to_vec());
    CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(what, error))
}

fn pem_error(what: &'static str, why: impl ToString) -> IdentityError {
    IdentityError::Pem { what, why: why.to_string() }
}
