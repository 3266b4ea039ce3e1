//! How a replica speaks to the others: openraft's messages over `warren.raft.v1`.
//!
//! Every call has a deadline that covers connecting. After a call that timed out the channel is
//! thrown away: a connection that died without a word must not be tried for ever. Nothing here may
//! panic, because a panic ends the replication to that peer until the next election.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use openraft::{
    BasicNode, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2,
    base::{BoxFuture, BoxStream},
    error::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, stream_append_sequential},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request, Status, metadata::MetadataValue, transport::Channel};
use warren_common::{Limits, ReplicaId};
use warren_proto::pb::raft::v1::{self as pb, raft_service_client::RaftServiceClient};

use super::{
    config::{Connect, Tuning},
    contact::Contacts,
    line::{self, Line},
    thin::thinned,
    types::{CodecError, Snapshot, TypeConfig, Vote, decode, encode},
    writes::Turns,
};

/// Request metadata: which replica the message is for, because an address may have moved.
pub(super) const TO: &str = "warren-to";

/// The other side of one replica.
pub(super) type Api = RaftServiceClient<Channel>;
type Result<T> = std::result::Result<T, RPCError<TypeConfig>>;

/// Makes one [`Peer`] per purpose and replica.
pub(crate) struct Network {
    pub(crate) replica: ReplicaId,
    pub(crate) connect: Connect,
    pub(crate) tuning: Tuning,
    pub(super) contacts: Arc<Contacts>,
    /// Whether further entries are on their way.
    pub(super) turns: Turns,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        Peer {
            replica: self.replica,
            target: ReplicaId(target),
            address: node.addr.clone(),
            connect: self.connect.clone(),
            tuning: self.tuning.clone(),
            contacts: self.contacts.clone(),
            turns: self.turns.clone(),
            api: None,
            line: None,
        }
    }
}

/// One replica as another one reaches it.
pub(crate) struct Peer {
    replica: ReplicaId,
    target: ReplicaId,
    address: String,
    connect: Connect,
    tuning: Tuning,
    contacts: Arc<Contacts>,
    turns: Turns,
    api: Option<Api>,
    /// Open, and with no answer outstanding.
    line: Option<Line>,
}

impl Peer {
    fn api(&mut self) -> Result<Api> {
        if let Some(api) = &self.api {
            return Ok(api.clone());
        }
        let channel = (self.connect)(self.target, &self.address).map_err(unreachable)?;
        let api = api(channel);
        self.api = Some(api.clone());
        Ok(api)
    }

    /// Returns the time of one call. A long message on a slow network gets a millisecond more per
    /// KiB.
    fn deadline(&self, payload: &Bytes) -> Duration {
        let extra = Duration::from_millis(payload.len() as u64 / 1024);
        self.tuning.rpc_timeout.saturating_add(extra)
    }

    /// Sends one message and reads the answer, within the time of one call.
    async fn ask<Q: Serialize, A: DeserializeOwned, F>(
        &mut self,
        action: RPCTypes,
        message: &Q,
        send: impl FnOnce(Api, Bytes) -> F,
    ) -> Result<A>
    where
        F: Future<Output = std::result::Result<Bytes, Status>> + Send,
    {
        let payload = encoded(message)?;
        let deadline = self.deadline(&payload);
        let call = send(self.api()?, payload);
        decoded(&self.within(action, deadline, call).await?)
    }

    /// Waits for an answer, at most `deadline`.
    async fn within<T>(
        &mut self,
        action: RPCTypes,
        deadline: Duration,
        call: impl Future<Output = std::result::Result<T, Status>> + Send,
    ) -> Result<T> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(answer)) => {
                self.contacts.heard(self.target);
                Ok(answer)
            }
            Ok(Err(status)) => Err(unreachable(status.to_string())),
            Err(_) => {
                self.api = None;
                let (id, target) = (self.replica.0, self.target.0);
                Err(RPCError::Timeout(Timeout { action, id, target, timeout: deadline }))
            }
        }
    }
}

/// Returns the service on a channel, with Raft's message limits.
pub(super) fn api(channel: Channel) -> Api {
    Api::new(channel)
        .max_decoding_message_size(Limits::RAFT_MESSAGE_BYTES)
        .max_encoding_message_size(Limits::RAFT_MESSAGE_BYTES)
}

/// Returns a message that names its addressee.
pub(super) fn addressed<T>(target: ReplicaId, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(TO, MetadataValue::from(target.0));
    request
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>> {
        let payload = encoded(&rpc)?;
        let deadline = self.deadline(&payload);
        // a call that fails or is dropped takes its line with it
        let (line, api, to) = (self.line.take(), self.api()?, self.target);
        let call = line::append(line, api, to, payload);
        let (line, answer) = self.within(RPCTypes::AppendEntries, deadline, call).await?;
        self.line = line;
        decoded(&answer)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let input = thinned(input, self.turns.clone());
        stream_append_sequential(self, input, option)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>> {
        let to = self.target;
        self.ask(RPCTypes::Vote, &rpc, |mut api, payload| async move {
            let request = addressed(to, pb::VoteRequest { payload });
            Ok(api.vote(request).await?.into_inner().payload)
        })
        .await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>> {
        let to = self.target;
        self.ask(RPCTypes::Vote, &rpc, |mut api, payload| async move {
            let request = addressed(to, pb::PreVoteRequest { payload });
            Ok(api.pre_vote(request).await?.into_inner().payload)
        })
        .await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>> {
        let to = self.target;
        self.ask(RPCTypes::TransferLeader, &rpc, |mut api, payload| async move {
            let request = addressed(to, pb::TransferLeaderRequest { payload });
            Ok(api.transfer_leader(request).await?.into_inner().payload)
        })
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> std::result::Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let header = encoded(&(vote, &snapshot.meta))?;
        let mut api = self.api()?;
        let request = addressed(self.target, stream::iter(pieces(header, snapshot.snapshot)));
        let call = async move { api.install_checkpoint(request).await };
        let deadline = self.tuning.checkpoint_timeout;
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = self.within(RPCTypes::InstallSnapshot, deadline, call) => {
                Ok(decoded(&answer?.into_inner().payload)?)
            }
        }
    }
}

/// Returns a checkpoint as it is sent: the header with the first piece, then the rest.
fn pieces(header: Bytes, content: Bytes) -> impl Iterator<Item = pb::InstallCheckpointRequest> {
    let mut header = Some(header);
    let mut rest = Some(content);
    std::iter::from_fn(move || {
        let mut chunk = rest.take()?;
        if chunk.len() > Limits::CHECKPOINT_CHUNK_BYTES {
            rest = Some(chunk.split_off(Limits::CHECKPOINT_CHUNK_BYTES));
        }
        Some(pb::InstallCheckpointRequest { header: header.take().unwrap_or_default(), chunk })
    })
}

fn encoded<T: Serialize>(message: &T) -> Result<Bytes> {
    encode(message).map(Bytes::from).map_err(|error: CodecError| unreachable(error.to_string()))
}

fn decoded<T: DeserializeOwned>(payload: &[u8]) -> Result<T> {
    decode(payload).map_err(|error| unreachable(error.to_string()))
}

/// Every failure counts as "not reachable now": openraft then waits before it tries again.
fn unreachable(reason: String) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_cut_and_its_header_comes_first() {
        let content = Bytes::from(vec![7; Limits::CHECKPOINT_CHUNK_BYTES * 2 + 1]);
        let sent: Vec<_> = pieces(Bytes::from_static(b"h"), content.clone()).collect();
        let lengths: Vec<_> = sent.iter().map(|piece| piece.chunk.len()).collect();
        let chunk = Limits::CHECKPOINT_CHUNK_BYTES;
        assert_eq!(lengths, [chunk, chunk, 1]);
        assert_eq!(sent[0].header, "h");
        assert!(sent[1..].iter().all(|piece| piece.header.is_empty()));
        let empty: Vec<_> = pieces(Bytes::from_static(b"h"), Bytes::new()).collect();
        assert_eq!(empty.len(), 1, "an empty checkpoint still has its header");
    }
}
