//! A node's Control stream: its registration and leases come up, the one document goes down.
//!
//! Only the leader serves it, and only for as long as it leads in one term. The document is sent
//! when it says something new: while one is on its way, changes gather and the next one holds them
//! all. Registrations and changed facts, which the log keeps, are taken once a second. A lease is confirmed after a round of reads that began when the renewal was here (rule R2).

use std::{future::Future, pin::Pin};

use futures_util::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tonic::{Code, Status};
use tracing::{debug, info};
use uuid::Uuid;
use warren_common::{
    Limits, NodeEpoch, NodeId, RequestId, Revision, spec::NodeSpec, status::NodeFacts,
};
use warren_daemon::clock;
use warren_model::{
    ClusterState, Command, Envelope, Principal,
    command::{AccountNode, AdoptNode, node::EnterNode},
};
use warren_proto::{
    convert::{InvalidMessage, required},
    error::ApiError,
    pb::node::v1::{self as pb, control_request, control_response},
};

use super::{Uplink, identity, pace::PAUSE};
use crate::{
    api::errors,
    raft::{Leadership, ReadError},
};

type Answer = Result<pb::ControlResponse, Status>;
type Round =
    Pin<Box<dyn Future<Output = (pb::RenewLease, Result<ClusterState, ReadError>)> + Send>>;

/// One registration of one node with this leader.
struct Session {
    up: Uplink,
    node: NodeId,
    epoch: NodeEpoch,
    term: u64,
    answers: mpsc::Sender<Answer>,
    /// The hash of the document that the node was last told, its revision aside.
    told: Option<[u8; 32]>,
    /// The renewal that is being confirmed.
    round: Option<Round>,
    /// The newest renewal that waits for the next round.
    waiting: Option<pb::RenewLease>,
    /// The newest facts that wait for their turn.
    facts: Option<NodeFacts>,
    /// When the next change of facts is taken.
    facts_due: Instant,
}

impl Uplink {
    /// Returns the term this coordinator leads.
    ///
    /// # Errors
    /// Names the leader where it does not.
    pub fn leading(&self) -> Result<u64, ApiError> {
        let Leadership { leader, term, leading } = *self.consensus.leadership().borrow();
        if leading { Ok(term) } else { Err(errors::not_leader(leader, &self.consensus.local())) }
    }

    /// Serves one Control stream until it ends, a newer one replaces it, leadership goes, or the
    /// coordinator stops.
    pub async fn control(
        self,
        node: NodeId,
        mut requests: impl Stream<Item = Result<pb::ControlRequest, Status>> + Unpin,
        answers: mpsc::Sender<Answer>,
    ) {
        let shutdown = self.shutdown.clone();
        // another agent is told apart before it takes the stream of the one that is here
        let register = tokio::select! {
            register = self.introduced(node, &mut requests) => register,
            () = answers.closed() => return,
            () = shutdown.requested() => return,
        };
        let register = match register {
            Ok(register) => register,
            Err(error) => {
                debug!(%node, %error, "a control stream is refused");
                let _ = answers.try_send(Err(error.into()));
                return;
            }
        };
        let place = self.hub.enter_control(node);
        let served = async {
            let mut session =
                self.register((node, register), &mut requests, answers.clone()).await?;
            info!(%node, epoch = %session.epoch, "node registered");
            session.run(&mut requests).await
        };
        let end = tokio::select! {
            end = served => end,
            () = place.replaced.cancelled() => {
                Err(ApiError::new(Code::Aborted, "REPLACED", "a newer stream took over"))
            }
            () = answers.closed() => Ok(()),
            () = shutdown.requested() => Ok(()),
        };
        if let Err(error) = end {
            debug!(%node, %error, "a control stream ends");
            let _ = answers.try_send(Err(error.into()));
        }
    }

    /// Reads who registers, and refuses an agent that is not the one that is here.
    async fn introduced(
        &self,
        node: NodeId,
        requests: &mut (impl Stream<Item = Result<pb::ControlRequest, Status>> + Unpin),
    ) -> Result<pb::Register, ApiError> {
        self.leading()?;
        let first = tokio::time::timeout(Limits::CALL_TIMEOUT, requests.next()).await;
        let first = first.map_err(|_| errors::invalid("register", "it did not come in time"))?;
        let Some(Ok(pb::ControlRequest { kind: Some(control_request::Kind::Register(register)) })) =
            first
        else {
            return Err(errors::invalid("register", "it must be the first request"));
        };
        // first of all: an older copy of the cluster knows nothing of who acts as the node now
        if register.incarnation > self.incarnation() {
            let message = "the node has seen a newer incarnation of this cluster";
            return Err(ApiError::new(Code::FailedPrecondition, "OLD_INCARNATION", message).why(
                "this coordinator holds an older copy of the cluster, from before a restore",
            ));
        }
        self.alone(node, &register).await?;
        Ok(register)
    }

    fn incarnation(&self) -> u32 {
        self.consensus.local().cluster.map_or(0, |cluster| cluster.incarnation)
    }

    async fn register(
        self,
        (node, register): (NodeId, pb::Register),
        requests: &mut (impl Stream<Item = Result<pb::ControlRequest, Status>> + Unpin),
        answers: mpsc::Sender<Answer>,
    ) -> Result<Session, ApiError> {
        let term = self.leading()?;
        let known = self.incarnation();
        let behind = register.incarnation != 0 && register.incarnation < known;
        if behind && !register.tells_held {
            let message = "the node agent is too old to come back into a restored cluster";
            return Err(ApiError::new(Code::FailedPrecondition, "AGENT_TOO_OLD", message)
                .next("install the node agent of the coordinator's version; what runs runs on"));
        }
        let claims = identity::claims(&register)?;
        let facts = facts(register.facts)?;
        if !self.consensus.local().nodes.contains_key(&node) {
            // whoever has a certificate and was told something once joined after the backup
            let name = register.node_name.parse().ok().filter(|_| behind);
            let name = name.ok_or_else(|| errors::not_found("node", &node.to_string()))?;
            let adopt = AdoptNode { node, name, facts: facts.clone() };
            self.decide(Command::AdoptNode(adopt)).await?;
        }
        // held back rather than refused: an agent that restarts at once has done nothing wrong
        sleep_until(self.hub.pace.turn(node, Instant::now())).await;
        self.enter(EnterNode { node, facts, claims }).await?;
        let state = self.consensus.local();
        let epoch = state.nodes.get(&node).map(|node| node.epoch);
        let epoch = epoch.ok_or_else(|| errors::not_found("node", &node.to_string()))?;
        self.live.seen(node, epoch);
        let registered = pb::Registered {
            node_epoch: epoch.0,
            coordinators: coordinators(&state),
            term,
            tell_held: behind,
        };
        let mut session = Session {
            up: self,
            node,
            epoch,
            term,
            answers,
            told: None,
            round: None,
            waiting: None,
            facts: None,
            facts_due: Instant::now(),
        };
        session.answer(control_response::Kind::Registered(registered)).await;
        let awaited = state.recovery.is_some_and(|one| one.awaited.contains(&node));
        if behind {
            session.up.adopt((node, register.incarnation), requests).await?;
        } else if awaited {
            let none = AccountNode { node, revision: Revision(0), holds: Vec::new() };
            session.up.decide(Command::AccountNode(none)).await?;
        }
        Ok(session)
    }

    /// Proposes a command in the node's own name.
    pub(super) async fn propose(&self, node: NodeId, command: Command) -> Result<(), ApiError> {
        self.log(Principal::Node(node), command).await
    }

    /// Proposes a command in this coordinator's name.
    pub(super) async fn decide(&self, command: Command) -> Result<(), ApiError> {
        self.log(Principal::Coordinator(self.consensus.status().replica), command).await
    }

    async fn log(&self, principal: Principal, command: Command) -> Result<(), ApiError> {
        let envelope = Envelope {
            request: RequestId::new(Uuid::now_v7()),
            principal,
            at: clock::now(),
            if_revision: None,
            command,
        };
        match self.consensus.propose_leading(envelope).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => Err(errors::refusal(refusal)),
            Err(error) => Err(errors::propose(error, &self.consensus.local())),
        }
    }
}

impl Session {
    async fn run(
        &mut self,
        requests: &mut (impl Stream<Item = Result<pb::ControlRequest, Status>> + Unpin),
    ) -> Result<(), ApiError> {
        let mut document = self.up.consensus.document(self.node);
        let mut leadership = self.up.consensus.leadership();
        self.tell().await;
        loop {
            tokio::select! {
                changed = document.changed() => match changed {
                    Ok(()) => self.tell().await,
                    Err(_) => return Ok(()),
                },
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    if self.up.leading()? != self.term {
                        let message = "the term this stream was opened in is over";
                        return Err(ApiError::new(Code::Aborted, "TERM_OVER", message));
                    }
                }
                request = requests.next() => match request {
                    Some(Ok(request)) => self.take(request).await?,
                    Some(Err(_)) | None => return Ok(()),
                },
                () = sleep_until(self.facts_due), if self.facts.is_some() => self.take_facts(),
                (renewal, read) = finished(&mut self.round) => {
                    self.round = None;
                    self.confirm(renewal, read).await?;
                }
            }
        }
    }

    async fn take(&mut self, request: pb::ControlRequest) -> Result<(), ApiError> {
        match request.kind {
            Some(control_request::Kind::RenewLease(renewal)) => {
                self.up.live.seen(self.node, self.epoch);
                self.waiting = Some(renewal);
                self.next_round();
            }
            Some(control_request::Kind::AppliedRevision(revision)) => {
                debug!(node = %self.node, revision, "the document is applied");
            }
            Some(control_request::Kind::Facts(facts)) => {
                self.facts = Some(self::facts(Some(facts))?);
            }
            Some(control_request::Kind::Register(_)) => {
                return Err(errors::invalid("register", "it came before"));
            }
            Some(control_request::Kind::Held(_)) => {
                return Err(errors::invalid("held", "nobody asked for it"));
            }
            None => return Err(errors::invalid("kind", "is not set")),
        }
        Ok(())
    }

    /// Takes the newest facts into the live view; the planner proposes them.
    fn take_facts(&mut self) {
        if let Some(facts) = self.facts.take() {
            self.up.live.facts(self.node, self.epoch, facts);
            self.facts_due = Instant::now() + PAUSE;
        }
    }

    /// Sends the document where it says something new.
    async fn tell(&mut self) {
        let state = self.up.consensus.local();
        let spec = warren_model::node_spec(&state, self.node, self.term);
        let told = hash(&spec);
        if self.told == Some(told) {
            return;
        }
        self.told = Some(told);
        self.answer(control_response::Kind::Spec(spec.into())).await;
    }

    /// Begins to confirm the newest renewal, unless a round is on its way.
    fn next_round(&mut self) {
        if self.round.is_some() {
            return;
        }
        if let Some(renewal) = self.waiting.take() {
            let consensus = self.up.consensus.clone();
            self.round =
                Some(Box::pin(async move { (renewal, consensus.linearizable_leading().await) }));
        }
    }

    async fn confirm(
        &mut self,
        renewal: pb::RenewLease,
        read: Result<ClusterState, ReadError>,
    ) -> Result<(), ApiError> {
        match read {
            Ok(state) => {
                if state.nodes.get(&self.node).is_none_or(|node| node.epoch != self.epoch) {
                    let message = "a newer registration of the node took over";
                    return Err(ApiError::new(Code::Aborted, "REPLACED", message));
                }
                let pb::RenewLease { sequence, sent_monotonic_ms } = renewal;
                let confirmed = pb::LeaseConfirmed { sequence, sent_monotonic_ms };
                self.answer(control_response::Kind::LeaseConfirmed(confirmed)).await;
            }
            Err(ReadError::NotLeader { leader }) => {
                return Err(errors::not_leader(leader, &self.up.consensus.local()));
            }
            Err(
                error @ (ReadError::NoQuorum
                | ReadError::Busy
                | ReadError::Behind { .. }
                | ReadError::Stopped { .. }),
            ) => {
                debug!(node = %self.node, %error, "a lease is not confirmed");
            }
        }
        self.next_round();
        Ok(())
    }

    async fn answer(&mut self, kind: control_response::Kind) {
        // a closed stream is noticed where streams end
        let _ = self.answers.send(Ok(pb::ControlResponse { kind: Some(kind) })).await;
    }
}

async fn finished(round: &mut Option<Round>) -> (pb::RenewLease, Result<ClusterState, ReadError>) {
    match round {
        Some(round) => round.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Hashes what a document says, whatever its revision: two of them say the same where this is the
/// same, and a session need not keep the last one.
fn hash(spec: &NodeSpec) -> [u8; 32] {
    let NodeSpec { incarnation, term, revision: _, workspaces, recovering, allowed, secrets } =
        spec;
    let said = (incarnation, term, workspaces, recovering, allowed, secrets);
    let said = postcard::to_stdvec(&said).expect("its types are plain and memory is the bound");
    Sha256::digest(said).into()
}

fn facts(facts: Option<pb::NodeFacts>) -> Result<NodeFacts, InvalidMessage> {
    let facts: Result<NodeFacts, InvalidMessage> = required("facts", facts)?.try_into();
    facts.map_err(|error| error.within("facts"))
}

/// Returns the API addresses of every coordinator.
pub fn coordinators(state: &ClusterState) -> Vec<String> {
    state.replicas.values().map(|replica| replica.api_address.clone()).collect()
}
