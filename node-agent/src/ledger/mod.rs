//! The node's durable memory: what it was told, and what it began.
//!
//! Every change is on the disk before anything acts on it. The ledger decides nothing about
//! workspaces; it refuses documents that are older than one it holds, and orders of a generation
//! lower than it has seen. A damaged file is refused with an error that names it: a node that
//! forgot what it started could start it twice.

mod file;
mod memory;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use tokio::sync::watch;
use warren_common::{
    Revision, WorkspaceId,
    spec::{NodeSpec, WorkspaceOrder},
};

use crate::container::Caps;
use file::LedgerFile;
pub use memory::{Accepted, Memory, PauseOwner, Started};

/// Why the ledger could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk said no.
    #[error("cannot {verb} the ledger {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The ledger's file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what was written.
    #[error(
        "the ledger {} is damaged ({what}); it is never guessed at: restore the file, or remove \
         this node's containers and then the file, and start the agent again", path.display()
    )]
    Damaged {
        /// The ledger's file.
        path: PathBuf,
        /// What gave it away.
        what: &'static str,
    },
    /// Written by a newer version.
    #[error(
        "the ledger {} has format {format}, this agent knows formats up to {known}: it was written \
         by a newer version of warren-node-agent; install that one again", path.display(),
        known = file::FORMAT
    )]
    Format {
        /// The ledger's file.
        path: PathBuf,
        /// The format it names.
        format: u32,
    },
    /// Cannot happen with the types it holds.
    #[error("cannot encode the ledger")]
    Encode(#[source] serde_json::Error),
    /// The document may not be applied.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The ledger is closed: the process is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

/// Why a document is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// From a cluster as it was before a restore.
    #[error("the document is of incarnation {given}, this node has seen {seen}")]
    Incarnation {
        /// The document's.
        given: u32,
        /// The highest seen.
        seen: u32,
    },
    /// Overtaken.
    #[error("the document {given:?} is older than {held:?} (incarnation, term, revision)")]
    Older {
        /// The document's rank.
        given: (u32, u64, Revision),
        /// The rank held.
        held: (u32, u64, Revision),
    },
}

/// The ledger, shared by everything in the agent. Reading is cheap; changes are one at a time and
/// durable when they return.
#[derive(Debug, Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Closed(bool);

#[derive(Debug)]
struct Shared {
    file: LedgerFile,
    /// Whose turn it is; whether there will be no more.
    writing: Mutex<Closed>,
    memory: RwLock<Arc<Memory>>,
    /// Raised by each change.
    changes: watch::Sender<u64>,
}

impl Ledger {
    /// Opens the ledger of a state folder, empty where there is none yet.
    ///
    /// # Errors
    /// A damaged file, one of another format, or a disk that cannot be read.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        let file = LedgerFile::new(dir);
        fs::create_dir_all(dir).map_err(|source| LedgerError::Io {
            verb: "make the folder of",
            path: file.path(),
            source,
        })?;
        let memory = file.read()?.unwrap_or_default();
        let memory = RwLock::new(Arc::new(memory));
        let (writing, changes) = (Mutex::default(), watch::Sender::default());
        Ok(Self { shared: Arc::new(Shared { file, writing, memory, changes }) })
    }

    /// Returns what is remembered now.
    pub fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.shared.memory.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Watches for changes: what is new is in [`Self::memory`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Remembers that `owner` freezes these cgroups now, before it does.
    ///
    /// # Errors
    /// The disk.
    pub async fn pause(
        &self,
        owner: PauseOwner,
        folders: BTreeSet<PathBuf>,
    ) -> Result<(), LedgerError> {
        self.change(move |memory| {
            memory.pause(owner, &folders);
            Ok(())
        })
        .await
    }

    /// Returns the cgroups that only `owner` holds frozen: those it may thaw.
    pub fn held_by(&self, owner: PauseOwner) -> Vec<PathBuf> {
        let pauses = self.memory().pauses.clone();
        Memory { pauses, ..Memory::default() }.resume(owner)
    }

    /// Forgets what `owner` froze, after it thawed what [`Self::held_by`] named.
    ///
    /// # Errors
    /// The disk.
    pub async fn resume(&self, owner: PauseOwner) -> Result<(), LedgerError> {
        self.change(move |memory| {
            memory.resume(owner);
            Ok(())
        })
        .await
    }

    /// Returns the order for one workspace.
    pub fn order(&self, workspace: WorkspaceId) -> Option<WorkspaceOrder> {
        self.memory().orders.get(&workspace).cloned()
    }

    /// Returns the highest incarnation seen; zero before the first document.
    pub fn incarnation(&self) -> u32 {
        self.memory().rank.map_or(0, |rank| rank.0)
    }

    /// Takes a document, durably.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] where it is older than the one held; otherwise the disk.
    pub async fn accept(&self, spec: NodeSpec) -> Result<Accepted, LedgerError> {
        self.change(move |memory| Ok(memory.accept(&spec)?)).await
    }

    /// Remembers that a run's start begins now, before the engine is asked.
    ///
    /// # Errors
    /// The disk.
    pub async fn begin(&self, workspace: WorkspaceId, started: Started) -> Result<(), LedgerError> {
        self.change(move |memory| {
            memory.started.insert(workspace, started);
            Ok(())
        })
        .await
    }

    /// Remembers which caps the run that was begun has, where that is known, and which ones the engine
    /// is told now: before it is.
    ///
    /// # Errors
    /// The disk.
    pub async fn intend(
        &self,
        workspace: WorkspaceId,
        (has, next): (Option<Caps>, Caps),
    ) -> Result<(), LedgerError> {
        self.change(move |memory| {
            if let Some(started) = memory.started.get_mut(&workspace) {
                (started.caps, started.next) = (has, Some(next));
            }
            Ok(())
        })
        .await
    }

    /// Remembers with which caps the run that was begun goes on, now that the engine took them.
    ///
    /// # Errors
    /// The disk.
    pub async fn give(&self, workspace: WorkspaceId, caps: Caps) -> Result<(), LedgerError> {
        self.change(move |memory| {
            if let Some(started) = memory.started.get_mut(&workspace) {
                (started.caps, started.next) = (Some(caps), None);
            }
            Ok(())
        })
        .await
    }

    /// Remembers that the startup steps of the run that was begun have ended, so that a restarted
    /// agent knows it before PID 1 speaks again.
    ///
    /// # Errors
    /// The disk.
    pub async fn settle(&self, workspace: WorkspaceId) -> Result<(), LedgerError> {
        self.change(move |memory| {
            if let Some(started) = memory.started.get_mut(&workspace) {
                started.settled = true;
            }
            Ok(())
        })
        .await
    }

    /// Forgets what only mattered while something of a workspace was here. The generation stays.
    ///
    /// # Errors
    /// The disk.
    pub async fn forget(&self, workspace: WorkspaceId) -> Result<(), LedgerError> {
        if !self.memory().started.contains_key(&workspace) {
            return Ok(());
        }
        self.change(move |memory| {
            memory.started.remove(&workspace);
            Ok(())
        })
        .await
    }

    /// Waits until the change under way is durable and refuses every later one: after this another
    /// agent may open the file.
    pub async fn close(&self) {
        let shared = Arc::clone(&self.shared);
        let closing = tokio::task::spawn_blocking(move || {
            shared.writing.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
        });
        // a runtime that is going away writes nothing more either
        let _ = closing.await;
    }

    /// Applies `edit` to a copy, makes the copy durable, then shows it. Not cancelled half way:
    /// the blocking task ends even where the caller is dropped.
    async fn change<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&mut Memory) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || {
            let turn = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
            if turn.0 {
                return Err(LedgerError::Stopping);
            }
            let held = Arc::clone(&shared.memory.read().unwrap_or_else(PoisonError::into_inner));
            let mut memory = Memory::clone(&held);
            let outcome = edit(&mut memory)?;
            if memory != *held {
                shared.file.replace(&memory)?;
                let mut shown = shared.memory.write().unwrap_or_else(PoisonError::into_inner);
                *shown = Arc::new(memory);
                drop(shown);
                shared.changes.send_modify(|count| *count += 1);
            }
            Ok(outcome)
        });
        task.await.map_err(|_| LedgerError::Stopping)?
    }
}
