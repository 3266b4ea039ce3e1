//! Which database keeps the log, and opening the one a state folder holds.
//!
//! The engine is chosen once, when the folder is made, and recorded in it: a log cannot be carried
//! over in place, because whoever is interrupted half way would be left with two halves of it. To
//! change engines a coordinator joins anew, as it does after its disk was lost.

use std::{fmt, fs, io, path::Path, str::FromStr, sync::Arc};

use super::{LogStore, RedbStore, Sealed, SledStore, StoreError, files, redb_store, seal};

/// Name of the record in the state folder.
const RECORD: &str = "log-engine";
/// Name of the log's folder in the state folder.
const LOG: &str = "log";

/// A database that can keep the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// sled 0.34, with the flusher that makes it durable.
    #[default]
    Sled,
    /// redb 4.
    Redb,
}

/// A text that names no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no storage engine; there are \"sled\" and \"redb\"")]
pub struct UnknownEngine(String);

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Redb];

    /// Returns its name in the configuration and in the state folder.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }
}

impl Engine {
    /// Returns the name of its file in the folder of the log.
    pub(super) const fn data_file(self) -> &'static str {
        match self {
            Self::Sled => "db",
            Self::Redb => redb_store::FILE,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let named = Self::ALL.into_iter().find(|engine| engine.as_str() == text);
        named.ok_or_else(|| UnknownEngine(text.chars().take(40).collect()))
    }
}

/// Opens or makes the log of the state folder `folder`; blocks.
///
/// # Errors
/// The folder holds a log of another engine, the log cannot be read, or it ends before what it
/// acknowledged. None of these changes what is in the folder beyond what an engine does to its own
/// files when it looks at them.
pub fn open(folder: &Path, engine: Engine) -> Result<Arc<dyn LogStore>, StoreError> {
    files::make_dir(folder)?;
    match recorded(folder)? {
        Some(found) if found == engine => {}
        Some(found) => return Err(other_engine(folder, found, engine)),
        None => {
            // Recorded first: a crash leaves a folder without a log, never one of unknown kind.
            files::replace(folder, RECORD, format!("{engine}\n").as_bytes())?;
        }
    }
    let log = folder.join(LOG);
    seal::expect_file(folder, &log.join(engine.data_file()))?;
    let store: Arc<dyn LogStore> = match engine {
        Engine::Sled => Arc::new(SledStore::open(&log)?),
        Engine::Redb => Arc::new(RedbStore::open(&log)?),
    };
    match Sealed::open(store.clone(), folder) {
        Ok(sealed) => Ok(Arc::new(sealed)),
        Err(error) => {
            if let Err(closing) = store.close() {
                tracing::warn!(error = closing.chain(), "closing a log that is refused");
            }
            Err(error)
        }
    }
}

/// Returns the engine of the log in `folder`; none where there is no log yet. Version 0.1 recorded
/// nothing and knew sled alone.
fn recorded(folder: &Path) -> Result<Option<Engine>, StoreError> {
    let path = folder.join(RECORD);
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim_end().parse() {
            Ok(engine) => Ok(Some(engine)),
            Err(error) => Err(StoreError::Foreign {
                path,
                reason: format!("{error} in this version; start the version that wrote it"),
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let log = folder.join(LOG);
            Ok(Engine::ALL.into_iter().find(|engine| log.join(engine.data_file()).exists()))
        }
        Err(error) => Err(StoreError::io("reading", path, error)),
    }
}

fn other_engine(folder: &Path, found: Engine, wanted: Engine) -> StoreError {
    StoreError::Foreign {
        path: folder.to_owned(),
        reason: format!(
            "its log is kept by {found}, and the configuration says [storage] engine = \"{wanted}\"; \
             set it to \"{found}\", or, to change engines, replace this coordinator by a new one \
             with an empty state folder"
        ),
    }
}
