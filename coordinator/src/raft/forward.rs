//! From a coordinator that does not lead to the one that does.
//!
//! Any coordinator takes any call. What it cannot decide alone it asks of the leader over the Raft
//! port: to write a command, or to name the point up to which its own log must be applied. The
//! caller's name travels inside the command, where the audit log finds it, and the serial of the
//! caller's certificate beside it, which the leader checks against its own, newest deny-list.

use std::{collections::BTreeMap, sync::Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use warren_common::ReplicaId;
use warren_model::{Applied, Envelope, Refusal};
use warren_proto::pb::raft::v1 as pb;

use super::{
    config::Connect,
    error::{ProposeError, ReadError},
    network::{self, Api, addressed},
    types::{CodecError, decode, encode},
};
use crate::sync::locked;

/// What the leader answers to a command. Variants are only ever added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Proposed {
    /// It is in the log at this index, and this is what applying it gave.
    Applied(u64, Result<Applied, Refusal>),
    /// It was asked of one who does not lead; nothing happened.
    NotLeader(Option<u64>),
    /// It may take effect or not.
    Unknown,
    /// The caller's certificate is on the deny-list; nothing happened.
    Revoked,
    /// The replica has stopped, and the command's fate is unknown.
    Stopped(String),
}

/// What the leader answers to a read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Index {
    /// Everything acknowledged before is at or before this index; none where the log is empty.
    At(Option<u64>),
    /// It was asked of one who does not lead.
    NotLeader(Option<u64>),
    /// No majority confirmed it in time.
    NoQuorum,
    /// Too many reads wait there.
    Busy,
    /// The replica has stopped.
    Stopped(String),
}

/// The leader did not answer, or not in a way that can be read.
#[derive(Debug)]
pub(super) struct Lost(pub(super) String);

/// A leader to ask: who it is and where its Raft listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) replica: ReplicaId,
    pub(super) address: String,
}

/// Keeps a connection to each replica that was asked.
pub(super) struct Forwarder {
    connect: Connect,
    open: Mutex<BTreeMap<ReplicaId, (String, Api)>>,
}

impl Forwarder {
    pub(super) fn new(connect: Connect) -> Self {
        Self { connect, open: Mutex::default() }
    }

    /// Hands a command to the leader. Where it is lost, the command may have taken effect.
    pub(super) async fn propose(
        &self,
        leader: &Leader,
        (envelope, serial): (&Envelope, &[u8]),
        deadline: Instant,
    ) -> Result<Proposed, Lost> {
        let payload = Bytes::from(encode(envelope).map_err(unreadable)?);
        let message = pb::ProposeRequest { payload, serial: Bytes::copy_from_slice(serial) };
        let mut api = self.api(leader)?;
        let request = addressed(leader.replica, message);
        let answer = self.within(leader, deadline, async { api.propose(request).await }).await?;
        decode(&answer.into_inner().payload).map_err(unreadable)
    }

    /// Asks the leader how far this replica must be for a read.
    pub(super) async fn read_index(
        &self,
        leader: &Leader,
        deadline: Instant,
    ) -> Result<Index, Lost> {
        let mut api = self.api(leader)?;
        let request = addressed(leader.replica, pb::ReadIndexRequest {});
        let answer = self.within(leader, deadline, async { api.read_index(request).await }).await?;
        decode(&answer.into_inner().payload).map_err(unreadable)
    }

    /// Waits for the answer to a call, and no longer than until `succeeded`: then another one leads,
    /// and the silent one may be waited for in vain.
    pub(super) async fn unless<T>(
        &self,
        succeeded: impl Future<Output = ()>,
        leader: &Leader,
        call: impl Future<Output = Result<T, Lost>>,
    ) -> Result<T, Lost> {
        tokio::select! {
            biased;
            answer = call => answer,
            () = succeeded => {
                locked(&self.open).remove(&leader.replica);
                Err(Lost("another one leads by now".to_owned()))
            }
        }
    }

    fn api(&self, leader: &Leader) -> Result<Api, Lost> {
        let mut open = locked(&self.open);
        if let Some((address, api)) = open.get(&leader.replica)
            && *address == leader.address
        {
            return Ok(api.clone());
        }
        let channel = (self.connect)(leader.replica, &leader.address).map_err(Lost)?;
        let api = network::api(channel);
        open.insert(leader.replica, (leader.address.clone(), api.clone()));
        Ok(api)
    }

    /// Waits for an answer. A connection that gave none is not used again: it may have died
    /// without a word.
    async fn within<T>(
        &self,
        leader: &Leader,
        deadline: Instant,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Lost> {
        let lost = match timeout_at(deadline, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => Lost(status.message().to_owned()),
            Err(_) => Lost("it did not answer in time".to_owned()),
        };
        locked(&self.open).remove(&leader.replica);
        Err(lost)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn unreadable(error: CodecError) -> Lost {
    Lost(error.to_string())
}

impl Proposed {
    /// Returns what the leader's own attempt gave, as it is told to others.
    pub(super) fn from_attempt(
        attempt: Result<(u64, Result<Applied, Refusal>), ProposeError>,
    ) -> Self {
        match attempt {
            Ok((index, answer)) => Self::Applied(index, answer),
            Err(ProposeError::NotLeader { leader }) => Self::NotLeader(leader.map(|id| id.0)),
            Err(ProposeError::Unknown) => Self::Unknown,
            Err(ProposeError::Revoked) => Self::Revoked,
            Err(error @ ProposeError::TooLarge { .. }) => Self::Stopped(error.to_string()),
            Err(ProposeError::Stopped { reason }) => Self::Stopped(reason),
        }
    }
}

impl Index {
    /// Returns what the leader's own round gave, as it is told to others.
    pub(super) fn from_round(round: Result<Option<u64>, ReadError>) -> Self {
        match round {
            Ok(index) => Self::At(index),
            Err(ReadError::NotLeader { leader }) => Self::NotLeader(leader.map(|id| id.0)),
            Err(ReadError::NoQuorum) => Self::NoQuorum,
            Err(ReadError::Busy) => Self::Busy,
            Err(error @ ReadError::Behind { .. }) => Self::Stopped(error.to_string()),
            Err(ReadError::Stopped { reason }) => Self::Stopped(reason),
        }
    }
}
