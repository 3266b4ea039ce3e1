//! Certificates for tests: two authorities, as a cluster has, and what they sign.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use warren_common::{ClusterId, NodeId, ReplicaId};
use warren_daemon::{
    clock,
    identity::{self, Credentials, Key, PeerIdentity, SERVER_NAME},
};

/// One authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    cluster: ClusterId,
}

/// When a certificate's life began, and how long it is.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) age: Duration,
    pub(crate) length: Duration,
}

pub(crate) const FRESH: Life =
    Life { age: Duration::from_secs(60), length: Duration::from_secs(90 * 24 * 3600) };

impl Authority {
    pub(crate) fn new(authority: identity::Authority, cluster: ClusterId) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, cluster.to_string());
        params.distinguished_name.push(DnType::CommonName, authority.common_name());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem, cluster }
    }

    /// Signs a request for a node; leaf, then this authority.
    pub(crate) fn sign_node(&self, csr_pem: &str, node: NodeId, life: Life) -> String {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).expect("a request");
        let mut params = params(life);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let uri = PeerIdentity::Node(node).uri(self.cluster);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        let leaf = params.signed_by(&request.public_key, &self.issuer).expect("signed");
        format!("{}{}", leaf.pem(), self.pem)
    }

    /// Makes a coordinator's own certificate.
    pub(crate) fn coordinator(&self, replica: u64) -> Credentials {
        let key = Key::generate().expect("a key");
        let mut params = params(FRESH);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let uri = PeerIdentity::Coordinator(ReplicaId(replica)).uri(self.cluster);
        params.subject_alt_names = vec![
            SanType::URI(uri.try_into().expect("ASCII")),
            SanType::DnsName(SERVER_NAME.try_into().expect("ASCII")),
        ];
        let leaf = params.signed_by(key.pair(), &self.issuer).expect("signed");
        let chain = format!("{}{}", leaf.pem(), self.pem);
        Credentials::new(&key.to_pem(), &chain).expect("a pair")
    }
}

fn params(life: Life) -> CertificateParams {
    let now = Duration::from_millis(clock::now().0);
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + (now - life.age);
    params.not_after = epoch + (now - life.age + life.length);
    params.is_ca = IsCa::ExplicitNoCa;
    params
}
