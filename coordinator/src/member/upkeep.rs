//! What the leader finishes when a leader before it, or the one that asked, went away half-way.

use std::time::Duration;

use warren_common::ReplicaId;
use warren_model::{Command, Principal, command::RemoveReplica};
use warren_proto::error::ApiError;

use super::{Members, Removal, changed};

/// How often the group is compared with the state while this coordinator leads.
const LOOK: Duration = Duration::from_secs(5);

impl Members {
    /// Keeps the group as the state says, for ever: while this coordinator leads.
    pub async fn keep_group(self) {
        let mut leadership = self.0.parts.consensus.leadership();
        loop {
            let leading = leadership.borrow_and_update().leading;
            if leading && let Err(error) = self.finish().await {
                tracing::info!(%error, "the group is not yet as the state says");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Finishes a change of voters, tells the group of moved coordinators, and removes those that
    /// were replaced.
    async fn finish(&self) -> Result<(), ApiError> {
        let state = self.state();
        let consensus = &self.0.parts.consensus;
        let status = consensus.status();
        {
            let _turn = self.turn().await?;
            self.settle(&state).await?;
            for member in &status.members {
                let Some(known) = state.replicas.get(&member.replica) else { continue };
                if known.raft_address != member.address {
                    let moved = consensus.add_learner(member.replica, &known.raft_address).await;
                    moved.map_err(|error| changed(error, &state))?;
                    tracing::info!(replica = %member.replica, to = known.raft_address, "moved");
                }
            }
        }
        let votes = |id: ReplicaId| status.members.iter().any(|one| one.replica == id && one.voter);
        for (new, old) in state.replacing.iter().filter(|(new, _)| votes(**new)) {
            let command = Command::RemoveReplica(RemoveReplica { replica: *old });
            let envelope = self.envelope(Principal::Coordinator(*new), command);
            self.remove_here(&Removal::own(envelope)).await.map_err(|failed| failed.0)?;
        }
        Ok(())
    }
}
