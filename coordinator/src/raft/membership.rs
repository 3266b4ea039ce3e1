//! Who is in the Raft group: learners added, given their vote, and taken out again.
//!
//! Each call is one change, decided by the leader and repeated safely: what is so already is done.
//! Whether a change is wise (healthy voters left, keystore copied) is `member/`'s business.

use std::collections::BTreeSet;

use openraft::{
    BasicNode, ChangeMembers,
    async_runtime::WatchReceiver as _,
    error::{ChangeMembershipError, ClientWriteError, RaftError},
};
use tokio::time::{Instant, timeout_at};
use warren_common::ReplicaId;

use super::{
    answers::{Member, ReplicaRole},
    consensus::Consensus,
    types::TypeConfig,
};

/// A change of the group that did not take place, or of which that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This replica does not lead; nothing happened.
    #[error("this coordinator does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<ReplicaId>,
    },
    /// Another change is under way; nothing happened.
    #[error("another change of the coordinators is under way")]
    InProgress,
    /// The replica is no member; nothing happened.
    #[error("coordinator {0} is not in the Raft group")]
    NotAMember(ReplicaId),
    /// It was not confirmed in time; asking again tells.
    #[error("no majority confirmed the change in time; it may or may not take effect")]
    Unknown,
    /// The replica stopped.
    #[error("this coordinator has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

type Refused = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

impl Consensus {
    /// Adds a replica without a vote at this address, or gives one its new address; returns once
    /// that is committed, not once it has the log.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn add_learner(
        &self,
        replica: ReplicaId,
        address: &str,
    ) -> Result<(), MembershipError> {
        let node = BasicNode::new(address);
        match self.member(replica) {
            Some(member) if member.address == address => Ok(()),
            // the certificate names the replica, so that a wrong address reaches nobody
            Some(_) => self.change(ChangeMembers::SetNodes([(replica.0, node)].into())).await,
            None => self.change(ChangeMembers::AddNodes([(replica.0, node)].into())).await,
        }
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn promote(&self, replica: ReplicaId) -> Result<(), MembershipError> {
        match self.member(replica) {
            Some(member) if member.voter && !self.is_joint() => Ok(()),
            Some(_) => self.change(ChangeMembers::AddVoterIds([replica.0].into())).await,
            None => Err(MembershipError::NotAMember(replica)),
        }
    }

    /// Takes a replica out of the group, voter or learner.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn drop_member(&self, replica: ReplicaId) -> Result<(), MembershipError> {
        let id: BTreeSet<u64> = [replica.0].into();
        match self.member(replica) {
            Some(member) if member.voter => self.change(ChangeMembers::RemoveVoters(id)).await,
            Some(_) => self.change(ChangeMembers::RemoveNodes(id)).await,
            None => Ok(()),
        }
    }

    /// Waits until a replica holds every entry that this leader holds now; returns how many that
    /// are. Cancel safe; has no deadline of its own.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn caught_up(&self, replica: ReplicaId) -> Result<u64, MembershipError> {
        let mut changes = self.inner.raft.metrics();
        let target = changes.borrow_and_update().last_log_index;
        loop {
            let status = self.status();
            if status.role != ReplicaRole::Leader {
                return Err(MembershipError::NotLeader { leader: status.leader });
            }
            let member = status.members.iter().find(|member| member.replica == replica);
            let member = member.ok_or(MembershipError::NotAMember(replica))?;
            if member.matched >= target {
                return Ok(target.map_or(0, |index| index.saturating_add(1)));
            }
            changes
                .changed()
                .await
                .map_err(|error| MembershipError::Stopped { reason: error.to_string() })?;
        }
    }

    /// Finishes a change that an earlier leader left half done.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn settle_membership(&self) -> Result<(), MembershipError> {
        if self.status().role != ReplicaRole::Leader || !self.is_joint() {
            return Ok(());
        }
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let wanted = metrics.membership_config.get_joint_config().last().cloned();
        self.change(ChangeMembers::ReplaceAllVoters(wanted.unwrap_or_default())).await
    }

    fn member(&self, replica: ReplicaId) -> Option<Member> {
        self.status().members.into_iter().find(|member| member.replica == replica)
    }

    fn is_joint(&self) -> bool {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        metrics.membership_config.get_joint_config().len() > 1
    }

    async fn change(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), MembershipError> {
        let deadline = Instant::now() + self.inner.tuning.write_timeout;
        let changing = self.inner.raft.change_membership(change, false);
        match timeout_at(deadline, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.refused(error)),
            Err(_) => Err(MembershipError::Unknown),
        }
    }

    fn refused(&self, error: Refused) -> MembershipError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                MembershipError::NotLeader { leader: to.leader_id.map(ReplicaId) }
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
                ChangeMembershipError::InProgress(_) => MembershipError::InProgress,
                ChangeMembershipError::LearnerNotFound(missing) => {
                    MembershipError::NotAMember(ReplicaId(missing.node_id))
                }
                // the leader's own first entry is not committed yet
                ChangeMembershipError::UncommittedLeaderLog(_) => MembershipError::InProgress,
                ChangeMembershipError::EmptyMembership(_)
                | ChangeMembershipError::NodeMetadataChanged(_)
                | ChangeMembershipError::UnsupportedMembershipTransition(_) => {
                    MembershipError::Unknown
                }
            },
            RaftError::APIError(
                ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_),
            ) => MembershipError::Unknown,
            RaftError::Fatal(fatal) => MembershipError::Stopped { reason: self.why(&fatal) },
        }
    }
}
