//! From joined to voting: what the leader does when a new coordinator asks to be admitted.

use std::time::Duration;

use tokio::sync::mpsc;
use tonic::{Code, Status};
use uuid::Uuid;
use warren_common::{Limits, ReplicaId, RequestId};
use warren_daemon::clock;
use warren_model::{
    ClusterState, Command, Envelope, Principal,
    command::{RemoveReplica, SetReplica},
};
use warren_proto::{
    error::{ApiError, reason},
    pb::raft::v1::{self as pb, Admission},
};

use super::{Members, Removal, changed, unknown};
use crate::api::errors;

/// How long the log may take, a checkpoint included.
const CATCHING_UP: Duration = Duration::from_secs(600);
const _: () = assert!(CATCHING_UP.as_secs() > Limits::CHECKPOINT_TIMEOUT.as_secs());

/// Where the steps are told; closed once nobody listens any more.
pub(super) type Told = mpsc::Sender<Result<pb::AdmitResponse, Status>>;

impl Members {
    /// Makes a coordinator of the state a learner, then a voter, then removes whom it replaces.
    /// Each step that was done before is found done.
    pub(super) async fn admit(&self, wanted: SetReplica, told: &Told) -> Result<(), ApiError> {
        let replica = wanted.replica;
        let state = self.leading().await?;
        let known = state.replicas.get(&replica).ok_or_else(|| unknown(replica, &state))?;
        let address = wanted.raft_address.clone();
        if known.raft_address != address || known.api_address != wanted.api_address {
            self.propose(Principal::Coordinator(replica), Command::SetReplica(wanted)).await?;
        }
        let consensus = &self.0.parts.consensus;
        {
            let _turn = self.turn().await?;
            self.settle(&state).await?;
            let added = consensus.add_learner(replica, &address).await;
            added.map_err(|error| changed(error, &state))?;
        }
        tell(told, Admission::Learner, "taking the log, without a vote yet".to_owned()).await;

        let caught_up = consensus.caught_up(replica);
        let caught_up = tokio::select! {
            caught_up = tokio::time::timeout(CATCHING_UP, caught_up) => caught_up,
            () = told.closed() => return Err(gone(replica)),
        };
        let length =
            caught_up.map_err(|_| late(replica))?.map_err(|error| changed(error, &state))?;
        tell(told, Admission::CaughtUp, format!("log caught up ({length} entries)")).await;

        let secrets = self.give_secrets(replica).await?;
        tell(told, Admission::Keystore, format!("keystore checked ({secrets} secrets)")).await;
        {
            let _turn = self.turn().await?;
            consensus.promote(replica).await.map_err(|error| changed(error, &state))?;
        }
        tracing::info!(%replica, "a coordinator has its vote");
        if let Some(old) = self.state().replacing.get(&replica).copied() {
            let command = Command::RemoveReplica(RemoveReplica { replica: old });
            let envelope = self.envelope(Principal::Coordinator(replica), command);
            self.remove_here(&Removal::own(envelope)).await.map_err(|failed| failed.0)?;
        }
        tell(told, Admission::Voter, "has its vote".to_owned()).await;
        Ok(())
    }

    /// Returns the state where this coordinator leads.
    pub(super) async fn leading(&self) -> Result<ClusterState, ApiError> {
        let consensus = &self.0.parts.consensus;
        let leader = consensus.leadership().borrow().leader;
        if leader != Some(self.0.parts.replica) {
            return Err(errors::not_leader(leader, &self.state()));
        }
        let read = consensus.linearizable().await;
        read.map_err(|error| errors::read(error, &self.state()))
    }

    /// Finishes what an earlier leader left half done.
    pub(super) async fn settle(&self, state: &ClusterState) -> Result<(), ApiError> {
        let settled = self.0.parts.consensus.settle_membership().await;
        settled.map_err(|error| changed(error, state))
    }

    /// Proposes as this coordinator knows best: the model refuses what is stale.
    async fn propose(&self, principal: Principal, command: Command) -> Result<(), ApiError> {
        let envelope = self.envelope(principal, command);
        self.propose_envelope(&envelope, &[]).await
    }

    pub(super) async fn propose_envelope(
        &self,
        envelope: &Envelope,
        serial: &[u8],
    ) -> Result<(), ApiError> {
        match self.0.parts.consensus.propose_for(envelope, serial).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => Err(errors::refusal(refusal)),
            Err(error) => Err(errors::propose(error, &self.state())),
        }
    }

    pub(super) fn envelope(&self, principal: Principal, command: Command) -> Envelope {
        let request = RequestId::new(Uuid::now_v7());
        Envelope { request, principal, at: clock::now(), if_revision: None, command }
    }
}

async fn tell(told: &Told, admission: Admission, detail: String) {
    let step = pb::AdmitResponse { admission: admission.into(), detail };
    // whoever asked may be gone; the next time it asks it finds this step done
    let _ = told.send(Ok(step)).await;
}

fn gone(replica: ReplicaId) -> ApiError {
    let message = format!("coordinator {replica} went away while it took the log");
    ApiError::new(Code::Cancelled, reason::UNREACHABLE, message)
}

fn late(replica: ReplicaId) -> ApiError {
    let minutes = CATCHING_UP.as_secs() / 60;
    let message = format!("coordinator {replica} did not have the log within {minutes} minutes");
    ApiError::new(Code::DeadlineExceeded, reason::TIMEOUT, message)
        .next("look at its log and at the network between the coordinators")
}
