//! Gives a workspace the secrets it is to have, and takes them away again.
//!
//! Level-triggered like everything else: an order's mark says that what is here is no more what is
//! wanted, and the values are fetched anew. No container starts before its secrets are there; one
//! that runs keeps what it has until the new ones are.

use std::sync::Arc;

use tracing::{info, warn};
use warren_common::spec::{Run, WorkspaceOrder};

use super::{failure::Failure, worker::Worker};
use crate::{container::plan::REPOSITORY, secrets::Held};

impl Worker {
    /// Makes sure that the workspace's folder holds what is ordered, and that git's helper knows
    /// the repository.
    pub(super) async fn provide(&self, order: &WorkspaceOrder) -> Result<(), Failure> {
        self.name_repository(order)?;
        let shared = Arc::clone(&self.shared);
        let memory = shared.parts.ledger.memory();
        let mark = memory.secrets.get(&self.workspace).copied().unwrap_or_default();
        let base = shared.info().await?.remap.unwrap_or_default();
        let (held, workspace) = (Held { mark, base }, self.workspace);
        if shared.parts.vaults.held(workspace) == Some(held) {
            return Ok(());
        }
        let values = match mark {
            0 => Vec::new(),
            _ => {
                let fetched = shared.parts.source.fetch(workspace, order.generation).await;
                fetched.map_err(|why| Failure::secrets(&why))?
            }
        };
        let count = values.len();
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
        let failed = self.provide(order).await.err().map(|failure| failure.message);
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
