//! This coordinator's identity in use: what its listeners and channels show and trust.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{debug, error, warn};
use uuid::Uuid;
use warren_common::{ReplicaId, RequestId};
use warren_daemon::{
    Shutdown, clock,
    identity::{
        ClientCertificates, ClientTls, Credentials, Folder, Identity, IdentityError, PeerIdentity,
        ServerTls, connect_lazy_to,
    },
    telemetry::Chain,
};
use warren_model::{
    Applied, Command, Envelope, Refusal,
    command::{Occasion, RecordCertificate},
};

use crate::{
    authz::principal,
    ca::{Ca, keep_renewed},
    config::Config,
    raft::{Connect, Consensus, Options, ProposeError, Tuning},
};

/// The pause before a certificate is put on record again, while nobody leads.
const RETRY: Duration = Duration::from_secs(3);

/// The three uses of the coordinator's own certificate.
pub struct Own {
    folder: Folder,
    /// Faces people and nodes: trusts every authority, and lets in those that hold a join token.
    pub api: Arc<ServerTls>,
    /// Faces coordinators: trusts them alone.
    pub raft: Arc<ServerTls>,
    /// Reaches the other coordinators.
    pub client: Arc<ClientTls>,
    /// The certificate that all of them show, for the record.
    shown: watch::Sender<Credentials>,
}

impl Own {
    /// Puts an identity to use.
    ///
    /// # Errors
    /// Certificate or authorities are of no use.
    pub fn new(folder: Folder, identity: &Identity, ca: &Ca) -> Result<Self, IdentityError> {
        let Identity { credentials, .. } = identity;
        let (all, coordinators) = (ca.api_trust(), ca.coordinator_trust());
        let api = ServerTls::new(credentials, &all, ClientCertificates::Optional)?;
        let raft = ServerTls::new(credentials, coordinators, ClientCertificates::Required)?;
        let client = ClientTls::new(credentials, coordinators)?;
        let shown = watch::Sender::new(credentials.clone());
        let (api, raft, client) = (Arc::new(api), Arc::new(raft), Arc::new(client));
        Ok(Self { folder, api, raft, client, shown })
    }

    /// Returns the pin of the public key that is shown now, for whoever fetches the installer.
    pub fn public_key_pin(&self) -> Option<String> {
        self.shown.borrow().public_key_pin()
    }

    /// Returns how the other coordinators are reached: each by the identity in its certificate.
    pub fn connect(&self) -> Connect {
        let client = self.client.clone();
        Arc::new(move |replica, address| {
            Ok(connect_lazy_to(&client, address, PeerIdentity::Coordinator(replica)))
        })
    }

    /// Returns what a replica is opened with.
    pub fn raft_options(&self, config: &Config, replica: ReplicaId) -> Options {
        let timings = config.raft;
        Options {
            replica,
            folder: config.state_dir.clone(),
            engine: config.engine,
            connect: self.connect(),
            tuning: Tuning {
                heartbeat: timings.heartbeat,
                election_min: timings.election_min,
                election_max: timings.election_max,
                rpc_timeout: timings.rpc,
                checkpoint_every: timings.checkpoint_entries,
                ..Tuning::default()
            },
        }
    }

    /// Keeps the certificate fresh until shutdown.
    pub async fn keep_fresh(self: Arc<Self>, ca: Arc<Ca>, replica: ReplicaId, shutdown: Shutdown) {
        let folder = self.folder.clone();
        let trust = ca.clone();
        let renewed = move |identity: &Identity| {
            if let Err(error) = self.reload(identity, &trust) {
                error!(error = %Chain(&error), "a renewed certificate cannot be used");
            }
        };
        keep_renewed(ca, (folder, replica), renewed, shutdown).await;
    }

    fn reload(&self, identity: &Identity, ca: &Ca) -> Result<(), IdentityError> {
        let Identity { credentials, .. } = identity;
        self.api.reload(credentials, &ca.api_trust())?;
        self.raft.reload(credentials, ca.coordinator_trust())?;
        self.client.reload(credentials, ca.coordinator_trust())?;
        self.shown.send_replace(credentials.clone());
        Ok(())
    }

    /// Puts each certificate that is shown on record, once there is a leader to do it.
    pub async fn keep_recorded(self: Arc<Self>, consensus: Consensus) {
        let mut shown = self.shown.subscribe();
        loop {
            let record = record(&shown.borrow_and_update());
            let key = (record.holder.clone(), record.serial.clone());
            while !consensus.local().certificates.contains_key(&key) {
                match propose(&consensus, &record).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(refusal)) => {
                        warn!(%refusal, "this coordinator's certificate is not on record");
                        break;
                    }
                    Err(error) => {
                        debug!(%error, "this coordinator's certificate is not on record yet");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
            if shown.changed().await.is_err() {
                return;
            }
        }
    }
}

fn record(credentials: &Credentials) -> RecordCertificate {
    let peer = credentials.peer();
    RecordCertificate {
        holder: principal(&peer.identity),
        role: None,
        serial: peer.serial.clone(),
        key_hash: credentials.key_hash(),
        issued: peer.not_before,
        expires: peer.not_after,
        occasion: Occasion::Local,
    }
}

async fn propose(
    consensus: &Consensus,
    record: &RecordCertificate,
) -> Result<Result<Applied, Refusal>, ProposeError> {
    let envelope = Envelope {
        request: RequestId::new(Uuid::now_v7()),
        principal: record.holder.clone(),
        at: clock::now(),
        if_revision: None,
        command: Command::RecordCertificate(Box::new(record.clone())),
    };
    consensus.propose(envelope).await
}
