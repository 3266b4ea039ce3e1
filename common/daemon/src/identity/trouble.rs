//! Why a connection failed, in words for people.
//!
//! In TLS 1.3 a server refuses a client's certificate after the client thinks it is connected, so
//! the refusal arrives as the failure of the first call, wrapped by several libraries, of which one
//! keeps the text only. The client's stream therefore replaces each alert by one of the sentences
//! below, and [`explain`] finds the sentence again.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

use super::tls::PinMismatch;

/// Why a connection failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No address answered; the text names each and why.
    #[error("{0}")]
    Unreachable(String),
    /// The server refused our certificate.
    #[error("{0}")]
    Refused(&'static str),
    /// We refused the server's certificate.
    #[error("{0}")]
    Distrusted(&'static str),
    /// TLS failed in another way.
    #[error("{0}")]
    Tls(String),
}

const EXPIRED: &str = "certificate refused: it has expired or is not valid yet by the \
                       coordinator's clock";
const FOREIGN: &str = "certificate refused: it was not issued by this cluster";
const REVOKED: &str = "certificate refused: it was revoked";
const PURPOSE: &str = "certificate refused: it is not meant for this kind of connection";
const MISSING: &str = "certificate refused: none was shown and one is required here";
const REFUSED: &str = "certificate refused: expired, revoked or not issued by this cluster";
const REFUSALS: [&str; 6] = [EXPIRED, FOREIGN, REVOKED, PURPOSE, MISSING, REFUSED];

const SERVER_EXPIRED: &str = "coordinator not trusted: its certificate has expired or is not \
                              valid yet by this machine's clock";
const SERVER_FOREIGN: &str = "coordinator not trusted: its certificate was not issued by this \
                              cluster's authority";
const SERVER_NAME: &str = "coordinator not trusted: its certificate is not a coordinator's";
const SERVER_PIN: &str = "coordinator not trusted: it belongs to another cluster than the join \
                          token";
const SERVER_OTHER: &str = "coordinator not trusted: its certificate cannot be verified";
/// Another coordinator of the cluster than the one that was dialled.
pub(super) const SERVER_OTHER_THAN_MEANT: &str =
    "coordinator not trusted: another one than was meant answers at this address";
const DISTRUSTS: [&str; 6] = [
    SERVER_EXPIRED,
    SERVER_FOREIGN,
    SERVER_NAME,
    SERVER_PIN,
    SERVER_OTHER,
    SERVER_OTHER_THAN_MEANT,
];

impl Trouble {
    /// Reads what rustls says about a connection of ours; none for an error that is not TLS's.
    pub(super) fn from_io(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::AlertReceived(alert) => Self::from_alert(*alert),
            rustls::Error::InvalidCertificate(error) => Self::Distrusted(server_certificate(error)),
            other => Self::Tls(format!("TLS failed: {other}")),
        })
    }

    fn from_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Self::Refused(EXPIRED),
            AlertDescription::UnknownCA | AlertDescription::DecryptError => Self::Refused(FOREIGN),
            AlertDescription::CertificateRevoked => Self::Refused(REVOKED),
            AlertDescription::UnsupportedCertificate => Self::Refused(PURPOSE),
            AlertDescription::CertificateRequired => Self::Refused(MISSING),
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => Self::Refused(REFUSED),
            other => Self::Tls(format!("TLS failed: the coordinator answered {other:?}")),
        }
    }
}

fn server_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => SERVER_EXPIRED,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => SERVER_FOREIGN,
        CertificateError::NotValidForName
        | CertificateError::NotValidForNameContext { .. }
        | CertificateError::InvalidPurpose
        | CertificateError::InvalidPurposeContext { .. } => SERVER_NAME,
        CertificateError::Other(other) if other.0.is::<PinMismatch>() => SERVER_PIN,
        _ => SERVER_OTHER,
    }
}

/// Finds out of an error's chain why a connection failed; none where the connection was fine or
/// nothing is known. Ask it about a call's status only where the status has no reason of Warren's:
/// then no coordinator has answered the call.
pub fn explain(error: &(dyn Error + 'static)) -> Option<Trouble> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(trouble) = error.downcast_ref::<Trouble>() {
            return Some(trouble.clone());
        }
        if let Some(inner) = error.downcast_ref::<io::Error>() {
            let known = inner.get_ref().and_then(|inner| inner.downcast_ref::<Trouble>());
            if let Some(trouble) = known.cloned().or_else(|| Trouble::from_io(inner)) {
                return Some(trouble);
            }
        }
        let text = error.to_string();
        let found = |sentences: &[&'static str]| {
            sentences.iter().copied().find(|sentence| text.contains(sentence))
        };
        if let Some(sentence) = found(&REFUSALS) {
            return Some(Trouble::Refused(sentence));
        }
        if let Some(sentence) = found(&DISTRUSTS) {
            return Some(Trouble::Distrusted(sentence));
        }
        next = error.source();
    }
    None
}
