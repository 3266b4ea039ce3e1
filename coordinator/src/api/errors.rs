//! From what went wrong inside to what callers are told: the one place that decides.

use std::{collections::BTreeMap, time::Duration};

use tonic::Code;
use warren_common::{Limits, ReplicaId};
use warren_model::{ClusterState, Refusal, RefusalCode};
use warren_proto::error::{ApiError, reason};

use super::template::InvalidRequest;
use crate::raft::{self, ProposeError, ReadError};

/// Tells a refusal of the model.
pub fn refusal(refusal: Refusal) -> ApiError {
    let code = match refusal.code {
        RefusalCode::AlreadyInitialised | RefusalCode::NameTaken => Code::AlreadyExists,
        RefusalCode::NotFound => Code::NotFound,
        RefusalCode::NotInitialised
        | RefusalCode::ClientNotEmpty
        | RefusalCode::TokenExpired
        | RefusalCode::TokenUsed
        | RefusalCode::WrongState
        | RefusalCode::IdentityConflict
        | RefusalCode::NodeNotEmpty
        | RefusalCode::RequestReused
        | RefusalCode::RequestIdTooOld => Code::FailedPrecondition,
        RefusalCode::RevisionMismatch => Code::Aborted,
        RefusalCode::TokenInvalid | RefusalCode::NotAllowed => Code::PermissionDenied,
        RefusalCode::InvalidSpec | RefusalCode::RequestIdInvalid => Code::InvalidArgument,
        RefusalCode::NoNodeFits | RefusalCode::LimitReached => Code::ResourceExhausted,
        RefusalCode::CertificateRevoked | RefusalCode::CertificateReplaced => Code::Unauthenticated,
    };
    let error = ApiError::new(code, refusal.code.as_str(), refusal.message);
    match advice(refusal.code) {
        Some(next) => error.next(next),
        None => error,
    }
}

fn advice(code: RefusalCode) -> Option<&'static str> {
    match code {
        RefusalCode::NotInitialised => Some("warren cluster init on the coordinator's machine"),
        RefusalCode::RevisionMismatch => Some("look at it again, then repeat the call"),
        RefusalCode::ClientNotEmpty => Some("delete its workspaces first"),
        RefusalCode::TokenExpired | RefusalCode::TokenUsed | RefusalCode::TokenInvalid => {
            Some("mint another one: warren node token")
        }
        RefusalCode::CertificateRevoked | RefusalCode::CertificateReplaced => {
            Some("ask an administrator for a new invitation or token")
        }
        RefusalCode::IdentityConflict => Some(
            "stop the agent that should not be this node; to let this one in: warren node rejoin NAME",
        ),
        RefusalCode::NodeNotEmpty => {
            Some("delete them, or name each whose home is given up: --lost CLIENT/WORKSPACE")
        }
        RefusalCode::NoNodeFits => Some("lower --memory, add a node, or leave --no-queue out"),
        RefusalCode::AlreadyInitialised
        | RefusalCode::NameTaken
        | RefusalCode::NotFound
        | RefusalCode::InvalidSpec
        | RefusalCode::WrongState
        | RefusalCode::NotAllowed
        | RefusalCode::LimitReached
        | RefusalCode::RequestReused
        | RefusalCode::RequestIdTooOld
        | RefusalCode::RequestIdInvalid => None,
    }
}

/// Tells a write that got no answer.
pub fn propose(error: ProposeError, state: &ClusterState) -> ApiError {
    match error {
        ProposeError::TooLarge { .. } => {
            ApiError::new(Code::InvalidArgument, reason::LIMIT_REACHED, error)
        }
        ProposeError::NotLeader { leader } => not_leader(leader, state),
        ProposeError::Revoked => {
            ApiError::new(Code::Unauthenticated, reason::CERTIFICATE_REVOKED, error)
                .next("ask an administrator for a new invitation or token")
        }
        ProposeError::Unknown => ApiError::new(Code::Unavailable, reason::OUTCOME_UNKNOWN, error)
            .next("repeat the call with the same request id; it takes effect once"),
        ProposeError::Stopped { .. } => stopped(error),
    }
}

/// Tells a read that was not confirmed.
pub fn read(error: ReadError, state: &ClusterState) -> ApiError {
    match error {
        ReadError::NotLeader { leader } => not_leader(leader, state),
        ReadError::NoQuorum => ApiError::new(Code::Unavailable, reason::NO_QUORUM, error)
            .next("start the other coordinators, or look at their network"),
        ReadError::Busy => ApiError::new(Code::ResourceExhausted, reason::LIMIT_REACHED, error),
        ReadError::Behind { .. } => ApiError::new(Code::Unavailable, reason::BEHIND, error)
            .next("repeat the call, or ask another coordinator"),
        ReadError::Stopped { .. } => stopped(error),
    }
}

/// Tells that another coordinator leads, and where it is.
pub fn not_leader(leader: Option<ReplicaId>, state: &ClusterState) -> ApiError {
    let Some(leader) = leader else {
        let message = "no coordinator leads at the moment";
        return ApiError::new(Code::Unavailable, reason::NO_QUORUM, message)
            .next("try again in a second; if it lasts, start the other coordinators");
    };
    let message = format!("coordinator {leader} leads, not this one");
    let error = ApiError::new(Code::Unavailable, reason::NOT_LEADER, message);
    match state.replicas.get(&leader) {
        Some(replica) => {
            error.next(format!("ask {}", replica.api_address)).leader(replica.api_address.as_str())
        }
        None => error,
    }
}

/// Says which of the other coordinators are heard: "this is coordinator 2 of 3 voters; coordinator
/// 1 (10.0.0.1:7401) was last heard 12 s ago".
pub fn silent(status: &raft::Status, contacts: &BTreeMap<ReplicaId, Duration>) -> String {
    let voters = status.members.iter().filter(|member| member.voter).count();
    let own = status.replica;
    let mut told = format!("this is coordinator {own}, of {voters} with a vote");
    for member in status.members.iter().filter(|member| member.replica != own) {
        let raft::Member { replica, address, .. } = member;
        let heard = match contacts.get(replica) {
            Some(ago) => format!("was last heard {} s ago", ago.as_secs()),
            None => "was not heard since this one started".to_owned(),
        };
        told.push_str(&format!("; coordinator {replica} ({address}) {heard}"));
    }
    told
}

fn stopped(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(Code::Unavailable, "STOPPED", error)
        .next("look at the coordinator's log, then start it again")
}

/// Tells that there is no cluster yet.
pub fn not_initialised() -> ApiError {
    let message = "the cluster was not made yet";
    ApiError::new(Code::FailedPrecondition, reason::NOT_INITIALISED, message)
        .next("warren cluster init on the coordinator's machine")
}

/// Tells that the caller showed no certificate.
pub fn no_certificate() -> ApiError {
    let message = "the call needs a certificate";
    ApiError::new(Code::Unauthenticated, reason::CERTIFICATE_MISSING, message)
}

/// Tells a field that is no value of its kind.
pub fn invalid(field: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, format!("{field}: {why}"))
}

/// Tells an object that is not there.
pub fn not_found(kind: &str, text: &str) -> ApiError {
    let text: String = text.chars().take(Limits::NAME_BYTES * 3).collect();
    let message = format!("there is no {kind} {text}");
    ApiError::new(Code::NotFound, reason::NOT_FOUND, message)
        .next(format!("warren {kind} list shows all"))
}

/// Tells a fault of our own; the cause is logged, not told.
pub fn internal(doing: &str, cause: impl std::fmt::Display) -> ApiError {
    tracing::error!(%cause, doing, "internal error");
    ApiError::new(Code::Internal, reason::INTERNAL, format!("{doing} failed"))
        .next("the coordinator's log says why")
}

impl From<InvalidRequest> for ApiError {
    fn from(error: InvalidRequest) -> Self {
        let told = Self::new(Code::InvalidArgument, error.reason(), &error);
        match error.next() {
            Some(next) => told.next(next),
            None => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_sentence_and_its_reason() {
        let told = refusal(Refusal::new(RefusalCode::NameTaken, "client acme already exists"));
        assert_eq!((told.code, told.reason.as_ref()), (Code::AlreadyExists, "NAME_TAKEN"));
        assert_eq!(told.message, "client acme already exists");
        assert_eq!(told.next, None);
        let told = refusal(Refusal::new(RefusalCode::TokenUsed, "the token is spent"));
        assert!(told.next.is_some());
    }

    #[test]
    fn a_call_to_the_wrong_coordinator_is_told_where_to_go() {
        let mut state = ClusterState::default();
        let leader = ReplicaId(2);
        assert_eq!(not_leader(Some(leader), &state).leader, None);
        let replica = warren_model::state::Replica {
            api_address: "10.0.0.2:7400".to_owned(),
            raft_address: "10.0.0.2:7401".to_owned(),
        };
        state.replicas.insert(leader, replica);
        let told = propose(ProposeError::NotLeader { leader: Some(leader) }, &state);
        assert_eq!(told.leader.as_deref(), Some("10.0.0.2:7400"));
        assert_eq!(read(ReadError::NoQuorum, &state).reason, reason::NO_QUORUM);
        assert_eq!(not_leader(None, &state).reason, reason::NO_QUORUM);
    }
}
