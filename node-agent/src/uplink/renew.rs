//! The certificate renews itself at a third of its life, and holds for later connections; streams
//! that are open go on. An expired one is renewed too: it is all that the coordinator lets it do.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tracing::{error, info};
use warren_common::{Limits, Timestamp};
use warren_daemon::{
    backoff::Backoff,
    clock,
    identity::{IdentityError, Peer},
    telemetry::Chain,
};
use warren_proto::pb::node::v1::{self as pb, enroll_service_client::EnrollServiceClient};

use super::{LinkError, Shared};

/// The clock may jump, as after a long sleep: look at least this often.
const LOOK: Duration = Duration::from_secs(60);
/// Waits between failed attempts.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

/// The longest wait while nothing else can be done.
const EXPIRED_RETRY: Duration = Duration::from_secs(5);

/// Why a renewal did not happen.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("no coordinator is known")]
    Nowhere,
    #[error("{0}")]
    Link(#[source] LinkError),
    #[error("the new certificate cannot be used")]
    Identity(#[source] IdentityError),
}

/// Renews in time, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::seeded(RETRY.0, RETRY.1);
    loop {
        let due = match shared.parts.identity.load() {
            Ok(Some(identity)) => due(identity.credentials.peer()),
            Ok(None) => None,
            Err(failed) => {
                error!(error = %Chain(&failed), "the identity cannot be read");
                None
            }
        };
        let now = clock::now();
        match due {
            Some((at, _)) if at <= now => match renew(&shared).await {
                Ok(()) => backoff.reset(),
                Err(failed) => {
                    error!(error = %Chain(&failed), "the certificate was not renewed");
                    // coordinators that come back together with us may be a moment behind
                    let expired = due.is_some_and(|(_, expires)| expires <= now);
                    let wait = backoff.next_wait();
                    sleep(if expired { wait.min(EXPIRED_RETRY) } else { wait }).await;
                }
            },
            Some((at, _)) => sleep(at.since(now).min(LOOK)).await,
            None => sleep(LOOK).await,
        }
    }
}

/// Returns when a third of the certificate's life is over, and all of it.
fn due(peer: &Peer) -> Option<(Timestamp, Timestamp)> {
    (peer.not_before < peer.not_after).then(|| (peer.renew_at(), peer.not_after))
}

/// Asks the coordinators in turn; a repeated request proves the same fresh key.
async fn renew(shared: &Shared) -> Result<(), RenewError> {
    let key = shared.parts.identity.pending_key().map_err(RenewError::Identity)?;
    let csr_pem = key.request().map_err(RenewError::Identity)?;
    let mut last = RenewError::Nowhere;
    for address in shared.parts.coordinators.candidates() {
        let mut api = EnrollServiceClient::new(shared.parts.links.channel(&address));
        let call = api.renew(pb::RenewRequest { csr_pem: csr_pem.clone() });
        let answer = match timeout(Limits::CALL_TIMEOUT, call).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => {
                last = RenewError::Link(status.into());
                continue;
            }
            Err(_) => {
                last = RenewError::Link(LinkError::Silent);
                continue;
            }
        };
        let installed =
            shared.parts.identity.install(&key, &answer.certificate_pem, &answer.trust_pem);
        let identity = installed.map_err(RenewError::Identity)?;
        let reloaded = shared.parts.links.tls().reload(&identity.credentials, &identity.trust_pem);
        reloaded.map_err(RenewError::Identity)?;
        shared.parts.links.forget();
        info!(until = %identity.credentials.peer().not_after, "the certificate was renewed");
        return Ok(());
    }
    Err(last)
}
