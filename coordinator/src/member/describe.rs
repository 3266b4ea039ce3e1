//! What a coordinator says of itself, and what it hears of the others.

use std::time::Duration;

use futures_util::future::join_all;
use warren_common::ReplicaId;
use warren_proto::{error::ApiError, pb::raft::v1 as pb};

use super::Members;
use crate::{
    api::errors,
    raft::{Member, ReplicaRole},
};

/// How long another coordinator is given to describe itself: it is read from memory.
const ANSWER: Duration = Duration::from_secs(1);

/// What became of asking one coordinator.
pub type Described = Result<pb::DescribeResponse, String>;

impl Members {
    /// Asks every coordinator of the state at once, this one included; by id.
    pub async fn describe_all(&self) -> Vec<(ReplicaId, Described)> {
        let state = self.state();
        let asked = state.replicas.keys().map(async |&replica| {
            if replica == self.0.parts.replica {
                return (replica, self.describe().await.map_err(|error| error.message));
            }
            (replica, self.ask(replica).await)
        });
        join_all(asked).await
    }

    async fn ask(&self, replica: ReplicaId) -> Described {
        let mut api = self.peer(replica).map_err(|error| error.message)?;
        match tokio::time::timeout(ANSWER, api.describe(pb::DescribeRequest {})).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                let trouble = warren_daemon::identity::explain(&status);
                let said = || ApiError::from(&status).message;
                Err(trouble.map_or_else(said, |trouble| trouble.to_string()))
            }
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        }
    }

    /// Describes this coordinator.
    pub(super) async fn describe(&self) -> Result<pb::DescribeResponse, ApiError> {
        let parts = &self.0.parts;
        let (keystore, folder) = (parts.keystore.clone(), parts.state_dir.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let free = rustix::fs::statvfs(&folder).map(|disk| disk.f_bavail * disk.f_frsize);
            (keystore.digest(), free)
        });
        let looking = |why: &dyn std::fmt::Display| errors::internal("looking at the disk", why);
        let (digest, free) = looked.await.map_err(|why| looking(&why))?;
        let status = parts.consensus.status();
        Ok(pb::DescribeResponse {
            replica_id: parts.replica.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: role(status.role).into(),
            term: status.term,
            log_length: length(status.last_log),
            applied_length: length(status.applied),
            disk_free_bytes: free.map_err(|why| looking(&why))?,
            engine: parts.engine.clone(),
            keystore_digest: digest.map_err(|why| looking(&why))?.to_vec().into(),
            members: status.members.iter().map(member).collect(),
            leader_replica_id: status.leader.map_or(0, |leader| leader.0),
        })
    }
}

fn member(member: &Member) -> pb::DescribedMember {
    let contact = member.contact.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
    pb::DescribedMember {
        replica_id: member.replica.0,
        voter: member.voter,
        contact_ms: contact,
        matched_length: member.matched.map(|index| length(Some(index))),
    }
}

/// From the index of the last entry to how many there were.
fn length(index: Option<u64>) -> u64 {
    index.map_or(0, |index| index.saturating_add(1))
}

const fn role(role: ReplicaRole) -> pb::Role {
    match role {
        ReplicaRole::Learner => pb::Role::Learner,
        ReplicaRole::Follower => pb::Role::Follower,
        ReplicaRole::Candidate => pb::Role::Candidate,
        ReplicaRole::Leader => pb::Role::Leader,
        ReplicaRole::Stopped => pb::Role::Stopped,
    }
}
