//! How a machine becomes a coordinator: its id and its certificate. It is no member yet: it asks
//! for that itself, with this certificate, once it can hold the log.

use std::net::IpAddr;

use tonic::Code;
use uuid::Uuid;
use warren_common::{ReplicaId, RequestId};
use warren_daemon::{
    clock,
    identity::PeerIdentity,
    token::{JoinToken, TokenRole},
};
use warren_model::{
    ClusterState, Command, Outcome, Principal, Refusal, RefusalCode,
    command::{JoinReplica, Occasion},
};
use warren_proto::{
    error::{ApiError, reason},
    pb::node::v1 as pb,
};

use super::{Api, errors, mutation::Asked};
use crate::{ca::SigningRequest, config::is_host_port};

impl Api {
    /// Spends a token: gives the machine its id, or finds the one that this key got before.
    pub(super) async fn join_coordinator(
        &self,
        request: pb::EnrollCoordinatorRequest,
    ) -> Result<pb::EnrollCoordinatorResponse, ApiError> {
        let token: JoinToken = request.token.parse().map_err(invalid_token)?;
        match token.role {
            TokenRole::Coordinator => {}
            role @ (TokenRole::Node | TokenRole::Person) => {
                let why = format!("it is a token for a {role}, not for a coordinator");
                return Err(invalid_token(why));
            }
        }
        let csr = SigningRequest::from_pem(&request.csr_pem)?;
        for (field, text) in
            [("api_address", &request.api_address), ("raft_address", &request.raft_address)]
        {
            if !is_host_port(text) {
                let why = format!("{text:?} is not of the form host:port");
                return Err(errors::invalid(field, why));
            }
        }
        let state = self.read().await?.state;
        check(&state, &token, &request.raft_address)?;
        let join = JoinReplica {
            token: token.id,
            secret_hash: token.secret_hash(),
            key_hash: csr.key_hash(),
            api_address: request.api_address,
            raft_address: request.raft_address,
        };
        // it has no name of its own yet: the token and the key make a repeat take effect once
        let asked = Asked {
            principal: Principal::Coordinator(self.parts().replica),
            serial: Vec::new(),
            request: RequestId::new(Uuid::now_v7()),
            if_revision: None,
            at: clock::now(),
        };
        let applied = self.mutate(&asked, Command::JoinReplica(join)).await.map_err(advise)?;
        let Outcome::Replica(replica) = applied.outcome else {
            return Err(errors::internal("joining a coordinator", "another outcome"));
        };
        let identity = PeerIdentity::Coordinator(replica);
        let issued = self.issuer().issue(&csr, &identity, Occasion::Joined).await?;
        let state = self.parts().consensus.local();
        let cluster = state.cluster.as_ref().ok_or_else(errors::not_initialised)?;
        let others = state.replicas.iter().filter(|(id, _)| **id != replica);
        let address = |(id, other): (&ReplicaId, &warren_model::state::Replica)| {
            pb::CoordinatorAddress { replica_id: id.0, raft_address: other.raft_address.clone() }
        };
        Ok(pb::EnrollCoordinatorResponse {
            cluster_id: cluster.id.to_string(),
            cluster_name: cluster.name.clone(),
            incarnation: cluster.incarnation,
            replica_id: replica.0,
            certificate_pem: issued.chain_pem,
            trust_pem: self.parts().ca.api_trust(),
            coordinators: others.map(address).collect(),
        })
    }
}

/// Refuses a token that nobody minted before anything is proposed: whoever holds none can call
/// this, and must not make the log grow. Refuses too what could never work, before it is spent.
fn check(state: &ClusterState, token: &JoinToken, raft_address: &str) -> Result<(), ApiError> {
    let known = state.coordinator_tokens.get(&token.id);
    if known.is_none_or(|known| known.secret_hash != token.secret_hash()) {
        let message = "the join token is not known here";
        return Err(advise(errors::refusal(Refusal::new(RefusalCode::TokenInvalid, message))));
    }
    if is_loopback(raft_address) {
        return Ok(());
    }
    let replaced = known.and_then(|known| known.replaces);
    let others = state.replicas.iter().filter(|(id, _)| Some(**id) != replaced);
    match others.into_iter().find(|(_, other)| is_loopback(&other.raft_address)) {
        Some((id, other)) => {
            let message = format!(
                "coordinator {id} is known at {}, which other machines cannot reach",
                other.raft_address
            );
            Err(ApiError::new(Code::FailedPrecondition, "NOT_REACHABLE", message).next(
                "set raft = \"HOST:PORT\" under [advertise] in its configuration and restart it, \
                 then repeat this command",
            ))
        }
        None => Ok(()),
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn invalid_token(why: impl std::fmt::Display) -> ApiError {
    advise(ApiError::new(Code::InvalidArgument, reason::TOKEN_INVALID, why))
}

/// Names the command that mints tokens of this kind.
fn advise(error: ApiError) -> ApiError {
    let about_token = [reason::TOKEN_INVALID, reason::TOKEN_EXPIRED, reason::TOKEN_USED];
    match about_token.contains(&error.reason.as_ref()) {
        true => error.next("mint another one: warren cluster token"),
        false => error,
    }
}
