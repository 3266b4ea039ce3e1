//! How a listener verifies the certificates of those who connect.
//!
//! The API's listener forgives age, and nothing else: a certificate that has expired within
//! [`Limits::RENEWAL_GRACE`] is let in so that it can be renewed. Whoever serves the connection
//! must look at [`Peer::is_expired`] before it allows anything but that.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use warren_common::{Limits, Timestamp};

use super::Peer;

/// Verifies as the inner verifier does, but for the certificate's age.
#[derive(Debug)]
pub(super) struct ForgivingAge {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ForgivingAge {
    pub(super) const fn new(inner: Arc<dyn ClientCertVerifier>) -> Self {
        Self { inner }
    }
}

/// Returns the last second in which a certificate was good, where it expired no longer ago than it
/// may renew.
fn last_good(end_entity: &CertificateDer<'_>, now: UnixTime) -> Option<UnixTime> {
    let peer = Peer::from_certificate(end_entity).ok()?;
    let now = Timestamp(now.as_secs().saturating_mul(1000));
    let renewable = peer.not_before <= now && now < peer.not_after.plus(Limits::RENEWAL_GRACE);
    renewable.then(|| UnixTime::since_unix_epoch(Duration::from_millis(peer.not_after.0)))
}

impl ClientCertVerifier for ForgivingAge {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refused = match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        let aged = matches!(
            refused,
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            )
        );
        match last_good(end_entity, now).filter(|_| aged) {
            // everything else is verified again: an expired certificate may have other faults
            Some(then) => self.inner.verify_client_cert(end_entity, intermediates, then),
            None => Err(refused),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }
}
