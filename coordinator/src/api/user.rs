//! `UserService`: people and their automation.

use tonic::{Code, Request, Response, Status};
use warren_common::{PersonName, Role, TokenId};
use warren_daemon::{
    identity::PeerIdentity,
    token::{JoinToken, TokenRole},
};
use warren_model::{
    ClusterState, Command, Principal, Refusal, RefusalCode,
    command::{EnrolPerson, InvitePerson, Occasion, RevokeCertificate, RevokePerson},
    state::{Certificate, Person, certificate},
};
use warren_proto::{
    error::{ApiError, reason},
    pb::admin::v1::{self as pb, user_service_server::UserService},
};

use super::{Api, caller, errors, mutation::Asked, page::Page};
use crate::{authz::Caller, ca::SigningRequest, hub::control::coordinators};

const INVITE: &str = "mint another one: warren user invite";

#[tonic::async_trait]
impl UserService for Api {
    async fn invite_user(
        &self,
        request: Request<pb::InviteUserRequest>,
    ) -> Result<Response<pb::InviteUserResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(who, request.mutation)?;
        let name: PersonName = request.name.parse().map_err(|why| errors::invalid("name", why))?;
        let role: Role = request.role.parse().map_err(|why| errors::invalid("role", why))?;
        let id = TokenId::new(uuid::Uuid::now_v7());
        let expires = asked.at.plus(warren_common::Limits::TOKEN_AGE);
        let token = self.join_token(TokenRole::Person, (id, expires))?;
        let secret_hash = token.secret_hash();
        let invite = InvitePerson { token: id, secret_hash, name, role, expires };
        let applied = self.mutate(&asked, Command::InvitePerson(invite)).await.map_err(
            |error| match error.reason.as_ref() {
                reason::NAME_TAKEN => error.next("revoke them first: warren user revoke NAME"),
                _ => error,
            },
        )?;
        if applied.repeated {
            let message = "this request minted an invitation before; its secret was shown once";
            let error = ApiError::new(Code::FailedPrecondition, "TOKEN_SHOWN_ONCE", message);
            return Err(error.next(INVITE).into());
        }
        let text = token.to_text().map_err(|why| errors::internal("writing the token", why))?;
        let token = text.expose().clone();
        let (expires_unix_ms, revision) = (expires.0, applied.revision.0);
        Ok(Response::new(pb::InviteUserResponse { token, expires_unix_ms, revision }))
    }

    async fn join_user(
        &self,
        request: Request<pb::JoinUserRequest>,
    ) -> Result<Response<pb::JoinUserResponse>, Status> {
        let address = match Caller::of(&request)? {
            Caller::Anonymous { address } | Caller::Peer { address, .. } => address.to_string(),
            Caller::Local { .. } => "this machine".to_owned(),
        };
        let answer = self.let_in(request.into_inner()).await;
        match &answer {
            Ok(joined) => {
                tracing::info!(name = joined.name, role = joined.role, address, "user joined");
            }
            Err(error) => tracing::info!(%error, address, "a user was not let in"),
        }
        Ok(Response::new(answer?))
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(request.page_size, &request.page_token)?;
        let moment = self.read_for(request.read).await?;
        let people = moment.state.people.iter();
        let people = people.map(|(name, person)| (name.to_string(), person));
        let paged = page.cut(people, |person| user(&moment.state, person));
        Ok(Response::new(pb::ListUsersResponse {
            freshness: Some(moment.freshness()),
            users: paged.items,
            next_page_token: paged.next,
        }))
    }

    async fn revoke_user(
        &self,
        request: Request<pb::RevokeUserRequest>,
    ) -> Result<Response<pb::RevokeUserResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(who, request.mutation)?;
        let (serials, revision) = match (request.name.as_str(), request.serial.as_str()) {
            (name, "") if !name.is_empty() => self.revoke_person(&asked, name).await?,
            ("", serial) if !serial.is_empty() => self.revoke_serial(&asked, serial).await?,
            _ => {
                let why = "give a user's name or a certificate's serial";
                return Err(errors::invalid("name", why).into());
            }
        };
        Ok(Response::new(pb::RevokeUserResponse { serials, revision }))
    }
}

impl Api {
    async fn let_in(&self, request: pb::JoinUserRequest) -> Result<pb::JoinUserResponse, ApiError> {
        let token: JoinToken = request.token.parse().map_err(invalid_token)?;
        if token.role != TokenRole::Person {
            return Err(invalid_token(format!(
                "it is a token for a {}, not for a user",
                token.role
            )));
        }
        let csr = SigningRequest::from_pem(&request.csr_pem)?;
        // an older copy of the state would refuse an invitation of a moment ago
        self.read().await?;
        let (secret_hash, key_hash) = (token.secret_hash(), csr.key_hash());
        let enrol = EnrolPerson { token: token.id, secret_hash, key_hash };
        let issuer = self.issuer();
        issuer.propose(Command::EnrolPerson(enrol)).await.map_err(|error| {
            let of_token = [reason::TOKEN_INVALID, reason::TOKEN_USED, reason::TOKEN_EXPIRED];
            if of_token.contains(&error.reason.as_ref()) { error.next(INVITE) } else { error }
        })?;
        let state = self.parts().consensus.local();
        let invitation = state.invitations.get(&token.id).ok_or_else(|| {
            let refusal = Refusal::new(RefusalCode::TokenInvalid, "the invitation was withdrawn");
            errors::refusal(refusal).next(INVITE)
        })?;
        let (name, role) = (invitation.name.clone(), invitation.role);
        let identity = PeerIdentity::Person { role, name: name.clone() };
        let issued = issuer.issue(&csr, &identity, Occasion::Invited(token.id)).await?;
        Ok(pb::JoinUserResponse {
            cluster_id: self.parts().ca.cluster().to_string(),
            cluster_name: state.cluster.as_ref().map_or_else(String::new, |one| one.name.clone()),
            name: name.to_string(),
            role: role.to_string(),
            certificate_pem: issued.chain_pem,
            trust_pem: self.parts().ca.coordinator_trust().to_owned(),
            coordinators: coordinators(&state),
            revision: self.parts().consensus.local().revision.0,
        })
    }

    async fn revoke_person(
        &self,
        asked: &Asked,
        name: &str,
    ) -> Result<(Vec<String>, u64), ApiError> {
        let name: PersonName = name.parse().map_err(|why| errors::invalid("name", why))?;
        let revoke = RevokePerson { name: name.clone() };
        let revoked =
            self.mutate(asked, Command::RevokePerson(revoke)).await.map_err(|error| match error
                .reason
                .as_ref()
            {
                reason::NOT_FOUND => error.next("warren user list shows all"),
                _ => error,
            })?;
        let state = self.parts().consensus.local();
        let held = state.certificates_of(&Principal::Person(name.to_string()));
        let serials = held.map(|(serial, _)| certificate::hex(serial)).collect();
        Ok((serials, revoked.revision.0))
    }

    async fn revoke_serial(
        &self,
        asked: &Asked,
        text: &str,
    ) -> Result<(Vec<String>, u64), ApiError> {
        let serial = serial(text).ok_or_else(|| {
            errors::invalid("serial", "it is the hex that warren user list -o json shows")
        })?;
        let moment = self.read().await?;
        let Some((holder, row)) = moment.state.certificate(&serial) else {
            return Err(errors::not_found("certificate", &certificate::hex(&serial))
                .next("warren user list -o json shows those of users"));
        };
        let subject = certificate::subject(holder, row.role);
        let revoke = RevokeCertificate { serial: serial.clone(), subject, expires: row.expires };
        let revoked = self.mutate(asked, Command::RevokeCertificate(revoke)).await?;
        Ok((vec![certificate::hex(&serial)], revoked.revision.0))
    }
}

/// Reads a serial as it is shown.
fn serial(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    bytes.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

fn invalid_token(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Code::InvalidArgument, reason::TOKEN_INVALID, why).next(INVITE)
}

fn user(state: &ClusterState, person: &Person) -> pb::User {
    let held = || state.certificates_of(&Principal::Person(person.name.to_string()));
    let renewed = held().filter(|(_, row)| row.renewal).map(|(_, row)| row.issued.0).max();
    let shown = |(serial, row): (&Vec<u8>, &Certificate)| pb::Certificate {
        serial: certificate::hex(serial),
        issued_unix_ms: row.issued.0,
        expires_unix_ms: row.expires.0,
        revoked: state.revoked.contains_key(serial),
        renewed: row.successor.is_some(),
    };
    pb::User {
        name: person.name.to_string(),
        role: person.role.to_string(),
        joined_unix_ms: person.joined.0,
        revoked_unix_ms: person.revoked.map_or(0, |at| at.0),
        certificates: held().map(shown).collect(),
        renewed_unix_ms: renewed.unwrap_or(0),
    }
}
