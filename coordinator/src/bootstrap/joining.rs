//! `BootstrapService.Join`: the running coordinator joins, and tells how far it has come.

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use warren_common::Limits;
use warren_daemon::{Shutdown, token::JoinToken};
use warren_proto::{
    error::{ApiError, reason},
    pb::admin::v1 as pb,
};

use super::{Founder, JoinError, Progress, Wanted};
use crate::api::errors;

/// Joins, and returns the steps as they are done.
pub(super) async fn run(
    founder: &Founder,
    request: pb::JoinRequest,
) -> Result<ReceiverStream<Result<pb::JoinResponse, Status>>, ApiError> {
    let token: JoinToken = request.token.parse().map_err(|why| {
        ApiError::new(Code::InvalidArgument, reason::TOKEN_INVALID, why)
            .next("copy the whole line that warren cluster token printed")
    })?;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let wanted = Wanted { api: given(request.api_address), raft: given(request.raft_address) };
    let shutdown = founder.shutdown().clone();
    let founder = founder.clone();
    // a caller that goes away must not leave the coordinator half joined
    let joining = shutdown.spawn(async move { Founder::join(&founder, &token, wanted).await });
    let progress = match joining.await {
        Ok(joined) => joined.map_err(not_joined)?,
        Err(error) => return Err(errors::internal("joining the cluster", error)),
    };
    let (told, steps) = mpsc::channel(Limits::STREAM_QUEUE);
    shutdown.spawn(tell(progress, told, shutdown.clone()));
    Ok(ReceiverStream::new(steps))
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
