//! Checkpoints: the whole state as one file, and the way back when the newest one is damaged.
//!
//! A file is a header with version and SHA-256, then the log position and the state in postcard.
//! The layout of the state belongs to the version: version 1 is read through a copy of the struct
//! it was written from (`checkpoint_v1.rs` and so on), a newer one than ours refuses the start.
//! The two newest are kept; the log behind the older one is kept too ([`Reach`]), so that a damaged
//! newest costs a longer replay and nothing else. Where not even that reaches, starting is refused: an
//! empty state that looks healthy would be worse.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use openraft::LogIdOptionExt as _;
use serde::{Deserialize, Serialize};
use warren_common::Limits;
use warren_model::{AuditHead, ClusterState};

use super::{
    checkpoint_v1::StateV1,
    checkpoint_v2::StateV2,
    checkpoint_v3::StateV3,
    error::OpenError,
    types::{LogId, SnapshotMeta},
};
use crate::store::{
    StoreError,
    files::{self, Unreadable},
};

/// The format written today: whatever [`ClusterState`] is. Whoever changes the state adds one and
/// keeps a copy of the layout it leaves: people upgrade from any day's version.
pub(super) const VERSION: u8 = 4;
/// How many files are kept.
const KEPT: usize = 2;
const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".bin";

/// How far back the log has to reach: to the older of the two checkpoints, however much was applied
/// while the newer one was on its way. The checkpoints say it and the log keeps to it; clones share
/// it.
#[derive(Debug, Clone)]
pub(crate) struct Reach(Arc<AtomicU64>);

impl Reach {
    /// Returns the first entry that has to stay, or one behind it; 0 while there is no older
    /// checkpoint.
    pub(crate) fn first(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, first: u64) {
        self.0.store(first, Ordering::Release);
    }
}

impl Default for Reach {
    /// That of a log which no checkpoint needs.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

/// The folder of the checkpoints of one replica.
pub(crate) struct Checkpoints {
    folder: PathBuf,
    /// Position and file of the newest; locked while one is written, so that two never mix.
    newest: Mutex<Option<(SnapshotMeta, String)>>,
    reach: Reach,
}

/// A checkpoint that was read and checked.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: ClusterState,
}

#[derive(Serialize)]
struct Content<'a> {
    meta: &'a SnapshotMeta,
    state: &'a ClusterState,
}

#[derive(Deserialize)]
struct OwnedContent<State> {
    meta: SnapshotMeta,
    state: State,
}

impl Checkpoints {
    /// Opens the folder and loads the newest checkpoint from which the log, purged up to `purged`,
    /// can be replayed; blocks.
    pub(crate) fn open(
        folder: &Path,
        purged: Option<LogId>,
    ) -> Result<(Self, Option<Loaded>), OpenError> {
        files::make_dir(folder).map_err(OpenError::Store)?;
        let refused = |reason: String| OpenError::Checkpoint { path: folder.to_owned(), reason };
        let (mut damage, mut damaged) = (Vec::new(), Vec::new());
        let reach = Reach::default();
        let all = names(folder).map_err(OpenError::Store)?;
        for (place, name) in all.iter().enumerate().rev() {
            let (path, name) = (folder.join(name), name.clone());
            match load(&path).map_err(OpenError::Store)? {
                Ok(loaded) if loaded.meta.last_log_id.next_index() >= purged.next_index() => {
                    if !damage.is_empty() {
                        tracing::warn!(%name, ?damage, "fell back to the checkpoint before");
                    }
                    set_aside(folder, &damaged).map_err(OpenError::Store)?;
                    reach.set(place.checked_sub(1).map_or(0, |older| next_index(&all[older])));
                    let newest = Mutex::new(Some((loaded.meta.clone(), name)));
                    return Ok((Self { folder: folder.to_owned(), newest, reach }, Some(loaded)));
                }
                Ok(_) => damage.push(format!("{name} ends before the log begins")),
                Err(Unreadable::Newer(reason)) => return Err(OpenError::Newer { path, reason }),
                Err(Unreadable::Damaged(reason)) => {
                    damage.push(format!("{name}: {reason}"));
                    damaged.push(name);
                }
            }
        }
        if let Some(purged) = purged {
            let found = if damage.is_empty() { "there is none".into() } else { damage.join("; ") };
            return Err(refused(format!(
                "no checkpoint reaches the log, which begins after entry {}: {found}",
                purged.index
            )));
        }
        if !damage.is_empty() {
            tracing::warn!(?damage, "no usable checkpoint; replaying the whole log");
            set_aside(folder, &damaged).map_err(OpenError::Store)?;
        }
        reach.set(0);
        Ok((Self { folder: folder.to_owned(), newest: Mutex::new(None), reach }, None))
    }

    /// Returns how far back the log has to reach, now and after each [`Checkpoints::write`].
    pub(crate) fn reach(&self) -> Reach {
        self.reach.clone()
    }

    /// Returns the content of a checkpoint's file.
    pub(crate) fn encode(meta: &SnapshotMeta, state: &ClusterState) -> Result<Bytes, StoreError> {
        let payload = postcard::to_stdvec(&Content { meta, state })
            .map_err(|error| StoreError::Failed(format!("encoding a checkpoint: {error}")))?;
        if payload.len() > Limits::CHECKPOINT_BYTES {
            let limit = Limits::CHECKPOINT_BYTES;
            return Err(StoreError::TooLong { bytes: payload.len(), limit });
        }
        Ok(files::frame(VERSION, &payload))
    }

    /// Returns the content of a file of version 2.
    #[cfg(test)]
    pub(crate) fn encode_v2(meta: &SnapshotMeta, state: ClusterState) -> Bytes {
        let content = (meta, StateV2::from(state));
        files::frame(2, &postcard::to_stdvec(&content).expect("it encodes"))
    }

    /// Returns the content of a file of version 3.
    #[cfg(test)]
    pub(crate) fn encode_v3(meta: &SnapshotMeta, state: ClusterState) -> Bytes {
        let content = (meta, StateV3::from(state));
        files::frame(3, &postcard::to_stdvec(&content).expect("it encodes"))
    }

    /// Checks and reads the content of a checkpoint's file; the error says what is wrong with it.
    pub(crate) fn decode(content: &Bytes) -> Result<Loaded, Unreadable> {
        let (version, payload) = files::unframe(content, VERSION)?;
        let odd = |error: postcard::Error| Unreadable::Damaged(format!("cannot be read: {error}"));
        let (meta, state) = match version {
            1 => {
                let old: OwnedContent<StateV1> = postcard::from_bytes(&payload).map_err(odd)?;
                (old.meta, old.state.into())
            }
            2 => {
                let old: OwnedContent<StateV2> = postcard::from_bytes(&payload).map_err(odd)?;
                (old.meta, old.state.into())
            }
            3 => {
                let old: OwnedContent<StateV3> = postcard::from_bytes(&payload).map_err(odd)?;
                (old.meta, old.state.into())
            }
            _ => {
                let today: OwnedContent<ClusterState> =
                    postcard::from_bytes(&payload).map_err(odd)?;
                (today.meta, today.state)
            }
        };
        Ok(Loaded { meta, state })
    }

    /// Writes a checkpoint durably and removes all but the two newest; blocks. One older than the
    /// newest is left out.
    pub(crate) fn write(&self, meta: &SnapshotMeta, content: &Bytes) -> Result<(), StoreError> {
        let mut newest = self.lock();
        if newest.as_ref().is_some_and(|(newest, _)| newest.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        let name = name_of(meta.last_log_id.next_index());
        files::replace(&self.folder, &name, content)?;
        let before = newest.replace((meta.clone(), name));
        if let Some((older, _)) = before.filter(|(older, _)| older.last_log_id < meta.last_log_id) {
            self.reach.set(older.last_log_id.next_index());
        }
        let all = names(&self.folder)?;
        for old in &all[..all.len().saturating_sub(KEPT)] {
            let path = self.folder.join(old);
            fs::remove_file(&path).map_err(|e| StoreError::io("removing", &path, e))?;
        }
        Ok(())
    }

    /// Returns the newest checkpoint; none before the first. Blocks.
    pub(crate) fn newest(&self) -> Result<Option<(SnapshotMeta, Bytes)>, StoreError> {
        let newest = self.lock();
        let Some((meta, name)) = newest.as_ref() else { return Ok(None) };
        let path = self.folder.join(name);
        let content = fs::read(&path).map_err(|e| StoreError::io("reading", &path, e))?;
        Ok(Some((meta.clone(), Bytes::from(content))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(SnapshotMeta, String)>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one file: the outer error is the disk's, the inner one the content's.
fn load(path: &Path) -> Result<Result<Loaded, Unreadable>, StoreError> {
    let content = match fs::read(path) {
        Ok(content) => Bytes::from(content),
        // What the disk cannot read back is damage like any other.
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
            return Ok(Err(Unreadable::Damaged(format!("cannot be read: {error}"))));
        }
        Err(error) => return Err(StoreError::io("reading", path, error)),
    };
    Ok(Checkpoints::decode(&content))
}

/// Keeps damaged files for whoever wants to look, out of the way. Only once it is sure that they
/// are not needed: a start that is refused leaves everything as it was.
fn set_aside(folder: &Path, damaged: &[String]) -> Result<(), StoreError> {
    for name in damaged {
        let path = folder.join(name);
        let aside = folder.join(format!("{name}.damaged"));
        fs::rename(&path, &aside).map_err(|e| StoreError::io("setting aside", &path, e))?;
        files::sync_dir(folder)?;
    }
    Ok(())
}

/// Returns the name of the checkpoint that the log goes on from with this entry.
fn name_of(next_index: u64) -> String {
    format!("{PREFIX}{next_index:020}{SUFFIX}")
}

/// Returns with which entry the log goes on from a checkpoint; 0 where its name does not say it.
fn next_index(name: &str) -> u64 {
    let index = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
    index.and_then(|index| index.parse().ok()).unwrap_or_default()
}

/// Returns the checkpoints' file names, oldest first, and removes half-written ones.
fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let (names, begun) = listed(folder)?;
    for name in begun {
        let path = folder.join(&name);
        fs::remove_file(&path).map_err(|e| StoreError::io("removing", &path, e))?;
    }
    Ok(names)
}

/// Returns the checkpoints' file names, oldest first, and those of half-written ones.
fn listed(folder: &Path) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let listing = |e| StoreError::io("listing", folder, e);
    let (mut names, mut begun) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(listing)? {
        let name = entry.map_err(listing)?.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            names.push(name);
        } else if name.ends_with(".tmp") {
            begun.push(name);
        }
    }
    names.sort();
    Ok((names, begun))
}

/// Returns the newest audit record that the checkpoints in a state folder know; none where there
/// is no checkpoint, or none that can be read. Changes nothing: the coordinator may be running.
/// Blocks.
///
/// # Errors
/// The folder cannot be read.
pub fn recorded_head(state_dir: &Path) -> Result<Option<AuditHead>, StoreError> {
    let folder = state_dir.join("checkpoints");
    if !folder.exists() {
        return Ok(None);
    }
    for name in listed(&folder)?.0.iter().rev() {
        if let Ok(loaded) = load(&folder.join(name))? {
            return Ok(Some(loaded.state.audit));
        }
    }
    Ok(None)
}
