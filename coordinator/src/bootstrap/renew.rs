//! A fresh certificate for a coordinator that is stopped, from its own keystore: nobody is asked.

use std::path::PathBuf;

use warren_common::Timestamp;
use warren_daemon::{
    clock,
    identity::{Folder, IdentityError},
};

use super::{Intent, IntentError, SocketError, ensure_free};
use crate::{
    ca::{Ca, CaError, fresh_identity},
    config::Config,
    keystore::{Keystore, KeystoreError},
};

/// Why there is no fresh certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// It runs, and renews by itself.
    #[error(
        "the coordinator runs: it renews its certificate by itself, at the latest when it starts"
    )]
    Running(#[source] SocketError),
    /// There is no cluster to be a coordinator of.
    #[error("there is no cluster in {}: run warren cluster init, or join one", .0.display())]
    NoCluster(PathBuf),
    /// The cluster's record cannot be read.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// The keystore cannot be read.
    #[error("opening the keystore")]
    Keystore(#[source] KeystoreError),
    /// The authorities cannot be used.
    #[error("using the authorities")]
    Ca(#[source] CaError),
    /// The authorities are not in the keystore.
    #[error("the authorities are not in the keystore of this coordinator")]
    NoAuthorities,
    /// The certificate cannot be kept.
    #[error("keeping the certificate")]
    Identity(#[source] IdentityError),
}

/// Replaces the coordinator's own certificate, whatever its age, and returns where it lies and until
/// when it is good. It is put on record when the coordinator starts.
///
/// # Errors
/// The coordinator runs, or has nothing to sign with.
pub async fn renew_certs(config: &Config) -> Result<(PathBuf, Timestamp), RenewError> {
    ensure_free(&config.socket).await.map_err(RenewError::Running)?;
    let intent = Intent::load(&config.state_dir)?;
    let intent = intent.ok_or_else(|| RenewError::NoCluster(config.state_dir.clone()))?;
    let keystore = Keystore::open(&config.state_dir.join("keys")).map_err(RenewError::Keystore)?;
    let ca = Ca::load(&keystore).map_err(RenewError::Ca)?.ok_or(RenewError::NoAuthorities)?;
    let folder = Folder::open(config.state_dir.join("identity")).map_err(RenewError::Identity)?;
    let identity = fresh_identity(&ca, &folder, intent.replica, clock::now());
    let identity = identity.map_err(RenewError::Ca)?;
    Ok((folder.path().to_owned(), identity.credentials.peer().not_after))
}
