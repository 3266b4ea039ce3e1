//! rustls configurations: TLS 1.3 only, ring, h2, replaced while they are in use.
//!
//! Sessions are never resumed: a resumed one would skip the check of the peer's certificate against
//! the authorities of today.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use warren_common::ClusterId;

use super::{Credentials, IdentityError, Trouble, certificates, verifier::ForgivingAge};

const PROTOCOL: &[u8] = b"h2";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn refused(what: &'static str) -> impl FnOnce(rustls::Error) -> IdentityError {
    move |source| IdentityError::Tls { what, source }
}

fn roots(trust_pem: &str) -> Result<Arc<RootCertStore>, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the trusted authorities", trust_pem)? {
        roots.add(certificate).map_err(refused("a trusted authority"))?;
    }
    match roots.is_empty() {
        true => Err(IdentityError::NoTrust),
        false => Ok(Arc::new(roots)),
    }
}

/// Checks that a key is the leaf's.
pub(super) fn check_pair(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), IdentityError> {
    let made = CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider());
    made.map(drop).map_err(refused("the certificate with its key"))
}

/// Returns SHA-256 of an authority's certificate, which join tokens carry.
///
/// # Errors
/// The text is not the PEM of one certificate.
pub fn pin_of(authority_pem: &str) -> Result<[u8; 32], IdentityError> {
    let what = "the authority's certificate";
    match &certificates(what, authority_pem)?[..] {
        [certificate] => Ok(Sha256::digest(certificate).into()),
        others => {
            let why = format!("it holds {} certificates", others.len());
            Err(IdentityError::Pem { what, why })
        }
    }
}

/// Whether those who connect must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// A bad one is refused, none is let in as nobody. One whose only fault is its age is let in
    /// for as long as it may renew: the peer says so ([`super::Peer::is_expired`]).
    Optional,
    /// None is refused too, and so is an expired one.
    Required,
}

/// The TLS side of a listener; a reload holds for every later connection.
pub struct ServerTls {
    cluster: ClusterId,
    clients: ClientCertificates,
    config: ArcSwap<ServerConfig>,
}

impl ServerTls {
    /// Makes it from the server's own certificate and the authorities its peers are signed by.
    ///
    /// # Errors
    /// Certificate, key or authorities are of no use.
    pub fn new(
        credentials: &Credentials,
        trust_pem: &str,
        clients: ClientCertificates,
    ) -> Result<Self, IdentityError> {
        let config = server_config(credentials, trust_pem, clients)?;
        let cluster = credentials.peer().cluster;
        Ok(Self { cluster, clients, config: ArcSwap::new(config) })
    }

    /// Takes a new certificate, or new authorities.
    ///
    /// # Errors
    /// They are of no use; the old ones stay.
    pub fn reload(&self, credentials: &Credentials, trust_pem: &str) -> Result<(), IdentityError> {
        self.config.store(server_config(credentials, trust_pem, self.clients)?);
        Ok(())
    }

    pub(super) const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn server_config(
    credentials: &Credentials,
    trust_pem: &str,
    clients: ClientCertificates,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots(trust_pem)?, provider());
    let verifier = match clients {
        ClientCertificates::Optional => {
            let inner = builder.allow_unauthenticated().build();
            inner.map(|inner| Arc::new(ForgivingAge::new(inner)) as Arc<dyn ClientCertVerifier>)
        }
        ClientCertificates::Required => builder.build(),
    };
    let verifier = verifier.map_err(|_| IdentityError::NoTrust)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused("TLS 1.3"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.chain(), credentials.key())
        .map_err(refused("the certificate with its key"))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The TLS side of outgoing connections; a reload holds for every later connection.
pub struct ClientTls {
    config: ArcSwap<ClientConfig>,
    refusal: ArcSwapOption<Trouble>,
}

impl ClientTls {
    /// Makes it from our own certificate and the authorities of coordinators.
    ///
    /// # Errors
    /// Certificate, key or authorities are of no use.
    pub fn new(credentials: &Credentials, trust_pem: &str) -> Result<Self, IdentityError> {
        let config = ArcSwap::new(client_config(credentials, trust_pem)?);
        Ok(Self { config, refusal: ArcSwapOption::empty() })
    }

    /// Makes one without a certificate that accepts exactly the authority with this SHA-256, for
    /// spending a join token.
    ///
    /// # Errors
    /// rustls lacks TLS 1.3.
    pub fn pinned(pin: [u8; 32]) -> Result<Self, IdentityError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused("TLS 1.3"))?;
        let verifier = Arc::new(PinnedVerifier { pin, provider: provider() });
        let config =
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Self { config: ArcSwap::new(finish(config)), refusal: ArcSwapOption::empty() })
    }

    /// Takes a new certificate, or new authorities.
    ///
    /// # Errors
    /// They are of no use; the old ones stay.
    pub fn reload(&self, credentials: &Credentials, trust_pem: &str) -> Result<(), IdentityError> {
        self.config.store(client_config(credentials, trust_pem)?);
        Ok(())
    }

    /// Returns why the server ended the newest connection, where TLS said so. A call that was
    /// not sent yet when that happened fails without a cause: it is here.
    pub fn refusal(&self) -> Option<Trouble> {
        self.refusal.load_full().map(|trouble| Trouble::clone(&trouble))
    }

    /// Notes why a connection ended; none for a new one.
    pub(super) fn note(&self, trouble: Option<Trouble>) {
        self.refusal.store(trouble.map(Arc::new));
    }

    pub(super) fn current(&self) -> Arc<ClientConfig> {
        self.config.load_full()
    }
}

fn client_config(
    credentials: &Credentials,
    trust_pem: &str,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused("TLS 1.3"))?
        .with_root_certificates(roots(trust_pem)?)
        .with_client_auth_cert(credentials.chain(), credentials.key())
        .map_err(refused("the certificate with its key"))?;
    Ok(finish(config))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The server's chain does not hold the authority of the join token.
#[derive(Debug, thiserror::Error)]
#[error("the server's authority is not the one in the join token")]
pub(super) struct PinMismatch;

/// Finds the pinned authority in the chain the server sends, then verifies the leaf against it as
/// the only root: name, time, purpose and signature as ever.
#[derive(Debug)]
struct PinnedVerifier {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = |der: &&CertificateDer<'_>| <[u8; 32]>::from(Sha256::digest(der)) == self.pin;
        let Some(authority) = intermediates.iter().find(pinned) else {
            let mismatch = CertificateError::Other(OtherError(Arc::new(PinMismatch)));
            return Err(rustls::Error::InvalidCertificate(mismatch));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is never offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}
