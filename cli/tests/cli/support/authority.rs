//! Authorities and certificates of a cluster that exists for one test.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use warren_common::ClusterId;
use warren_daemon::identity::{Authority, Credentials, Key, PeerIdentity, SERVER_NAME};

/// One authority with its key.
pub(crate) struct Issuing {
    issuer: Issuer<'static, KeyPair>,
    cluster: ClusterId,
    pub(crate) pem: String,
}

impl Issuing {
    /// Makes an authority of a cluster.
    pub(crate) fn new(cluster: ClusterId, authority: Authority) -> Self {
        let key = Key::generate().expect("a key").into_pair();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, cluster.to_string());
        params.distinguished_name.push(DnType::CommonName, authority.common_name());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), cluster, pem }
    }

    /// Signs a request for `identity`; `expired` makes it good for the year 2020.
    pub(crate) fn sign(&self, csr_pem: &str, identity: &PeerIdentity, expired: bool) -> String {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).expect("a request");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, identity.to_string());
        let uri = identity.uri(self.cluster).try_into().expect("ascii");
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if matches!(identity, PeerIdentity::Coordinator(_)) {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            let name = SERVER_NAME.try_into().expect("ascii");
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 12, 31);
        }
        let leaf = params.signed_by(&request.public_key, &self.issuer).expect("signed");
        format!("{}{}", leaf.pem(), self.pem)
    }

    /// Makes a key with a certificate for `identity`.
    pub(crate) fn credentials(&self, identity: &PeerIdentity) -> Credentials {
        let key = Key::generate().expect("a key");
        let chain = self.sign(&key.request().expect("a request"), identity, false);
        Credentials::new(&key.to_pem(), &chain).expect("they fit")
    }
}
