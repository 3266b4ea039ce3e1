//! The handle through which the coordinator uses consensus.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openraft::{
    BasicNode, Instant as _, ServerState,
    async_runtime::WatchReceiver as _,
    error::{ClientWriteError, ForwardReason, InitializeError, RaftError},
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use warren_common::{Limits, ReplicaId, Revision};
use warren_model::{Applied, AuditRecord, ClusterState, Envelope, Refusal};

use super::{
    answers::{Leadership, Member, ReplicaRole, Status},
    config::{Options, Tuning},
    error::{InitialiseError, OpenError, ProposeError, ReadError, TransferError},
    machine::View,
    observe,
    open::{self, Parts},
    reads::Reads,
    server::RaftRpc,
    types::{Proposal, Raft, Reply},
};
use crate::{
    audit::{self, AuditError},
    store::{Flusher, LogStore, Lost},
};

/// How soon a leader that has just lost or not yet got its lease is asked again.
const LEASE_RETRY: Duration = Duration::from_millis(10);

/// One replica, running. Clones are handles of the same one; [`Consensus::shutdown`] ends it, and
/// dropping the handles does not.
#[derive(Clone)]
pub struct Consensus {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    replica: ReplicaId,
    pub(super) tuning: Tuning,
    pub(super) raft: Raft,
    view: Arc<View>,
    reads: Reads,
    leadership: watch::Receiver<Leadership>,
    store: Arc<dyn LogStore>,
    flusher: Flusher,
    audit: PathBuf,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Consensus {
    /// Opens the files of a replica, replays its log and starts it. A replica that is the only
    /// voter of its cluster stands for election at once.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let folder = options.folder.join("log");
        let store = open::blocking(move || open::sled(&folder)).await?;
        Self::open_on(options, store).await
    }

    /// Starts a replica on a store that is open already.
    pub async fn open_on(options: Options, store: Arc<dyn LogStore>) -> Result<Self, OpenError> {
        let Parts { raft, view, flusher } = open::replica(&options, store.clone()).await?;
        let stop = CancellationToken::new();
        let (known, leadership) = watch::channel(Leadership::default());
        let (reads, rounds) = Reads::new(raft.clone(), view.clone(), options.tuning.read_timeout);
        let tasks = vec![
            tokio::spawn(observe::run(raft.clone(), known, flusher.clone(), stop.clone())),
            tokio::spawn(rounds.run(stop.clone())),
        ];
        let inner = Inner {
            replica: options.replica,
            audit: open::audit_folder(&options.folder),
            tuning: options.tuning,
            raft,
            view,
            reads,
            leadership,
            store,
            flusher,
            stop,
            tasks: Mutex::new(tasks),
        };
        let consensus = Self { inner: Arc::new(inner) };
        consensus.elect_if_alone().await?;
        Ok(consensus)
    }

    /// Proposes a command and waits until it is committed and applied here.
    ///
    /// # Errors
    /// [`ProposeError::Unknown`] and [`ProposeError::Stopped`] leave open whether it took or takes
    /// effect. Dropping the future does too.
    pub async fn propose(
        &self,
        envelope: Envelope,
    ) -> Result<Result<Applied, Refusal>, ProposeError> {
        check_size(&envelope)?;
        let deadline = Instant::now() + self.inner.tuning.write_timeout;
        let lease = Instant::now() + self.inner.tuning.election_max;
        loop {
            let write = self.inner.raft.client_write(Proposal(envelope.clone()));
            let outcome = match tokio::time::timeout_at(deadline, write).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(ProposeError::Unknown),
            };
            let error = match outcome {
                Ok(response) => return answer(response.data),
                Err(error) => error,
            };
            match error {
                // A new leader has no lease for its first milliseconds. Nothing was appended.
                RaftError::APIError(ClientWriteError::ForwardToLeader(to))
                    if to.reason == ForwardReason::LeaseExpired && Instant::now() < lease =>
                {
                    tokio::time::sleep(LEASE_RETRY).await;
                }
                RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                    let leader = to.leader_id.map(ReplicaId);
                    return Err(ProposeError::NotLeader { leader });
                }
                RaftError::APIError(
                    ClientWriteError::LogEntryDiscarded(_)
                    | ClientWriteError::ChangeMembershipError(_)
                    | ClientWriteError::PreconditionFailed(_),
                ) => return Err(ProposeError::Unknown),
                RaftError::Fatal(fatal) => {
                    return Err(ProposeError::Stopped { reason: self.why(&fatal) });
                }
            }
        }
    }

    /// Returns a state that holds everything acknowledged anywhere before the call: one round of
    /// asking the majority, shared by everybody who waits for it. Only on the leader.
    pub async fn linearizable(&self) -> Result<ClusterState, ReadError> {
        self.inner.reads.read().await
    }

    /// Returns what is applied here, which may be old; O(1).
    pub fn local(&self) -> ClusterState {
        self.inner.view.state()
    }

    /// Tells the revision of [`Consensus::local`] after each change of it.
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.inner.view.changes()
    }

    /// Tells who leads, after each change.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Tells why storage failed, once it does. The replica acknowledges nothing any more: the
    /// process should end.
    pub fn failure(&self) -> watch::Receiver<Option<Lost>> {
        self.inner.flusher.lost()
    }

    /// Makes a new cluster of these replicas, each with the host:port of its Raft listener. To be
    /// called on one of them, once; the others start empty.
    pub async fn initialise(
        &self,
        members: BTreeMap<ReplicaId, String>,
    ) -> Result<(), InitialiseError> {
        let nodes: BTreeMap<u64, BasicNode> =
            members.into_iter().map(|(id, address)| (id.0, BasicNode::new(address))).collect();
        match self.inner.raft.initialize(nodes).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                Err(InitialiseError::Already)
            }
            Err(RaftError::APIError(InitializeError::NotInMembers(_))) => {
                Err(InitialiseError::NotAMember)
            }
            Err(RaftError::Fatal(fatal)) => {
                Err(InitialiseError::Stopped { reason: self.why(&fatal) })
            }
        }
    }

    /// Hands leadership to another voter and waits until it has it.
    pub async fn transfer_to(&self, to: ReplicaId) -> Result<(), TransferError> {
        let status = self.status();
        if status.role != ReplicaRole::Leader {
            return Err(TransferError::NotLeader { leader: status.leader });
        }
        if !status.members.iter().any(|member| member.replica == to && member.voter) {
            return Err(TransferError::NotAVoter(to));
        }
        let stopped = |reason: String| TransferError::Stopped { reason };
        let asked = self.inner.raft.trigger().transfer_leader(to.0).await;
        asked.map_err(|fatal| stopped(self.why(&fatal)))?;
        let mut leadership = self.leadership();
        let taken = leadership.wait_for(|known| known.leader == Some(to));
        match tokio::time::timeout(self.inner.tuning.write_timeout, taken).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(stopped("it is shut down".to_owned())),
            Err(_) => Err(TransferError::Timeout(to)),
        }
    }

    /// Returns where this replica stands.
    pub fn status(&self) -> Status {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let matched = |id: &u64| {
            let progress = metrics.replication.as_ref()?.get(id)?.as_ref();
            progress.map(|log_id| log_id.index)
        };
        let heard = |id: &u64| {
            let at = metrics.heartbeat.as_ref()?.get(id)?.as_ref();
            at.map(|at| at.elapsed())
        };
        let members = metrics.membership_config.nodes().map(|(id, node)| Member {
            replica: ReplicaId(*id),
            address: node.addr.clone(),
            voter: voters.contains(id),
            matched: matched(id),
            contact: heard(id),
        });
        let failure = self.inner.flusher.lost().borrow().clone();
        Status {
            replica: self.inner.replica,
            role: match (&metrics.running_state, metrics.state) {
                (Err(_), _) | (Ok(()), ServerState::Shutdown) => ReplicaRole::Stopped,
                (Ok(()), ServerState::Learner) => ReplicaRole::Learner,
                (Ok(()), ServerState::Follower) => ReplicaRole::Follower,
                (Ok(()), ServerState::Candidate) => ReplicaRole::Candidate,
                (Ok(()), ServerState::Leader) => ReplicaRole::Leader,
            },
            term: metrics.current_term,
            leader: metrics.current_leader.map(ReplicaId),
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.map(|id| id.index),
            applied: metrics.last_applied.map(|id| id.index),
            checkpoint: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            members: members.collect(),
            since_quorum: metrics.last_quorum_acked.map(|at| at.elapsed()),
            failure: failure.map(|lost| lost.reason.to_string()),
        }
    }

    /// Returns up to `limit` audit records from number `from` on, as far as this replica has them.
    pub async fn audit(&self, from: u64, limit: usize) -> Result<Vec<AuditRecord>, AuditError> {
        let folder = self.inner.audit.clone();
        let read = move || audit::read(&folder, from, limit);
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|panicked| Err(AuditError::Failed(panicked.to_string())))
    }

    /// Returns the service for the other replicas' messages; the Raft listener mounts it.
    pub fn service(&self) -> RaftRpc {
        RaftRpc::new(self.inner.replica, self.inner.raft.clone())
    }

    /// Writes a checkpoint now, without waiting for it to be finished.
    pub async fn checkpoint(&self) -> Result<(), ReadError> {
        let asked = self.inner.raft.trigger().snapshot().await;
        asked.map_err(|fatal| ReadError::Stopped { reason: self.why(&fatal) })
    }

    /// Stops the replica: openraft, the tasks here, the flusher, and the store's lock; in this
    /// order, with a deadline. Calling it again does nothing.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        let ended = tokio::time::timeout(Limits::SHUTDOWN, self.inner.raft.shutdown()).await;
        if ended.is_err() {
            tracing::warn!("consensus did not stop in time; going on without it");
        }
        let tasks =
            std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of consensus panicked");
            }
        }
        let (flusher, store) = (self.inner.flusher.clone(), self.inner.store.clone());
        let closed = tokio::task::spawn_blocking(move || {
            flusher.stop();
            store.close()
        });
        match closed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = error.chain(), "closing the store"),
            Err(error) => tracing::error!(%error, "closing the store panicked"),
        }
    }

    async fn elect_if_alone(&self) -> Result<(), OpenError> {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let mut voters = metrics.membership_config.voter_ids();
        if voters.next() == Some(self.inner.replica.0) && voters.next().is_none() {
            let elected = self.inner.raft.trigger().elect(false).await;
            elected.map_err(|fatal| OpenError::Replay(self.why(&fatal)))?;
        }
        Ok(())
    }

    /// Prefers the storage's own words to openraft's.
    pub(super) fn why(&self, fatal: &impl std::fmt::Display) -> String {
        let lost = self.inner.flusher.lost().borrow().clone();
        lost.map_or_else(|| fatal.to_string(), |lost| lost.reason.to_string())
    }
}

/// Refuses a command that is too long, before it reaches the log.
fn check_size(envelope: &Envelope) -> Result<(), ProposeError> {
    let limit = Limits::COMMAND_BYTES;
    // What cannot be encoded cannot be logged; no command of the model is like that.
    let bytes = postcard::experimental::serialized_size(envelope).unwrap_or(usize::MAX);
    if bytes > limit { Err(ProposeError::TooLarge { bytes, limit }) } else { Ok(()) }
}

fn answer(reply: Reply) -> Result<Result<Applied, Refusal>, ProposeError> {
    // Only entries without a command have no answer.
    reply.0.ok_or(ProposeError::Unknown)
}
