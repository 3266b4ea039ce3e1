//! The other side of `network`: takes the messages of other replicas and hands them to openraft.
//!
//! That its caller is a coordinator of this cluster is the Raft listener's business: TLS saw to it,
//! and `authz` named it. Here is checked that the message is the caller's own, for this replica,
//! readable, and of bounded size.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use openraft::{
    raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest},
    vote::RaftLeaderId as _,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;
use warren_common::{Limits, ReplicaId};
use warren_model::Envelope;
use warren_proto::pb::raft::v1::{
    self as pb,
    raft_service_server::{RaftService, RaftServiceServer},
};

use super::{
    checkpoint::Checkpoints,
    consensus::{Consensus, Inner},
    forward::{Index, Proposed},
    network::TO,
    types::{Raft, Snapshot, SnapshotMeta, TypeConfig, Vote, decode, encode},
};
use crate::authz::Caller;

/// The service that the Raft listener mounts.
#[derive(Clone)]
pub struct RaftRpc {
    consensus: Consensus,
    /// Open streams end with it.
    stop: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl RaftRpc {
    pub(super) fn new(consensus: Consensus, stop: CancellationToken) -> Self {
        Self { consensus, stop }
    }

    fn raft(&self) -> &Raft {
        &self.consensus.inner.raft
    }

    /// Returns the gRPC service with Raft's message limits.
    pub fn into_service(self) -> RaftServiceServer<Self> {
        RaftServiceServer::new(self)
            .max_decoding_message_size(Limits::RAFT_MESSAGE_BYTES)
            .max_encoding_message_size(Limits::RAFT_MESSAGE_BYTES)
    }

    /// Refuses a message that was meant for another replica; returns whose certificate it came with.
    fn check_target<T>(&self, request: &Request<T>) -> Result<ReplicaId, Status> {
        let caller = Caller::of(request)?.coordinator();
        let no_coordinator = || Status::permission_denied("the caller is no coordinator");
        let caller = caller.ok_or_else(no_coordinator)?;
        let to = request.metadata().get(TO).and_then(|to| to.to_str().ok()?.parse().ok());
        let own = self.consensus.inner.replica;
        match to.map(ReplicaId) {
            Some(to) if to == own => Ok(caller),
            Some(to) => {
                Err(Status::failed_precondition(format!("this is replica {own}, not {to}")))
            }
            None => Err(Status::invalid_argument("the message names no replica")),
        }
    }

    /// Refuses a vote that another replica than the caller gave, asks for or leads by: no
    /// certificate speaks for two.
    fn check_sender(caller: ReplicaId, vote: &Vote) -> Result<(), Status> {
        let named = vote.leader_id().to_committed().node_id;
        match named == caller.0 {
            true => Ok(()),
            false => {
                tracing::warn!(%caller, named, "a coordinator speaks for another");
                let why = format!("coordinator {caller} may not speak for {named}");
                Err(Status::permission_denied(why))
            }
        }
    }

    /// Takes a leader's message, entries or not, and returns the answer to it.
    async fn append(&self, caller: ReplicaId, payload: &[u8]) -> Result<Bytes, Status> {
        let arrived = std::time::Instant::now();
        let rpc: AppendEntriesRequest<TypeConfig> = read(payload)?;
        Self::check_sender(caller, &rpc.vote)?;
        let committed = rpc.leader_commit.as_ref().map(|id| id.index);
        let answer = self.raft().append_entries(rpc).await.map_err(stopped)?;
        if let AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) = answer {
            let Inner { contacts, view, .. } = &*self.consensus.inner;
            contacts.heard(caller);
            contacts.told(arrived, committed, view.applied());
        }
        written(&answer)
    }

    async fn receive(
        &self,
        mut pieces: Streaming<pb::InstallCheckpointRequest>,
    ) -> Result<(Vote, Snapshot), Status> {
        let mut content = BytesMut::new();
        let mut header: Option<(Vote, SnapshotMeta)> = None;
        while let Some(piece) = pieces.message().await? {
            if header.is_none() {
                header = Some(read(&piece.header)?);
            }
            if content.len() + piece.chunk.len() > Limits::CHECKPOINT_BYTES {
                let limit = Limits::CHECKPOINT_BYTES;
                return Err(Status::out_of_range(format!("a checkpoint over {limit} bytes")));
            }
            content.extend_from_slice(&piece.chunk);
        }
        let (vote, meta) = header.ok_or_else(|| Status::invalid_argument("an empty checkpoint"))?;
        let snapshot = content.freeze();
        // Checked here, where a bad one costs one call: while installing it would cost the replica.
        let copy = snapshot.clone();
        let checked = tokio::task::spawn_blocking(move || Checkpoints::decode(&copy)).await;
        match checked.map_err(|error| Status::internal(error.to_string()))? {
            Ok(loaded) if loaded.meta == meta => Ok((vote, Snapshot { meta, snapshot })),
            Ok(_) => Err(Status::data_loss("the checkpoint is not the one announced")),
            Err(reason) => Err(Status::data_loss(format!("the checkpoint {reason}"))),
        }
    }
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Status> {
    decode(payload).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn written<T: Serialize>(message: &T) -> Result<Bytes, Status> {
    encode(message).map(Into::into).map_err(|error| Status::internal(error.to_string()))
}

/// The replica has stopped; its caller tries again later or elsewhere.
fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl RaftService for RaftRpc {
    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Answer<pb::AppendEntriesResponse> {
        let caller = self.check_target(&request)?;
        let payload = self.append(caller, &request.into_inner().payload).await?;
        Ok(Response::new(pb::AppendEntriesResponse { payload }))
    }

    type AppendStreamStream = BoxStream<'static, Result<pb::AppendStreamResponse, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<pb::AppendStreamRequest>>,
    ) -> Answer<Self::AppendStreamStream> {
        let caller = self.check_target(&request)?;
        let state = (self.clone(), request.into_inner());
        let answers = stream::try_unfold(state, move |(rpc, mut messages)| async move {
            let message = tokio::select! {
                message = messages.message() => message?,
                () = rpc.stop.cancelled() => None,
            };
            let Some(message) = message else { return Ok(None) };
            let payload = rpc.append(caller, &message.payload).await?;
            Ok(Some((pb::AppendStreamResponse { payload }, (rpc, messages))))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        let caller = self.check_target(&request)?;
        let rpc: VoteRequest<TypeConfig> = read(&request.into_inner().payload)?;
        Self::check_sender(caller, &rpc.vote)?;
        let answer = self.raft().vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(pb::VoteResponse { payload: written(&answer)? }))
    }

    async fn pre_vote(&self, request: Request<pb::PreVoteRequest>) -> Answer<pb::PreVoteResponse> {
        let caller = self.check_target(&request)?;
        let rpc: VoteRequest<TypeConfig> = read(&request.into_inner().payload)?;
        Self::check_sender(caller, &rpc.vote)?;
        let answer = self.raft().pre_vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(pb::PreVoteResponse { payload: written(&answer)? }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Answer<pb::TransferLeaderResponse> {
        let caller = self.check_target(&request)?;
        let rpc: TransferLeaderRequest<TypeConfig> = read(&request.into_inner().payload)?;
        Self::check_sender(caller, rpc.from_leader())?;
        let answer = self.raft().handle_transfer_leader(rpc).await.map_err(stopped)?;
        Ok(Response::new(pb::TransferLeaderResponse { payload: written(&answer)? }))
    }

    async fn install_checkpoint(
        &self,
        request: Request<Streaming<pb::InstallCheckpointRequest>>,
    ) -> Answer<pb::InstallCheckpointResponse> {
        let caller = self.check_target(&request)?;
        let receiving = self.receive(request.into_inner());
        let received = tokio::time::timeout(Limits::CHECKPOINT_TIMEOUT, receiving).await;
        let (vote, snapshot) =
            received.map_err(|_| Status::deadline_exceeded("the checkpoint took too long"))??;
        Self::check_sender(caller, &vote)?;
        let answer = self.raft().install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(Response::new(pb::InstallCheckpointResponse { payload: written(&answer)? }))
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Answer<pb::ProposeResponse> {
        self.check_target(&request)?;
        let pb::ProposeRequest { payload, serial } = request.into_inner();
        let envelope: Envelope = read(&payload)?;
        let deadline = Instant::now() + self.consensus.inner.tuning.write_timeout;
        let span = tracing::info_span!("forwarded", request = %envelope.request);
        let attempt = self.consensus.write_here((&envelope, &serial), deadline);
        let attempt = attempt.instrument(span).await;
        let payload = written(&Proposed::from_attempt(attempt))?;
        Ok(Response::new(pb::ProposeResponse { payload }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Answer<pb::ReadIndexResponse> {
        self.check_target(&request)?;
        let round = self.consensus.inner.leading.read_at().await;
        let index = Index::from_round(round.map(|point| point.index));
        Ok(Response::new(pb::ReadIndexResponse { payload: written(&index)? }))
    }
}
