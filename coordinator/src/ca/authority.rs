//! One certificate authority: its key, its certificate, and what it signs.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, string::Ia5String,
};
use warren_common::{ClusterId, Timestamp};
use warren_daemon::{
    Secret,
    identity::{Authority, Key, PeerIdentity, SERVER_NAME, certificates},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{AUTHORITY_LIFE, CLOCK_SKEW, CaError, LEAF_LIFE, SigningRequest};
use crate::keystore::Keystore;

/// A certificate, fresh from its authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Leaf, then its authority.
    pub chain_pem: String,
    /// Big-endian without leading zeros, as the deny-list holds it.
    pub serial: Vec<u8>,
    /// SHA-256 of its public key.
    pub key_hash: [u8; 32],
    /// When it was made; it is good from a little earlier on, for clocks that run behind.
    pub issued: Timestamp,
    /// Until when it is good.
    pub not_after: Timestamp,
}

/// An authority with its key.
pub(super) struct IssuingAuthority {
    authority: Authority,
    cluster: ClusterId,
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    not_after: Timestamp,
}

impl IssuingAuthority {
    /// Loads it; none where it was never made.
    pub(super) fn load(keystore: &Keystore, authority: Authority) -> Result<Option<Self>, CaError> {
        let kept = keystore.get(&secret_of(authority)).map_err(CaError::Keystore)?;
        kept.map(|pem| Self::from_pem(authority, &pem)).transpose()
    }

    /// Makes it, keeps it and loads it again, so that what is used is what was kept.
    pub(super) fn create(
        keystore: &Keystore,
        (authority, cluster): (Authority, ClusterId),
        now: Timestamp,
    ) -> Result<Self, CaError> {
        let key = Key::generate().map_err(CaError::Own)?;
        let mut params = params(now, now.plus(AUTHORITY_LIFE))?;
        params.distinguished_name.push(DnType::OrganizationName, cluster.to_string());
        params.distinguished_name.push(DnType::CommonName, authority.common_name());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(key.pair()).map_err(CaError::Make)?;
        let both = Secret::new(format!("{}{}", key.to_pem().expose(), certificate.pem()));
        keystore.put(&secret_of(authority), &both).map_err(CaError::Keystore)?;
        Self::from_pem(authority, &both)
    }

    /// Reads key and certificate, which stand in one text so that they are kept together.
    fn from_pem(authority: Authority, pem: &Secret<String>) -> Result<Self, CaError> {
        let damaged = |why: String| CaError::Damaged { authority, why };
        let chain = certificates("the authority", pem.expose())
            .map_err(|error| damaged(error.to_string()))?;
        let [der] = &chain[..] else {
            return Err(damaged(format!("it holds {} certificates", chain.len())));
        };
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|error| damaged(error.to_string()))?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        if name != Some(authority.common_name()) {
            return Err(damaged(format!("it is {subject}")));
        }
        let organization = subject.iter_organization().next().and_then(|name| name.as_str().ok());
        let cluster = organization.and_then(|text| text.parse().ok());
        let cluster = cluster.ok_or_else(|| damaged("it names no cluster".to_owned()))?;
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let key = Key::from_pem(pem.expose()).map_err(|error| damaged(error.to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.pair().public_key_raw() {
            return Err(damaged("key and certificate are not of one pair".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_der(der, key.into_pair()).map_err(CaError::Make)?;
        let certificate_pem = certificate_section(pem.expose())
            .ok_or_else(|| damaged("its certificate has no end".to_owned()))?;
        let not_after = Timestamp(seconds.saturating_mul(1000));
        Ok(Self { authority, cluster, issuer, certificate_pem, not_after })
    }

    pub(super) const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(super) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Signs a leaf for the request's key, naming `identity` and nobody else.
    pub(super) fn issue(
        &self,
        request: &SigningRequest,
        identity: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        if now >= self.not_after {
            return Err(CaError::Expired(self.authority));
        }
        let not_after = now.plus(LEAF_LIFE).min(self.not_after);
        let serial = serial()?;
        let mut params = params(now, not_after)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name.push(DnType::CommonName, identity.to_string());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(ia5(identity.uri(self.cluster))?)];
        if self.authority == Authority::Coordinator {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            params.subject_alt_names.push(SanType::DnsName(ia5(SERVER_NAME.to_owned())?));
        }
        let leaf = params.signed_by(request.key(), &self.issuer).map_err(CaError::Make)?;
        let chain_pem = format!("{}{}", leaf.pem(), self.certificate_pem);
        let not_after = Timestamp(not_after.0 / 1000 * 1000);
        Ok(Issued { chain_pem, serial, key_hash: request.key_hash(), issued: now, not_after })
    }
}

/// Returns the name of an authority's secret in the keystore.
pub fn secret_of(authority: Authority) -> String {
    format!("{}-authority", authority.as_str())
}

/// Returns parameters with the validity set and everything else empty.
fn params(now: Timestamp, not_after: Timestamp) -> Result<CertificateParams, CaError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: Timestamp| {
        let seconds = std::time::Duration::from_secs(time.0 / 1000);
        // year 9999 is the last that X.509 can write
        let fits = seconds.as_secs() < 253_402_300_800;
        fits.then(|| epoch + seconds).ok_or(CaError::Make(rcgen::Error::Time))
    };
    let mut params = CertificateParams::default();
    let skew = u64::try_from(CLOCK_SKEW.as_millis()).unwrap_or(0);
    params.not_before = at(Timestamp(now.0.saturating_sub(skew)))?;
    params.not_after = at(not_after)?;
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Returns 16 random bytes that are positive as a number and have no leading zero.
fn serial() -> Result<Vec<u8>, CaError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| CaError::Randomness)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(bytes.to_vec())
}

fn ia5(text: String) -> Result<Ia5String, CaError> {
    Ia5String::try_from(text).map_err(CaError::Make)
}

/// Returns the certificate's part of a text that holds a key too.
fn certificate_section(pem: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let start = pem.find("-----BEGIN CERTIFICATE-----")?;
    let length = pem[start..].find(END)? + END.len();
    Some(format!("{}\n", &pem[start..start + length]))
}
