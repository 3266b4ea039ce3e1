//! Docker's configuration: one setting is added, nothing else in it is touched.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use warren_daemon::files::{self, FileError};

const SETTING: &str = "live-restore";

/// Why Docker's configuration was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum LiveRestoreError {
    /// It cannot be read or written.
    #[error("Docker's configuration cannot be changed")]
    File(#[source] FileError),
    /// It is no JSON object: Docker would refuse it too.
    #[error("{} is not a JSON object ({why}); mend it first", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The folder cannot be made.
    #[error("the folder of {} cannot be made", path.display())]
    Folder {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Switches live-restore on in Docker's configuration; returns whether anything changed. What stood
/// there is kept beside it under the same name with `.before-warren`.
///
/// # Errors
/// The file is no JSON object, or cannot be read or written; it is as it was then.
pub fn switch_on(path: &Path) -> Result<bool, LiveRestoreError> {
    let text = files::read_optional(path).map_err(LiveRestoreError::File)?;
    let Some(merged) = merge(text.as_deref().unwrap_or_default())
        .map_err(|why| LiveRestoreError::Damaged { path: path.to_owned(), why })?
    else {
        return Ok(false);
    };
    if let Some(folder) = path.parent() {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|source| LiveRestoreError::Folder { path: path.to_owned(), source })?;
    }
    if let Some(before) = text {
        let mut name = path.as_os_str().to_owned();
        name.push(".before-warren");
        let kept = files::write_atomic(Path::new(&name), before.as_bytes(), 0o644);
        kept.map_err(LiveRestoreError::File)?;
    }
    files::write_atomic(path, merged.as_bytes(), 0o644).map_err(LiveRestoreError::File)?;
    Ok(true)
}

/// Returns the configuration with the setting on; none where it is.
fn merge(text: &str) -> Result<Option<String>, String> {
    let mut settings: Map<String, Value> = match text.trim() {
        "" => Map::new(),
        text => serde_json::from_str(text).map_err(|error| error.to_string())?,
    };
    if settings.get(SETTING) == Some(&Value::Bool(true)) {
        return Ok(None);
    }
    settings.insert(SETTING.to_owned(), Value::Bool(true));
    let mut merged = serde_json::to_string_pretty(&settings).map_err(|error| error.to_string())?;
    merged.push('\n');
    Ok(Some(merged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_setting_is_added_and_the_others_are_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("etc/docker/daemon.json");
        assert!(switch_on(&path).expect("written"), "made where it was not there");
        assert!(!switch_on(&path).expect("read"), "the second time nothing changes");
        let before = r#"{"log-driver": "local", "live-restore": false, "mtu": 1400}"#;
        std::fs::write(&path, before).expect("written");
        assert!(switch_on(&path).expect("written"));
        let after: Value =
            serde_json::from_str(&std::fs::read_to_string(&path).expect("there")).expect("JSON");
        let wanted = serde_json::json!({"log-driver": "local", "live-restore": true, "mtu": 1400});
        assert_eq!(after, wanted);
        let kept = path.with_file_name("daemon.json.before-warren");
        assert_eq!(std::fs::read_to_string(kept).expect("kept"), before);
    }

    #[test]
    fn what_is_no_object_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("daemon.json");
        for odd in ["[]", "{", "true"] {
            std::fs::write(&path, odd).expect("written");
            let error = switch_on(&path).expect_err(odd).to_string();
            assert!(error.contains("daemon.json is not a JSON object"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), odd);
        }
    }
}
