//! Starting a replica: from a folder to a running openraft.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use warren_common::ReplicaId;
use warren_model::AuditHead;

use super::{
    checkpoint::{Checkpoints, Loaded},
    config::Options,
    contact::Contacts,
    error::OpenError,
    log::Log,
    machine::{Machine, View},
    network::Network,
    types::Raft,
    writes::Turns,
};
use crate::{
    audit::AuditLog,
    store::{self, Engine, Flusher, LogStore, Slot, StoreError},
};

/// What runs.
pub(super) struct Parts {
    pub(super) raft: Raft,
    pub(super) view: Arc<View>,
    pub(super) flusher: Flusher,
    pub(super) contacts: Arc<Contacts>,
    pub(super) turns: Turns,
}

/// Opens the log of a replica; blocks.
pub(super) fn store(folder: &Path, engine: Engine) -> Result<Arc<dyn LogStore>, OpenError> {
    store::open(folder, engine).map_err(OpenError::Store)
}

/// Returns where the audit records of a replica stand.
pub(super) fn audit_folder(folder: &Path) -> PathBuf {
    folder.join("audit")
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|panicked| Err(OpenError::Replay(panicked.to_string())))
}

/// Loads checkpoint and audit records, replays the log, and starts openraft. The store is closed
/// again where that fails.
pub(super) async fn replica(
    options: &Options,
    store: Arc<dyn LogStore>,
) -> Result<Parts, OpenError> {
    let config = Arc::new(options.tuning.to_raft()?);
    let flusher = Flusher::start(store.clone()).map_err(OpenError::Store)?;
    let started = async {
        let files = {
            let (folder, replica) = (options.folder.clone(), options.replica);
            let (store, flusher) = (store.clone(), flusher.clone());
            move || load(&folder, replica, store, flusher)
        };
        let (log, machine) = blocking(files).await?;
        let view = machine.view();
        let (contacts, turns) = (Arc::<Contacts>::default(), Turns::default());
        let network = Network {
            replica: options.replica,
            connect: options.connect.clone(),
            tuning: options.tuning.clone(),
            contacts: contacts.clone(),
            turns: turns.clone(),
        };
        let raft = Raft::new(options.replica.0, config, network, log, machine).await;
        let raft = raft.map_err(|fatal| OpenError::Replay(fatal.to_string()))?;
        Ok(Parts { raft, view, flusher: flusher.clone(), contacts, turns })
    };
    let outcome = started.await;
    if outcome.is_err() {
        let closing = tokio::task::spawn_blocking(move || {
            flusher.stop();
            store.close()
        });
        if let Ok(Err(error)) = closing.await {
            tracing::warn!(error = error.chain(), "closing the store");
        }
    }
    outcome
}

fn load(
    folder: &Path,
    replica: ReplicaId,
    store: Arc<dyn LogStore>,
    flusher: Flusher,
) -> Result<(Log, Machine), OpenError> {
    check_replica(folder, replica, store.as_ref()).map_err(OpenError::Store)?;
    let path = folder.join("log");
    let broken =
        |error: std::io::Error| OpenError::Log { path: path.clone(), reason: error.to_string() };
    let log = Log::open(store, flusher.clone()).map_err(broken)?;
    let purged = log.purged().map_err(broken)?;
    let (checkpoints, loaded) = Checkpoints::open(&folder.join("checkpoints"), purged)?;
    let log = log.reach_back_to(checkpoints.reach());
    let head = loaded.as_ref().map_or(AuditHead::default(), |loaded: &Loaded| loaded.state.audit);
    let audit = AuditLog::open(&audit_folder(folder), head).map_err(OpenError::Audit)?;
    let machine = Machine::new(loaded, Arc::new(checkpoints), audit, flusher);
    Ok((log, machine))
}

/// A store belongs to one replica for ever: another one's votes in it would elect two leaders.
fn check_replica(
    folder: &Path,
    replica: ReplicaId,
    store: &dyn LogStore,
) -> Result<(), StoreError> {
    let own = replica.0.to_be_bytes();
    match store.get(Slot::Replica)? {
        None => {
            store.put(Slot::Replica, &own)?;
            store.sync()
        }
        Some(found) if found[..] == own => Ok(()),
        Some(found) => {
            let found = found.first_chunk().map(|id| u64::from_be_bytes(*id));
            let whose = found.map_or_else(|| "another one".to_owned(), |id| id.to_string());
            Err(StoreError::Foreign {
                path: folder.to_owned(),
                reason: format!("it belongs to replica {whose}, not to {replica}"),
            })
        }
    }
}
