//! Linearizable reads: one round of asking the majority serves everybody who waits.
//!
//! A read that arrives while a round is under way waits for the next one: the running round may
//! have asked before the read was asked for. There are two queues. [`Here`] serves this replica
//! while it leads. [`Anywhere`] serves any replica: it takes the leader's word for how far the log
//! must be applied, which is a read of the first queue there.

use std::{sync::Arc, time::Duration};

use openraft::{
    ReadPolicy,
    error::{LinearizableReadError, RaftError},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use warren_common::{Limits, ReplicaId};
use warren_model::ClusterState;

use super::{
    answers::{Leadership, leader_elsewhere, succeeded},
    error::ReadError,
    forward::{Forwarder, Index, Lost},
    machine::View,
    types::{Raft, TypeConfig},
};

/// How soon a round that met no leader is tried again without news of one.
const RETRY: Duration = Duration::from_millis(50);

/// A state and the index of the newest entry in it.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) state: ClusterState,
    pub(super) index: Option<u64>,
}

type Outcome = Result<Point, ReadError>;

/// How one round is made.
pub(super) trait Round: Send + 'static {
    /// Returns a point that holds everything acknowledged before the call.
    fn round(&self) -> impl Future<Output = Outcome> + Send;
}

/// The queue in front of the rounds; clones share it.
#[derive(Clone)]
pub(super) struct Reads {
    queue: mpsc::Sender<oneshot::Sender<Outcome>>,
    deadline: Duration,
}

/// Runs the rounds.
pub(super) struct Rounds<R> {
    waiting: mpsc::Receiver<oneshot::Sender<Outcome>>,
    by: R,
    deadline: Duration,
}

impl Reads {
    /// Returns the queue and what serves it.
    pub(super) fn new<R: Round>(by: R, deadline: Duration) -> (Self, Rounds<R>) {
        let (queue, waiting) = mpsc::channel(Limits::READ_QUEUE);
        (Self { queue, deadline }, Rounds { waiting, by, deadline })
    }

    /// Returns how many reads wait for the next round.
    pub(super) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Returns a state that holds everything acknowledged before the call.
    pub(super) async fn read(&self) -> Result<ClusterState, ReadError> {
        self.read_at().await.map(|point| point.state)
    }

    /// Returns a point that holds everything acknowledged before the call.
    pub(super) async fn read_at(&self) -> Outcome {
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

impl<R: Round> Rounds<R> {
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
                outcome = tokio::time::timeout(self.deadline, self.by.round()) => {
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
}

/// This replica, as long as it leads.
#[derive(Clone)]
pub(super) struct Here {
    pub(super) replica: ReplicaId,
    pub(super) raft: Raft,
    pub(super) view: Arc<View>,
}

impl Here {
    fn point(&self) -> Point {
        // the index first: the state may be newer than it, never older
        let index = self.view.applied();
        Point { state: self.view.state(), index }
    }
}

impl Round for Here {
    async fn round(&self) -> Outcome {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(self.point()),
            Err(error) => Err(read_error(error)),
        }
    }
}

/// Whoever leads.
pub(super) struct Anywhere {
    pub(super) here: Here,
    pub(super) leading: Reads,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) forwarder: Arc<Forwarder>,
    /// How long a round waits for an election.
    pub(super) patience: Duration,
}

impl Anywhere {
    async fn attempt(&self, deadline: Instant) -> Outcome {
        let Some(leader) = leader_elsewhere(self.here.replica, &self.here.raft) else {
            return self.leading.read_at().await;
        };
        metrics::counter!("warren_raft_forwarded_total", "kind" => "read").increment(1);
        let asking = self.forwarder.read_index(&leader, deadline);
        let news = succeeded(&self.here.raft, leader.replica);
        match self.forwarder.unless(news, &leader, asking).await {
            Ok(Index::At(None)) => Ok(self.here.point()),
            Ok(Index::At(Some(index))) => match self.here.view.reaches(index).await {
                true => Ok(self.here.point()),
                false => Err(stopped("it is shut down")),
            },
            Ok(Index::NotLeader(leader)) => {
                Err(ReadError::NotLeader { leader: leader.map(ReplicaId) })
            }
            Ok(Index::NoQuorum) => Err(ReadError::NoQuorum),
            Ok(Index::Busy) => Err(ReadError::Busy),
            // its successor is about to be elected
            Ok(Index::Stopped(_)) => Err(ReadError::NotLeader { leader: None }),
            Err(Lost(reason)) => {
                tracing::debug!(leader = %leader.replica, reason, "the leader gave no answer");
                Err(ReadError::NotLeader { leader: None })
            }
        }
    }
}

impl Round for Anywhere {
    async fn round(&self) -> Outcome {
        let mut leadership = self.leadership.clone();
        let until = Instant::now() + self.patience;
        loop {
            leadership.mark_unchanged();
            let error = match self.attempt(until).await {
                Err(error @ ReadError::NotLeader { .. }) => error,
                outcome => return outcome,
            };
            if Instant::now() >= until {
                return Err(error);
            }
            // news of a leader, or a moment
            let _ = tokio::time::timeout(RETRY, leadership.changed()).await;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Notify;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// Rounds that are numbered and last until they are let go.
    #[derive(Clone, Default)]
    struct Held {
        begun: Arc<AtomicU64>,
        started: Arc<Notify>,
        go: Arc<Notify>,
    }

    impl Round for Held {
        async fn round(&self) -> Outcome {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            self.started.notify_one();
            self.go.notified().await;
            Ok(Point { state: ClusterState::default(), index: Some(number) })
        }
    }

    /// Lease rule R2: a round that began before a renewal came confirms nothing of it.
    #[tokio::test]
    async fn what_comes_during_a_round_is_answered_by_the_next_one() {
        let held = Held::default();
        let (reads, rounds) = Reads::new(held.clone(), SOON);
        let stop = CancellationToken::new();
        let running = tokio::spawn(rounds.run(stop.clone()));
        let ask = |reads: Reads| tokio::spawn(async move { reads.read_at().await });
        let first = ask(reads.clone());
        held.started.notified().await;
        let (second, third) = (ask(reads.clone()), ask(reads.clone()));
        while reads.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        held.go.notify_one();
        let index = |outcome: Result<Outcome, tokio::task::JoinError>| {
            outcome.expect("no panic").expect("an answer").index
        };
        assert_eq!(index(first.await), Some(1));
        held.started.notified().await;
        assert!(!second.is_finished() && !third.is_finished(), "the first round was not theirs");
        held.go.notify_one();
        assert_eq!((index(second.await), index(third.await)), (Some(2), Some(2)), "one for both");
        stop.cancel();
        running.await.expect("no panic");
    }
}
