//! Calls to coordinators: which one, for how long, how often again.
//!
//! Every mutation carries a request id and takes effect once, so every call may be repeated. A call
//! goes to the coordinator that answered last; where it does not answer, to the next one, round and
//! round with a growing pause until the patience of the call is at its end.

mod failure;
mod link;
mod pages;
mod renew;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Response, Status, transport::Channel};
use warren_common::{Limits, Timestamp, status::clean};
use warren_daemon::identity::{self, ClientTls, Folder, Identity, Trouble};
use warren_proto::pb::admin::v1::{
    Freshness, Mutation, audit_service_client::AuditServiceClient,
    browser_service_client::BrowserServiceClient, client_service_client::ClientServiceClient,
    cluster_service_client::ClusterServiceClient,
    node_admin_service_client::NodeAdminServiceClient, secret_service_client::SecretServiceClient,
    session_service_client::SessionServiceClient, template_service_client::TemplateServiceClient,
    user_service_client::UserServiceClient, watch_service_client::WatchServiceClient,
    workspace_service_client::WorkspaceServiceClient,
};

use crate::{
    context::{self, Context},
    error::Error,
    render::Output,
    value::show_duration,
};

pub(crate) use failure::{from_status, from_trouble, is_lost, may_pass, plain};
pub(crate) use link::{Link, named};
pub(crate) use pages::{Listed, endless, pages};
use renew::Renewal;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a call may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A few seconds: long enough for an election, short enough for a person.
    Short,
    /// The whole time of a call: a mutation that should not get lost.
    Long,
    /// Connecting may be tried again, the call itself not: it would do something twice.
    Once,
}

/// The coordinators of one cluster, as one caller.
pub(crate) struct Api {
    /// The context in use.
    pub(crate) context: Context,
    tls: Arc<ClientTls>,
    expires: Timestamp,
    timeout: Option<Duration>,
    output: Output,
    channel: Option<Channel>,
    first: usize,
    renewal: Option<Renewal>,
    /// The id that every call of this run carries.
    request: String,
}

impl Api {
    /// Prepares calls to the cluster of a context; connects to nothing yet.
    ///
    /// # Errors
    /// Where the identity cannot be used for TLS.
    pub(crate) fn new(
        context: Context,
        identity: &Identity,
        timeout: Option<Duration>,
        output: Output,
    ) -> Result<Self, Error> {
        let request = request_id();
        let tls = ClientTls::new(&identity.credentials, &identity.trust_pem);
        let tls = Arc::new(tls.map_err(|error| context::local(&error))?);
        let expires = identity.credentials.peer().not_after;
        Ok(Self {
            context,
            tls,
            expires,
            timeout,
            output,
            channel: None,
            first: 0,
            renewal: None,
            request,
        })
    }

    /// Lets the certificate renew itself, in the folder it was read from.
    pub(crate) fn renewing(self, folder: Folder, identity: &Identity) -> Self {
        Self { renewal: Some(Renewal::new(folder, identity.credentials.peer())), ..self }
    }

    /// Returns another for calls beside these, over the connection that there is now.
    ///
    /// # Errors
    /// No coordinator can be connected to.
    pub(crate) async fn beside(&mut self) -> Result<Self, Error> {
        let until = Instant::now() + self.timeout.unwrap_or(Limits::CALL_TIMEOUT);
        let connected = async {
            self.keep_certified(until).await?;
            self.channel(until).await
        };
        let channel = match connected.await {
            Ok(channel) => channel,
            Err(Attempt::Again(error) | Attempt::Elsewhere(error) | Attempt::Final(error)) => {
                self.first += 1;
                return Err(error);
            }
        };
        Ok(Self {
            context: self.context.clone(),
            tls: Arc::clone(&self.tls),
            expires: self.expires,
            timeout: self.timeout,
            output: self.output.clone(),
            channel: Some(channel),
            first: self.first,
            renewal: None,
            request: self.request.clone(),
        })
    }

    /// Names the calls to come: with a mutation's own id, everything that is logged about it is
    /// found under that.
    pub(crate) fn asked_as(self, request: &str) -> Self {
        Self { request: request.to_owned(), ..self }
    }

    /// Calls for an answer that changes nothing.
    ///
    /// # Errors
    /// What the coordinator answered, or that none did.
    pub(crate) async fn read<T>(
        &mut self,
        call: impl AsyncFn(Link) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        self.call(Patience::Short, call).await
    }

    /// Calls for a change; `call` must carry the same request id each time.
    ///
    /// # Errors
    /// What the coordinator answered, or that none did.
    pub(crate) async fn write<T>(
        &mut self,
        call: impl AsyncFn(Link) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        self.call(Patience::Long, call).await
    }

    /// Calls with a patience of the caller's choice.
    ///
    /// # Errors
    /// What the coordinator answered, or that none did.
    pub(crate) async fn call<T>(
        &mut self,
        patience: Patience,
        call: impl AsyncFn(Link) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        self.call_round(patience, async |channel, _| call(channel).await).await
    }

    /// Calls one coordinator after the other until one of them can help; `call` is told whether
    /// none is left to ask after this one.
    ///
    /// # Errors
    /// What the coordinator answered, or that none did.
    pub(crate) async fn call_round<T>(
        &mut self,
        patience: Patience,
        call: impl AsyncFn(Link, bool) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let limit = self.timeout.unwrap_or(Limits::CALL_TIMEOUT);
        let mut until = Instant::now() + limit;
        let retry_until = match patience {
            Patience::Short | Patience::Once => Instant::now() + limit.min(Duration::from_secs(3)),
            Patience::Long => until,
        };
        let mut pause = FIRST_PAUSE;
        let mut said = false;
        let mut others = self.context.coordinators.len();
        loop {
            let last = others <= 1;
            let call = async |channel: Link| call(channel, last).await;
            let error = match self.attempt(patience, until, &call).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Elsewhere(_)) if !last => {
                    others -= 1;
                    // the next one has as long, unless a person set a bound on all of them
                    if self.timeout.is_none() {
                        until = Instant::now() + limit;
                    }
                    continue;
                }
                Err(Attempt::Final(error) | Attempt::Elsewhere(error)) => {
                    return Err(error.request(&self.request));
                }
                Err(Attempt::Again(error)) => error.request(&self.request),
            };
            if Instant::now() + pause >= retry_until {
                return Err(error);
            }
            if !said && patience == Patience::Long {
                let rest = show_duration(Duration::from_secs(limit.as_secs().max(1)));
                self.output.talk(&format!("{}; trying on for {rest}", error.message));
                said = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt<T>(
        &mut self,
        patience: Patience,
        until: Instant,
        call: &impl AsyncFn(Link) -> Result<Response<T>, Status>,
    ) -> Result<T, Attempt> {
        self.keep_certified(until).await?;
        let channel = named(self.channel(until).await?, &self.request);
        let left = until.saturating_duration_since(Instant::now());
        let status = match tokio::time::timeout(left.min(Limits::CALL_TIMEOUT), call(channel)).await
        {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded(format!(
                "the coordinator did not answer within {}",
                show_duration(left.min(Limits::CALL_TIMEOUT))
            )),
        };
        // a call that was not sent yet when the server refused us fails without a cause
        if let Some(error) = self.refused(&status) {
            return Err(Attempt::Final(error));
        }
        let error = self.failed(&status);
        let failed = match failure::is_elsewhere(&status) {
            true => Attempt::Elsewhere(error),
            false if patience != Patience::Once && failure::may_pass(&status) => {
                Attempt::Again(error)
            }
            false => return Err(Attempt::Final(error)),
        };
        // the next attempt asks the next coordinator on a fresh connection
        self.channel = None;
        self.first += 1;
        Err(failed)
    }

    /// Returns the connection in use, or connects to the first coordinator that answers.
    async fn channel(&mut self, until: Instant) -> Result<Channel, Attempt> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let mut addresses = self.context.coordinators.clone();
        let turn = self.first % addresses.len().max(1);
        addresses.rotate_left(turn);
        let connecting = identity::connect(&self.tls, &addresses);
        let trouble = match tokio::time::timeout_at(until, connecting).await {
            Ok(Ok(channel)) => {
                self.channel = Some(channel.clone());
                return Ok(channel);
            }
            Ok(Err(trouble)) => trouble,
            Err(_) => {
                Trouble::Unreachable(format!("{} did not answer in time", addresses.join(", ")))
            }
        };
        let passing = matches!(trouble, Trouble::Unreachable(_));
        let error = from_trouble(&trouble, &self.context, self.expires);
        Err(if passing { Attempt::Again(error) } else { Attempt::Final(error) })
    }

    /// Returns why the server ended the connection of a call that got no answer, where TLS said so.
    fn refused(&self, status: &Status) -> Option<Error> {
        let refusal = self.tls.refusal().filter(|_| is_lost(status));
        refusal.map(|trouble| from_trouble(&trouble, &self.context, self.expires))
    }

    /// Returns what a failed call says to a person.
    pub(crate) fn failed(&self, status: &Status) -> Error {
        from_status(status, &self.context, self.expires).request(&self.request)
    }

    /// Says on stderr what the coordinator wants people to know beside an answer.
    pub(crate) fn notice(&self, freshness: Option<&Freshness>) {
        if let Some(freshness) = freshness.filter(|freshness| !freshness.notice.is_empty()) {
            self.output.talk(&format!("note: {}", clean(&freshness.notice, 512)));
        }
    }

    /// Forgets the connection: the next call makes a new one.
    pub(crate) fn disconnect(&mut self) {
        self.channel = None;
    }
}

/// How one attempt failed.
pub(crate) enum Attempt {
    /// Trying again can help.
    Again(Error),
    /// Another coordinator can help; this one did nothing.
    Elsewhere(Error),
    /// It cannot.
    Final(Error),
}

/// Returns what a mutation carries: its request id.
pub(crate) fn mutation(request_id: &str) -> Mutation {
    Mutation { request_id: request_id.to_owned(), if_revision: None }
}

/// Mints a request id.
pub(crate) fn request_id() -> String {
    uuid::Uuid::now_v7().hyphenated().to_string()
}

macro_rules! service {
    ($name:ident, $client:ident) => {
        /// Returns the service on a connection, with our bounds.
        pub(crate) fn $name(channel: Link) -> $client<Link> {
            $client::new(channel)
                .max_decoding_message_size(Limits::MESSAGE_BYTES)
                .max_encoding_message_size(Limits::MESSAGE_BYTES)
        }
    };
}

service!(audit, AuditServiceClient);
service!(browsers, BrowserServiceClient);
service!(clients, ClientServiceClient);
service!(cluster, ClusterServiceClient);
service!(nodes, NodeAdminServiceClient);
service!(sessions, SessionServiceClient);
service!(templates, TemplateServiceClient);
service!(secrets, SecretServiceClient);
service!(watches, WatchServiceClient);
service!(users, UserServiceClient);
service!(workspaces, WorkspaceServiceClient);
