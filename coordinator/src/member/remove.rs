//! Taking a coordinator out, and handing leadership over: what the leader does and refuses.

use std::time::Duration;

use tonic::Code;
use warren_common::ReplicaId;
use warren_model::{ClusterState, Command, Envelope, command::RemoveReplica};
use warren_proto::{
    error::{ApiError, reason},
    pb::raft::v1 as pb,
};

use super::{Failed, Members, changed, unknown};
use crate::{
    api::errors,
    raft::{ProposeError, ReplicaRole, Status, TransferError},
};

/// A voter that has not answered for this long does not count as healthy.
const SILENT: Duration = Duration::from_secs(5);
/// A voter that has not answered for this long is handed nothing: it could not say that it took it.
const UNANSWERED: Duration = Duration::from_secs(1);
/// The encoding of a command that is passed on.
const VERSION: u8 = 1;

/// A removal as it is asked.
pub(super) struct Removal {
    /// The command, and who asks.
    pub(super) envelope: Envelope,
    /// Of the asking person's certificate; empty where a coordinator asks.
    pub(super) serial: Vec<u8>,
    /// Go where every coordinator left would be needed.
    pub(super) force: bool,
}

impl Members {
    /// Takes a coordinator out of the group and then out of the state; done already is fine.
    pub(super) async fn remove_here(&self, asked: &Removal) -> Result<(), Failed> {
        let Some(replica) = asked.replica() else {
            return Err(errors::internal("removing a coordinator", "another command").into());
        };
        let state = self.leading().await?;
        let consensus = &self.0.parts.consensus;
        if !state.was_removed(replica) {
            if !state.replicas.contains_key(&replica) {
                return Err(unknown(replica, &state).into());
            }
            acceptable(&state, asked)?;
            let _turn = self.turn().await?;
            self.settle(&state).await?;
            may_drop(&consensus.status(), replica, asked.force)?;
            if replica == self.0.parts.replica {
                // the next leader does the rest: whoever asked asks it
                let next = self.transfer_here(None).await?;
                return Err(errors::not_leader(Some(next), &state).into());
            }
            let dropped = consensus.drop_member(replica).await;
            dropped.map_err(|error| changed(error, &state))?;
        }
        self.propose_envelope(&asked.envelope, &asked.serial).await?;
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
        answers(&status, to)?;
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

/// Refuses to hand over to a voter that does not answer: from then on this one takes no write, and
/// all would wait until the others elect somebody.
fn answers(status: &Status, to: ReplicaId) -> Result<(), ApiError> {
    let leads = status.role == ReplicaRole::Leader;
    let voter = status.members.iter().find(|one| one.voter && one.replica == to);
    let Some(voter) = voter.filter(|_| leads) else { return Ok(()) };
    if voter.contact.is_some_and(|ago| ago < UNANSWERED) {
        return Ok(());
    }
    let message = format!("coordinator {to} does not answer the one that leads");
    Err(ApiError::new(Code::Unavailable, reason::TIMEOUT, message)
        .next("warren cluster status shows who answers; without a number the best of them leads"))
}

/// Refuses what the state would refuse once the vote is gone: a refused call changes nothing.
fn acceptable(state: &ClusterState, asked: &Removal) -> Result<(), ApiError> {
    let Removal { envelope, serial, .. } = asked;
    if !serial.is_empty() && state.refuses(&envelope.principal, serial) {
        // not the code that a coordinator gets which nobody listens to any more
        let refused = errors::propose(ProposeError::Revoked, state);
        return Err(ApiError { code: Code::PermissionDenied, ..refused });
    }
    state.clone().apply(envelope).result.map(drop).map_err(errors::refusal)
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

impl Removal {
    /// Returns what a coordinator asks for itself, where every one left may be needed.
    pub(super) const fn own(envelope: Envelope) -> Self {
        Self { envelope, serial: Vec::new(), force: true }
    }

    fn replica(&self) -> Option<ReplicaId> {
        let Command::RemoveReplica(RemoveReplica { replica }) = &self.envelope.command else {
            return None;
        };
        Some(*replica)
    }

    /// Whether it is this coordinator that is to go.
    pub(super) fn removes(&self, replica: ReplicaId) -> bool {
        self.replica() == Some(replica)
    }

    /// Returns it as it is passed on to the leader.
    pub(super) fn to_wire(&self) -> Result<pb::DropRequest, ApiError> {
        let encoded = postcard::to_extend(&self.envelope, vec![VERSION]);
        let encoded = encoded.map_err(|error| errors::internal("encoding a command", error))?;
        let serial = self.serial.clone().into();
        Ok(pb::DropRequest { envelope: encoded.into(), force: self.force, serial })
    }

    /// Reads what [`Self::to_wire`] wrote.
    pub(super) fn from_wire(request: &pb::DropRequest) -> Result<Self, ApiError> {
        let decoded = match request.envelope.split_first() {
            Some((&VERSION, payload)) => postcard::from_bytes(payload).ok(),
            Some(_) | None => None,
        };
        let unknown = || errors::invalid("envelope", "is not a command this version knows");
        let envelope = decoded.ok_or_else(unknown)?;
        Ok(Self { envelope, serial: request.serial.to_vec(), force: request.force })
    }
}
