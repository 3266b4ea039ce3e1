//! An orderly end: one signal for everybody, and a join with a deadline.

use std::{future::Future, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// A process's end, and the tasks that must be through by then. Clones share both.
#[derive(Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Makes one that no signal triggers, for tests and for parts of a process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one that SIGTERM and SIGINT trigger; a second signal ends the process at once.
    ///
    /// # Errors
    /// The signals cannot be caught.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = shutdown.token.clone();
        // not tracked: it waits for the second signal, which may never come
        tokio::spawn(async move {
            for first in [true, false] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if first {
                    info!(signal = name, "shutting down");
                    token.cancel();
                } else {
                    warn!(signal = name, "ending at once");
                    std::process::exit(130);
                }
            }
        });
        Ok(shutdown)
    }

    /// Asks for the end.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Returns whether the end was asked for.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the end is asked for. Cancel safe.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Returns a token that the end cancels, for parts that end earlier too.
    pub fn child_token(&self) -> CancellationToken {
        self.token.child_token()
    }

    /// Runs a task that [`Self::join`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Asks for the end and waits until every task is through, or until the deadline. Returns
    /// whether all were.
    pub async fn join(&self, deadline: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        let through = timeout(deadline, self.tasks.wait()).await.is_ok();
        if !through {
            warn!(left = self.tasks.len(), "tasks did not end in time");
        }
        through
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn join_waits_for_tasks_and_gives_up_at_the_deadline() {
        let shutdown = Shutdown::new();
        let waiting = shutdown.clone();
        shutdown.spawn(async move { waiting.requested().await });
        assert!(shutdown.join(Duration::from_secs(5)).await);

        let stuck = Shutdown::new();
        stuck.spawn(std::future::pending::<()>());
        assert!(!stuck.join(Duration::from_millis(10)).await);
    }
}
