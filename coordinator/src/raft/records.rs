//! Reading this replica's audit records, off the async workers and a few readers at a time.
//!
//! A record is on disk before the state that has its effect is seen, so whoever reads a state first
//! finds the records of everything in it.

use std::path::Path;

use warren_common::Limits;
use warren_model::{AuditHead, AuditRecord};

use super::Consensus;
use crate::audit::{self, AuditError, Fit, Found, Search, Verified};

impl Consensus {
    /// Returns up to `limit` audit records from number `from` on, as far as this replica has them.
    pub async fn audit(&self, from: u64, limit: usize) -> Result<Vec<AuditRecord>, AuditError> {
        self.read_audit(move |folder| audit::read(folder, from, limit)).await
    }

    /// Looks for audit records that fit; see [`audit::search`].
    pub async fn search_audit(
        &self,
        search: Search,
        fit: impl FnMut(&AuditRecord) -> Fit + Send + 'static,
    ) -> Result<Found, AuditError> {
        self.read_audit(move |folder| audit::search(folder, search, fit)).await
    }

    /// Checks every audit record that this replica has, up to `head`, which must be applied here
    /// within [`Limits::READ_TIMEOUT`].
    pub async fn verify_audit(&self, head: AuditHead) -> Result<Verified, AuditError> {
        let mut changes = self.changes();
        let reached = async {
            while self.local().audit.sequence < head.sequence {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        match tokio::time::timeout(Limits::READ_TIMEOUT, reached).await {
            Ok(true) => {}
            Ok(false) => return Err(AuditError::Failed("the replica is shut down".to_owned())),
            Err(_) => {
                let own = self.local().audit.sequence;
                let reason = format!("it has applied record {own} of {}", head.sequence);
                return Err(AuditError::Failed(reason));
            }
        }
        self.read_audit(move |folder| audit::verify(folder, Some(head))).await
    }

    async fn read_audit<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Path) -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, AuditError> {
        let turns = self.inner.audit_turns.clone();
        let turn = tokio::time::timeout(Limits::READ_TIMEOUT, turns.acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(AuditError::Busy) };
        let folder = self.inner.audit.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // held until the disk is left alone, whether somebody still waits or not
            let _turn = turn;
            read(&folder)
        });
        let ended = reading.await;
        ended.unwrap_or_else(|panicked| Err(AuditError::Failed(panicked.to_string())))
    }
}
