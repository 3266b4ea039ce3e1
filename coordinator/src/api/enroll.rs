//! `EnrollService`: how a machine becomes a node and keeps its certificate.

use tonic::{Code, Request, Response, Status};
use uuid::Uuid;
use warren_common::{NodeId, NodeName, RequestId, status::NodeFacts};
use warren_daemon::{
    clock,
    identity::PeerIdentity,
    token::{JoinToken, TokenRole},
};
use warren_model::{
    Command, Outcome, Principal, Refusal, RefusalCode,
    command::{JoinNode, Occasion},
};
use warren_proto::{
    convert::{InvalidMessage, required},
    error::{ApiError, reason},
    pb::node::v1::{self as pb, enroll_service_server::EnrollService},
};

use super::{Api, errors, mutation::Asked};
use crate::{authz::Caller, ca::SigningRequest, hub::control::coordinators};

#[tonic::async_trait]
impl EnrollService for Api {
    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let address = match Caller::of(&request)? {
            Caller::Anonymous { address } | Caller::Peer { address, .. } => address.to_string(),
            Caller::Local { .. } => "this machine".to_owned(),
        };
        let answer = self.join(request.into_inner()).await;
        match &answer {
            Ok(joined) => {
                tracing::info!(
                    node = joined.node_id,
                    name = joined.node_name,
                    address,
                    "node joined"
                );
            }
            Err(error) => tracing::info!(%error, address, "a node was not let in"),
        }
        Ok(Response::new(answer?))
    }

    async fn enroll_coordinator(
        &self,
        request: Request<pb::EnrollCoordinatorRequest>,
    ) -> Result<Response<pb::EnrollCoordinatorResponse>, Status> {
        let answer = self.join_coordinator(request.into_inner()).await;
        match &answer {
            Ok(joined) => tracing::info!(replica = joined.replica_id, "coordinator enrolled"),
            Err(error) => tracing::info!(%error, "a coordinator was not let in"),
        }
        Ok(Response::new(answer?))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let peer = Caller::of(&request)?.peer().cloned();
        let peer = peer.ok_or_else(errors::no_certificate)?;
        let asked = SigningRequest::from_pem(&request.into_inner().csr_pem);
        let asked = asked.map_err(ApiError::from)?;
        self.settled().await;
        let occasion = Occasion::Renewed { serial: peer.serial, expires: peer.not_after };
        let issued = self.issuer().issue(&asked, &peer.identity, occasion).await?;
        tracing::info!(identity = %peer.identity, "certificate renewed");
        let certificate_pem = issued.chain_pem;
        let trust_pem = self.parts().ca.coordinator_trust().to_owned();
        Ok(Response::new(pb::RenewResponse { certificate_pem, trust_pem }))
    }
}

impl Api {
    /// Spends a token: makes the node it is for, or finds the one that this key got before.
    async fn join(&self, request: pb::EnrollRequest) -> Result<pb::EnrollResponse, ApiError> {
        let token: JoinToken = request.token.parse().map_err(invalid_token)?;
        match token.role {
            TokenRole::Node => {}
            role @ (TokenRole::Coordinator | TokenRole::Person) => {
                return Err(invalid_token(format!("it is a token for a {role}, not for a node")));
            }
        }
        self.check_token(&token).await?;
        let csr = SigningRequest::from_pem(&request.csr_pem)?;
        let name: NodeName =
            request.node_name.parse().map_err(|why| errors::invalid("node_name", why))?;
        let facts: Result<NodeFacts, InvalidMessage> = required("facts", request.facts)?.try_into();
        let node = NodeId::new(Uuid::now_v7());
        let join = JoinNode {
            token: token.id,
            secret_hash: token.secret_hash(),
            key_hash: csr.key_hash(),
            node,
            name,
            facts: facts.map_err(|error| error.within("facts"))?,
        };
        // a node has no name of its own yet: the token and the key make a repeat take effect once
        let asked = Asked {
            principal: Principal::Coordinator(self.parts().replica),
            serial: Vec::new(),
            request: RequestId::new(Uuid::now_v7()),
            if_revision: None,
            at: clock::now(),
        };
        let applied = self.mutate(&asked, Command::JoinNode(join)).await?;
        let Outcome::Node(node) = applied.outcome else {
            return Err(errors::internal("joining a node", "another outcome"));
        };
        let identity = PeerIdentity::Node(node);
        let issued = self.issuer().issue(&csr, &identity, Occasion::Joined).await?;
        let state = self.parts().consensus.local();
        let joined = state.nodes.get(&node);
        let joined = joined.ok_or_else(|| errors::not_found("node", &node.to_string()))?;
        Ok(pb::EnrollResponse {
            cluster_id: self.parts().ca.cluster().to_string(),
            node_id: node.to_string(),
            node_name: joined.name.to_string(),
            certificate_pem: issued.chain_pem,
            trust_pem: self.parts().ca.coordinator_trust().to_owned(),
            coordinators: coordinators(&state),
        })
    }

    /// Refuses a token that nobody minted before anything is proposed: whoever holds none can call
    /// this, and must not make the log grow. The model judges the others.
    async fn check_token(&self, token: &JoinToken) -> Result<(), ApiError> {
        let moment = self.read().await?;
        let known = moment.state.tokens.get(&token.id);
        if known.is_some_and(|known| known.secret_hash == token.secret_hash()) {
            return Ok(());
        }
        let message = "the join token is not known here";
        Err(errors::refusal(Refusal::new(RefusalCode::TokenInvalid, message)))
    }
}

fn invalid_token(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Code::InvalidArgument, reason::TOKEN_INVALID, why)
        .next("mint another one: warren node token")
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc, time::Duration};

    use warren_common::{ClusterId, ReplicaId, Timestamp, TokenId};
    use warren_daemon::{Shutdown, identity::Key};
    use warren_model::{Envelope, command::InitCluster};

    use super::*;
    use crate::{
        api::Parts,
        ca::Ca,
        config::{Config, RawConfig},
        keystore::Keystore,
        live::{Live, Reading},
        member::{self, Members},
        raft::{Consensus, Options, Tuning},
        store::Engine,
    };

    async fn consensus(folder: &Path, cluster: ClusterId) -> Consensus {
        let connect: crate::raft::Connect = Arc::new(|_, _| Err("it is alone".to_owned()));
        let (replica, tuning) = (ReplicaId(1), Tuning::default());
        let (folder, engine) = (folder.to_owned(), Engine::default());
        let options = Options { replica, folder, engine, connect, tuning };
        let consensus = Consensus::open(options).await.expect("a log");
        consensus.initialise([(replica, String::new())].into()).await.expect("a group");
        let mut leadership = consensus.leadership();
        let leading = leadership.wait_for(|now| now.leading);
        let led = tokio::time::timeout(Duration::from_secs(20), leading).await;
        led.expect("in time").expect("it runs");
        let init = InitCluster { cluster, name: "home".to_owned(), incarnation: 1 };
        let envelope = Envelope {
            request: RequestId::new(Uuid::now_v7()),
            principal: Principal::Coordinator(replica),
            at: clock::now(),
            if_revision: None,
            command: Command::InitCluster(init),
        };
        consensus.propose(envelope).await.expect("written").expect("fresh");
        consensus
    }

    async fn api(folder: &Path) -> Api {
        let keys = Keystore::open(&folder.join("keys")).expect("a folder");
        let cluster = ClusterId::new(Uuid::now_v7());
        let ca = Ca::load_or_create(&keys, cluster, clock::now()).expect("authorities");
        let config = Config::try_from(RawConfig::default()).expect("the defaults");
        let consensus = consensus(folder, cluster).await;
        let members = Members::new(member::Parts {
            replica: ReplicaId(1),
            consensus: consensus.clone(),
            keystore: keys.clone(),
            connect: Arc::new(|_, _| Err("it is alone".to_owned())),
            state_dir: folder.to_owned(),
            engine: "sled".to_owned(),
        });
        Api::new(Parts {
            replica: ReplicaId(1),
            consensus,
            members,
            live: Arc::new(Live::new(Reading::now)),
            hub: Arc::default(),
            keystore: keys,
            ca: Arc::new(ca),
            template: config.template,
            installer: None,
            watches: Arc::default(),
            shutdown: Shutdown::new(),
        })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_made_up_token_writes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let api = api(folder.path()).await;
        let before = api.parts().consensus.status().last_log;
        let token = JoinToken {
            role: TokenRole::Node,
            id: TokenId::new(Uuid::now_v7()),
            secret: JoinToken::random_secret().expect("randomness"),
            pin: [0; 32],
            expires: Timestamp(clock::now().0 + 60_000),
            addresses: vec!["127.0.0.1:7400".to_owned()],
        };
        let key = Key::generate().expect("a key");
        let request = pb::EnrollRequest {
            token: token.to_text().expect("a text").expose().clone(),
            csr_pem: key.request().expect("a request"),
            node_name: "n1".to_owned(),
            facts: Some(pb::NodeFacts {
                boot_id: Uuid::now_v7().to_string(),
                hostname: "vps1".to_owned(),
                cgroup: 2,
                ..Default::default()
            }),
        };
        let refused = api.join(request).await.expect_err("nobody minted it");
        assert_eq!(refused.reason, reason::TOKEN_INVALID);
        assert_eq!(api.parts().consensus.status().last_log, before);
        api.parts().consensus.shutdown().await;
    }
}
