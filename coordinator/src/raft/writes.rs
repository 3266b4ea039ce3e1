//! The way into the log: commands that arrive together go in together.
//!
//! Each turn of openraft's loop costs a round with every replica and a sync of every disk, however
//! few commands it carries. So one task hands commands over. It first lets run whoever is ready to,
//! which brings in the commands that have already arrived, and then hands all of them over at once.
//! At most [`TURNS`] such batches are under way; a batch waits for its turn no longer than
//! [`PATIENCE`], so that a slow disk or a lost replica delays nobody twice.

use std::{sync::Arc, time::Duration};

use openraft::{
    OptionalSend,
    error::ClientWriteError,
    impls::leader_id_adv::LeaderId,
    raft::{ClientWriteResponse, responder::Responder},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use warren_common::Limits;

use super::types::{Proposal, Raft, TypeConfig};

/// Batches under way at once: one that becomes durable, and the one after it.
const TURNS: usize = 2;
/// How often others are let run before a batch is handed over, while that brings in more.
const GATHER: usize = 8;
/// How long a batch waits for those before it.
const PATIENCE: Duration = Duration::from_millis(5);
/// How long after a batch of several commands another one is expected at any moment.
const CROWDED: Duration = Duration::from_millis(20);

type Written = Result<ClientWriteResponse<TypeConfig>, ClientWriteError<TypeConfig>>;

/// What is under way; clones share it.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<watch::Sender<UnderWay>>);

#[derive(Debug, Default)]
struct UnderWay {
    batches: usize,
    /// When a batch last had more than one command.
    crowded: Option<Instant>,
}

/// One batch under way, until dropped.
struct Turn(Turns);

/// The queue in front of the log; clones share it.
#[derive(Clone)]
pub(super) struct Writes {
    queue: mpsc::Sender<Write>,
}

/// Hands over what is queued.
pub(super) struct Writing {
    waiting: mpsc::Receiver<Write>,
    raft: Raft,
    turns: Turns,
}

/// A command on its way.
struct Write {
    proposal: Proposal,
    leader: Option<LeaderId<u64, u64>>,
    answer: oneshot::Sender<Written>,
}

/// Why openraft said nothing of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// The deadline came first.
    Late,
    /// It has ended.
    Ended,
}

/// Whom openraft tells what became of a command.
pub(crate) struct Answer<T> {
    to: oneshot::Sender<T>,
    /// The batch is under way until its last answer is given or dropped.
    _turn: Arc<Turn>,
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Answer<T> {
    fn on_complete(self, result: T) {
        // who asked may have given up: the command took effect all the same
        let _ = self.to.send(result);
    }
}

impl Turns {
    /// Whether there are callers enough for the next batch to follow soon.
    pub(super) fn crowded(&self) -> bool {
        self.0.borrow().crowded.is_some_and(|at| at.elapsed() < CROWDED)
    }

    /// Begins a batch, after those before it or after [`PATIENCE`].
    async fn begin(&self) -> Turn {
        let mut now = self.0.subscribe();
        // the sender is here: it does not end
        let _ = timeout(PATIENCE, now.wait_for(|now| now.batches < TURNS)).await;
        self.0.send_modify(|now| now.batches += 1);
        Turn(self.clone())
    }

    /// Notes how many commands the newest batch has.
    pub(super) fn filled(&self, commands: usize) {
        if commands > 1 {
            self.0.send_if_modified(|now| {
                now.crowded = Some(Instant::now());
                false
            });
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.send_modify(|now| now.batches -= 1);
    }
}

impl Writes {
    /// Returns the queue and what serves it.
    pub(super) fn new(raft: Raft, turns: Turns) -> (Self, Writing) {
        let (queue, waiting) = mpsc::channel(Limits::WRITE_QUEUE);
        (Self { queue }, Writing { waiting, raft, turns })
    }

    /// Hands a command to this replica, which must lead (with `leader`: in just that leadership),
    /// and returns openraft's answer.
    ///
    /// # Errors
    /// Where there is none, the command may take effect or not. Dropping the future leaves that open
    /// too.
    pub(super) async fn write(
        &self,
        proposal: Proposal,
        leader: Option<LeaderId<u64, u64>>,
        deadline: Instant,
    ) -> Result<Written, Silence> {
        let (answer, outcome) = oneshot::channel();
        let queued = self.queue.send(Write { proposal, leader, answer });
        match timeout_at(deadline, queued).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Silence::Ended),
            Err(_) => return Err(Silence::Late),
        }
        match timeout_at(deadline, outcome).await {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(_)) => Err(Silence::Ended),
            Err(_) => Err(Silence::Late),
        }
    }
}

impl Writing {
    /// Serves until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
    }

    /// Lets run whoever is ready to and takes what that brings in, until it brings in nothing.
    async fn gather(&mut self, batch: &mut Vec<Write>) {
        for _ in 0..GATHER {
            tokio::task::yield_now().await;
            let before = batch.len();
            while let Ok(next) = self.waiting.try_recv() {
                batch.push(next);
            }
            if batch.len() == before && before > 1 {
                return;
            }
        }
    }

    async fn serve(&mut self) {
        let mut batch = Vec::new();
        while let Some(first) = self.waiting.recv().await {
            batch.push(first);
            let turn = Arc::new(self.turns.begin().await);
            self.gather(&mut batch).await;
            self.turns.filled(batch.len());
            for Write { proposal, leader, answer } in batch.drain(..) {
                // who has given up while it waited was told that the outcome is unknown
                if answer.is_closed() {
                    continue;
                }
                let write = self.raft.write(proposal);
                let write = write.responder(Answer { to: answer, _turn: turn.clone() });
                let write = match leader {
                    Some(leader) => write.with_leader(leader),
                    None => write,
                };
                if write.await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_waits_for_its_turn_and_not_for_ever() {
        let turns = Turns::default();
        let (first, second) = (turns.begin().await, turns.begin().await);
        let began = Instant::now();
        let third = turns.begin().await;
        assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
        assert_eq!(turns.0.borrow().batches, 3, "it went on all the same");
        drop((first, second));
        assert_eq!(turns.0.borrow().batches, 1);
        let fourth = tokio::time::timeout(PATIENCE / 2, turns.begin()).await;
        drop((third, fourth.expect("there is a place")));
        assert_eq!(turns.0.borrow().batches, 0);
    }

    #[tokio::test]
    async fn only_a_batch_of_several_makes_another_one_likely() {
        let turns = Turns::default();
        assert!(!turns.crowded());
        turns.filled(1);
        assert!(!turns.crowded());
        turns.filled(2);
        turns.filled(1);
        assert!(turns.crowded(), "for a while");
        let began = Instant::now();
        while turns.crowded() && began.elapsed() < CROWDED * 50 {
            tokio::task::yield_now().await;
        }
        assert!(!turns.crowded(), "and no longer");
    }
}
