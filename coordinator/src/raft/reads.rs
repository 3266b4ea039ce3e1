//! Linearizable reads: one round of asking the majority serves everybody who waits.
//!
//! A read that arrives while a round is under way waits for the next one: the running round may
//! have asked before the read was asked for.

use std::{sync::Arc, time::Duration};

use openraft::{
    ReadPolicy,
    error::{LinearizableReadError, RaftError},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use warren_common::{Limits, ReplicaId};
use warren_model::ClusterState;

use super::{
    error::ReadError,
    machine::View,
    types::{Raft, TypeConfig},
};

type Outcome = Result<ClusterState, ReadError>;

/// The queue in front of the rounds.
pub(super) struct Reads {
    queue: mpsc::Sender<oneshot::Sender<Outcome>>,
    deadline: Duration,
}

/// Runs the rounds.
pub(super) struct Rounds {
    waiting: mpsc::Receiver<oneshot::Sender<Outcome>>,
    pub(super) raft: Raft,
    pub(super) view: Arc<View>,
    deadline: Duration,
}

impl Reads {
    /// Returns the queue and what serves it.
    pub(super) fn new(raft: Raft, view: Arc<View>, deadline: Duration) -> (Self, Rounds) {
        let (queue, waiting) = mpsc::channel(Limits::READ_QUEUE);
        (Self { queue, deadline }, Rounds { waiting, raft, view, deadline })
    }

    /// Returns how many reads wait for the next round.
    pub(super) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Returns a state that holds everything acknowledged before the call.
    pub(super) async fn read(&self) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(answer).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => ReadError::Busy,
            mpsc::error::TrySendError::Closed(_) => stopped("it is shut down"),
        })?;
        match tokio::time::timeout(self.deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(stopped("it is shut down")),
            Err(_) => Err(ReadError::NoQuorum),
        }
    }
}

impl Rounds {
    /// Serves until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return,
                first = self.waiting.recv() => match first {
                    Some(first) => first,
                    None => return,
                },
            };
            batch.push(first);
            while let Ok(next) = self.waiting.try_recv() {
                batch.push(next);
            }
            // Those who gave up need no round.
            batch.retain(|answer| !answer.is_closed());
            if batch.is_empty() {
                continue;
            }
            let outcome = tokio::select! {
                () = stop.cancelled() => Err(stopped("it is shut down")),
                outcome = tokio::time::timeout(self.deadline, self.round()) => {
                    outcome.unwrap_or(Err(ReadError::NoQuorum))
                }
            };
            metrics::histogram!("warren_raft_read_batch").record(batch.len() as f64);
            for answer in batch.drain(..) {
                // A reader that left in the meantime is no failure.
                let _ = answer.send(outcome.clone());
            }
        }
    }

    async fn round(&self) -> Outcome {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(self.view.state()),
            Err(error) => Err(read_error(error)),
        }
    }
}

fn read_error(error: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> ReadError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => {
            ReadError::NotLeader { leader: to.leader_id.map(ReplicaId) }
        }
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => ReadError::NoQuorum,
        RaftError::Fatal(fatal) => stopped(&fatal.to_string()),
    }
}

fn stopped(reason: &str) -> ReadError {
    ReadError::Stopped { reason: reason.to_owned() }
}
