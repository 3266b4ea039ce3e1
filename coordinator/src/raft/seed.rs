//! Seeding: a folder without a log becomes one whose replica starts from a given state, alone.
//!
//! Written is what openraft would have left after a checkpoint and a purge: the state as a
//! checkpoint, its position as the purged and committed one, a vote, and whose log it is. Every
//! step can be repeated after a crash: the slots come last and in one flush, and until the replica
//! id stands among them the folder counts as empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use bytes::Bytes;
use openraft::{BasicNode, Membership, impls::leader_id_adv::LeaderId};
use warren_common::ReplicaId;
use warren_model::ClusterState;

use super::{
    checkpoint::Checkpoints,
    error::OpenError,
    open,
    types::{CodecError, LogId, SnapshotMeta, StoredMembership, Vote, encode},
};
use crate::store::{Engine, Slot, StoreError};

/// What a replica starts from.
pub struct Seed {
    /// The folder of the replica, as [`super::Options::folder`].
    pub folder: PathBuf,
    /// Which database is to keep the log.
    pub engine: Engine,
    /// Its id, which never was before.
    pub replica: ReplicaId,
    /// host:port of its Raft listener.
    pub address: String,
    /// Higher than every term of the log that the state comes from.
    pub term: u64,
    /// The position of the state: not below the one it had.
    pub index: u64,
    /// The state.
    pub state: ClusterState,
}

/// Why a folder cannot be seeded.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Another replica's log stands there.
    #[error("{} holds the log of another replica", .0.display())]
    Taken(PathBuf),
    /// The disk.
    #[error("writing the first checkpoint and log")]
    Store(#[source] StoreError),
    /// The log or the checkpoints cannot be opened.
    #[error("opening the folder to be seeded")]
    Open(#[source] OpenError),
    /// A value cannot be encoded, which no value of ours is.
    #[error("encoding: {0}")]
    Encode(String),
}

/// Makes the folder ready to be opened; does nothing where it was seeded for this replica before.
/// Blocks.
///
/// # Errors
/// The folder holds another replica's log, or the disk failed.
pub fn seed(seed: &Seed) -> Result<(), SeedError> {
    let store = open::store(&seed.folder, seed.engine).map_err(SeedError::Open)?;
    let outcome = write(seed, store.as_ref());
    let closed = store.close().map_err(SeedError::Store);
    outcome.and(closed)
}

fn write(seed: &Seed, store: &dyn crate::store::LogStore) -> Result<(), SeedError> {
    let own = seed.replica.0.to_be_bytes();
    match store.get(Slot::Replica).map_err(SeedError::Store)? {
        Some(found) if found[..] == own => return Ok(()),
        Some(_) => return Err(SeedError::Taken(seed.folder.join("log"))),
        None => {}
    }
    if store.bounds().map_err(SeedError::Store)?.is_some() {
        return Err(SeedError::Taken(seed.folder.join("log")));
    }
    let leader = LeaderId { term: seed.term, node_id: seed.replica.0 };
    let position = LogId::new(leader, seed.index);
    let nodes = BTreeMap::from([(seed.replica.0, BasicNode::new(seed.address.clone()))]);
    let members = Membership::new(vec![BTreeSet::from([seed.replica.0])], nodes);
    let members = members.map_err(|error| SeedError::Encode(error.to_string()))?;
    let meta = SnapshotMeta {
        last_log_id: Some(position),
        last_membership: StoredMembership::new(Some(position), members),
    };
    let content = Checkpoints::encode(&meta, &seed.state).map_err(SeedError::Store)?;
    // opened afresh, as with an empty log: nothing there may be newer than what is written now
    let folder = seed.folder.join("checkpoints");
    let (checkpoints, _) = Checkpoints::open(&folder, None).map_err(SeedError::Open)?;
    checkpoints.write(&meta, &content).map_err(SeedError::Store)?;
    let vote = Vote::new(seed.term, seed.replica.0);
    let encoded = |value: Result<Vec<u8>, CodecError>| {
        value.map_err(|error| SeedError::Encode(error.to_string()))
    };
    let slots = [
        (Slot::Purged, encoded(encode(&position))?),
        (Slot::Vote, encoded(encode(&vote))?),
        (Slot::Committed, encoded(encode(&position))?),
        (Slot::Replica, own.to_vec()),
    ];
    for (slot, value) in slots {
        store.put(slot, &value).map_err(SeedError::Store)?;
    }
    store.sync().map_err(SeedError::Store)
}

/// Encodes a state as a checkpoint without a position: versioned and with a checksum.
///
/// # Errors
/// It is larger than a checkpoint may be.
pub fn encode_state(state: &ClusterState) -> Result<Bytes, StoreError> {
    Checkpoints::encode(&SnapshotMeta::default(), state)
}

/// Reads what [`encode_state`] of this or an earlier version wrote; the error says what is wrong.
///
/// # Errors
/// It is damaged or of a newer version.
pub fn decode_state(content: &Bytes) -> Result<ClusterState, String> {
    let decoded = Checkpoints::decode(content).map_err(|error| error.to_string());
    decoded.map(|loaded| loaded.state)
}
