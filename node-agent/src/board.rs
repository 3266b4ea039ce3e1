//! What the node sees of each workspace now, for everything that reports it.
//!
//! Writers replace the picture of one workspace; readers each remember how far they have read and
//! take what changed since. Nothing is queued: a slow reader misses steps between, never the last.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use warren_common::{WorkspaceId, status::WorkspaceObserved};

/// The board: one picture per workspace, each with the version at which it last changed.
#[derive(Debug, Default)]
pub struct Board {
    entries: Mutex<BTreeMap<WorkspaceId, (u64, WorkspaceObserved)>>,
    version: watch::Sender<u64>,
}

impl Board {
    /// Shows this picture of its workspace; wakes readers only where it differs.
    pub fn publish(&self, observed: WorkspaceObserved) {
        let mut entries = self.lock();
        let id = observed.workspace;
        if entries.get(&id).is_some_and(|(_, shown)| *shown == observed) {
            return;
        }
        let version = *self.version.borrow() + 1;
        entries.insert(id, (version, observed));
        self.version.send_replace(version);
    }

    /// Takes a workspace off: the node knows nothing of it any more.
    pub fn remove(&self, workspace: WorkspaceId) {
        self.lock().remove(&workspace);
    }

    /// Returns the present version and the workspaces that changed after `version`, by id.
    pub fn since(&self, version: u64) -> (u64, Vec<WorkspaceObserved>) {
        let entries = self.lock();
        let changed = entries.values().filter(|(at, _)| *at > version);
        (*self.version.borrow(), changed.map(|(_, observed)| observed.clone()).collect())
    }

    /// Returns the present version and every workspace, by id.
    pub fn all(&self) -> (u64, Vec<WorkspaceObserved>) {
        self.since(0)
    }

    /// Returns the picture of one workspace.
    pub fn get(&self, workspace: WorkspaceId) -> Option<WorkspaceObserved> {
        self.lock().get(&workspace).map(|(_, observed)| observed.clone())
    }

    /// Watches the version.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkspaceId, (u64, WorkspaceObserved)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use warren_common::{Generation, Timestamp, status::RunState};

    use super::*;

    fn picture(n: u8, reason: &str) -> WorkspaceObserved {
        WorkspaceObserved {
            workspace: format!("0199a0b2-7f00-7000-8000-0000000000{n:02x}").parse().expect("an id"),
            generation: Generation::new(1, 1),
            run_serial: 1,
            state: RunState::Preparing,
            reason: reason.to_owned(),
            since: Timestamp(1),
            pid: None,
            steps: Vec::new(),
            sessions: Vec::new(),
            usage: Default::default(),
        }
    }

    #[test]
    fn each_reader_takes_what_changed_since_it_last_read() {
        let board = Board::default();
        board.publish(picture(1, "a"));
        board.publish(picture(2, "a"));
        let (first, all) = board.all();
        assert_eq!(all.len(), 2);
        board.publish(picture(1, "a"));
        assert_eq!(board.since(first), (first, Vec::new()), "the same picture is no change");
        board.publish(picture(1, "b"));
        board.publish(picture(1, "c"));
        let (second, changed) = board.since(first);
        assert_eq!(changed, [picture(1, "c")], "only the last of it");
        board.remove(picture(2, "").workspace);
        assert_eq!(board.since(second).1, []);
        assert_eq!(board.all().1.len(), 1);
    }
}
