//! Making a backup: state and keystore, sealed piece by piece.

use bytes::Bytes;
use warren_common::{Limits, Timestamp};
use warren_daemon::backup::{BackupError, BackupKey, Content, Header, Kdf, Manifest, Sealer};
use warren_model::{ClusterState, command::Availability};

use super::{CopyError, last_replica};
use crate::{
    keystore::Keystore,
    raft::{Status, encode_state},
};

/// What to back up, and how to seal it.
pub struct Order {
    /// The state, as of the call.
    pub state: ClusterState,
    /// Where the log stands.
    pub status: Status,
    /// The secrets.
    pub keystore: Keystore,
    /// The key the file is sealed with.
    pub key: BackupKey,
    /// How the person made it.
    pub kdf: Kdf,
    /// The present.
    pub taken: Timestamp,
}

/// Hands the file out in pieces of at most [`Limits::CHECKPOINT_CHUNK_BYTES`]. Blocks.
///
/// # Errors
/// The keystore cannot be read, the state is too large, or `sink` says that nobody listens.
pub fn seal_into(
    order: Order,
    mut sink: impl FnMut(Bytes) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let Order { state, status, keystore, key, kdf, taken } = order;
    let cluster = state.cluster.as_ref();
    let cluster = cluster.ok_or_else(|| CopyError::Content("holds no cluster".to_owned()))?;
    kdf.check()?;
    let header = Header {
        cluster: cluster.id,
        name: cluster.name.clone(),
        incarnation: cluster.incarnation,
        revision: state.revision.0,
        term: status.term,
        index: status.applied.or(status.committed).unwrap_or_default().max(state.revision.0),
        last_replica: last_replica(&state)
            .max(status.members.iter().map(|member| member.replica.0).max().unwrap_or_default()),
        taken,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kdf,
        nonce: String::new(),
        key_check: String::new(),
    };
    let content = content(&state, &keystore)?;
    let (mut piece, mut sealer) = Sealer::begin(header, &key)?;
    let mut sunk = Ok(());
    let encoded = content.encode(|plain| {
        for plain in plain.chunks(Limits::CHECKPOINT_CHUNK_BYTES / 2) {
            piece.extend(sealer.push(plain)?);
            if piece.len() >= Limits::CHECKPOINT_CHUNK_BYTES / 2 && sunk.is_ok() {
                sunk = sink(std::mem::take(&mut piece).into());
            }
            if sunk.is_err() {
                return Err(BackupError::Seal);
            }
        }
        Ok(())
    });
    sunk?;
    encoded?;
    piece.extend(sealer.finish()?);
    sink(piece.into())
}

fn content(state: &ClusterState, keystore: &Keystore) -> Result<Content, CopyError> {
    let mut content = Content {
        manifest: Manifest {
            clients: state.clients.len() as u64,
            nodes: state
                .nodes
                .values()
                .filter(|node| node.availability != Availability::Retired)
                .count() as u64,
            workspaces: state.workspaces.len() as u64,
            audit_sequence: state.audit.sequence,
            audit_hash: state.audit.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        },
        state: encode_state(state).map_err(CopyError::State)?.to_vec(),
        ..Content::default()
    };
    for name in keystore.names().map_err(CopyError::Keystore)? {
        if let Some(secret) = keystore.get(&name).map_err(CopyError::Keystore)? {
            content.secrets.insert(name, secret);
        }
    }
    Ok(content)
}
