//! Who a certificate says its holder is.
//!
//! The identity stands in the one URI of the certificate's alternative names:
//! `spiffe://<cluster>/node/<id>`, `/coordinator/<replica>` or `/person/<role>/<name>`. TLS has
//! verified the chain before anything here runs; this module checks that the authority that signed
//! is the one that may name such a holder, and that the cluster is ours.

use std::fmt;

use warren_common::{ClusterId, NodeId, PersonName, ReplicaId, Role, Timestamp};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time,
};

/// The three authorities of a cluster, so that a node's certificate can never speak Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authority {
    /// Signs coordinators.
    Coordinator,
    /// Signs nodes.
    Node,
    /// Signs people and their automation.
    Person,
}

impl Authority {
    /// Every authority.
    pub const ALL: [Self; 3] = [Self::Coordinator, Self::Node, Self::Person];

    /// Returns the word used in file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Node => "node",
            Self::Person => "person",
        }
    }

    /// Returns the common name of its certificate; its organisation is the cluster's id.
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Coordinator => "warren coordinator authority",
            Self::Node => "warren node authority",
            Self::Person => "warren person authority",
        }
    }
}

/// Who a peer is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerIdentity {
    /// A node agent.
    Node(NodeId),
    /// A coordinator.
    Coordinator(ReplicaId),
    /// A person or their automation.
    Person {
        /// What they may do.
        role: Role,
        /// Who they are.
        name: PersonName,
    },
}

impl PeerIdentity {
    /// Returns the authority that signs such an identity.
    pub const fn authority(&self) -> Authority {
        match self {
            Self::Node(_) => Authority::Node,
            Self::Coordinator(_) => Authority::Coordinator,
            Self::Person { .. } => Authority::Person,
        }
    }

    /// Returns the URI that stands in its certificate.
    pub fn uri(&self, cluster: ClusterId) -> String {
        format!("spiffe://{cluster}/{self}")
    }

    /// Reads a certificate's URI.
    ///
    /// # Errors
    /// [`InvalidPeer::Identity`] where it is none of ours.
    pub fn from_uri(uri: &str) -> Result<(ClusterId, Self), InvalidPeer> {
        let invalid = || InvalidPeer::Identity(uri.chars().take(200).collect());
        let rest = uri.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let parts: Vec<&str> = rest.splitn(5, '/').collect();
        let (cluster, identity) = match parts[..] {
            [cluster, "node", id] => (cluster, Self::Node(id.parse().map_err(|_| invalid())?)),
            [cluster, "coordinator", id] => {
                (cluster, Self::Coordinator(ReplicaId(id.parse().map_err(|_| invalid())?)))
            }
            [cluster, "person", role, name] => {
                let role = role.parse().map_err(|_| invalid())?;
                (cluster, Self::Person { role, name: name.parse().map_err(|_| invalid())? })
            }
            _ => return Err(invalid()),
        };
        let cluster: ClusterId = cluster.parse().map_err(|_| invalid())?;
        // one spelling only, so that a deny-list or an audit log cannot be dodged by another
        if identity.uri(cluster) != uri {
            return Err(invalid());
        }
        Ok((cluster, identity))
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node/{id}"),
            Self::Coordinator(id) => write!(f, "coordinator/{id}"),
            Self::Person { role, name } => write!(f, "person/{role}/{name}"),
        }
    }
}

/// Why a certificate names nobody of this cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeer {
    /// It cannot be parsed.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// It has no URI, or several.
    #[error("the certificate names {0} identities, one is needed")]
    Uris(usize),
    /// The URI is none of ours.
    #[error("{0:?} is not an identity of a Warren cluster")]
    Identity(String),
    /// Another cluster's.
    #[error("the certificate belongs to cluster {0}, not to this one")]
    Cluster(ClusterId),
    /// Signed by an authority that may not name such a holder.
    #[error("the certificate of {identity} was signed by {issuer:?}")]
    Authority {
        /// Who it says its holder is.
        identity: PeerIdentity,
        /// Who signed it.
        issuer: String,
    },
}

/// A verified certificate: who, which one, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Whose it is.
    pub identity: PeerIdentity,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its serial, big-endian without leading zeros, as the deny-list holds it.
    pub serial: Vec<u8>,
    /// From when it is good.
    pub not_before: Timestamp,
    /// Until when it is good.
    pub not_after: Timestamp,
}

impl Peer {
    /// Reads a leaf certificate whose chain TLS has verified, or that is our own.
    ///
    /// # Errors
    /// Says why it names nobody. The cluster is not checked here, see [`Self::of_cluster`].
    pub fn from_certificate(der: &[u8]) -> Result<Self, InvalidPeer> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| InvalidPeer::Unreadable(error.to_string()))?;
        let (cluster, identity) = PeerIdentity::from_uri(only_uri(&certificate)?)?;
        let issuer = certificate.issuer();
        let common_name = issuer.iter_common_name().next().and_then(|name| name.as_str().ok());
        let organization = issuer.iter_organization().next().and_then(|name| name.as_str().ok());
        if common_name != Some(identity.authority().common_name())
            || organization != Some(cluster.to_string().as_str())
        {
            return Err(InvalidPeer::Authority { identity, issuer: issuer.to_string() });
        }
        let serial = certificate.raw_serial();
        let zeros = serial.iter().take_while(|byte| **byte == 0).count();
        let validity = certificate.validity();
        Ok(Self {
            identity,
            cluster,
            serial: serial[zeros..].to_vec(),
            not_before: timestamp(validity.not_before),
            not_after: timestamp(validity.not_after),
        })
    }

    /// Returns it where it belongs to this cluster.
    ///
    /// # Errors
    /// [`InvalidPeer::Cluster`] where it does not.
    pub fn of_cluster(self, cluster: ClusterId) -> Result<Self, InvalidPeer> {
        match self.cluster == cluster {
            true => Ok(self),
            false => Err(InvalidPeer::Cluster(self.cluster)),
        }
    }

    /// Whether the certificate's time is over. TLS lets such a peer in on the API's listener: it may
    /// renew, and nothing else.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.not_after
    }

    /// Returns from when the certificate should be replaced: after a third of its life.
    pub fn renew_at(&self) -> Timestamp {
        self.not_before.plus(self.not_after.since(self.not_before) / 3)
    }
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, InvalidPeer> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| InvalidPeer::Unreadable(error.to_string()))?;
    let names = names.map(|extension| extension.value.general_names.as_slice());
    let uri = |name: &'a GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    };
    let uris: Vec<&str> = names.unwrap_or_default().iter().filter_map(uri).collect();
    match uris[..] {
        [uri] => Ok(uri),
        _ => Err(InvalidPeer::Uris(uris.len())),
    }
}

fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "0199a0b2-7f00-7000-8000-000000000001";

    #[test]
    fn identities_survive_their_uri() {
        let cluster: ClusterId = CLUSTER.parse().expect("an id");
        let name: PersonName = "ada".parse().expect("a name");
        for identity in [
            PeerIdentity::Node(CLUSTER.parse().expect("an id")),
            PeerIdentity::Coordinator(ReplicaId(7)),
            PeerIdentity::Person { role: Role::Operator, name },
        ] {
            let uri = identity.uri(cluster);
            assert_eq!(PeerIdentity::from_uri(&uri), Ok((cluster, identity)));
        }
    }

    #[test]
    fn odd_uris_name_nobody() {
        for path in [
            "node/x",
            "node",
            "coordinator/-1",
            "coordinator/+1",
            "coordinator/01",
            "person/root/ada",
            "person/admin/Ada",
            "person/admin/ada/x",
            "person/admin",
            "gateway/1",
            "node/0199A0B2-7F00-7000-8000-000000000001",
        ] {
            let uri = format!("spiffe://{CLUSTER}/{path}");
            assert!(PeerIdentity::from_uri(&uri).is_err(), "{path} passed");
        }
        assert!(PeerIdentity::from_uri(&format!("https://{CLUSTER}/coordinator/1")).is_err());
        assert!(PeerIdentity::from_uri("spiffe://other/coordinator/1").is_err());
    }
}
