//! Taking a coordinator out, and handing leadership over: what the leader does and refuses.

use std::time::Duration;

use bytes::Bytes;
use tonic::Code;
use warren_common::ReplicaId;
use warren_model::{Command, Envelope, command::RemoveReplica};
use warren_proto::error::{ApiError, reason};

use super::{Failed, Members, changed, unknown};
use crate::{
    api::errors,
    raft::{Status, TransferError},
};

/// A voter that has not answered for this long does not count as healthy.
const SILENT: Duration = Duration::from_secs(5);
/// The encoding of a command that is passed on.
const VERSION: u8 = 1;

impl Members {
    /// Takes a coordinator out of the group and then out of the state; done already is fine.
    pub(super) async fn remove_here(&self, envelope: &Envelope, force: bool) -> Result<(), Failed> {
        let Command::RemoveReplica(RemoveReplica { replica }) = envelope.command else {
            return Err(errors::internal("removing a coordinator", "another command").into());
        };
        let state = self.leading().await?;
        let consensus = &self.0.parts.consensus;
        if !state.was_removed(replica) {
            if !state.replicas.contains_key(&replica) {
                return Err(unknown(replica, &state).into());
            }
            let _turn = self.turn().await?;
            self.settle(&state).await?;
            may_drop(&consensus.status(), replica, force)?;
            if replica == self.0.parts.replica {
                // the next leader does the rest: whoever asked asks it
                let next = self.transfer_here(None).await?;
                return Err(errors::not_leader(Some(next), &state).into());
            }
            let dropped = consensus.drop_member(replica).await;
            dropped.map_err(|error| changed(error, &state))?;
        }
        self.propose_envelope(envelope.clone()).await?;
        tracing::info!(%replica, "a coordinator was removed");
        Ok(())
    }

    /// Hands leadership to `to`, or to the healthy voter that has most of the log.
    pub(super) async fn transfer_here(&self, to: Option<ReplicaId>) -> Result<ReplicaId, Failed> {
        let consensus = &self.0.parts.consensus;
        let status = consensus.status();
        let to = match to {
            Some(to) => to,
            None => best(&status).ok_or_else(nobody)?,
        };
        if to == self.0.parts.replica && status.leader == Some(to) {
            return Ok(to);
        }
        match consensus.transfer_to(to).await {
            Ok(()) => Ok(to),
            Err(error) => Err(self.not_transferred(error).into()),
        }
    }

    fn not_transferred(&self, error: TransferError) -> ApiError {
        let state = self.state();
        match error {
            TransferError::NotLeader { leader } => errors::not_leader(leader, &state),
            TransferError::NotAVoter(to) if state.replicas.contains_key(&to) => {
                let message = format!("coordinator {to} has no vote yet");
                ApiError::new(Code::FailedPrecondition, reason::WRONG_STATE, message)
                    .next("warren cluster status shows how far it has come")
            }
            TransferError::NotAVoter(to) => unknown(to, &state),
            TransferError::Timeout(to) => {
                let message = format!("coordinator {to} did not take over in time");
                ApiError::new(Code::Unavailable, reason::TIMEOUT, message)
                    .next("warren cluster status shows whether it answers and who leads")
            }
            TransferError::Stopped { .. } => ApiError::new(Code::Unavailable, "STOPPED", error),
        }
    }
}

/// Returns the other voter that has answered lately and has most of the log.
fn best(status: &Status) -> Option<ReplicaId> {
    let voters = status.members.iter().filter(|one| one.voter && one.replica != status.replica);
    let healthy = voters.filter(|one| one.contact.is_some_and(|ago| ago < SILENT));
    healthy.max_by_key(|one| (one.matched, std::cmp::Reverse(one.replica))).map(|one| one.replica)
}

fn nobody() -> ApiError {
    let message = "no other coordinator can take over: none that votes has answered lately";
    ApiError::new(Code::FailedPrecondition, "NO_SUCCESSOR", message)
        .next("warren cluster status shows who answers; warren cluster token adds another")
}

/// Refuses what would leave the rest without a quorum, and without `force` what would leave a bare
/// one: then the next failure stops the cluster.
pub(super) fn may_drop(status: &Status, replica: ReplicaId, force: bool) -> Result<(), ApiError> {
    let voters = || status.members.iter().filter(|one| one.voter);
    if !voters().any(|one| one.replica == replica) {
        return Ok(());
    }
    let left = || voters().filter(|one| one.replica != replica);
    let healthy = left()
        .filter(|one| one.replica == status.replica || one.contact.is_some_and(|ago| ago < SILENT));
    let (left, healthy) = (left().count(), healthy.count());
    if left == 0 {
        let message = format!("coordinator {replica} is the only one that votes");
        return Err(ApiError::new(Code::FailedPrecondition, "NO_QUORUM_LEFT", message)
            .next("add another one first: warren cluster token"));
    }
    let needed = left / 2 + 1;
    let would = format!("removing coordinator {replica} would leave {left} that vote");
    if healthy < needed {
        let why = format!("{needed} of them must answer, and {healthy} do");
        return Err(ApiError::new(Code::FailedPrecondition, "NO_QUORUM_LEFT", would)
            .why(why)
            .next("start the others first; where they are lost, replace them: warren cluster replace ID"));
    }
    if healthy == needed && !force {
        let why = format!(
            "{needed} of them must answer, and {healthy} do: the next failure would stop the cluster"
        );
        return Err(ApiError::new(Code::FailedPrecondition, "BARE_QUORUM", would).why(why).next(
            format!(
                "warren cluster replace {replica} adds one first; --force removes it all the same"
            ),
        ));
    }
    Ok(())
}

/// Returns a command as it is passed on to the leader.
pub(super) fn encode(envelope: &Envelope) -> Result<Bytes, ApiError> {
    let encoded = postcard::to_extend(envelope, vec![VERSION]);
    encoded.map(Bytes::from).map_err(|error| errors::internal("encoding a command", error))
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<Envelope, ApiError> {
    let decoded = match bytes.split_first() {
        Some((&VERSION, payload)) => postcard::from_bytes(payload).ok(),
        Some(_) | None => None,
    };
    decoded.ok_or_else(|| errors::invalid("envelope", "is not a command this version knows"))
}
