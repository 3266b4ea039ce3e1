//! The folder in which a process keeps its identity.
//!
//! `identity.pem` holds key and chain together, so that one rename replaces both; `trust.pem` the
//! authorities it trusts; `pending.pem` the key of a request that is under way, so that a repeated
//! enrolment proves the same key.

use std::path::{Path, PathBuf};

use super::{Credentials, IdentityError, Key, certificates};
use crate::{Secret, files};

/// What a process is and whom it trusts.
#[derive(Clone)]
pub struct Identity {
    /// Its own certificate and key.
    pub credentials: Credentials,
    /// The authorities it trusts, in PEM.
    pub trust_pem: String,
}

/// Where an identity is kept (0700; the files in it 0600).
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens the folder, making it where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, IdentityError> {
        let path = path.into();
        files::private_folder(&path).map_err(IdentityError::File)?;
        Ok(Self { path })
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the identity; none where none was installed.
    ///
    /// # Errors
    /// A file is damaged, readable by others, or does not fit the others.
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let pem = files::read_private(&self.file("identity.pem")).map_err(IdentityError::File)?;
        let trust = files::read_private(&self.file("trust.pem")).map_err(IdentityError::File)?;
        let (Some(pem), Some(trust_pem)) = (pem.map(Secret::new), trust) else { return Ok(None) };
        let credentials = Credentials::from_pem(pem.expose())?;
        check_trust(&trust_pem)?;
        Ok(Some(Identity { credentials, trust_pem }))
    }

    /// Returns the key of the request under way, or begins one with a fresh key, kept before it is
    /// returned.
    ///
    /// # Errors
    /// The key cannot be made, read or written.
    pub fn pending_key(&self) -> Result<Key, IdentityError> {
        let path = self.file("pending.pem");
        if let Some(pem) = files::read_private(&path).map_err(IdentityError::File)? {
            return Key::from_pem(Secret::new(pem).expose());
        }
        let key = Key::generate()?;
        let pem = key.to_pem();
        files::write_atomic(&path, pem.expose().as_bytes(), 0o600).map_err(IdentityError::File)?;
        Ok(key)
    }

    /// Installs what a request was answered with, in place of what there was, and ends the request.
    ///
    /// # Errors
    /// Chain or trust are damaged or do not fit the key (nothing is written then), or a file
    /// cannot be written (the request is still under way then).
    pub fn install(
        &self,
        key: &Key,
        chain_pem: &str,
        trust_pem: &str,
    ) -> Result<Identity, IdentityError> {
        let identity = self.keep(key, chain_pem, trust_pem)?;
        self.end_request()?;
        Ok(identity)
    }

    /// Does the first half of [`Self::install`]: the request is under way until
    /// [`Self::end_request`], and a repeat after a crash in between proves the same key.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub fn keep(
        &self,
        key: &Key,
        chain_pem: &str,
        trust_pem: &str,
    ) -> Result<Identity, IdentityError> {
        let key_pem = key.to_pem();
        let credentials = Credentials::new(&key_pem, chain_pem)?;
        check_trust(trust_pem)?;
        let both = Secret::new(format!("{}{chain_pem}", key_pem.expose()));
        // trust first: a new certificate may come with a new authority, an old one stays trusted
        self.write("trust.pem", trust_pem.as_bytes())?;
        self.write("identity.pem", both.expose().as_bytes())?;
        Ok(Identity { credentials, trust_pem: trust_pem.to_owned() })
    }

    /// Ends the request under way, where there is one.
    ///
    /// # Errors
    /// Its key cannot be removed.
    pub fn end_request(&self) -> Result<(), IdentityError> {
        files::remove_optional(&self.file("pending.pem")).map_err(IdentityError::File)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), IdentityError> {
        files::write_atomic(&self.file(name), content, 0o600).map_err(IdentityError::File)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn check_trust(pem: &str) -> Result<(), IdentityError> {
    match certificates("the trusted authorities", pem)?.is_empty() {
        true => Err(IdentityError::NoTrust),
        false => Ok(()),
    }
}
