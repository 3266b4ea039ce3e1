//! What the agent remembers of its pool: which filesystem holds the homes. Without it another
//! filesystem in the same place would pass for an empty pool.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use warren_daemon::files::{self, FileError};

use super::VolumeError;

/// The format this agent writes, and the only one it reads.
const FORMAT: u32 = 1;

/// The pool of a node, in `pool.json` of its state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// The filesystem.
    pub(super) uuid: Uuid,
    /// Its file, or the folder within it.
    pub(super) path: PathBuf,
}

impl Record {
    pub(super) fn new(uuid: Uuid, path: &Path) -> Self {
        Self { format: FORMAT, uuid, path: path.to_owned() }
    }

    /// Reads it; none where there is none.
    pub(super) fn read(file: &Path) -> Result<Option<Self>, VolumeError> {
        let text = files::read_optional(file).map_err(|error| refused(file, &error))?;
        let Some(text) = text else { return Ok(None) };
        let damaged = |why: String| VolumeError::Pool {
            what: format!("{} cannot be used: {why}", file.display()),
            next: "restore it, or move it away: the pool is then known by its label alone"
                .to_owned(),
        };
        let record: Self =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        match record.format {
            FORMAT => Ok(Some(record)),
            other => Err(damaged(format!("it has format {other}, this agent knows {FORMAT}"))),
        }
    }

    /// Writes it, durably.
    pub(super) fn write(&self, file: &Path) -> Result<(), VolumeError> {
        let text = serde_json::json!(self).to_string();
        files::write_atomic(file, text.as_bytes(), 0o600).map_err(|error| refused(file, &error))
    }
}

fn refused(file: &Path, error: &FileError) -> VolumeError {
    VolumeError::Pool {
        what: format!(
            "{} cannot be kept: {}",
            file.display(),
            warren_daemon::telemetry::Chain(error)
        ),
        next: "look at the disk of state_dir".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_and_another_format_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("pool.json");
        assert_eq!(Record::read(&file).expect("none"), None);
        let record = Record::new(Uuid::from_u128(7), Path::new("/pool"));
        record.write(&file).expect("written");
        assert_eq!(Record::read(&file).expect("read"), Some(record));
        for text in
            ["{", r#"{"format":2,"uuid":"00000000-0000-0000-0000-000000000007","path":"/"}"#]
        {
            std::fs::write(&file, text).expect("written");
            let error = Record::read(&file).expect_err("refused").to_string();
            assert!(error.contains("cannot be used") && error.contains("restore it"), "{error}");
        }
    }
}
