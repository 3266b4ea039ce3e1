//! What a replica says of itself.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use warren_common::ReplicaId;

use super::{forward::Leader, types::Raft};

/// Who leads, as far as this replica knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader of `term`; none during an election or where nobody was heard of.
    pub leader: Option<ReplicaId>,
    /// The term this replica is in.
    pub term: u64,
    /// This replica leads, and has applied the blank entry of its own term: what it reads from now
    /// on includes everything that was ever acknowledged. It may be deposed without knowing it yet;
    /// only a linearizable read says more.
    pub leading: bool,
}

/// What a replica does in its term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaRole {
    /// Takes the log, has no vote.
    Learner,
    /// Takes the log and votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Has stopped.
    Stopped,
}

/// One member of the Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which replica.
    pub replica: ReplicaId,
    /// host:port of its Raft listener.
    pub address: String,
    /// It has a vote.
    pub voter: bool,
    /// The newest entry it is known to hold; only the leader knows.
    pub matched: Option<u64>,
    /// How long ago it was last heard of; none for this replica itself.
    pub contact: Option<Duration>,
}

/// Where a replica stands. Indexes count entries from 0; none where there is no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which replica.
    pub replica: ReplicaId,
    /// What it does.
    pub role: ReplicaRole,
    /// In which term.
    pub term: u64,
    /// Who leads it.
    pub leader: Option<ReplicaId>,
    /// Newest entry in the log.
    pub last_log: Option<u64>,
    /// Newest entry known to be committed.
    pub committed: Option<u64>,
    /// Newest entry in the state.
    pub applied: Option<u64>,
    /// Newest entry in a checkpoint.
    pub checkpoint: Option<u64>,
    /// Newest entry removed from the front of the log.
    pub purged: Option<u64>,
    /// The group, by replica.
    pub members: Vec<Member>,
    /// Leader only: how long ago a majority last confirmed it.
    pub since_quorum: Option<Duration>,
    /// Why the replica stopped, if a failure stopped it.
    pub failure: Option<String>,
}

/// Returns once another replica than `asked` leads, as far as this one knows; never where consensus
/// ends before. Cancel safe.
pub(super) async fn succeeded(raft: &Raft, asked: ReplicaId) {
    // openraft tells these before those that `leader_elsewhere` reads: what differs is news
    let mut roles = raft.server_metrics();
    loop {
        let leader = roles.borrow_and_update().current_leader;
        if leader.is_some_and(|leader| leader != asked.0) {
            return;
        }
        if roles.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Returns the leader where it is another replica; none while this one leads or nobody does.
pub(super) fn leader_elsewhere(own: ReplicaId, raft: &Raft) -> Option<Leader> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let leader = metrics.current_leader.filter(|id| *id != own.0)?;
    let (_, node) = metrics.membership_config.nodes().find(|(id, _)| **id == leader)?;
    Some(Leader { replica: ReplicaId(leader), address: node.addr.clone() })
}
