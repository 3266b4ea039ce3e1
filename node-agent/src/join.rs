//! Joining a cluster: a key, a token, a certificate.
//!
//! Safe to repeat after a crash anywhere: the key is kept before it is shown to anybody, the same
//! token with the same key names the same node, and the identity is installed last, so a machine
//! either is a node or is not. A machine that is one already says so.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use warren_common::{ClusterId, Limits, NodeId, NodeName, status::NodeFacts};
use warren_daemon::{
    clock,
    files::{self, FileError},
    identity::{
        ClientTls, Credentials, Folder, Identity, IdentityError, Key, PeerIdentity, Trouble,
        certificates, connect, explain,
    },
    token::{InvalidToken, JoinToken, TokenRole},
};
use warren_proto::{
    ApiError,
    pb::node::v1::{EnrollRequest, EnrollResponse, enroll_service_client::EnrollServiceClient},
};

use crate::uplink::{Coordinators, CoordinatorsError};

const IDENTITY: &str = "identity";
const NODE: &str = "node.json";

/// What a machine is once it has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node's id, which its certificate carries.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
}

/// Why a machine did not join, or is no node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is none.
    #[error("{0}")]
    Token(#[source] InvalidToken),
    /// It lets somebody else in.
    #[error("this token lets a {0} in, not a node; ask for one with: warren node token")]
    Role(TokenRole),
    /// Its time is over by this machine's clock.
    #[error(
        "the join token has expired by this machine's clock; ask for another: warren node token"
    )]
    Expired,
    /// The machine is a node of another cluster.
    #[error(
        "this machine is node {name} of another cluster ({cluster}); to leave it, stop the agent \
         and remove {folder}"
    )]
    Elsewhere {
        /// Its name there.
        name: NodeName,
        /// That cluster.
        cluster: ClusterId,
        /// The state folder.
        folder: String,
    },
    /// No coordinator was reached or trusted.
    #[error("cannot reach a coordinator")]
    Connect(#[source] Trouble),
    /// The coordinator refused.
    #[error("the coordinator refused to let this machine in")]
    Refused(#[source] Box<ApiError>),
    /// No answer; joining again is safe.
    #[error(
        "the coordinator did not answer within {} s; run the same command again",
        Limits::CALL_TIMEOUT.as_secs()
    )]
    Silent,
    /// The answer does not fit.
    #[error("the coordinator's answer is of no use: {0}")]
    Answer(String),
    /// Key, certificate or trust cannot be made, kept or used.
    #[error("the node's identity cannot be used")]
    Identity(#[source] IdentityError),
    /// A file of the state folder.
    #[error("the node's state cannot be kept")]
    File(#[source] FileError),
    /// The addresses cannot be kept.
    #[error("the node's state cannot be kept")]
    Coordinators(#[source] CoordinatorsError),
    /// What is kept is damaged.
    #[error("{0} is damaged; remove it and join again with a fresh token")]
    Damaged(String),
}

/// Returns where a node's identity lies in its state folder.
///
/// # Errors
/// The folder cannot be made.
pub fn identity_folder(state: &Path) -> Result<Folder, JoinError> {
    Folder::open(state.join(IDENTITY)).map_err(JoinError::Identity)
}

/// Returns what this machine is; none where it never joined.
///
/// # Errors
/// What is kept cannot be read or is damaged.
pub fn membership(state: &Path) -> Result<Option<(Membership, Identity)>, JoinError> {
    let Some(identity) = identity_folder(state)?.load().map_err(JoinError::Identity)? else {
        return Ok(None);
    };
    let path = state.join(NODE);
    let damaged = || JoinError::Damaged(path.display().to_string());
    let text = files::read_optional(&path).map_err(JoinError::File)?.ok_or_else(damaged)?;
    let membership: Membership = serde_json::from_str(&text).map_err(|_| damaged())?;
    let peer = identity.credentials.peer();
    let fits =
        peer.identity == PeerIdentity::Node(membership.node) && peer.cluster == membership.cluster;
    if fits { Ok(Some((membership, identity))) } else { Err(damaged()) }
}

/// Spends a token; a machine that has joined that cluster before stays what it is.
///
/// # Errors
/// Says why it did not join; whatever it is, trying again is safe.
pub async fn join(
    state: &Path,
    token: &str,
    name: &NodeName,
    facts: NodeFacts,
) -> Result<Membership, JoinError> {
    let token: JoinToken = token.parse().map_err(JoinError::Token)?;
    if token.role != TokenRole::Node {
        return Err(JoinError::Role(token.role));
    }
    files::private_folder(state).map_err(JoinError::File)?;
    if let Some((membership, identity)) = membership(state)? {
        return already(membership, &identity, &token, state);
    }
    if token.expires <= clock::now() {
        return Err(JoinError::Expired);
    }
    let folder = identity_folder(state)?;
    let key = folder.pending_key().map_err(JoinError::Identity)?;
    let answer = enroll(&token, &key, name, facts).await?;
    let membership = check(&answer, &key)?;
    let coordinators = Coordinators::open(state, &[]).map_err(JoinError::Coordinators)?;
    let addresses = match answer.coordinators.is_empty() {
        true => &token.addresses,
        false => &answer.coordinators,
    };
    coordinators.learn(addresses).map_err(JoinError::Coordinators)?;
    let text =
        serde_json::to_string(&membership).map_err(|error| JoinError::Answer(error.to_string()))?;
    files::write_atomic(&state.join(NODE), text.as_bytes(), 0o600).map_err(JoinError::File)?;
    folder
        .install(&key, &answer.certificate_pem, &answer.trust_pem)
        .map_err(JoinError::Identity)?;
    Ok(membership)
}

/// A machine that is a node already: fine where the token is of the same cluster.
fn already(
    membership: Membership,
    identity: &Identity,
    token: &JoinToken,
    state: &Path,
) -> Result<Membership, JoinError> {
    let trusted = certificates("the trusted authorities", &identity.trust_pem);
    let trusted = trusted.map_err(JoinError::Identity)?;
    if trusted.iter().any(|der| <[u8; 32]>::from(Sha256::digest(der)) == token.pin) {
        return Ok(membership);
    }
    let Membership { cluster, name, .. } = membership;
    Err(JoinError::Elsewhere { name, cluster, folder: state.display().to_string() })
}

async fn enroll(
    token: &JoinToken,
    key: &Key,
    name: &NodeName,
    facts: NodeFacts,
) -> Result<EnrollResponse, JoinError> {
    let tls = ClientTls::pinned(token.pin).map_err(JoinError::Identity)?.into();
    let channel = connect(&tls, &token.addresses).await.map_err(JoinError::Connect)?;
    let text = token.to_text().map_err(JoinError::Token)?;
    let request = EnrollRequest {
        token: text.expose().clone(),
        csr_pem: key.request().map_err(JoinError::Identity)?,
        node_name: name.to_string(),
        facts: Some(facts.into()),
    };
    let mut api = EnrollServiceClient::new(channel);
    match timeout(Limits::CALL_TIMEOUT, api.enroll(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(match explain(&status) {
            Some(trouble) => JoinError::Connect(trouble),
            None => JoinError::Refused(Box::new(ApiError::from(&status))),
        }),
        Err(_) => Err(JoinError::Silent),
    }
}

/// Checks that the answer is one node's, and ours.
fn check(answer: &EnrollResponse, key: &Key) -> Result<Membership, JoinError> {
    let odd = |why: String| JoinError::Answer(why);
    let membership = Membership {
        cluster: answer.cluster_id.parse().map_err(|why| odd(format!("{why}")))?,
        node: answer.node_id.parse().map_err(|why| odd(format!("{why}")))?,
        name: answer.node_name.parse().map_err(|why| odd(format!("{why}")))?,
    };
    let credentials = Credentials::new(&key.to_pem(), &answer.certificate_pem);
    let credentials = credentials.map_err(JoinError::Identity)?;
    let peer = credentials.peer();
    if peer.identity != PeerIdentity::Node(membership.node) || peer.cluster != membership.cluster {
        return Err(odd("its certificate names somebody else".to_owned()));
    }
    Ok(membership)
}

/// Returns a node's name made of a host's: its first label, lower case, odd characters as dashes.
pub fn name_of_host(hostname: &str) -> Option<NodeName> {
    let label = hostname.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = label.chars().map(plain).take(Limits::NAME_BYTES).collect();
    name.trim_matches('-').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_names() {
        for (host, name) in [
            ("n1", Some("n1")),
            ("VPS-7.example.com", Some("vps-7")),
            ("my_host", Some("my-host")),
            ("-x-", Some("x")),
            ("", None),
            ("...", None),
        ] {
            assert_eq!(name_of_host(host).as_ref().map(NodeName::as_str), name, "{host}");
        }
    }

    #[test]
    fn a_machine_that_never_joined_is_no_node() {
        let state = tempfile::tempdir().expect("a folder");
        assert!(membership(state.path()).expect("readable").is_none());
    }
}
