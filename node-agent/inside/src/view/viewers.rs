//! Room for the browsers that look, and the word that none may look any more.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use warren_common::Limits;

use super::browser::End;

/// The browsers that look at displays and terminals of a workspace; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Viewers {
    room: Arc<Semaphore>,
    stopping: Arc<watch::Sender<bool>>,
}

impl Viewers {
    /// Returns room for [`Limits::VIEWERS`].
    pub(crate) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(Limits::VIEWERS)), stopping: Arc::default() }
    }

    /// Takes the room of one browser, which has it until the permit is dropped.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, End> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            let most = Limits::VIEWERS;
            let what = "close one of them";
            End::Passing(format!("{most} pages show this workspace, which is the limit; {what}"))
        })
    }

    /// Returns how views end when the workspace does, and not before. Cancel safe.
    pub(super) async fn stopped(&self) -> End {
        // the sender is ours
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
        End::Passing("the workspace is stopping".to_owned())
    }

    /// Ends all views and waits until they have let go of what they held, at most `limit`.
    pub(crate) async fn end(&self, limit: Duration) {
        self.stopping.send_replace(true);
        let all = u32::try_from(Limits::VIEWERS).unwrap_or(u32::MAX);
        // the workspace ends either way
        let _ = timeout(limit, self.room.acquire_many(all)).await;
    }
}
