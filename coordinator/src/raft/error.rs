//! Why consensus refused, did not answer, or could not start.

use std::path::PathBuf;

use warren_common::{ReplicaId, Revision};

use super::config::Options;
use crate::{audit::AuditError, store::StoreError};

/// A command that did not get an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Longer than [`warren_common::Limits::COMMAND_BYTES`]; nothing happened.
    #[error("a command of {bytes} bytes is longer than the {limit} allowed")]
    TooLarge {
        /// Its encoded length.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// Another replica leads, or nobody; nothing happened.
    #[error("this coordinator does not lead{}", known(leader))]
    NotLeader {
        /// Who does, if known.
        leader: Option<ReplicaId>,
    },
    /// The caller's certificate is on the deny-list; nothing happened.
    #[error("the caller's certificate was revoked")]
    Revoked,
    /// It may take effect, have taken effect, or never: a read after it tells, and proposing it
    /// again with the same request id is safe.
    #[error("no majority confirmed the command in time; it may or may not take effect")]
    Unknown,
    /// The replica stopped, and the command's fate is unknown.
    #[error("this coordinator has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// A read that could not be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Another replica leads, or nobody.
    #[error("this coordinator does not lead{}", known(leader))]
    NotLeader {
        /// Who does, if known.
        leader: Option<ReplicaId>,
    },
    /// No majority answered in time.
    #[error("no majority of coordinators confirmed the read in time")]
    NoQuorum,
    /// Too many reads wait already.
    #[error("too many reads are waiting")]
    Busy,
    /// This replica has not applied what was asked for, and did not in time.
    #[error("this coordinator has applied revision {revision}, and {wanted} is asked for")]
    Behind {
        /// How far it is.
        revision: Revision,
        /// How far it should be.
        wanted: Revision,
    },
    /// The replica stopped.
    #[error("this coordinator has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// A cluster that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitialiseError {
    /// It was made before; nothing happened.
    #[error("this coordinator already belongs to a cluster")]
    Already,
    /// The list of members does not name this replica.
    #[error("the members given do not include this coordinator")]
    NotAMember,
    /// The replica stopped.
    #[error("this coordinator has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Leadership that could not be handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This replica does not lead.
    #[error("this coordinator does not lead{}", known(leader))]
    NotLeader {
        /// Who does, if known.
        leader: Option<ReplicaId>,
    },
    /// The other replica has no vote here.
    #[error("replica {0} is not a voter of this cluster")]
    NotAVoter(ReplicaId),
    /// The other one did not take over in time; this one may still lead.
    #[error("replica {0} did not take over in time")]
    Timeout(ReplicaId),
    /// The replica stopped.
    #[error("this coordinator has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// A replica that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log cannot be opened, read or written.
    #[error("{}", .0.chain())]
    Store(StoreError),
    /// The log holds less than it must, or what it does not know.
    #[error("{} is damaged: {reason}", path.display())]
    Log {
        /// The folder of the log.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The files cannot be trusted with this replica's id: it may have promised what they no longer
    /// hold, and going on would break that promise in silence.
    #[error(
        "{damage}; coordinator {replica} does not start under its old id with damaged files, and \
         nothing was removed from {}. Next: on a healthy coordinator run `warren cluster replace \
         {replica}`, move this folder aside, and join anew with the command it prints. Where this \
         is the only coordinator, move the folder aside and restore a backup (`warren cluster \
         restore`)",
        folder.display()
    )]
    Damaged {
        /// Which replica.
        replica: ReplicaId,
        /// Its state folder.
        folder: PathBuf,
        /// Which file, and what is wrong with it.
        damage: Box<OpenError>,
    },
    /// A checkpoint was written by a newer version.
    #[error("{} was written by a newer version: {reason}; start that version again", path.display())]
    Newer {
        /// The checkpoint.
        path: PathBuf,
        /// Which format it has.
        reason: String,
    },
    /// No checkpoint can be used.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The audit records cannot be opened or do not hold together.
    #[error("opening the audit records")]
    Audit(#[source] AuditError),
    /// The configuration breaks a rule.
    #[error("the raft configuration is invalid: {0}")]
    Config(String),
    /// The log could not be replayed.
    #[error("replaying the log: {0}")]
    Replay(String),
}

impl OpenError {
    /// Says what damage means for a replica; other errors stay what they are. Audit records are no
    /// promise to other coordinators, so their damage has its own way out.
    pub(super) fn for_replica(self, options: &Options) -> Self {
        match self {
            Self::Store(StoreError::Damaged { .. })
            | Self::Log { .. }
            | Self::Checkpoint { .. } => Self::Damaged {
                replica: options.replica,
                folder: options.folder.clone(),
                damage: Box::new(self),
            },
            Self::Store(
                StoreError::NoSpace { .. }
                | StoreError::InUse { .. }
                | StoreError::Foreign { .. }
                | StoreError::Io { .. }
                | StoreError::TooLong { .. }
                | StoreError::Closed
                | StoreError::Failed(_),
            )
            | Self::Damaged { .. }
            | Self::Newer { .. }
            | Self::Audit(_)
            | Self::Config(_)
            | Self::Replay(_) => self,
        }
    }
}

fn known(leader: &Option<ReplicaId>) -> String {
    leader.map_or_else(|| "; nobody is known to".to_owned(), |leader| format!("; {leader} does"))
}
