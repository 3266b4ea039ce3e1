//! Who belongs to the cluster: coordinators admitted, described, handed over to and taken out, and
//! the keystore they share.
//!
//! The state says who belongs; Raft's membership says who votes. Everything here goes from the one
//! towards the other in steps that may be repeated, so that a leader which dies in between costs
//! its caller another call and nothing else. What joins from the other side stands in
//! `bootstrap/`; how the group itself is changed, in `raft/membership.rs`.

mod admit;
mod audit;
mod compare;
mod describe;
mod heard;
mod inspect;
mod remove;
mod secrets;
mod service;
mod standing;
mod upkeep;
mod vault;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::Mutex;
use tonic::{Code, Status, transport::Channel};
use warren_common::{Limits, ReplicaId};
use warren_model::{ClusterState, Envelope};
use warren_proto::{
    error::{ApiError, reason},
    pb::raft::v1::{self as pb, member_service_client::MemberServiceClient},
};

use crate::{
    api::errors,
    keystore::Keystore,
    live::Live,
    raft::{Connect, Consensus, MembershipError},
    sync::locked,
};

pub(crate) use compare::fetch;
pub use describe::Described;
use remove::Removal;
pub use service::MemberRpc;
pub use standing::Removed;
pub use vault::{Given, Setting, sealed_values};

/// How long one change of the group may wait for another.
const TURN: Duration = Duration::from_secs(5);
/// How long a call is passed on from leader to leader.
const PASSING: Duration = Duration::from_secs(12);
/// The pause before the next leader is looked for.
const PAUSE: Duration = Duration::from_millis(100);

/// This coordinator among the others; clones share it.
#[derive(Clone)]
pub struct Members(Arc<Inner>);

/// What [`Members`] is made of.
pub struct Parts {
    /// This coordinator.
    pub replica: ReplicaId,
    /// The group.
    pub consensus: Consensus,
    /// This coordinator's secrets.
    pub keystore: Keystore,
    /// How the others are reached.
    pub connect: Connect,
    /// The folder whose free space is told.
    pub state_dir: PathBuf,
    /// The log store's name, which is told.
    pub engine: String,
}

struct Inner {
    parts: Parts,
    /// Held during one change of the group.
    changing: Mutex<()>,
    /// Held while a secret's value is kept and made to count, and while dead ones are shredded.
    keeping: Mutex<vault::Doubt>,
    channels: std::sync::Mutex<BTreeMap<(ReplicaId, String), Channel>>,
    /// What this coordinator hears of nodes, once it serves them.
    live: OnceLock<Arc<Live>>,
}

type Api = MemberServiceClient<Channel>;

/// What only the leader does.
enum Ask {
    /// Which one, and who asks.
    Remove(Box<Removal>),
    /// To whom; the best one without.
    Transfer(Option<ReplicaId>),
}

impl Members {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            changing: Mutex::default(),
            keeping: Mutex::default(),
            channels: Default::default(),
            live: OnceLock::new(),
        }))
    }

    /// Returns which coordinator this is.
    pub fn replica(&self) -> ReplicaId {
        self.0.parts.replica
    }

    /// Returns this coordinator's secrets.
    pub fn keystore(&self) -> &Keystore {
        &self.0.parts.keystore
    }

    /// Returns the service for the other coordinators; the Raft listener mounts it.
    pub fn service(&self) -> MemberRpc {
        MemberRpc::new(self.clone())
    }

    /// Takes a coordinator out for good, wherever the leader is: the command, and the serial of the
    /// asking person's certificate.
    ///
    /// # Errors
    /// The rest would have no quorum, or a bare one without `force`, or nobody leads.
    pub async fn remove(
        &self,
        (envelope, serial): (Envelope, Vec<u8>),
        force: bool,
    ) -> Result<(), ApiError> {
        let asked = Removal { envelope, serial, force };
        self.on_leader(Ask::Remove(Box::new(asked))).await.map(drop)
    }

    /// Hands leadership over to `to`, or to the voter that has most of the log; returns who leads.
    ///
    /// # Errors
    /// There is no such voter, it does not answer, or nobody leads.
    pub async fn transfer(&self, to: Option<ReplicaId>) -> Result<ReplicaId, ApiError> {
        self.on_leader(Ask::Transfer(to)).await
    }

    /// Asks whoever leads; where leadership moves in between, asks the next. Returns who led when
    /// it was done.
    async fn on_leader(&self, ask: Ask) -> Result<ReplicaId, ApiError> {
        let deadline = tokio::time::Instant::now() + PASSING;
        loop {
            let known = self.0.parts.consensus.leadership().borrow().leader;
            let error = match known {
                Some(leader) => match self.ask_leader(leader, &ask).await {
                    Ok(leader) => return Ok(leader),
                    Err(Failed(error)) => error,
                },
                None => errors::not_leader(None, &self.state()),
            };
            let passing = [reason::NOT_LEADER, reason::NO_QUORUM, reason::UNREACHABLE];
            let may_pass = passing.contains(&error.reason.as_ref());
            if !may_pass || tokio::time::Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask_leader(&self, leader: ReplicaId, ask: &Ask) -> Result<ReplicaId, Failed> {
        let here = leader == self.0.parts.replica;
        match ask {
            Ask::Remove(asked) if here => self.remove_here(asked).await.map(|()| leader),
            Ask::Remove(asked) => {
                let request = asked.to_wire()?;
                match self.peer(leader)?.drop(request).await {
                    Ok(_) => Ok(leader),
                    Err(status) => match Failed::from(status) {
                        // it was this one that was to go, and nobody listens to it any more
                        Failed(error)
                            if error.code == Code::Unauthenticated
                                && error.reason == reason::CERTIFICATE_REVOKED
                                && asked.removes(self.0.parts.replica) =>
                        {
                            Ok(leader)
                        }
                        failed => Err(failed),
                    },
                }
            }
            Ask::Transfer(to) if here => self.transfer_here(*to).await,
            Ask::Transfer(to) => {
                let request = pb::TransferRequest { replica_id: to.map_or(0, |to| to.0) };
                let answer = self.peer(leader)?.transfer(request).await?.into_inner();
                Ok(ReplicaId(answer.leader_replica_id))
            }
        }
    }

    fn state(&self) -> ClusterState {
        self.0.parts.consensus.local()
    }

    /// Returns where another coordinator is asked, as the state knows its address.
    fn peer(&self, replica: ReplicaId) -> Result<Api, ApiError> {
        let state = self.state();
        let known = state.replicas.get(&replica).map(|known| known.raft_address.clone());
        // a new leader may be met before the row that names it is applied here
        let address = known.or_else(|| {
            let members = self.0.parts.consensus.status().members;
            members.into_iter().find(|one| one.replica == replica).map(|one| one.address)
        });
        self.peer_at(replica, &address.ok_or_else(|| unknown(replica, &state))?)
    }

    fn peer_at(&self, replica: ReplicaId, address: &str) -> Result<Api, ApiError> {
        let mut channels = locked(&self.0.channels);
        // those of addresses that were left go with the next one that is made
        if channels.len() > 2 * Limits::REPLICAS {
            channels.clear();
        }
        let channel = match channels.get(&(replica, address.to_owned())) {
            Some(channel) => channel.clone(),
            None => {
                let made = (self.0.parts.connect)(replica, address);
                let made = made.map_err(|why| errors::internal("connecting", why))?;
                channels.insert((replica, address.to_owned()), made.clone());
                made
            }
        };
        Ok(bounded(channel))
    }

    /// Waits for this call's turn to change the group.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, ApiError> {
        let turn = tokio::time::timeout(TURN, self.0.changing.lock()).await;
        turn.map_err(|_| in_progress())
    }
}

/// Returns the service on a connection, with our bounds.
pub fn bounded(channel: Channel) -> Api {
    Api::new(channel)
        .max_decoding_message_size(Limits::MESSAGE_BYTES)
        .max_encoding_message_size(Limits::MESSAGE_BYTES)
}

/// What a call here or to another coordinator failed with.
struct Failed(ApiError);

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        let lost = matches!(status.code(), Code::Unknown | Code::Cancelled | Code::Unavailable);
        if let Some(trouble) = warren_daemon::identity::explain(&status) {
            return Self(ApiError::new(Code::Unavailable, reason::UNREACHABLE, trouble));
        }
        let mut error = ApiError::from(&status);
        if lost && !ApiError::told(&status) {
            // the connection went, not the call
            (error.code, error.reason) = (Code::Unavailable, reason::UNREACHABLE.into());
        }
        Self(error)
    }
}

fn in_progress() -> ApiError {
    let message = "another change of the coordinators is under way";
    ApiError::new(Code::Unavailable, "CHANGE_IN_PROGRESS", message)
        .next("look at warren cluster status, and repeat the call in a moment")
}

/// Tells a coordinator that the cluster does not have.
fn unknown(replica: ReplicaId, state: &ClusterState) -> ApiError {
    if state.was_removed(replica) {
        let message = format!("coordinator {replica} was removed from the cluster");
        return ApiError::new(Code::FailedPrecondition, "REPLICA_REMOVED", message)
            .next("its id never returns; join the machine again with warren cluster token");
    }
    let message = format!("there is no coordinator {replica}");
    ApiError::new(Code::NotFound, reason::NOT_FOUND, message)
        .next("warren cluster status shows all")
}

/// Tells a change of the group that failed.
fn changed(error: MembershipError, state: &ClusterState) -> ApiError {
    match error {
        MembershipError::NotLeader { leader } => errors::not_leader(leader, state),
        MembershipError::InProgress => in_progress(),
        MembershipError::NotAMember(replica) => unknown(replica, state),
        MembershipError::Unknown => {
            ApiError::new(Code::Unavailable, reason::OUTCOME_UNKNOWN, error)
                .next("look at warren cluster status, then repeat the call")
        }
        MembershipError::Stopped { .. } => ApiError::new(Code::Unavailable, "STOPPED", error)
            .next("look at the coordinator's log, then start it again"),
    }
}
