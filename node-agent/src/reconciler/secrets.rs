//! Gives a workspace the secrets it is to have, and takes them away again.
//!
//! Level-triggered like everything else: an order's mark says that what is here is no more what is
//! wanted, and the values are fetched anew. No container starts before its secrets are there; one
//! that runs keeps what it has until the new ones are.

use std::sync::Arc;

use tracing::{info, warn};
use warren_common::spec::{Run, WorkspaceOrder};

use super::{failure::Failure, worker::Worker};
use crate::{
    container::plan::REPOSITORY,
    secrets::{Held, Values},
};

/// What a workspace's folder is to hold.
pub(super) struct Fetched {
    held: Held,
    /// None where it holds that.
    values: Option<Values>,
}

impl Worker {
    /// Fetches what the workspace's folder lacks, with a deadline. It may wait for the network: not
    /// while others need the turn.
    pub(super) async fn fetch(&self, order: &WorkspaceOrder) -> Result<Fetched, Failure> {
        let shared = &self.shared;
        let memory = shared.parts.ledger.memory();
        let mark = memory.secrets.get(&self.workspace).copied().unwrap_or_default();
        let base = shared.info().await?.remap.unwrap_or_default();
        let held = Held { mark, base };
        let there = || shared.parts.vaults.held(self.workspace) == Some(held);
        let values = match mark {
            _ if there() => None,
            0 => Some(Vec::new()),
            _ => {
                let fetched = shared.parts.source.fetch(self.workspace, order.generation).await;
                Some(fetched.map_err(|why| Failure::secrets(&why))?)
            }
        };
        Ok(Fetched { held, values })
    }

    /// Puts in place what was fetched, and tells git's helper of the repository.
    pub(super) async fn provide(
        &self,
        order: &WorkspaceOrder,
        Fetched { held, values }: Fetched,
    ) -> Result<(), Failure> {
        self.name_repository(order)?;
        let Some(values) = values else { return Ok(()) };
        let (shared, workspace, count) = (Arc::clone(&self.shared), self.workspace, values.len());
        let filling =
            tokio::task::spawn_blocking(move || shared.parts.vaults.fill(workspace, held, &values));
        let filled = filling.await.map_err(|_| Failure::secrets("the agent is stopping"))?;
        filled.map_err(|error| Failure::secrets(&format!("they cannot be written: {error}")))?;
        info!(workspace = %self.workspace, count, "secrets are in place");
        Ok(())
    }

    /// Brings the secrets of what runs up to date; what cannot be is shown, and tried again.
    pub(super) async fn renew_secrets(&mut self, order: Option<&WorkspaceOrder>) {
        let runs = self.running.is_some();
        let Some(order) = order.filter(|order| order.run == Run::Running && runs) else { return };
        let fetched = tokio::select! {
            fetched = self.fetch(order) => fetched,
            () = self.reordered(Some(order)) => {
                // it may have taken the wake of the order
                self.wake.notify_one();
                return;
            }
        };
        let renewed = match fetched {
            Ok(fetched) => self.provide(order, fetched).await,
            Err(failure) => Err(failure),
        };
        let failed = renewed.err().map(|failure| failure.message);
        if let Some(why) = &failed {
            if self.outdated.as_ref() != Some(why) {
                warn!(workspace = %self.workspace, why, "secrets are not as ordered yet");
            }
            self.picture.explain(why);
        } else if self.outdated.is_some() {
            info!(workspace = %self.workspace, "secrets are as ordered now");
        }
        self.outdated = failed;
    }

    /// Takes the secrets away from a workspace that does not run and is not to.
    pub(super) fn withdraw(&mut self) {
        self.outdated = None;
        self.shared.parts.vaults.remove(self.workspace);
    }

    /// Says which repository git's helper answers for, where nobody inside can change it.
    fn name_repository(&self, order: &WorkspaceOrder) -> Result<(), Failure> {
        let url = order.spec.repo.as_ref().map(ToString::to_string).unwrap_or_default();
        let token = order.spec.git_token();
        let text = format!("{url}\n{token}\n");
        let path = self.shared.parts.doors.dir(self.workspace).join(REPOSITORY);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        std::fs::write(&path, text).map_err(|error| Failure::socket(&error))
    }
}
