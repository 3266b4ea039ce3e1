//! `BootstrapService`: making the cluster, for root of this machine over the local socket.
//!
//! Every step finds what an earlier attempt left and goes on from there, so `init` may be killed
//! at any line and repeated. What it makes, in this order: the authorities, the intent (who the
//! cluster is), the Raft group of one, the cluster's first entries, the listeners, and the
//! administrator's certificate.

mod admission;
mod error;
mod founder;
mod intent;
mod join;
mod record;
mod socket;

pub use admission::{Admission, Progress};
pub use error::FoundError;
pub use founder::Founder;
pub use intent::{Intent, IntentError};
pub use join::{JoinError, Wanted, enrol};
pub use record::Record;
pub use socket::{SocketError, ensure_free, serve};

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use tonic::{Code, Request, Response, Status};
use warren_common::{ClientName, Limits};
use warren_daemon::{
    Shutdown, clock,
    identity::{PeerIdentity, Role},
    token::JoinToken,
};
use warren_proto::{
    error::{ApiError, reason},
    pb::admin::v1::{self as pb, bootstrap_service_server::BootstrapService},
};

use crate::{api::errors, ca::SigningRequest, config::is_host_port, hub::control::coordinators};

#[tonic::async_trait]
impl BootstrapService for Founder {
    async fn init(
        &self,
        request: Request<pb::InitRequest>,
    ) -> Result<Response<pb::InitResponse>, Status> {
        // a caller that goes away must not leave the cluster half made
        let founder = self.clone();
        let making = self.shutdown().spawn(async move { founder.make(request.into_inner()).await });
        match making.await {
            Ok(answer) => Ok(Response::new(answer?)),
            Err(error) => Err(errors::internal("making the cluster", error).into()),
        }
    }

    type JoinStream = ReceiverStream<Result<pb::JoinResponse, Status>>;

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let request = request.into_inner();
        let token: JoinToken = request.token.parse().map_err(|why| {
            ApiError::new(Code::InvalidArgument, reason::TOKEN_INVALID, why)
                .next("copy the whole line that warren cluster token printed")
        })?;
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let wanted = Wanted { api: given(request.api_address), raft: given(request.raft_address) };
        let founder = self.clone();
        // a caller that goes away must not leave the coordinator half joined
        let joining =
            self.shutdown().spawn(async move { Founder::join(&founder, &token, wanted).await });
        let progress = match joining.await {
            Ok(joined) => joined.map_err(not_joined)?,
            Err(error) => return Err(errors::internal("joining the cluster", error).into()),
        };
        let (told, steps) = mpsc::channel(Limits::STREAM_QUEUE);
        self.shutdown().spawn(tell(progress, told, self.shutdown().clone()));
        Ok(Response::new(ReceiverStream::new(steps)))
    }
}

/// Tells each step as it is done, until the last.
async fn tell(
    mut progress: watch::Receiver<Progress>,
    told: mpsc::Sender<Result<pb::JoinResponse, Status>>,
    shutdown: Shutdown,
) {
    let mut sent = 0;
    loop {
        let now = progress.borrow_and_update().clone();
        for step in now.steps.iter().skip(sent) {
            let step = pb::JoinResponse { progress: step.clone(), replica_id: now.replica.0 };
            if told.send(Ok(step)).await.is_err() {
                return;
            }
        }
        sent = now.steps.len();
        if let Some(why) = now.refused {
            let error = ApiError::new(Code::FailedPrecondition, "REPLICA_REMOVED", why);
            // the caller may be gone
            let _ = told.send(Err(error.into())).await;
            return;
        }
        if now.done {
            return;
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return },
            () = told.closed() => return,
            () = shutdown.requested() => return,
        }
    }
}

fn not_joined(error: JoinError) -> ApiError {
    match error {
        JoinError::Refused(refused) => *refused,
        JoinError::Role(_) | JoinError::Expired => {
            ApiError::new(Code::FailedPrecondition, reason::TOKEN_INVALID, error)
        }
        JoinError::Elsewhere { .. } => {
            ApiError::new(Code::AlreadyExists, reason::ALREADY_INITIALISED, error)
        }
        JoinError::Connect(_) | JoinError::Silent | JoinError::NoKeys(_) => {
            let chain = warren_daemon::telemetry::Chain(&error).to_string();
            ApiError::new(Code::Unavailable, reason::UNREACHABLE, chain)
        }
        JoinError::Port(_)
        | JoinError::Answer(_)
        | JoinError::Ca(_)
        | JoinError::Identity(_)
        | JoinError::Keystore(_)
        | JoinError::File(_)
        | JoinError::SetAside(..)
        | JoinError::Intent(_)
        | JoinError::Found(_) => {
            let cause = warren_daemon::telemetry::Chain(&error).to_string();
            errors::internal("joining the cluster", &cause).why(cause)
        }
    }
}

impl Founder {
    async fn make(&self, request: pb::InitRequest) -> Result<pb::InitResponse, ApiError> {
        let csr = SigningRequest::from_pem(&request.csr_pem)?;
        let name = request.admin_name.parse();
        let name = name.map_err(|why| errors::invalid("admin_name", why))?;
        let cluster_name = cluster_name(&request.cluster_name)?;
        let api_address = Some(request.api_address).filter(|address| !address.is_empty());
        if let Some(address) = api_address.as_ref().filter(|address| !is_host_port(address)) {
            let why = format!("{address:?} is not of the form host:port");
            return Err(errors::invalid("api_address", why));
        }
        let found = self.found(&cluster_name, api_address).await.map_err(told)?;
        let identity = PeerIdentity::Person { role: Role::Admin, name };
        let issued = found.ca.issue(&csr, &identity, clock::now())?;
        tracing::info!(%identity, "administrator's certificate issued");
        let state = found.consensus.local();
        Ok(pb::InitResponse {
            cluster_id: found.ca.cluster().to_string(),
            created: found.created,
            certificate_pem: issued.chain_pem,
            trust_pem: found.ca.coordinator_trust().to_owned(),
            coordinators: coordinators(&state),
            cluster_name,
        })
    }
}

/// A cluster's name follows the rule of all names.
fn cluster_name(text: &str) -> Result<String, ApiError> {
    if text.parse::<ClientName>().is_ok() {
        return Ok(text.to_owned());
    }
    let why =
        "a cluster's name has 1 to 40 of a-z, 0-9 and '-', with a letter or digit at both ends";
    Err(errors::invalid("cluster_name", why))
}

fn told(error: FoundError) -> ApiError {
    match error {
        FoundError::OtherName { .. } => {
            let told = ApiError::new(Code::AlreadyExists, reason::ALREADY_INITIALISED, &error);
            told.next("use the name it has, or another state folder for another cluster")
        }
        FoundError::NotLeading => {
            ApiError::new(Code::Unavailable, reason::NO_QUORUM, &error).next("repeat the call")
        }
        FoundError::Ca(error) => error.into(),
        FoundError::Refused(refusal) => errors::refusal(refusal),
        FoundError::Propose(_)
        | FoundError::Intent(_)
        | FoundError::Open(_)
        | FoundError::Initialise(_)
        | FoundError::Keystore(_)
        | FoundError::Identity(_)
        | FoundError::Serve(_)
        | FoundError::Wiped { .. }
        | FoundError::Removed(_)
        | FoundError::Keys(_) => {
            let cause = warren_daemon::telemetry::Chain(&error).to_string();
            errors::internal("making the cluster", &cause).why(cause)
        }
    }
}
