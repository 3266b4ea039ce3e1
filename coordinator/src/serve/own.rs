//! This coordinator's identity in use: what its listeners and channels show and trust.

use std::sync::Arc;

use tracing::error;
use warren_common::ReplicaId;
use warren_daemon::{
    Shutdown,
    identity::{
        ClientCertificates, ClientTls, Folder, Identity, IdentityError, PeerIdentity, ServerTls,
        connect_lazy_to,
    },
    telemetry::Chain,
};

use crate::{
    ca::{Ca, keep_renewed},
    config::Config,
    raft::{Connect, Options, Tuning},
};

/// The three uses of the coordinator's own certificate.
pub struct Own {
    folder: Folder,
    /// Faces people and nodes: trusts every authority, and lets in those that hold a join token.
    pub api: Arc<ServerTls>,
    /// Faces coordinators: trusts them alone.
    pub raft: Arc<ServerTls>,
    /// Reaches the other coordinators.
    pub client: Arc<ClientTls>,
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
        Ok(Self { folder, api: Arc::new(api), raft: Arc::new(raft), client: Arc::new(client) })
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
        self.client.reload(credentials, ca.coordinator_trust())
    }
}
