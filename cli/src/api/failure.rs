//! What failed calls mean: kinds for exit codes, whether trying again can help, and plain words
//! for what TLS and TCP report.

use tonic::{Code, Status};
use warren_common::{Limits, Timestamp, status::clean};
use warren_daemon::{
    clock,
    identity::{Trouble, explain},
};
use warren_proto::{ApiError, error::reason};

use crate::{
    context::Context,
    error::{Error, Kind},
    render::time::rfc3339_seconds,
};

const HAS_REASON: &str = "warren-reason";

/// Returns what a failed call says to a person.
pub(crate) fn from_status(status: &Status, context: &Context, expires: Timestamp) -> Error {
    if let Some(trouble) = trouble(status) {
        return from_trouble(&trouble, context, expires);
    }
    if is_lost(status) {
        let cluster = &context.cluster;
        let message = format!("a coordinator of cluster {cluster} did not answer to the end");
        return Error::new(Kind::Unreachable, reason::UNREACHABLE, message)
            .why(clean(status.message(), Limits::REASON_BYTES))
            .next("try again; warren cluster status shows how the cluster is");
    }
    advise(plain(status), context)
}

/// Returns what the other side said, without advice of our own.
pub(crate) fn plain(status: &Status) -> Error {
    let said = ApiError::from(status);
    let kind = kind(&said);
    let message = if said.message.is_empty() {
        format!("the coordinator answered {} without a message", said.reason)
    } else {
        said.message.clone()
    };
    let mut error = Error::new(kind, &said.reason, message);
    error.why = said.why;
    error.next = said.next;
    error
}

/// Adds the advice that only this side can give.
fn advise(error: Error, context: &Context) -> Error {
    let cluster = &context.cluster;
    match error.reason.as_str() {
        reason::CERTIFICATE_EXPIRED
        | reason::CERTIFICATE_REFUSED
        | reason::CERTIFICATE_REPLACED
        | reason::CERTIFICATE_MISSING => error.or_next(renew(context)),
        reason::NOT_PERMITTED => error.or_next(format!(
            "ask an administrator of {cluster}, or choose another --context (warren context list)"
        )),
        reason::NO_QUORUM => error.or_next(format!(
            "bring a majority of the coordinators of {cluster} back; what runs goes on"
        )),
        reason::OUTCOME_UNKNOWN => error.or_next("ask again with the same --request-id"),
        _ => error,
    }
}

fn renew(context: &Context) -> String {
    format!(
        "ask an administrator for warren user invite {1}, or run warren cluster init --name {0} \
         --admin {1} on the coordinator's machine",
        context.cluster, context.person
    )
}

/// Returns what a person is told where an expired certificate was not renewed: that they are out,
/// that nobody answers, or else that it has expired and why it stays so.
pub(super) fn not_renewed(error: Error, context: &Context, expires: Timestamp) -> Error {
    let said = [reason::CERTIFICATE_REVOKED, reason::CERTIFICATE_EXPIRED];
    if error.kind == Kind::Unreachable || said.contains(&error.reason.as_str()) {
        return error;
    }
    let Context { cluster, person, .. } = context;
    let message = format!("the certificate of {person} for cluster {cluster} has expired");
    Error::new(Kind::NotPermitted, reason::CERTIFICATE_EXPIRED, message)
        .why(format!(
            "it was good until {} and was not renewed: {}",
            rfc3339_seconds(expires),
            error.message
        ))
        .next(renew(context))
}

/// Returns the kind that sets the exit code.
fn kind(said: &ApiError) -> Kind {
    match said.code {
        Code::InvalidArgument | Code::OutOfRange => Kind::Usage,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::ResourceExhausted => Kind::Conflict,
        Code::Unavailable | Code::DeadlineExceeded => Kind::Unreachable,
        Code::PermissionDenied | Code::Unauthenticated => Kind::NotPermitted,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => Kind::Failed,
    }
}

/// Whether the call may succeed when it is made again, perhaps elsewhere.
pub(crate) fn may_pass(status: &Status) -> bool {
    let said = ApiError::from(status);
    if status.metadata().get(HAS_REASON).is_some() {
        return match said.reason.as_ref() {
            reason::NOT_LEADER | reason::NO_QUORUM | reason::OUTCOME_UNKNOWN => true,
            reason::NODE_UNREACHABLE | reason::NODE_ELSEWHERE => false,
            _ => said.code == Code::Unavailable,
        };
    }
    is_lost(status) && matches!(trouble(status), None | Some(Trouble::Unreachable(_)))
}

/// Whether nothing was done, and another coordinator may be able to.
pub(super) fn is_elsewhere(status: &Status) -> bool {
    ApiError::from(status).reason == reason::NODE_ELSEWHERE
}

/// Returns why the connection failed; none where the coordinator answered.
fn trouble(status: &Status) -> Option<Trouble> {
    if status.metadata().get(HAS_REASON).is_some() { None } else { explain(status) }
}

/// Whether the connection broke, rather than the coordinator answering.
pub(crate) fn is_lost(status: &Status) -> bool {
    let ours = status.metadata().get(HAS_REASON).is_some();
    let broken = matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::Internal
            | Code::DeadlineExceeded
    );
    !ours && broken
}

/// Returns the error of a connection that could not be made.
pub(crate) fn from_trouble(trouble: &Trouble, context: &Context, expires: Timestamp) -> Error {
    let cluster = &context.cluster;
    match trouble {
        Trouble::Unreachable(why) => Error::new(
            Kind::Unreachable,
            reason::UNREACHABLE,
            format!("no coordinator of cluster {cluster} answers"),
        )
        .why(why.clone())
        .next("check that warren-coordinator runs there, or choose another --context"),
        Trouble::Refused(_) if expires < clock::now() => Error::new(
            Kind::NotPermitted,
            reason::CERTIFICATE_EXPIRED,
            format!("the certificate of {} for cluster {cluster} has expired", context.person),
        )
        .why(format!("it was good until {}", rfc3339_seconds(expires)))
        .next(renew(context)),
        Trouble::Refused(why) => Error::new(
            Kind::NotPermitted,
            reason::CERTIFICATE_REFUSED,
            format!("a coordinator of {cluster} does not accept the certificate of this context"),
        )
        .why(*why)
        .next(renew(context)),
        Trouble::Distrusted(why) => Error::new(
            Kind::Unreachable,
            reason::CERTIFICATE_REFUSED,
            format!("who answers is not a coordinator of cluster {cluster}"),
        )
        .why(*why)
        .next("check the addresses in warren context show and the clocks of both machines"),
        Trouble::Tls(why) => Error::new(
            Kind::Unreachable,
            "TLS_FAILED",
            format!("no safe connection to a coordinator of cluster {cluster}"),
        )
        .why(why.clone())
        .next("check that the address is the coordinator's API (port 7400 by default)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Timestamp = Timestamp(u64::MAX);

    fn context() -> Context {
        Context {
            cluster: "demo".to_owned(),
            cluster_id: String::new(),
            coordinators: vec!["127.0.0.1:1".to_owned()],
            person: "ann".to_owned(),
            socket: None,
            invitation: None,
        }
    }

    #[test]
    fn codes_become_the_exit_codes_of_the_design() {
        for (code, exit) in [
            (Code::InvalidArgument, 2),
            (Code::NotFound, 3),
            (Code::AlreadyExists, 4),
            (Code::FailedPrecondition, 4),
            (Code::ResourceExhausted, 4),
            (Code::Unavailable, 5),
            (Code::PermissionDenied, 7),
            (Code::Unauthenticated, 7),
            (Code::Internal, 1),
        ] {
            let status = Status::from(ApiError::new(code, "SOME_REASON", "it failed"));
            assert_eq!(from_status(&status, &context(), LATER).kind.code(), exit, "{code:?}");
        }
    }

    #[test]
    fn reason_cause_and_advice_of_the_wire_are_kept() {
        let said = ApiError::new(Code::ResourceExhausted, reason::NO_NODE_FITS, "no node fits")
            .why("2 lack memory")
            .next("lower --memory");
        let error = from_status(&Status::from(said), &context(), LATER);
        assert_eq!(error.reason, "NO_NODE_FITS");
        assert_eq!(error.why.as_deref(), Some("2 lack memory"));
        assert_eq!(error.next.as_deref(), Some("lower --memory"));
    }

    #[test]
    fn an_expired_certificate_is_told_from_a_foreign_one() {
        let refused = Trouble::Refused("certificate refused: it was not issued by this cluster");
        let error = from_trouble(&refused, &context(), Timestamp(1_000));
        assert_eq!(
            (error.kind, error.reason.as_str()),
            (Kind::NotPermitted, "CERTIFICATE_EXPIRED")
        );
        assert!(error.why.expect("a cause").contains("1970-01-01T00:00:01Z"));
        let error = from_trouble(&refused, &context(), LATER);
        assert_eq!(error.reason, "CERTIFICATE_REFUSED");
        assert!(error.next.expect("advice").contains("warren cluster init --name demo"));
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let of = |code, reason: &'static str| Status::from(ApiError::new(code, reason, "x"));
        assert!(may_pass(&of(Code::Unavailable, reason::NOT_LEADER)));
        assert!(may_pass(&of(Code::DeadlineExceeded, reason::OUTCOME_UNKNOWN)));
        assert!(!may_pass(&of(Code::Unavailable, reason::NODE_UNREACHABLE)));
        let elsewhere = of(Code::Unavailable, reason::NODE_ELSEWHERE);
        assert!(!may_pass(&elsewhere) && is_elsewhere(&elsewhere));
        assert!(!may_pass(&of(Code::NotFound, reason::NOT_FOUND)));
        assert!(may_pass(&Status::unavailable("tcp connect error")));
        let refused = "certificate refused: it was not issued by this cluster";
        assert!(!may_pass(&Status::unavailable(refused)));
    }
}
