//! Coordinators as operators see them: tokens for new ones, removal, and how each one stands.

use tonic::Code;
use warren_common::{Limits, ReplicaId, TokenId};
use warren_daemon::token::TokenRole;
use warren_model::{
    Command,
    command::{IssueCoordinatorToken, RemoveReplica},
    state::Replica,
};
use warren_proto::{
    error::ApiError,
    pb::{admin::v1 as pb, raft::v1 as raft_pb},
};

use super::{Api, Who, errors, mutation::Asked};
use crate::member::Described;

impl Api {
    pub(super) async fn coordinator_token(
        &self,
        who: Who,
        request: pb::CreateCoordinatorTokenRequest,
    ) -> Result<pb::CreateCoordinatorTokenResponse, ApiError> {
        let asked = Asked::read(who, request.mutation)?;
        let replaces = Some(request.replaces_replica_id).filter(|id| *id != 0).map(ReplicaId);
        let id = TokenId::new(uuid::Uuid::now_v7());
        let expires = asked.at.plus(Limits::TOKEN_AGE);
        let token = self.join_token(TokenRole::Coordinator, (id, expires))?;
        let secret_hash = token.secret_hash();
        let issue = IssueCoordinatorToken { token: id, secret_hash, expires, replaces };
        let applied = self.mutate(&asked, Command::IssueCoordinatorToken(issue)).await?;
        if applied.repeated {
            let message = "this request minted a token before; its secret was shown once";
            let error = ApiError::new(Code::FailedPrecondition, "TOKEN_SHOWN_ONCE", message);
            return Err(error.next("mint another one: warren cluster token"));
        }
        let text = token.to_text().map_err(|why| errors::internal("writing the token", why))?;
        let token = text.expose().clone();
        let revision = applied.revision.0;
        Ok(pb::CreateCoordinatorTokenResponse { token, expires_unix_ms: expires.0, revision })
    }

    /// Returns the revision of a state without it; 0 where this one hears no leader any more, being
    /// the one that went.
    pub(super) async fn drop_coordinator(
        &self,
        who: Who,
        request: pb::RemoveCoordinatorRequest,
    ) -> Result<u64, ApiError> {
        let asked = Asked::read(who, request.mutation)?;
        let replica = match request.replica_id {
            0 => return Err(errors::invalid("replica_id", "coordinators count from 1")),
            id => ReplicaId(id),
        };
        let command = Command::RemoveReplica(RemoveReplica { replica });
        self.settled().await;
        let asked = (asked.envelope(command), asked.serial);
        self.parts().members.remove(asked, request.force).await?;
        // the leader did it, and this one may not have applied it yet
        let moment = self.read().await;
        Ok(moment.map_or(0, |moment| moment.state.revision.0))
    }

    /// Shows every coordinator by id, as each says of itself and the leader of the others; where
    /// nobody leads, as this one knows them.
    pub(super) async fn show_coordinators(&self) -> Vec<pb::Replica> {
        let described = self.parts().members.describe_all().await;
        let consensus = &self.parts().consensus;
        let (state, own) = (consensus.local(), self.parts().replica.0);
        let led = consensus.without_quorum().is_none();
        let answers = || described.iter().filter_map(|(_, one)| one.as_ref().ok());
        let leads = |one: &&raft_pb::DescribeResponse| {
            one.role() == raft_pb::Role::Leader && (led || one.replica_id != own)
        };
        let leader = answers().find(leads);
        let witness = leader.or_else(|| answers().find(|one| one.replica_id == own));
        let rows = described.iter().filter_map(|(id, described)| {
            let known = Known { row: state.replicas.get(id)?, leader, witness };
            Some(show(*id, &known, described))
        });
        rows.collect()
    }
}

/// What is known of a coordinator beside what it says of itself.
struct Known<'a> {
    row: &'a Replica,
    leader: Option<&'a raft_pb::DescribeResponse>,
    /// Who tells of the group: the leader, or else the coordinator that is asked.
    witness: Option<&'a raft_pb::DescribeResponse>,
}

fn show(id: ReplicaId, known: &Known<'_>, described: &Described) -> pb::Replica {
    let Known { row, leader, witness } = *known;
    let heard = described.as_ref().ok();
    let of = |one: &'_ raft_pb::DescribeResponse| {
        one.members.iter().find(|member| member.replica_id == id.0).cloned()
    };
    let (member, own) = (witness.and_then(of), heard.and_then(of));
    let leads = leader.is_some_and(|leader| leader.replica_id == id.0);
    let seen = member.as_ref().or(own.as_ref());
    let voter = seen.is_some_and(|member| member.voter);
    let role = match (leads, voter, seen) {
        (true, _, _) => pb::ReplicaRole::Leader,
        (false, true, _) => pb::ReplicaRole::Voter,
        (false, false, Some(_)) => pb::ReplicaRole::Learner,
        (false, false, None) => pb::ReplicaRole::Joining,
    };
    let holds = heard.map(|own| own.log_length);
    let holds = holds.or_else(|| member.as_ref().and_then(|member| member.matched_length));
    pb::Replica {
        id: id.0,
        api_address: row.api_address.clone(),
        raft_address: row.raft_address.clone(),
        voter,
        role: role.into(),
        lag_entries: leader.zip(holds).map(|(leader, own)| leader.log_length.saturating_sub(own)),
        // the leader knows whom it hears; that this one is heard from here says less
        contact_ms: match (heard, leader) {
            (Some(_), Some(_)) if leads => Some(0),
            (Some(_), None) => Some(0),
            _ => member.as_ref().and_then(|member| member.contact_ms),
        },
        version: heard.map(|own| own.version.clone()).unwrap_or_default(),
        engine: heard.map(|own| own.engine.clone()).unwrap_or_default(),
        disk_free_bytes: heard.map_or(0, |own| own.disk_free_bytes),
        trouble: described.as_ref().err().cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(id: u64, leader: u64, contacts: &[(u64, u64)]) -> raft_pb::DescribeResponse {
        let member = |id: u64| raft_pb::DescribedMember {
            replica_id: id,
            voter: true,
            contact_ms: contacts.iter().find(|(of, _)| *of == id).map(|(_, ago)| *ago),
            ..Default::default()
        };
        let role = if id == leader { raft_pb::Role::Leader } else { raft_pb::Role::Follower };
        raft_pb::DescribeResponse {
            replica_id: id,
            role: role.into(),
            members: (1..=3).map(member).collect(),
            ..Default::default()
        }
    }

    fn contact(
        id: u64,
        leader: Option<&raft_pb::DescribeResponse>,
        one: &Described,
    ) -> Option<u64> {
        let row = Replica { api_address: String::new(), raft_address: String::new() };
        let known = Known { row: &row, leader, witness: leader };
        show(ReplicaId(id), &known, one).contact_ms
    }

    #[test]
    fn the_leader_says_whom_it_hears_though_others_hear_them() {
        let leader = described(1, 1, &[(2, 90), (3, 70_000)]);
        let other = |id| Ok(described(id, 1, &[]));
        assert_eq!(contact(1, Some(&leader), &Ok(leader.clone())), Some(0));
        assert_eq!(contact(2, Some(&leader), &other(2)), Some(90));
        assert_eq!(contact(3, Some(&leader), &other(3)), Some(70_000), "it answers the asked one");
        assert_eq!(contact(3, Some(&leader), &Err("refused".to_owned())), Some(70_000));
        // nobody leads: that it answers is all that is known
        assert_eq!(contact(3, None, &other(3)), Some(0));
        assert_eq!(contact(3, None, &Err("refused".to_owned())), None);
    }
}
