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
mod joining;
mod record;
mod recover;
mod renew;
mod restore;
mod socket;

pub use admission::{Admission, Progress};
pub use error::FoundError;
pub use founder::Founder;
pub use intent::{Begin, Intent, IntentError};
pub use join::{JoinError, Wanted, enrol};
pub use record::Record;
pub use recover::RecoverError;
pub use renew::{RenewError, renew_certs};
pub use restore::RestoreError;
pub use socket::{SocketError, ensure_free, serve};

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use warren_common::{ClientName, PersonName};
use warren_daemon::identity::{PeerIdentity, Role};
use warren_model::command::Occasion;
use warren_proto::{
    error::{ApiError, reason},
    pb::admin::v1::{self as pb, bootstrap_service_server::BootstrapService},
};

use founder::Found;

use crate::{
    api::{errors, issue::Issuer},
    ca::{Issued, SigningRequest},
    config::is_host_port,
    hub::control::coordinators,
};

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
        Ok(Response::new(joining::run(self, request.into_inner()).await?))
    }

    async fn restore(
        &self,
        request: Request<Streaming<pb::RestoreRequest>>,
    ) -> Result<Response<pb::RestoreResponse>, Status> {
        let (begin, file) = restore::receive(request.into_inner()).await?;
        let founder = self.clone();
        let making = self.shutdown().spawn(async move { founder.restored(begin, file).await });
        match making.await {
            Ok(answer) => Ok(Response::new(answer?)),
            Err(error) => Err(errors::internal("restoring the cluster", error).into()),
        }
    }

    async fn recover(
        &self,
        request: Request<pb::RecoverRequest>,
    ) -> Result<Response<pb::RecoverResponse>, Status> {
        let request = request.into_inner();
        let founder = self.clone();
        let making = self.shutdown().spawn(async move { founder.recover(&request).await });
        match making.await {
            Ok(answer) => Ok(Response::new(answer?)),
            Err(error) => Err(errors::internal("going on alone", error).into()),
        }
    }
}

impl Founder {
    async fn make(&self, request: pb::InitRequest) -> Result<pb::InitResponse, ApiError> {
        let (csr, name) = asked(&request.csr_pem, &request.admin_name)?;
        let cluster_name = cluster_name(&request.cluster_name)?;
        let api_address = given_address(request.api_address)?;
        let found = self.found(&cluster_name, api_address).await.map_err(told)?;
        let identity = PeerIdentity::Person { role: Role::Admin, name };
        let issued = admit(&found, &csr, &identity).await?;
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

/// Reads whom a certificate is asked for, and the request itself.
fn asked(csr_pem: &str, admin_name: &str) -> Result<(SigningRequest, PersonName), ApiError> {
    let csr = SigningRequest::from_pem(csr_pem)?;
    let name = admin_name.parse();
    Ok((csr, name.map_err(|why| errors::invalid("admin_name", why))?))
}

/// Reads the address that a person gave, if any.
fn given_address(text: String) -> Result<Option<String>, ApiError> {
    let given = Some(text).filter(|address| !address.is_empty());
    match given.as_ref().filter(|address| !is_host_port(address)) {
        Some(address) => {
            let why = format!("{address:?} is not of the form host:port");
            Err(errors::invalid("api_address", why))
        }
        None => Ok(given),
    }
}

/// Gives an administrator their certificate, which is on record then.
async fn admit(
    found: &Found,
    csr: &SigningRequest,
    identity: &PeerIdentity,
) -> Result<Issued, ApiError> {
    let issuer = Issuer { ca: &found.ca, consensus: &found.consensus, replica: found.replica };
    let issued = issuer.issue(csr, identity, Occasion::Local).await;
    let issued = issued.map_err(|error| match error.reason.as_ref() {
        reason::NAME_TAKEN => error.next("choose another name: --admin NAME"),
        _ => error,
    })?;
    tracing::info!(%identity, "administrator's certificate issued");
    Ok(issued)
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
        FoundError::Restoring(_) => {
            let told = ApiError::new(Code::FailedPrecondition, "RESTORE_BEGUN", &error);
            told.next("repeat warren cluster restore with the same file, or empty the folder")
        }
        FoundError::NotLeading => {
            ApiError::new(Code::Unavailable, reason::NO_QUORUM, &error).next("repeat the call")
        }
        FoundError::Ca(error) => error.into(),
        FoundError::Refused(refusal) => errors::refusal(refusal),
        FoundError::Propose(_)
        | FoundError::Recover(_)
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
