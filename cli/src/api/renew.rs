//! The certificate of the context in use renews itself: quietly after a third of its life, before
//! the call once it has expired.
//!
//! Two runs at once prove the same pending key, so whichever installs last changes nothing.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::Status;
use warren_common::{Limits, Timestamp};
use warren_daemon::{
    clock,
    identity::{Folder, Identity, Peer},
};
use warren_proto::pb::node::v1::{RenewRequest, enroll_service_client::EnrollServiceClient};

use super::{Api, Attempt, failure::not_renewed};
use crate::{context, error::Error};

/// How long a call is held up by a renewal that could as well happen the next time.
const QUIET: Duration = Duration::from_secs(3);

/// What renews a context's certificate.
pub(super) struct Renewal {
    folder: Folder,
    due: Timestamp,
    expires: Timestamp,
    tried: bool,
}

impl Renewal {
    pub(super) fn new(folder: Folder, peer: &Peer) -> Self {
        Self { folder, due: peer.renew_at(), expires: peer.not_after, tried: false }
    }
}

impl Api {
    /// Renews the certificate where that is due; once in each run.
    ///
    /// # Errors
    /// It has expired and was not renewed: no call can succeed then.
    pub(super) async fn keep_certified(&mut self, until: Instant) -> Result<(), Attempt> {
        let now = clock::now();
        let Some(renewal) = self.renewal.as_mut() else { return Ok(()) };
        if now < renewal.due || renewal.tried {
            return Ok(());
        }
        let expired = renewal.expires <= now;
        // a certificate that is good is tried once; without one there is nothing else to try
        renewal.tried = !expired;
        let folder = renewal.folder.clone();
        let limit = if expired { until } else { until.min(Instant::now() + QUIET) };
        match timeout_at(limit, self.renew(&folder)).await {
            Ok(Ok(identity)) => {
                let peer = identity.credentials.peer();
                self.expires = peer.not_after;
                self.renewal = Some(Renewal::new(folder, peer));
                Ok(())
            }
            Ok(Err(failed)) if expired => Err(match failed {
                Attempt::Again(error) | Attempt::Elsewhere(error) => Attempt::Again(error),
                Attempt::Final(error) => {
                    Attempt::Final(not_renewed(error, &self.context, self.expires))
                }
            }),
            Err(_) if expired => {
                let status = Status::deadline_exceeded("the certificate was not renewed in time");
                Err(Attempt::Again(self.failed(&status)))
            }
            // two thirds of its life are left
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    async fn renew(&mut self, folder: &Folder) -> Result<Identity, Attempt> {
        let local = |error| Attempt::Final(context::local(&error));
        let key = folder.pending_key().map_err(local)?;
        let csr_pem = key.request().map_err(local)?;
        let channel = self.channel(Instant::now() + Limits::CALL_TIMEOUT).await?;
        let answer = EnrollServiceClient::new(channel).renew(RenewRequest { csr_pem }).await;
        let answer = answer.map_err(|status| self.judge(&status))?.into_inner();
        let identity = folder.install(&key, &answer.certificate_pem, &answer.trust_pem);
        let identity = identity.map_err(local)?;
        let reloaded = self.tls.reload(&identity.credentials, &identity.trust_pem);
        reloaded.map_err(local)?;
        // the connection at hand was made with the old one
        self.disconnect();
        Ok(identity)
    }

    /// Decides whether asking again, perhaps elsewhere, can help.
    fn judge(&mut self, status: &Status) -> Attempt {
        let error: Error = self.refused(status).unwrap_or_else(|| self.failed(status));
        if super::failure::may_pass(status) {
            self.disconnect();
            self.first += 1;
            return Attempt::Again(error);
        }
        Attempt::Final(error)
    }
}
