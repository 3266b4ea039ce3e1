//! The fake coordinator's users.

use tonic::{Request, Response, Status};
use warren_proto::{
    Method,
    pb::admin::v1::{self as pb, user_service_server::UserService},
};

use super::{
    data::NOW,
    fake::{Fake, REVISION, page},
};

const DAY: u64 = 86_400_000;

fn certificate(serial: &str, days: u64) -> pb::Certificate {
    let issued_unix_ms = NOW - DAY * days;
    let expires_unix_ms = issued_unix_ms + DAY * 90;
    pb::Certificate {
        serial: serial.repeat(16),
        issued_unix_ms,
        expires_unix_ms,
        ..Default::default()
    }
}

/// One of each kind: renewed, away for a long time, and out.
fn users() -> Vec<pb::User> {
    let first = pb::Certificate { renewed: true, ..certificate("41", 31) };
    let out = pb::Certificate { revoked: true, ..certificate("43", 10) };
    let user = |name: &str, role: &str, certificates: Vec<pb::Certificate>| pb::User {
        name: name.to_owned(),
        role: role.to_owned(),
        joined_unix_ms: certificates[0].issued_unix_ms,
        certificates,
        ..Default::default()
    };
    vec![
        pb::User {
            renewed_unix_ms: NOW - DAY,
            ..user("ann", "admin", vec![first, certificate("42", 1)])
        },
        user("ci", "automation", vec![certificate("44", 400)]),
        pb::User { revoked_unix_ms: NOW - DAY, ..user("vera", "viewer", vec![out]) },
    ]
}

#[tonic::async_trait]
impl UserService for Fake {
    async fn invite_user(
        &self,
        _: Request<pb::InviteUserRequest>,
    ) -> Result<Response<pb::InviteUserResponse>, Status> {
        let _state = self.enter(Method::UserInviteUser)?;
        let token = "wrn1_example".to_owned();
        let expires_unix_ms = warren_daemon::clock::now().0 + 15 * 60_000 + 500;
        Ok(Response::new(pb::InviteUserResponse { token, expires_unix_ms, revision: REVISION }))
    }

    async fn join_user(
        &self,
        _: Request<pb::JoinUserRequest>,
    ) -> Result<Response<pb::JoinUserResponse>, Status> {
        let _state = self.enter(Method::UserJoinUser)?;
        Err(Status::unimplemented("the cluster tests join for real"))
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let request = request.into_inner();
        let (state, freshness) = self.read(Method::UserListUsers, request.read)?;
        let known: Vec<pb::User> = users().into_iter().chain(state.users.clone()).collect();
        let (users, next_page_token) = page(&known, state.page, &request.page_token);
        Ok(Response::new(pb::ListUsersResponse { freshness, users, next_page_token }))
    }

    async fn revoke_user(
        &self,
        request: Request<pb::RevokeUserRequest>,
    ) -> Result<Response<pb::RevokeUserResponse>, Status> {
        let _state = self.enter(Method::UserRevokeUser)?;
        let asked = request.into_inner();
        let serials = match asked.serial.is_empty() {
            true => vec!["43".repeat(16)],
            false => vec![asked.serial],
        };
        Ok(Response::new(pb::RevokeUserResponse { serials, revision: REVISION }))
    }
}
