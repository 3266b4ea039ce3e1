//! What a replica is given: who it is, where its files are, how it reaches the others, its times.

use std::{path::PathBuf, sync::Arc, time::Duration};

use openraft::SnapshotPolicy;
use tonic::transport::Channel;
use warren_common::{Limits, ReplicaId};

use super::error::OpenError;
use crate::store::Engine;

/// Makes a channel to a replica at an address (host:port). Called from async code: it must not
/// block, so it connects lazily; trust and keep-alive are its business. The error is for people.
pub type Connect = Arc<dyn Fn(ReplicaId, &str) -> Result<Channel, String> + Send + Sync>;

/// Everything a replica needs to start.
#[derive(Clone)]
pub struct Options {
    /// Which replica; an id is never reused, not even after its disk was lost.
    pub replica: ReplicaId,
    /// The folder for `log/`, `checkpoints/` and `audit/`.
    pub folder: PathBuf,
    /// Which database keeps the log.
    pub engine: Engine,
    /// How the others are reached.
    pub connect: Connect,
    /// Times and sizes.
    pub tuning: Tuning,
}

/// Times and sizes of a replica; the defaults suit coordinators in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// How often a leader is heard.
    pub heartbeat: Duration,
    /// The shortest silence before an election.
    pub election_min: Duration,
    /// The longest silence before an election, and the leader's lease.
    pub election_max: Duration,
    /// Connecting and one call together; below `election_min`, or votes come too late.
    pub rpc_timeout: Duration,
    /// A write; past it the outcome is unknown.
    pub write_timeout: Duration,
    /// A linearizable read.
    pub read_timeout: Duration,
    /// Sending and installing one checkpoint.
    pub checkpoint_timeout: Duration,
    /// Entries between two checkpoints.
    pub checkpoint_every: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            rpc_timeout: Duration::from_millis(400),
            write_timeout: Limits::WRITE_TIMEOUT,
            read_timeout: Limits::READ_TIMEOUT,
            checkpoint_timeout: Limits::CHECKPOINT_TIMEOUT,
            checkpoint_every: 5000,
        }
    }
}

impl Tuning {
    /// Returns openraft's configuration, or which rule it breaks.
    pub(super) fn to_raft(&self) -> Result<openraft::Config, OpenError> {
        if self.rpc_timeout >= self.election_min {
            return Err(OpenError::Config(format!(
                "rpc_timeout ({:?}) must be shorter than election_min ({:?}), or candidates give up \
                 before the votes are back",
                self.rpc_timeout, self.election_min
            )));
        }
        if self.checkpoint_every == 0 {
            return Err(OpenError::Config("checkpoint_every must be at least 1".to_owned()));
        }
        let config = openraft::Config {
            cluster_name: "warren".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: millis(self.checkpoint_timeout),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.checkpoint_every),
            // For those that lag; what the previous checkpoint needs stays besides (`log.rs`).
            max_in_snapshot_log_to_keep: self.checkpoint_every.saturating_mul(2),
            replication_lag_threshold: self.checkpoint_every.saturating_mul(3),
            purge_batch_size: self.checkpoint_every.min(256),
            max_payload_entries: 300,
            max_append_entries: Some(1024),
            api_channel_size: Some(Limits::WRITE_QUEUE as u64),
            enable_pre_vote: Some(true),
            quorum_loss_probe_interval: Some(millis(self.election_max).saturating_mul(2)),
            // What was applied before a crash may be newer than the committed index on disk, so a
            // restarted leader has to be elected again before it may serve.
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| OpenError::Config(error.to_string()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_slow_rpc_is_refused() {
        let config = Tuning::default().to_raft().expect("valid");
        assert_eq!(config.enable_pre_vote, Some(true));
        assert!(config.quorum_loss_probe_interval.is_some());
        let slow = Tuning { rpc_timeout: Duration::from_millis(500), ..Tuning::default() };
        assert!(slow.to_raft().expect_err("refused").to_string().contains("rpc_timeout"));
        let never = Tuning { checkpoint_every: 0, ..Tuning::default() };
        assert!(never.to_raft().is_err());
        let hasty = Tuning { heartbeat: Duration::from_secs(2), ..Tuning::default() };
        assert!(hasty.to_raft().is_err());
    }
}
