//! What a running coordinator keeps in its intent: where the others are, and that it was removed.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use tracing::{error, warn};
use warren_common::ReplicaId;
use warren_daemon::{Shutdown, telemetry::Chain};

use super::{Intent, IntentError};
use crate::{
    member::{Members, Removed},
    raft::Consensus,
    sync::locked,
};

/// The intent of the coordinator that runs; clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Record {
    state_dir: Arc<Path>,
    /// Held from reading it to writing it.
    writing: Arc<Mutex<()>>,
}

impl Record {
    /// Returns the record in a state folder.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.into(), writing: Arc::default() }
    }

    /// Reads it; none where there is no cluster yet.
    pub(super) fn load(&self) -> Result<Option<Intent>, IntentError> {
        Intent::load(&self.state_dir)
    }

    /// Changes it durably; nothing happens where there is none or nothing changed.
    pub(super) fn change(&self, change: impl FnOnce(&mut Intent)) -> Result<(), IntentError> {
        let _writing = locked(&self.writing);
        let Some(mut intent) = self.load()? else { return Ok(()) };
        let before = intent.clone();
        change(&mut intent);
        if intent == before { Ok(()) } else { intent.store(&self.state_dir) }
    }

    /// Keeps where the others are, for a start at which the log cannot be read yet. For ever.
    pub async fn keep_peers(self, own: ReplicaId, consensus: Consensus) {
        let mut changes = consensus.changes();
        let mut known = BTreeMap::new();
        loop {
            let state = consensus.local();
            let others = state.replicas.iter().filter(|(id, _)| **id != own);
            let peers: BTreeMap<_, _> =
                others.map(|(id, row)| (*id, row.raft_address.clone())).collect();
            if peers != known && !state.replicas.is_empty() {
                let kept = self.change(|intent| intent.peers.clone_from(&peers));
                match kept {
                    Ok(()) => known = peers,
                    Err(error) => warn!(error = %Chain(&error), "cannot keep where others are"),
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends the process once the cluster has let this coordinator go.
    pub async fn end_when_removed(self, members: Members, shutdown: Shutdown) {
        let replica = members.replica();
        match members.removed().await {
            Removed::InTheLog => {
                if let Err(error) = self.change(|intent| intent.removed = true) {
                    warn!(error = %Chain(&error), "cannot keep that this coordinator was removed");
                }
                error!(%replica, "this coordinator was removed from the cluster; stopping");
            }
            Removed::RefusedBy(by) => error!(
                %replica, %by,
                "this coordinator was removed from the cluster: another one refuses it; stopping"
            ),
        }
        error!("to use this machine again, run what warren cluster token prints elsewhere");
        shutdown.request();
    }
}
