//! The cluster's own certificate authorities.
//!
//! Three self-signed ones, made at `warren cluster init`: for coordinators, for nodes, for people,
//! so that no certificate can pass as one of another kind. Keys live in the [`Keystore`]. Whom a
//! certificate names is decided by the caller here; a request only proves possession of its key.

mod authority;
mod own;
mod request;

#[cfg(test)]
mod tests;

use std::time::Duration;

use tonic::Code;
use warren_common::{ClusterId, Timestamp};
use warren_daemon::identity::{Authority, IdentityError, PeerIdentity, pin_of};
use warren_proto::{ApiError, error::reason};

pub use authority::{Issued, secret_of};
pub use own::{fresh_identity, keep_renewed, own_identity};
pub use request::SigningRequest;

use crate::keystore::{Keystore, KeystoreError};
use authority::IssuingAuthority;

/// How long a leaf is good.
const LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long an authority is good: 20 years.
const AUTHORITY_LIFE: Duration = Duration::from_secs(7305 * 24 * 3600);
/// How far clocks may run behind ours: a node whose clock is an hour off is told so, and works.
const CLOCK_SKEW: Duration = Duration::from_secs(2 * 3600);

/// Why a certificate cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The request is damaged, not signed by its own key, or of a kind of key that is not ours.
    #[error("the certificate signing request is refused: {0}")]
    Request(String),
    /// The authority's own time is over.
    #[error("the {} authority has expired", .0.as_str())]
    Expired(Authority),
    /// An authority in the keystore belongs to another cluster.
    #[error("the {} authority in the keystore belongs to another cluster", .0.as_str())]
    Foreign(Authority),
    /// An authority in the keystore is damaged.
    #[error("the {} authority in the keystore is damaged: {why}", authority.as_str())]
    Damaged {
        /// Which one.
        authority: Authority,
        /// What is wrong with it.
        why: String,
    },
    /// The keystore cannot be used.
    #[error("the authorities' keys cannot be kept")]
    Keystore(#[source] KeystoreError),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Make(#[source] rcgen::Error),
    /// Our own identity cannot be kept.
    #[error("the coordinator's own certificate cannot be kept")]
    Own(#[source] IdentityError),
    /// The system has no randomness to give.
    #[error("the system has no randomness to give")]
    Randomness,
}

impl From<CaError> for ApiError {
    fn from(error: CaError) -> Self {
        match &error {
            CaError::Request(_) => Self::new(Code::InvalidArgument, reason::INVALID_CSR, error),
            CaError::Expired(_)
            | CaError::Foreign(_)
            | CaError::Damaged { .. }
            | CaError::Keystore(_)
            | CaError::Make(_)
            | CaError::Own(_)
            | CaError::Randomness => Self::new(Code::Internal, reason::INTERNAL, error),
        }
    }
}

/// The three authorities of one cluster.
pub struct Ca {
    cluster: ClusterId,
    coordinator: IssuingAuthority,
    node: IssuingAuthority,
    person: IssuingAuthority,
}

impl Ca {
    /// Loads the authorities; none where not all three were made yet.
    ///
    /// # Errors
    /// One is damaged, or they are of different clusters.
    pub fn load(keystore: &Keystore) -> Result<Option<Self>, CaError> {
        let load = |authority| IssuingAuthority::load(keystore, authority);
        let loaded =
            (load(Authority::Coordinator)?, load(Authority::Node)?, load(Authority::Person)?);
        match loaded {
            (Some(coordinator), Some(node), Some(person)) => {
                Self::join(coordinator, node, person).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Loads the authorities, or makes those that are missing, durably. Where an earlier attempt
    /// made some, its cluster id holds rather than `minted`: ask [`Self::cluster`].
    ///
    /// # Errors
    /// One is damaged, they are of different clusters, or one cannot be made or kept.
    pub fn load_or_create(
        keystore: &Keystore,
        minted: ClusterId,
        now: Timestamp,
    ) -> Result<Self, CaError> {
        let mut cluster = minted;
        for authority in Authority::ALL {
            if let Some(found) = IssuingAuthority::load(keystore, authority)? {
                cluster = found.cluster();
                break;
            }
        }
        let ensure = |authority| match IssuingAuthority::load(keystore, authority)? {
            Some(found) => Ok(found),
            None => IssuingAuthority::create(keystore, (authority, cluster), now),
        };
        Self::join(
            ensure(Authority::Coordinator)?,
            ensure(Authority::Node)?,
            ensure(Authority::Person)?,
        )
    }

    fn join(
        coordinator: IssuingAuthority,
        node: IssuingAuthority,
        person: IssuingAuthority,
    ) -> Result<Self, CaError> {
        let cluster = coordinator.cluster();
        for (authority, one) in [(Authority::Node, &node), (Authority::Person, &person)] {
            if one.cluster() != cluster {
                return Err(CaError::Foreign(authority));
            }
        }
        Ok(Self { cluster, coordinator, node, person })
    }

    /// Returns the cluster they are of.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Issues a certificate that names `identity`, whatever the request asks for.
    ///
    /// # Errors
    /// The authority has expired or the system has no randomness.
    pub fn issue(
        &self,
        request: &SigningRequest,
        identity: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        self.authority(identity.authority()).issue(request, identity, now)
    }

    /// Returns whom people and nodes trust: the coordinators' authority, in PEM.
    pub fn coordinator_trust(&self) -> &str {
        self.coordinator.certificate_pem()
    }

    /// Returns whom the API trusts: all three, in PEM.
    pub fn api_trust(&self) -> String {
        [&self.coordinator, &self.node, &self.person]
            .map(IssuingAuthority::certificate_pem)
            .concat()
    }

    /// Returns what join tokens carry: SHA-256 of the coordinators' authority.
    ///
    /// # Errors
    /// The certificate is damaged, which loading has excluded.
    pub fn pin(&self) -> Result<[u8; 32], CaError> {
        pin_of(self.coordinator_trust()).map_err(CaError::Own)
    }

    const fn authority(&self, authority: Authority) -> &IssuingAuthority {
        match authority {
            Authority::Coordinator => &self.coordinator,
            Authority::Node => &self.node,
            Authority::Person => &self.person,
        }
    }
}
