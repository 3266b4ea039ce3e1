//! How a coordinator learns that it was removed: from its log, or from being refused.
//!
//! Once it is out of the group nobody sends it entries any more, so the log may not say so. Then
//! nobody leads it either, and it asks the others.

use std::time::Duration;

use tokio::time::Instant;
use warren_common::ReplicaId;
use warren_proto::{ApiError, error::reason, pb::raft::v1 as pb};

use super::Members;

/// How long no leader may be heard of before the others are asked.
const LEADERLESS: Duration = Duration::from_secs(3);
/// How often they are asked then.
const ASK: Duration = Duration::from_secs(2);
/// How long each is given.
const ANSWER: Duration = Duration::from_secs(2);

/// How a coordinator learned that it does not belong to the cluster any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// Its own log says so.
    InTheLog,
    /// This one refuses its certificate.
    RefusedBy(ReplicaId),
}

impl Members {
    /// Returns once this coordinator does not belong to the cluster any more. Cancel safe.
    pub async fn removed(&self) -> Removed {
        let parts = &self.0.parts;
        let mut changes = parts.consensus.changes();
        let started = Instant::now();
        loop {
            if self.state().was_removed(parts.replica) {
                return Removed::InTheLog;
            }
            if self.is_left_alone(started)
                && let Some(by) = self.refused().await
            {
                return Removed::RefusedBy(by);
            }
            tokio::select! {
                () = tokio::time::sleep(ASK) => {}
                changed = changes.changed() => if changed.is_err() {
                    // it is being shut down
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    /// Whether no leader was heard of for a while. One that is out of the group still takes the last
    /// one for its leader.
    fn is_left_alone(&self, started: Instant) -> bool {
        let parts = &self.0.parts;
        let leader = parts.consensus.leadership().borrow().leader;
        if leader == Some(parts.replica) || started.elapsed() < LEADERLESS {
            return false;
        }
        let heard = leader.and_then(|leader| parts.consensus.contacts().get(&leader).copied());
        heard.is_none_or(|ago| ago >= LEADERLESS)
    }

    async fn refused(&self) -> Option<ReplicaId> {
        let state = self.state();
        for replica in state.replicas.keys().filter(|one| **one != self.0.parts.replica) {
            let Ok(mut api) = self.peer(*replica) else { continue };
            let asked = tokio::time::timeout(ANSWER, api.describe(pb::DescribeRequest {})).await;
            if let Ok(Err(status)) = asked
                && ApiError::from(&status).reason == reason::CERTIFICATE_REVOKED
            {
                return Some(*replica);
            }
        }
        None
    }
}
