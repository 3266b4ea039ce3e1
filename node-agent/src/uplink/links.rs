//! Connections to coordinators, one to each, shared by all that speaks to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::timeout;
use tonic::{Code, transport::Channel};
use warren_common::{Generation, Limits, WorkspaceId};
use warren_daemon::{
    Secret,
    identity::{ClientTls, connect_lazy},
};
use warren_proto::pb::node::v1::{self as pb, node_service_client::NodeServiceClient};

use super::{Coordinators, LinkError};
use crate::secrets::Values;

/// The connections.
pub struct Links {
    tls: Arc<ClientTls>,
    channels: Mutex<BTreeMap<String, Channel>>,
    /// The coordinator that took the last registration.
    leader: Mutex<Option<String>>,
}

impl Links {
    /// Connects to nothing yet.
    pub fn new(tls: Arc<ClientTls>) -> Self {
        Self { tls, channels: Mutex::default(), leader: Mutex::default() }
    }

    /// Returns our certificate and whom we trust.
    pub(super) fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// Returns the one connection to a coordinator, made with its first use and again as needed.
    pub(super) fn channel(&self, address: &str) -> Channel {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || connect_lazy(&self.tls, &[address.to_owned()]);
        channels.entry(address.to_owned()).or_insert_with(made).clone()
    }

    /// Forgets the connection, so that the next one is made with today's certificate.
    pub(super) fn reconnect(&self, address: &str) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    /// Forgets every connection; streams that are open on them go on.
    pub(super) fn forget(&self) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn api(&self, address: &str) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel(address))
            .max_decoding_message_size(Limits::NODE_SPEC_BYTES)
            .max_encoding_message_size(Limits::MESSAGE_BYTES)
    }

    /// Notes who leads.
    pub(super) fn led_by(&self, address: &str) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = Some(address.to_owned());
    }

    fn leader(&self) -> Option<String> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Fetches the secrets of this node's workspaces.
pub struct SecretSource {
    /// How coordinators are reached.
    pub links: Arc<Links>,
    /// Where they are.
    pub coordinators: Coordinators,
}

impl SecretSource {
    /// Fetches what a workspace is to have, from the leader or whichever coordinator has it, within
    /// [`Limits::SECRETS_DEADLINE`].
    ///
    /// # Errors
    /// Says why the last of them did not give it; a refusal counts whoever says it.
    pub async fn fetch(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
    ) -> Result<Values, String> {
        let fetching = self.fetch_from_any(workspace, generation);
        timeout(Limits::SECRETS_DEADLINE, fetching).await.unwrap_or_else(|_| {
            Err(format!("no coordinator gave them within {} s", Limits::SECRETS_DEADLINE.as_secs()))
        })
    }

    async fn fetch_from_any(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
    ) -> Result<Values, String> {
        let leader = self.links.leader();
        let others = self.coordinators.candidates().into_iter();
        let others = others.filter(|address| Some(address) != leader.as_ref());
        let mut why = "no coordinator is known".to_owned();
        for address in leader.clone().into_iter().chain(others) {
            let request = pb::FetchSecretsRequest {
                workspace_id: workspace.to_string(),
                generation: generation.0,
            };
            let mut api = self.links.api(&address);
            match timeout(Limits::SECRETS_TIMEOUT, api.fetch_secrets(request)).await {
                Ok(Ok(answer)) => return read(answer.into_inner()),
                Ok(Err(status)) => {
                    let refused = status.code() == Code::PermissionDenied;
                    why = LinkError::from(status).to_string();
                    if refused {
                        break;
                    }
                }
                Err(_) => why = format!("{address}: {}", LinkError::Silent),
            }
        }
        Err(why)
    }
}

fn read(answer: pb::FetchSecretsResponse) -> Result<Values, String> {
    let value = |one: pb::SecretValue| {
        let name = one.name.parse().map_err(|why| format!("a secret has no good name: {why}"))?;
        Ok((name, Secret::new(one.value.to_vec())))
    };
    answer.values.into_iter().map(value).collect()
}
