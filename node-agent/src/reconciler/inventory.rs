//! The engine's list of containers, asked for once for everybody who waits.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Mutex;
use warren_common::WorkspaceId;

use crate::engine::{ContainerSeen, ContainerState, Engine, EngineError};

/// What the engine answered; shared, so the error is too.
pub(super) type Listed = Result<Arc<Vec<ContainerSeen>>, Arc<EngineError>>;

/// Asks the engine on behalf of all workspaces.
pub(super) struct Inventory {
    engine: Arc<dyn Engine>,
    asked: AtomicU64,
    answer: Mutex<Option<(u64, Listed)>>,
}

impl Inventory {
    pub(super) fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, asked: AtomicU64::default(), answer: Mutex::default() }
    }

    /// Returns a list that was begun after this call: those who ask while one is under way share
    /// the next. Cancel safe.
    pub(super) async fn fresh(&self) -> Listed {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut answer = self.answer.lock().await;
        if let Some((covers, listed)) = &*answer
            && *covers >= turn
        {
            return listed.clone();
        }
        let covers = self.asked.load(Ordering::SeqCst);
        let listed = self.engine.list().await.map(Arc::new).map_err(Arc::new);
        *answer = Some((covers, listed.clone()));
        listed
    }
}

/// Returns the container that counts of a workspace: one that runs before all others, then the
/// newest. One that the engine is removing is gone already.
pub(super) fn of(all: &[ContainerSeen], workspace: WorkspaceId) -> Option<ContainerSeen> {
    let running = |seen: &ContainerSeen| matches!(seen.state, ContainerState::Running { .. });
    all.iter()
        .filter(|seen| seen.workspace == workspace && seen.state != ContainerState::Removing)
        .max_by_key(|seen| (running(seen), seen.generation, seen.run_serial))
        .cloned()
}
