//! Why a cluster, or a coordinator of one, cannot be brought up.

use std::time::Duration;

use warren_common::ReplicaId;
use warren_daemon::identity::IdentityError;
use warren_model::Refusal;

use super::{IntentError, JoinError, RecoverError};
use crate::{
    ca::CaError,
    keystore::KeystoreError,
    raft::{InitialiseError, OpenError, ProposeError},
    serve::ServeError,
};

/// How long a group of one may take to elect itself.
pub(super) const ELECTION: Duration = Duration::from_secs(15);

/// Why a cluster cannot be brought up.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// It exists under another name.
    #[error("this coordinator belongs to cluster {name} already")]
    OtherName {
        /// Its name.
        name: String,
    },
    /// A restore was begun in its state folder.
    #[error("a restore was begun in {0} and has not ended")]
    Restoring(String),
    /// It could not go on from its own log.
    #[error("going on without the other coordinators")]
    Recover(#[source] RecoverError),
    /// Its record cannot be kept.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// Its keys cannot be kept.
    #[error("opening the keystore")]
    Keystore(#[source] KeystoreError),
    /// Its authorities cannot be used.
    #[error("preparing the authorities")]
    Ca(#[source] CaError),
    /// This coordinator's certificate cannot be kept.
    #[error("preparing the coordinator's own certificate")]
    Identity(#[source] IdentityError),
    /// Its log cannot be opened.
    #[error("opening the cluster's log")]
    Open(#[source] OpenError),
    /// Its Raft group cannot be made.
    #[error("making the Raft group")]
    Initialise(#[source] InitialiseError),
    /// It did not elect itself in time.
    #[error("no coordinator leads yet, after {} s", ELECTION.as_secs())]
    NotLeading,
    /// A first entry got no answer.
    #[error("writing the cluster's first entries")]
    Propose(#[source] ProposeError),
    /// A first entry was refused.
    #[error("the cluster's first entries were refused: {0}")]
    Refused(Refusal),
    /// It cannot be served.
    #[error("serving the cluster")]
    Serve(#[source] ServeError),
    /// Its log was there once.
    #[error(
        "the log of coordinator {replica} is gone from {folder}, and with it the votes it gave: it \
         must not come back under its id; on another coordinator run: warren cluster replace \
         {replica}, and here what that prints"
    )]
    Wiped {
        /// Which coordinator.
        replica: ReplicaId,
        /// Where its log was.
        folder: String,
    },
    /// The cluster let it go.
    #[error(
        "coordinator {0} was removed from the cluster; to use this machine again run what warren \
         cluster token prints on another coordinator"
    )]
    Removed(ReplicaId),
    /// The keys of the authorities are not here and nobody gives them.
    #[error("the keys of the cluster's authorities are not here")]
    Keys(#[source] Box<JoinError>),
}
