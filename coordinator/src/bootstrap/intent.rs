//! The intent: who this coordinator is and which cluster it belongs to, written before it has a log
//! and read at each start. Where it joins, its certificate is there before.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use warren_common::{ClusterId, ReplicaId};
use warren_daemon::files::{self, FileError};

const FILE: &str = "cluster.json";

/// Who this coordinator is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The cluster.
    pub cluster: ClusterId,
    /// The operator's name for it.
    pub name: String,
    /// Unix seconds at init: upper half of every generation.
    pub incarnation: u32,
    /// This coordinator.
    pub replica: ReplicaId,
    /// host:port of the API as `init` was told; the configuration outweighs it.
    pub api_address: Option<String>,
    /// host:port of the Raft listener as `join` was told or found; the configuration outweighs it.
    #[serde(default)]
    pub raft_address: Option<String>,
    /// Its log was made. Where it is gone since, so are the votes in it, and this coordinator must
    /// not come back under its id.
    #[serde(default)]
    pub opened: bool,
    /// It joined and has no vote yet.
    #[serde(default)]
    pub joining: bool,
    /// It was removed from the cluster.
    #[serde(default)]
    pub removed: bool,
    /// Raft listeners of the others, as last known, by id.
    #[serde(default)]
    pub peers: BTreeMap<ReplicaId, String>,
    /// Where the cluster goes on from a backup or from one survivor: what is to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<Begin>,
}

/// The incarnation that a restored coordinator begins, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// Why, for people and the audit log.
    pub reason: String,
    /// Which backup it comes from; none where it goes on from a survivor's log.
    pub backup: Option<String>,
}

/// Why the intent cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    /// The file cannot be read or written.
    #[error("the cluster's record cannot be kept")]
    File(#[source] FileError),
    /// The file is not what was written.
    #[error("{FILE} in the state folder is damaged: {0}")]
    Damaged(String),
}

impl Intent {
    /// Returns the intent of a coordinator of which nothing was made yet.
    pub fn new(
        cluster: ClusterId,
        (name, incarnation): (impl Into<String>, u32),
        replica: ReplicaId,
    ) -> Self {
        Self {
            cluster,
            name: name.into(),
            incarnation,
            replica,
            api_address: None,
            raft_address: None,
            opened: false,
            joining: false,
            removed: false,
            peers: BTreeMap::new(),
            begin: None,
        }
    }

    /// Reads it; none where no cluster was begun.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, IntentError> {
        let text = files::read_optional(&state_dir.join(FILE)).map_err(IntentError::File)?;
        let Some(text) = text else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|why| IntentError::Damaged(why.to_string()))
    }

    /// Writes it; it is durable on return.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, state_dir: &Path) -> Result<(), IntentError> {
        let text = serde_json::to_vec_pretty(self);
        let text = text.map_err(|why| IntentError::Damaged(why.to_string()))?;
        files::write_atomic(&state_dir.join(FILE), &text, 0o600).map_err(IntentError::File)
    }
}

/// Whether the log of a coordinator that had one is gone.
pub(super) fn log_is_gone(state_dir: &Path) -> bool {
    let listed = std::fs::read_dir(state_dir.join("log"));
    listed.map_or(true, |mut files| files.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_and_a_damaged_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Intent::load(folder.path()).expect("readable").is_none());
        let cluster = ClusterId::new(uuid::Uuid::from_u128(7));
        let peers = [(ReplicaId(2), "10.0.0.2:7401".to_owned())].into();
        let intent = Intent { peers, ..Intent::new(cluster, ("home", 5), ReplicaId(1)) };
        intent.store(folder.path()).expect("written");
        assert_eq!(Intent::load(folder.path()).expect("readable"), Some(intent));
        let old = r#"{"cluster":"0199a0b2-7f00-7000-8000-000000000001","name":"home",
            "incarnation":5,"replica":1,"api_address":null}"#;
        std::fs::write(folder.path().join(FILE), old).expect("written");
        let known = Intent::load(folder.path()).expect("readable").expect("there");
        assert!(!known.opened && !known.joining && known.peers.is_empty(), "as 0.1 wrote it");
        std::fs::write(folder.path().join(FILE), "{}").expect("written");
        assert!(matches!(Intent::load(folder.path()), Err(IntentError::Damaged(_))));
    }
}
