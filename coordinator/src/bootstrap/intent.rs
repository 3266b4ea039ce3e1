//! The intent: who this coordinator is and which cluster it belongs to, written before anything of
//! it exists and read at each start.

use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_and_a_damaged_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Intent::load(folder.path()).expect("readable").is_none());
        let intent = Intent {
            cluster: ClusterId::new(uuid::Uuid::from_u128(7)),
            name: "home".to_owned(),
            incarnation: 5,
            replica: ReplicaId(1),
            api_address: None,
            begin: None,
        };
        intent.store(folder.path()).expect("written");
        assert_eq!(Intent::load(folder.path()).expect("readable"), Some(intent));
        std::fs::write(folder.path().join(FILE), "{}").expect("written");
        assert!(matches!(Intent::load(folder.path()), Err(IntentError::Damaged(_))));
    }
}
