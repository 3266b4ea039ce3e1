//! The coordinator's side of a backup: what goes into the file, and how it comes out again.
//!
//! What leaves this process is sealed; the keys of the authorities are never on a disk in clear
//! outside the keystore. Making a cluster from a backup is [`crate::bootstrap`]'s.

mod make;

use std::io::Read;

use bytes::Bytes;
use warren_common::{ClusterId, ReplicaId};
use warren_daemon::backup::{self, BackupError, BackupKey, Content, Header};
use warren_model::ClusterState;

use crate::{keystore::KeystoreError, raft, store::StoreError};

pub use make::{Order, check, gather, seal_into};

/// Why a backup cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file.
    #[error(transparent)]
    File(#[from] BackupError),
    /// The keystore.
    #[error("reading the keystore")]
    Keystore(#[source] KeystoreError),
    /// The state is too large.
    #[error("encoding the state")]
    State(#[source] StoreError),
    /// The state in the file cannot be used here.
    #[error("the state in the backup {0}")]
    Content(String),
    /// The keystore has not the newest value of this secret.
    #[error("the keystore lacks the newest value of the secret {0}")]
    Lacks(String),
    /// Nobody takes the file any more.
    #[error("the caller went away")]
    Gone,
}

/// A backup that was opened and whose state can be used here.
pub struct Opened {
    /// What it says of itself.
    pub header: Header,
    /// The keystore, by name.
    pub content: Content,
    /// The state.
    pub state: ClusterState,
}

impl Opened {
    /// Opens a backup whole. Blocks.
    ///
    /// # Errors
    /// It is damaged, sealed with another key, or of a newer version.
    pub fn read(source: &mut impl Read, key: BackupKey) -> Result<Self, CopyError> {
        let (header, mut content) = backup::open(source, |_| Ok(key))?;
        let encoded = Bytes::from(std::mem::take(&mut content.state));
        let state = raft::decode_state(&encoded).map_err(CopyError::Content)?;
        let same = state.cluster.as_ref().is_some_and(|cluster| {
            cluster.id == header.cluster && cluster.incarnation == header.incarnation
        });
        if !same {
            let why = "is of another cluster than its header says".to_owned();
            return Err(CopyError::Content(why));
        }
        Ok(Self { header, content, state })
    }

    /// Returns an id that no coordinator of the cluster ever had.
    pub fn next_replica(&self) -> ReplicaId {
        ReplicaId(self.header.last_replica.max(last_replica(&self.state)).saturating_add(1))
    }

    /// Returns the cluster it is of.
    pub fn cluster(&self) -> ClusterId {
        self.header.cluster
    }
}

/// Returns the highest id a coordinator has in the state; ids are never given twice.
pub fn last_replica(state: &ClusterState) -> u64 {
    state.highest_replica().0.max(1)
}
