//! An error of the API as callers see it: what happened, why, and what to do next.
//!
//! On the wire it is a gRPC status with three metadata entries beside it: `warren-reason` (stable,
//! SCREAMING_CASE, for programs), `warren-why-bin` and `warren-next-bin` (UTF-8, for people), and
//! `warren-leader` where another coordinator should be asked; `warren-revision` where a state at
//! least that new should be read. Which error becomes an `ApiError` is
//! decided where it is handled, not here.

use std::{borrow::Cow, fmt, num::NonZeroU32};

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use warren_common::{Limits, status::clean};

use crate::InvalidMessage;

/// The stable reasons that more than one part of Warren answers or asks about.
pub mod reason {
    /// A field of the request is no value of its kind.
    pub const INVALID_ARGUMENT: &str = "INVALID_ARGUMENT";
    /// A template has no parameter of this name.
    pub const UNKNOWN_PARAMETER: &str = "UNKNOWN_PARAMETER";
    /// The spec breaks a rule.
    pub const INVALID_SPEC: &str = "INVALID_SPEC";
    /// No object of this name or id.
    pub const NOT_FOUND: &str = "NOT_FOUND";
    /// A bare name fits more than one object.
    pub const AMBIGUOUS_NAME: &str = "AMBIGUOUS_NAME";
    /// The name is taken.
    pub const NAME_TAKEN: &str = "NAME_TAKEN";
    /// The object has changed since `if_revision`.
    pub const REVISION_MISMATCH: &str = "REVISION_MISMATCH";
    /// The request id belongs to another command.
    pub const REQUEST_REUSED: &str = "REQUEST_REUSED";
    /// The request is older than what is remembered.
    pub const REQUEST_ID_TOO_OLD: &str = "REQUEST_ID_TOO_OLD";
    /// The client still has workspaces.
    pub const CLIENT_NOT_EMPTY: &str = "CLIENT_NOT_EMPTY";
    /// The object's state does not allow it.
    pub const WRONG_STATE: &str = "WRONG_STATE";
    /// No node can hold the workspace.
    pub const NO_NODE_FITS: &str = "NO_NODE_FITS";
    /// The workspace uses more than it would get.
    pub const CAP_BELOW_USE: &str = "CAP_BELOW_USE";
    /// An agent in the workspace is not at rest.
    pub const WORKSPACE_BUSY: &str = "WORKSPACE_BUSY";
    /// A bound of `Limits` is reached.
    pub const LIMIT_REACHED: &str = "LIMIT_REACHED";
    /// The cluster was made before, under another name.
    pub const ALREADY_INITIALISED: &str = "ALREADY_INITIALISED";
    /// The cluster was not made yet.
    pub const NOT_INITIALISED: &str = "NOT_INITIALISED";

    /// No certificate was shown.
    pub const CERTIFICATE_MISSING: &str = "CERTIFICATE_MISSING";
    /// The certificate is past its time.
    pub const CERTIFICATE_EXPIRED: &str = "CERTIFICATE_EXPIRED";
    /// The certificate is on the deny-list.
    pub const CERTIFICATE_REVOKED: &str = "CERTIFICATE_REVOKED";
    /// The certificate was a node's that was taken out: it is to stop what it runs.
    pub const NODE_REMOVED: &str = "NODE_REMOVED";
    /// The expired certificate is not the newest on record: it was renewed before.
    pub const CERTIFICATE_REPLACED: &str = "CERTIFICATE_REPLACED";
    /// TLS refused a certificate, on either side.
    pub const CERTIFICATE_REFUSED: &str = "CERTIFICATE_REFUSED";
    /// The caller's role may not call this.
    pub const NOT_PERMITTED: &str = "NOT_PERMITTED";
    /// Served only on the coordinator's own machine.
    pub const LOCAL_ONLY: &str = "LOCAL_ONLY";
    /// Token unknown or its secret wrong.
    pub const TOKEN_INVALID: &str = "TOKEN_INVALID";
    /// Token past its time.
    pub const TOKEN_EXPIRED: &str = "TOKEN_EXPIRED";
    /// Token spent by another machine.
    pub const TOKEN_USED: &str = "TOKEN_USED";
    /// A certificate signing request that is none, or not signed by its own key.
    pub const INVALID_CSR: &str = "INVALID_CSR";

    /// Another coordinator leads; `warren-leader` names it where it is known.
    pub const NOT_LEADER: &str = "NOT_LEADER";
    /// No majority of coordinators answers.
    pub const NO_QUORUM: &str = "NO_QUORUM";
    /// The coordinator has not applied yet what the read asks for.
    pub const BEHIND: &str = "BEHIND";
    /// The write may or may not have happened; ask again with the same request id.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
    /// The events after a revision are not kept, or not known here: list again, then watch from
    /// there. [`super::least_revision`] says what the list must at least hold.
    pub const RESYNC: &str = "RESYNC";
    /// The reader of a stream was slower than what it is told of.
    pub const SLOW_CONSUMER: &str = "SLOW_CONSUMER";
    /// The coordinator ends; another one goes on.
    pub const SHUTTING_DOWN: &str = "SHUTTING_DOWN";
    /// No coordinator was reached.
    pub const UNREACHABLE: &str = "UNREACHABLE";
    /// The workspace's node does not answer.
    pub const NODE_UNREACHABLE: &str = "NODE_UNREACHABLE";
    /// The workspace's node takes no streams from this coordinator, or not in time, and opened
    /// nothing: another one may reach it.
    pub const NODE_ELSEWHERE: &str = "NODE_ELSEWHERE";
    /// The workspace does not run.
    pub const NOT_RUNNING: &str = "NOT_RUNNING";
    /// No session of this name.
    pub const SESSION_NOT_FOUND: &str = "SESSION_NOT_FOUND";
    /// Nothing listens on that port, or the image has no such view.
    pub const PORT_CLOSED: &str = "PORT_CLOSED";
    /// It took longer than it may.
    pub const TIMEOUT: &str = "TIMEOUT";
    /// No such RPC.
    pub const UNKNOWN_METHOD: &str = "UNKNOWN_METHOD";
    /// A fault of Warren's own; the log of the coordinator says more.
    pub const INTERNAL: &str = "INTERNAL";
}

const REASON: &str = "warren-reason";
const WHY: &str = "warren-why-bin";
const NEXT: &str = "warren-next-bin";
const LEADER: &str = "warren-leader";
const REVISION: &str = "warren-revision";
const INCARNATION: &str = "warren-incarnation";

/// Says on a status how new the state must at least be that its caller reads next.
#[must_use]
pub fn with_least_revision(mut status: Status, revision: u64) -> Status {
    status.metadata_mut().insert(REVISION, MetadataValue::from(revision));
    status
}

/// Returns how new the state must at least be that is read next; none where it was not said.
pub fn least_revision(status: &Status) -> Option<u64> {
    status.metadata().get(REVISION)?.to_str().ok()?.parse().ok()
}

/// What a failed call says to its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The gRPC code, which decides the exit code and whether trying again can help.
    pub code: Code,
    /// Stable and SCREAMING_CASE, one of [`reason`] or a part's own.
    pub reason: Cow<'static, str>,
    /// What happened, in one lower-case sentence without a full stop.
    pub message: String,
    /// Why, where there is more to say.
    pub why: Option<String>,
    /// What to do, where there is something.
    pub next: Option<String>,
    /// host:port of the coordinator to ask instead.
    pub leader: Option<Box<str>>,
    /// Of the cluster that says so, where it matters that it is not an older one.
    pub incarnation: Option<NonZeroU32>,
}

impl ApiError {
    /// Makes an error without a cause or advice.
    pub fn new(
        code: Code,
        reason: impl Into<Cow<'static, str>>,
        message: impl fmt::Display,
    ) -> Self {
        let message = message.to_string();
        let (why, next, leader) = (None, None, None);
        Self { code, reason: reason.into(), message, why, next, leader, incarnation: None }
    }

    /// Says why.
    #[must_use]
    pub fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn next(mut self, next: impl fmt::Display) -> Self {
        self.next = Some(next.to_string());
        self
    }

    /// Says which incarnation of the cluster says so.
    #[must_use]
    pub fn incarnation(mut self, incarnation: u32) -> Self {
        self.incarnation = NonZeroU32::new(incarnation);
        self
    }

    /// Names the coordinator to ask instead.
    #[must_use]
    pub fn leader(mut self, address: impl Into<Box<str>>) -> Self {
        self.leader = Some(address.into());
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<InvalidMessage> for ApiError {
    fn from(error: InvalidMessage) -> Self {
        Self::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, error)
    }
}

impl From<InvalidMessage> for Status {
    fn from(error: InvalidMessage) -> Self {
        ApiError::from(error).into()
    }
}

impl From<ApiError> for Status {
    /// Cuts each text to [`Limits::REASON_BYTES`]: they travel in headers.
    fn from(error: ApiError) -> Self {
        let mut metadata = MetadataMap::new();
        if let Ok(value) = MetadataValue::try_from(error.reason.as_ref()) {
            metadata.insert(REASON, value);
        }
        if let Some(value) = error.leader.and_then(|leader| MetadataValue::try_from(&*leader).ok())
        {
            metadata.insert(LEADER, value);
        }
        if let Some(incarnation) = error.incarnation {
            metadata.insert(INCARNATION, MetadataValue::from(incarnation.get()));
        }
        for (key, text) in [(WHY, error.why), (NEXT, error.next)] {
            if let Some(text) = text {
                let text = clean(&text, Limits::REASON_BYTES);
                metadata.insert_bin(key, MetadataValue::from_bytes(text.as_bytes()));
            }
        }
        Self::with_metadata(error.code, clean(&error.message, Limits::REASON_BYTES), metadata)
    }
}

impl ApiError {
    /// Whether a status was made by Warren; otherwise the connection failed, not the call.
    pub fn told(status: &Status) -> bool {
        status.metadata().contains_key(REASON)
    }
}

impl From<&Status> for ApiError {
    /// Reads what the other side said; a status that is not Warren's gets its code's name as its
    /// reason.
    fn from(status: &Status) -> Self {
        let metadata = status.metadata();
        let text = |key: &str| {
            let text = metadata.get(key)?.to_str().ok()?;
            Some(clean(text, Limits::LABEL_BYTES))
        };
        let binary = |key: &str| {
            let bytes = metadata.get_bin(key)?.to_bytes().ok()?;
            Some(clean(&String::from_utf8_lossy(&bytes), Limits::REASON_BYTES))
        };
        Self {
            code: status.code(),
            reason: text(REASON).map_or(Cow::Borrowed(code_name(status.code())), Cow::Owned),
            message: clean(status.message(), Limits::REASON_BYTES),
            why: binary(WHY),
            next: binary(NEXT),
            leader: text(LEADER).map(Into::into),
            incarnation: text(INCARNATION).and_then(|number| number.parse().ok()),
        }
    }
}

/// Returns the gRPC code as a reason.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => reason::INVALID_ARGUMENT,
        Code::DeadlineExceeded => reason::TIMEOUT,
        Code::NotFound => reason::NOT_FOUND,
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => reason::NOT_PERMITTED,
        Code::ResourceExhausted => reason::LIMIT_REACHED,
        Code::FailedPrecondition => reason::WRONG_STATE,
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => reason::UNKNOWN_METHOD,
        Code::Internal => reason::INTERNAL,
        Code::Unavailable => reason::UNREACHABLE,
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire() {
        let error = ApiError::new(
            Code::ResourceExhausted,
            reason::NO_NODE_FITS,
            "no node can hold workspace acme/web",
        )
        .why("of 3 nodes 2 lack memory – größter Rest 11.2 GiB")
        .next("warren workspace explain acme/web, or lower --memory")
        .leader("10.0.0.1:7400")
        .incarnation(u32::MAX);
        assert_eq!(ApiError::from(&Status::from(error.clone())), error);
        let plain = ApiError::new(Code::NotFound, reason::NOT_FOUND, "no workspace x");
        let http = Status::from(plain.clone()).into_http::<()>();
        let back = Status::from_header_map(http.headers()).expect("a status");
        assert_eq!(ApiError::from(&back), plain);
    }

    #[test]
    fn texts_are_cut_and_a_foreign_status_gets_a_reason() {
        let long =
            ApiError::new(Code::Internal, reason::INTERNAL, "x".repeat(10_000)).why("\x1b[m");
        let back = ApiError::from(&Status::from(long));
        assert_eq!(back.message.len(), Limits::REASON_BYTES);
        assert_eq!(back.why.as_deref(), Some("[m"));
        assert_eq!(ApiError::from(&Status::unavailable("gone")).reason, reason::UNREACHABLE);
    }

    #[test]
    fn the_revision_to_read_at_survives_the_wire() {
        let error = ApiError::new(Code::OutOfRange, reason::RESYNC, "list again");
        let status = with_least_revision(error.clone().into(), u64::MAX);
        let http = status.into_http::<()>();
        let back = Status::from_header_map(http.headers()).expect("a status");
        assert_eq!((least_revision(&back), ApiError::from(&back)), (Some(u64::MAX), error));
        assert_eq!(least_revision(&Status::unavailable("gone")), None);
    }

    #[test]
    fn a_leader_that_is_no_header_is_left_out() {
        let error = ApiError::new(Code::Unavailable, reason::NOT_LEADER, "not here").leader("a\nb");
        assert_eq!(ApiError::from(&Status::from(error)).leader, None);
    }
}
