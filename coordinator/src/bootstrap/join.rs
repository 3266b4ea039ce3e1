//! Joining a cluster: a key, a token, an id, a certificate, the keystore.
//!
//! Safe to repeat after a crash anywhere: the key is kept before it is shown to anybody, and until
//! the intent is there; the same token with the same key gets the same id. The certificate comes
//! before the intent, for a start goes by the intent: it finds no cluster yet, or all it takes to go
//! on alone. What a cluster of before left in the folder is set aside, never taken over. Becoming a
//! member is the running coordinator's business (`admission.rs`).

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs as _, UdpSocket},
    path::Path,
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use warren_common::{Limits, ReplicaId};
use warren_daemon::{
    clock,
    files::{self, FileError},
    identity::{
        ClientTls, Credentials, Folder, IdentityError, Key, PeerIdentity, Trouble, certificates,
        connect, connect_lazy_to, explain,
    },
    token::{JoinToken, TokenRole},
};
use warren_proto::{
    ApiError,
    pb::node::v1::{
        EnrollCoordinatorRequest, EnrollCoordinatorResponse,
        enroll_service_client::EnrollServiceClient,
    },
};

use super::{FoundError, Founder, Intent, IntentError, intent::log_is_gone};
use crate::{
    ca::{Ca, CaError},
    config::Config,
    keystore::{Keystore, KeystoreError},
    member,
};

/// What a state folder holds of one cluster.
const OF_ONE_CLUSTER: [&str; 6] = ["log", "log-seal", "log-engine", "checkpoints", "audit", "keys"];

/// host:port as others shall reach this coordinator; as configured or as it listens without.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of the API.
    pub api: Option<String>,
    /// Of the Raft listener.
    pub raft: Option<String>,
}

/// Why a machine did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token lets somebody else in.
    #[error("this token lets a {0} in, not a coordinator; ask for one with: warren cluster token")]
    Role(TokenRole),
    /// Its time is over by this machine's clock.
    #[error(
        "the join token has expired by this machine's clock; ask for another: warren cluster token"
    )]
    Expired,
    /// The machine is a coordinator of another cluster.
    #[error(
        "this machine is coordinator {replica} of cluster {name}; for another cluster give it \
         another state folder than {folder}"
    )]
    Elsewhere {
        /// Its id there.
        replica: ReplicaId,
        /// That cluster's name.
        name: String,
        /// The state folder.
        folder: String,
    },
    /// It listens on a free port, which is not known before it runs.
    #[error("listen.{0} has port 0: start the coordinator first, or give --{0} HOST:PORT")]
    Port(&'static str),
    /// No coordinator was reached or trusted.
    #[error("cannot reach a coordinator")]
    Connect(#[source] Trouble),
    /// The cluster refused.
    #[error("the cluster refused to let this machine in")]
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
    /// No coordinator gave the keystore.
    #[error("no other coordinator gives the keystore: {0}; run the same command again")]
    NoKeys(String),
    /// The authorities cannot be read.
    #[error("the cluster's authorities cannot be used")]
    Ca(#[source] CaError),
    /// Key, certificate or trust cannot be made, kept or used.
    #[error("the coordinator's identity cannot be used")]
    Identity(#[source] IdentityError),
    /// The keystore cannot be used.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// A file of the state folder.
    #[error("the coordinator's state cannot be kept")]
    File(#[source] FileError),
    /// What a cluster of before left cannot be set aside.
    #[error("{0} of an earlier cluster cannot be set aside")]
    SetAside(String, #[source] std::io::Error),
    /// Its record cannot be kept.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// It cannot be brought up.
    #[error(transparent)]
    Found(Box<FoundError>),
}

impl Founder {
    /// Joins the token's cluster, or finds that it did, and serves it.
    ///
    /// # Errors
    /// Says why it did not join; whatever it is, trying again is safe.
    pub async fn join(
        &self,
        token: &JoinToken,
        wanted: Wanted,
    ) -> Result<tokio::sync::watch::Receiver<super::Progress>, JoinError> {
        // held throughout: two calls at once must not join twice from one folder
        let mut stage = self.0.stage.lock().await;
        let intent = enrol(&self.0.config, token, (wanted, Some(self.0.bound))).await?;
        let joined = self.joined(&mut stage, &intent).await;
        joined.map_err(|error| JoinError::Found(Box::new(error)))
    }
}

/// Spends a token and fetches the keystore: after this the machine is a coordinator that only has
/// to be started. Where it is one of that cluster already, says which.
///
/// # Errors
/// Says why it did not join; whatever it is, trying again is safe.
pub async fn enrol(
    config: &Config,
    token: &JoinToken,
    (wanted, bound): (Wanted, Option<(SocketAddr, SocketAddr)>),
) -> Result<Intent, JoinError> {
    if token.role != TokenRole::Coordinator {
        return Err(JoinError::Role(token.role));
    }
    let state_dir = &config.state_dir;
    files::private_folder(state_dir).map_err(JoinError::File)?;
    let folder = Folder::open(state_dir.join("identity")).map_err(JoinError::Identity)?;
    let known = Intent::load(state_dir)?;
    let lost = |intent: &Intent| intent.removed || intent.opened && log_is_gone(state_dir);
    if let Some(intent) = known.filter(|intent| !lost(intent)) {
        let identity = folder.load().map_err(JoinError::Identity)?;
        if let Some(identity) = identity {
            let own =
                identity.credentials.peer().identity == PeerIdentity::Coordinator(intent.replica);
            if own && !trusts(&identity.trust_pem, token.pin)? {
                let folder = state_dir.display().to_string();
                let Intent { replica, name, .. } = intent;
                return Err(JoinError::Elsewhere { replica, name, folder });
            }
            if own {
                return keys(state_dir, &folder, intent).await;
            }
        }
        if !intent.joining {
            let folder = state_dir.display().to_string();
            let Intent { replica, name, .. } = intent;
            return Err(JoinError::Elsewhere { replica, name, folder });
        }
    } else {
        set_aside(state_dir)?;
    }
    if token.expires <= clock::now() {
        return Err(JoinError::Expired);
    }
    let (api, raft) = addresses(config, token, (wanted, bound))?;
    let key = folder.pending_key().map_err(JoinError::Identity)?;
    let answer = ask(token, &key, (&api, &raft)).await?;
    let intent = read(&answer, &key, (api, raft))?;
    let kept = folder.keep(&key, &answer.certificate_pem, &answer.trust_pem);
    kept.map_err(JoinError::Identity)?;
    intent.store(state_dir)?;
    folder.end_request().map_err(JoinError::Identity)?;
    keys(state_dir, &folder, intent).await
}

/// Fetches what the keystore lacks.
async fn keys(state_dir: &Path, folder: &Folder, intent: Intent) -> Result<Intent, JoinError> {
    let keystore = Keystore::open(&state_dir.join("keys"))?;
    authorities(&keystore, folder, &intent.peers).await?;
    Ok(intent)
}

/// Returns the cluster's authorities, fetched from the others where they are missing or damaged
/// here.
pub(super) async fn authorities(
    keystore: &Keystore,
    folder: &Folder,
    peers: &BTreeMap<ReplicaId, String>,
) -> Result<Ca, JoinError> {
    match Ca::load(keystore) {
        Ok(Some(ca)) => return Ok(ca),
        Ok(None) | Err(CaError::Keystore(KeystoreError::Damaged(_))) => {}
        Err(error) => return Err(JoinError::Ca(error)),
    }
    let identity = folder.load().map_err(JoinError::Identity)?;
    let Some(identity) = identity else {
        return Err(JoinError::NoKeys("this coordinator's own certificate is missing".to_owned()));
    };
    let tls = ClientTls::new(&identity.credentials, &identity.trust_pem);
    let tls = Arc::new(tls.map_err(JoinError::Identity)?);
    let mut troubles = Vec::new();
    for (replica, address) in peers {
        let channel = connect_lazy_to(&tls, address, PeerIdentity::Coordinator(*replica));
        match member::fetch(&mut member::bounded(channel), keystore).await {
            Ok(_) => match Ca::load(keystore).map_err(JoinError::Ca)? {
                Some(ca) => return Ok(ca),
                None => troubles.push(format!("{address} does not have all of it")),
            },
            Err(error) => troubles.push(format!("{address}: {error}")),
        }
    }
    Err(JoinError::NoKeys(troubles.join("; ")))
}

/// Moves what an earlier cluster left out of the way.
fn set_aside(state_dir: &Path) -> Result<(), JoinError> {
    let aside = state_dir.join(format!("before-{}", clock::now().0));
    for name in OF_ONE_CLUSTER {
        let old = state_dir.join(name);
        if !old.exists() {
            continue;
        }
        files::private_folder(&aside).map_err(JoinError::File)?;
        std::fs::rename(&old, aside.join(name))
            .map_err(|error| JoinError::SetAside(old.display().to_string(), error))?;
        files::sync_folder(&aside).map_err(JoinError::File)?;
        tracing::warn!(folder = %old.display(), to = %aside.display(), "set aside");
    }
    files::sync_folder(state_dir).map_err(JoinError::File)
}

fn trusts(trust_pem: &str, pin: [u8; 32]) -> Result<bool, JoinError> {
    let trusted = certificates("the trusted authorities", trust_pem);
    let trusted = trusted.map_err(JoinError::Identity)?;
    Ok(trusted.iter().any(|der| <[u8; 32]>::from(Sha256::digest(der)) == pin))
}

/// Where others will reach this coordinator: as configured, as asked for, or by the address of this
/// machine from which the cluster is reached.
fn addresses(
    config: &Config,
    token: &JoinToken,
    (wanted, bound): (Wanted, Option<(SocketAddr, SocketAddr)>),
) -> Result<(String, String), JoinError> {
    let (api, raft) = bound.unwrap_or((config.listen.api, config.listen.raft));
    let derive = |what: &'static str, listen: SocketAddr| {
        if listen.port() == 0 {
            return Err(JoinError::Port(what));
        }
        let ip = match listen.ip().is_unspecified() {
            true => source(&token.addresses).unwrap_or(listen.ip()),
            false => listen.ip(),
        };
        Ok(SocketAddr::new(ip, listen.port()).to_string())
    };
    let api = match config.advertise.api.clone().or(wanted.api) {
        Some(address) => address,
        None => derive("api", api)?,
    };
    let raft = match config.advertise.raft.clone().or(wanted.raft) {
        Some(address) => address,
        None => derive("raft", raft)?,
    };
    Ok((api, raft))
}

/// Returns this machine's address on the way to the cluster; sends nothing.
fn source(addresses: &[String]) -> Option<std::net::IpAddr> {
    let mut resolved = addresses.iter().filter_map(|text| text.to_socket_addrs().ok()).flatten();
    resolved.find_map(|to| {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

async fn ask(
    token: &JoinToken,
    key: &Key,
    (api, raft): (&str, &str),
) -> Result<EnrollCoordinatorResponse, JoinError> {
    let tls = ClientTls::pinned(token.pin).map_err(JoinError::Identity)?.into();
    let text = token.to_text().map_err(|error| JoinError::Answer(error.to_string()))?;
    let request = EnrollCoordinatorRequest {
        token: text.expose().clone(),
        csr_pem: key.request().map_err(JoinError::Identity)?,
        api_address: api.to_owned(),
        raft_address: raft.to_owned(),
    };
    let asking = async {
        let channel = connect(&tls, &token.addresses).await.map_err(JoinError::Connect)?;
        let answer = EnrollServiceClient::new(channel).enroll_coordinator(request).await;
        answer.map_err(|status| match explain(&status) {
            Some(trouble) => JoinError::Connect(trouble),
            None => JoinError::Refused(Box::new(ApiError::from(&status))),
        })
    };
    match timeout(Limits::CALL_TIMEOUT, asking).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(JoinError::Silent),
    }
}

/// Checks that the answer is one coordinator's, and ours.
fn read(
    answer: &EnrollCoordinatorResponse,
    key: &Key,
    (api, raft): (String, String),
) -> Result<Intent, JoinError> {
    let replica = ReplicaId(answer.replica_id);
    let cluster = answer.cluster_id.parse();
    let cluster = cluster.map_err(|why| JoinError::Answer(format!("{why}")))?;
    let credentials = Credentials::new(&key.to_pem(), &answer.certificate_pem);
    let credentials = credentials.map_err(JoinError::Identity)?;
    let peer = credentials.peer();
    if peer.identity != PeerIdentity::Coordinator(replica) || peer.cluster != cluster {
        return Err(JoinError::Answer("its certificate names somebody else".to_owned()));
    }
    let peers = answer.coordinators.iter();
    let peers = peers.map(|one| (ReplicaId(one.replica_id), one.raft_address.clone())).collect();
    let born = (answer.cluster_name.clone(), answer.incarnation);
    Ok(Intent {
        api_address: Some(api),
        raft_address: Some(raft),
        joining: true,
        peers,
        ..Intent::new(cluster, born, replica)
    })
}
