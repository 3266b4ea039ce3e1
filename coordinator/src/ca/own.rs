//! The coordinator's own certificate, which it issues to itself.

use std::{sync::Arc, time::Duration};

use tracing::{error, info};
use warren_common::{ReplicaId, Timestamp};
use warren_daemon::{
    Shutdown, clock,
    identity::{Folder, Identity, Key, PeerIdentity},
    telemetry::Chain,
};

use super::{Ca, CaError, SigningRequest};

/// How often the certificate's age is looked at: the clock may jump, as after a long sleep.
const LOOK: Duration = Duration::from_secs(60);

/// Returns this coordinator's identity: the one in the folder while it is of this cluster and
/// replica and has not used up a third of its life, else a fresh one. Its trust is the API's.
///
/// # Errors
/// The folder cannot be used, or nothing can be issued.
pub fn own_identity(
    ca: &Ca,
    folder: &Folder,
    replica: ReplicaId,
    now: Timestamp,
) -> Result<Identity, CaError> {
    if let Some(identity) = folder.load().map_err(CaError::Own)? {
        let peer = identity.credentials.peer();
        let wanted = PeerIdentity::Coordinator(replica);
        let ours = peer.identity == wanted && peer.cluster == ca.cluster();
        if ours && now < peer.renew_at() && identity.trust_pem == ca.api_trust() {
            return Ok(identity);
        }
    }
    fresh_identity(ca, folder, replica, now)
}

/// Gives this coordinator a fresh certificate in place of whatever there is.
///
/// # Errors
/// The folder cannot be written, or nothing can be issued.
pub fn fresh_identity(
    ca: &Ca,
    folder: &Folder,
    replica: ReplicaId,
    now: Timestamp,
) -> Result<Identity, CaError> {
    let wanted = PeerIdentity::Coordinator(replica);
    let key = Key::generate().map_err(CaError::Own)?;
    let request = SigningRequest::from_pem(&key.request().map_err(CaError::Own)?)?;
    let issued = ca.issue(&request, &wanted, now)?;
    folder.install(&key, &issued.chain_pem, &ca.api_trust()).map_err(CaError::Own)
}

/// Keeps this coordinator's identity fresh until shutdown; `renewed` hands each new one to the
/// listeners and channels. An error is logged and tried again a minute later: two thirds of the
/// old certificate's life are left then.
pub async fn keep_renewed(
    ca: Arc<Ca>,
    (folder, replica): (Folder, ReplicaId),
    renewed: impl Fn(&Identity) + Send,
    shutdown: Shutdown,
) {
    let mut looks = tokio::time::interval(LOOK);
    let mut serial = None;
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = looks.tick() => {}
        }
        match own_identity(&ca, &folder, replica, clock::now()) {
            Ok(identity) => {
                let current = identity.credentials.peer().serial.clone();
                if serial.as_ref().is_some_and(|before| *before != current) {
                    info!("renewed the coordinator's own certificate");
                }
                if serial.as_ref() != Some(&current) {
                    renewed(&identity);
                }
                serial = Some(current);
            }
            Err(error) => {
                error!(error = %Chain(&error), "cannot renew the coordinator's own certificate");
            }
        }
    }
}
