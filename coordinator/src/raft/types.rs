//! The types openraft is told of, and how its messages are encoded.
//!
//! Everything that goes to disk or to another replica is one version byte and then postcard: a
//! reader meets an unknown version as an error, never as nonsense.

use std::{fmt, sync::Arc};

use openraft::{
    BasicNode, EntryPayload, OptionalSend, RaftTypeConfig, alias, impls::leader_id_adv::LeaderId,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use warren_model::{Applied, Envelope, Refusal};

use super::writes::Answer;

/// Warren's log: commands in, answers out. Written out, because the macro for it takes no responder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Reply;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Proposal, u64, BasicNode>;
    type Entry = openraft::Entry<LeaderId<u64, u64>, Self::Payload>;
    type AsyncRuntime = openraft_rt_tokio::TokioRuntime;
    type Responder<T>
        = Answer<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
pub(crate) type Entry = alias::EntryOf<TypeConfig>;
pub(crate) type Vote = alias::VoteOf<TypeConfig>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
/// A checkpoint as it travels: the content of its file, checked when it is installed.
pub(crate) type Snapshot = alias::SnapshotOf<TypeConfig, bytes::Bytes>;
pub(crate) type Raft = openraft::Raft<TypeConfig, super::machine::Machine>;

/// A command in the log; many read one, so it is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Proposal(pub(crate) Arc<Envelope>);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}", self.0.request)
    }
}

/// What applying one entry answers; none for the entries that carry no command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply(pub(crate) Option<Result<Applied, Refusal>>);

/// The encoding written today.
pub(crate) const VERSION: u8 = 1;

/// An encoding that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    /// The first byte is not a version known here.
    #[error("format {0} is not known here (newest {VERSION})")]
    Version(u8),
    /// There is nothing to decode.
    #[error("an empty message")]
    Empty,
    /// postcard refused.
    #[error("{0}")]
    Postcard(postcard::Error),
}

/// Returns the version byte and the value in postcard.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    postcard::to_extend(value, vec![VERSION]).map_err(CodecError::Postcard)
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&VERSION, payload)) => postcard::from_bytes(payload).map_err(CodecError::Postcard),
        Some((&version, _)) => Err(CodecError::Version(version)),
        None => Err(CodecError::Empty),
    }
}

impl CodecError {
    /// Wraps it for openraft's storage traits.
    pub(crate) fn into_io(self, what: &str) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{what}: {self}"))
    }
}
