//! Reading this replica's audit records, off the async workers and a few readers at a time.
//!
//! A record is on disk before the state that has its effect is seen, so whoever reads a state first
//! finds the records of everything in it.

use std::{path::Path, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;
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
        // whoever asked drops it: the thread that reads then ends at the next file
        let waiting = Arc::new(());
        let waits = Arc::downgrade(&waiting);
        let waited_for = move || waits.strong_count() > 0;
        let checked = self
            .read_audit(move |folder| audit::verify_while(folder, Some(head), waited_for))
            .await;
        drop(waiting);
        checked
    }

    /// Looks for the record `head` on this replica's disk; says what is wrong with it. Has a turn of
    /// its own and does not wait for it: searches and checks of the whole chain may take long.
    pub async fn newest_audit(&self, head: AuditHead) -> Result<Option<String>, AuditError> {
        let turn = self.inner.audit_look.clone().try_acquire_owned();
        let turn = turn.map_err(|_| AuditError::Busy)?;
        self.on_disk(turn, move |folder| audit::newest(folder, head)).await
    }

    async fn read_audit<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Path) -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, AuditError> {
        let turns = self.inner.audit_turns.clone();
        let turn = tokio::time::timeout(Limits::READ_TIMEOUT, turns.acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(AuditError::Busy) };
        self.on_disk(turn, read).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        turn: OwnedSemaphorePermit,
        read: impl FnOnce(&Path) -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, AuditError> {
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
