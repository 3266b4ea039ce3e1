//! Coordinators: how one joins, where it is reached, how it goes for good.
//!
//! The state says who belongs to the cluster and where; who votes is Raft's own membership, which
//! the coordinator brings in line with it. An id is given once: a machine whose disk was lost comes
//! back under a new one, because its old votes are gone with the disk.

use serde::{Deserialize, Serialize};
use warren_common::{Limits, ReplicaId, Timestamp, TokenId};

use super::{cluster::line, token};
use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{IssueCoordinatorToken, JoinReplica, RemoveReplica, SetReplica},
    event::EventKind,
    state::{ClusterState, Replica},
};

/// A single-use right to become a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// After this it is refused.
    pub expires: Timestamp,
    /// The coordinator that goes once the new one has its vote.
    pub replaces: Option<ReplicaId>,
    /// Set once it is spent: which key took which id.
    pub spent: Option<([u8; 32], ReplicaId)>,
}

impl ClusterState {
    /// Returns the highest id that a coordinator ever had.
    pub fn highest_replica(&self) -> ReplicaId {
        let known = self.replicas.get_max().map_or(0, |(id, _)| id.0);
        ReplicaId(known.max(self.last_replica))
    }

    /// Whether a coordinator belonged to the cluster once and does no more.
    pub fn was_removed(&self, replica: ReplicaId) -> bool {
        replica <= self.highest_replica() && !self.replicas.contains_key(&replica)
    }
}

pub(crate) fn set(state: &mut ClusterState, command: &SetReplica) -> Result<Change, Refusal> {
    let SetReplica { replica, api_address, raft_address } = command;
    let row = addresses(api_address, raft_address)?;
    if state.replicas.get(replica) == Some(&row) {
        return Ok(Change::none(Outcome::Done));
    }
    if state.was_removed(*replica) {
        return Err(removed(*replica));
    }
    if !state.replicas.contains_key(replica) {
        room(state)?;
    }
    state.replicas.insert(*replica, row);
    state.last_replica = state.highest_replica().0;
    Ok(Change::new("coordinator.set", Outcome::Done)
        .object(&label(*replica), replica)
        .detail(format!("API {api_address}, Raft {raft_address}"))
        .event(EventKind::ReplicaSet(*replica)))
}

pub(crate) fn issue(
    state: &mut ClusterState,
    context: &Context,
    command: &IssueCoordinatorToken,
) -> Result<Change, Refusal> {
    let IssueCoordinatorToken { token: id, secret_hash, expires, replaces } = command;
    if state.coordinator_tokens.contains_key(id) || state.tokens.contains_key(id) {
        let message = format!("the id of token {id} is in use");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    token::check_expiry("a join token", *expires, context.at)?;
    if let Some(old) = replaces {
        known(state, *old)?;
    }
    let kept = |token: &CoordinatorToken| token::is_kept(token.expires, context.at);
    let room = (Limits::TOKENS, "join tokens");
    let mut live = token::with_room(&state.coordinator_tokens, kept, room)?;
    let token = CoordinatorToken {
        id: *id,
        secret_hash: *secret_hash,
        expires: *expires,
        replaces: *replaces,
        spent: None,
    };
    live.insert(*id, token);
    state.coordinator_tokens = live;
    let purpose = replaces.map_or_else(|| "adds one".to_owned(), |old| format!("replaces {old}"));
    Ok(Change::new("coordinator.token", Outcome::Token(*id))
        .object(&"join token", id)
        .detail(purpose)
        .event(EventKind::TokenIssued(*id)))
}

pub(crate) fn join(
    state: &mut ClusterState,
    context: &Context,
    command: &JoinReplica,
) -> Result<Change, Refusal> {
    let token = match state.coordinator_tokens.get(&command.token) {
        Some(token) if token.secret_hash == command.secret_hash => token.clone(),
        Some(_) | None => {
            let message = "the join token is not known here";
            return Err(Refusal::new(RefusalCode::TokenInvalid, message));
        }
    };
    match token.spent {
        Some((key, replica)) if key == command.key_hash => {
            known(state, replica)?;
            return Ok(Change::none(Outcome::Replica(replica)));
        }
        Some((_, replica)) => {
            let message = format!("the join token was used before, for {}", label(replica));
            return Err(Refusal::new(RefusalCode::TokenUsed, message));
        }
        None => {}
    }
    if context.at > token.expires {
        let message = "the join token has expired; mint a new one with `warren cluster token`";
        return Err(Refusal::new(RefusalCode::TokenExpired, message));
    }
    let JoinReplica { key_hash, api_address, raft_address, .. } = command;
    let row = addresses(api_address, raft_address)?;
    apart(state, &row, token.replaces)?;
    room(state)?;
    if let Some(old) = token.replaces {
        known(state, old)?;
    }
    let highest = state.highest_replica();
    let replica = highest.0.checked_add(1).map(ReplicaId).ok_or_else(|| {
        Refusal::new(RefusalCode::LimitReached, "there is no id left for a coordinator")
    })?;
    state.replicas.insert(replica, row);
    state.last_replica = replica.0;
    if let Some(old) = token.replaces {
        state.replacing.insert(replica, old);
    }
    let detail = format!("API {api_address}, Raft {raft_address}, join token {}", token.id);
    let spent = Some((*key_hash, replica));
    state.coordinator_tokens.insert(token.id, CoordinatorToken { spent, ..token });
    Ok(Change::new("coordinator.join", Outcome::Replica(replica))
        .object(&label(replica), &replica)
        .detail(detail)
        .event(EventKind::ReplicaJoined(replica)))
}

pub(crate) fn remove(state: &mut ClusterState, command: &RemoveReplica) -> Result<Change, Refusal> {
    let RemoveReplica { replica } = command;
    if state.was_removed(*replica) {
        return Ok(Change::none(Outcome::Done));
    }
    known(state, *replica)?;
    if state.replicas.len() == 1 {
        let message = format!("{} is the only one of the cluster", label(*replica));
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    state.last_replica = state.highest_replica().0;
    state.replicas.remove(replica);
    let pairs = state.replacing.iter().filter(|(new, old)| *new != replica && *old != replica);
    state.replacing = pairs.map(|(new, old)| (*new, *old)).collect();
    Ok(Change::new("coordinator.remove", Outcome::Done)
        .object(&label(*replica), replica)
        .event(EventKind::ReplicaRemoved(*replica)))
}

fn label(replica: ReplicaId) -> String {
    format!("coordinator {replica}")
}

fn removed(replica: ReplicaId) -> Refusal {
    let message = format!("{} was removed, and its id never returns", label(replica));
    Refusal::new(RefusalCode::WrongState, message)
}

fn addresses(api_address: &str, raft_address: &str) -> Result<Replica, Refusal> {
    line("the API address", api_address, Limits::LABEL_BYTES)?;
    line("the Raft address", raft_address, Limits::LABEL_BYTES)?;
    Ok(Replica { api_address: api_address.to_owned(), raft_address: raft_address.to_owned() })
}

/// Refuses a coordinator that the cluster does not have.
fn known(state: &ClusterState, replica: ReplicaId) -> Result<(), Refusal> {
    if state.replicas.contains_key(&replica) {
        return Ok(());
    }
    if state.was_removed(replica) {
        return Err(removed(replica));
    }
    Err(Refusal::new(RefusalCode::NotFound, format!("there is no {}", label(replica))))
}

/// Refuses addresses that another coordinator has, as a copied configuration would; the one that
/// is replaced may have been on the same machine.
fn apart(state: &ClusterState, row: &Replica, but: Option<ReplicaId>) -> Result<(), Refusal> {
    let same = |(id, other): &(&ReplicaId, &Replica)| {
        let shared = other.raft_address == row.raft_address || other.api_address == row.api_address;
        shared && Some(**id) != but
    };
    match state.replicas.iter().find(same) {
        Some((other, at)) => {
            let message = format!(
                "{} is at {} and {} already; give the new one addresses of its own",
                label(*other),
                at.api_address,
                at.raft_address
            );
            Err(Refusal::new(RefusalCode::NameTaken, message))
        }
        None => Ok(()),
    }
}

fn room(state: &ClusterState) -> Result<(), Refusal> {
    if state.replicas.len() < Limits::REPLICAS {
        return Ok(());
    }
    let message = format!("the cluster has {} coordinators, the limit", Limits::REPLICAS);
    Err(Refusal::new(RefusalCode::LimitReached, message))
}
