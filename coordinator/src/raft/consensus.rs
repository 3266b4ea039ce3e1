//! The handle through which the coordinator uses consensus.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openraft::{
    BasicNode, ServerState,
    async_runtime::WatchReceiver as _,
    error::{InitializeError, RaftError},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use warren_common::{Limits, NodeId, ReplicaId, Revision};
use warren_model::ClusterState;

use super::{
    answers::{Leadership, Member, ReplicaRole, Status},
    config::{Options, Tuning},
    contact::Contacts,
    error::{InitialiseError, OpenError, ReadError, TransferError},
    forward::Forwarder,
    machine::View,
    observe::{self, Seen},
    open::{self, Parts},
    reads::{Anywhere, Here, Reads},
    server::RaftRpc,
    types::Raft,
    writes::Writes,
};
use crate::{
    measure,
    store::{Flusher, LogStore, Lost},
    watch::Ring,
};

/// One replica, running. Clones are handles of the same one; [`Consensus::shutdown`] ends it, and
/// dropping the handles does not.
#[derive(Clone)]
pub struct Consensus {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) replica: ReplicaId,
    pub(super) tuning: Tuning,
    pub(super) raft: Raft,
    pub(super) view: Arc<View>,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) contacts: Arc<Contacts>,
    /// Reads of any replica.
    reads: Reads,
    /// Reads of this one while it leads.
    pub(super) leading: Reads,
    /// The way into the log.
    pub(super) writes: Writes,
    leadership: watch::Receiver<Leadership>,
    store: Arc<dyn LogStore>,
    flusher: Flusher,
    /// The folder of the audit records, and turns to read from it.
    pub(super) audit: PathBuf,
    pub(super) audit_turns: Arc<Semaphore>,
    /// For looking whether the newest record is there.
    pub(super) audit_look: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Consensus {
    /// Opens the files of a replica, replays its log and starts it. A replica that is the only
    /// voter of its cluster stands for election at once.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let (folder, engine) = (options.folder.clone(), options.engine);
        let opening = open::blocking(move || open::store(&folder, engine)).await;
        let store = opening.map_err(|error| error.for_replica(&options))?;
        Self::open_on(options, store).await
    }

    /// Starts a replica on a store that is open already.
    pub async fn open_on(options: Options, store: Arc<dyn LogStore>) -> Result<Self, OpenError> {
        let opening = open::replica(&options, store.clone()).await;
        let Parts { raft, view, flusher, contacts, turns } =
            opening.map_err(|error| error.for_replica(&options))?;
        let stop = CancellationToken::new();
        let (known, leadership) = watch::channel(Leadership::default());
        let forwarder = Arc::new(Forwarder::new(options.connect.clone()));
        let deadline = options.tuning.read_timeout;
        let here = Here { replica: options.replica, raft: raft.clone(), view: view.clone() };
        let (leading, confirming) = Reads::new(here.clone(), deadline);
        let anywhere = Anywhere {
            here,
            leading: leading.clone(),
            leadership: leadership.clone(),
            forwarder: forwarder.clone(),
            patience: options.tuning.election_max * 2,
        };
        let (reads, rounds) = Reads::new(anywhere, deadline);
        let seen = Seen { leadership: known, contacts: contacts.clone(), flusher: flusher.clone() };
        let (writes, writing) = Writes::new(raft.clone(), turns);
        let tasks = vec![
            tokio::spawn(writing.run(stop.clone())),
            tokio::spawn(observe::run(raft.clone(), seen, stop.clone())),
            tokio::spawn(rounds.run(stop.clone())),
            tokio::spawn(confirming.run(stop.clone())),
        ];
        let inner = Inner {
            replica: options.replica,
            audit: open::audit_folder(&options.folder),
            audit_turns: Arc::new(Semaphore::new(Limits::AUDIT_READERS)),
            audit_look: Arc::new(Semaphore::new(1)),
            tuning: options.tuning,
            raft,
            view,
            forwarder,
            contacts,
            reads,
            leading,
            writes,
            leadership,
            store,
            flusher,
            stop,
            tasks: Mutex::new(tasks),
        };
        let consensus = Self { inner: Arc::new(inner) };
        match consensus.elect_if_alone().await {
            Ok(()) => Ok(consensus),
            Err(error) => {
                // its tasks and the store's lock would outlive the call
                consensus.shutdown().await;
                Err(error)
            }
        }
    }

    /// Returns a state that holds everything acknowledged anywhere before the call: one round of
    /// asking the majority, shared by everybody who waits for it. A replica that does not lead asks
    /// the leader how far it must be, and waits until it is.
    pub async fn linearizable(&self) -> Result<ClusterState, ReadError> {
        self.inner.reads.read().await
    }

    /// Returns what [`Consensus::linearizable`] does, only while this replica leads, and so confirms
    /// that it did lead after the call began.
    ///
    /// # Errors
    /// [`ReadError::NotLeader`] where it does not.
    pub async fn linearizable_leading(&self) -> Result<ClusterState, ReadError> {
        self.inner.leading.read().await
    }

    /// Waits until the change that made `revision` is applied here.
    ///
    /// # Errors
    /// [`ReadError::Behind`] where it is not in time.
    pub async fn reaches(&self, revision: Revision) -> Result<(), ReadError> {
        let mut changes = self.changes();
        let reached = changes.wait_for(|known| *known >= revision);
        match tokio::time::timeout(self.inner.tuning.read_timeout, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped { reason: "it is shut down".to_owned() }),
            Err(_) => {
                let known = self.local().revision;
                Err(ReadError::Behind { revision: known, wanted: revision })
            }
        }
    }

    /// Returns how long ago [`Consensus::local`] is known to have held everything that was
    /// acknowledged: since a majority confirmed this replica as leader, or since it heard one, whichever
    /// was last. None where neither has happened since it started; zero on the only voter.
    ///
    /// What a leader says is counted from its arrival: by its time on the way the state may be older.
    pub fn age(&self) -> Option<Duration> {
        let confirmed = observe::confirmed(&self.inner.raft.metrics().borrow_watched());
        let applied = self.inner.view.applied();
        if let Some((at, committed)) = confirmed {
            self.inner.contacts.told(at, committed, applied);
        }
        self.inner.contacts.age(applied)
    }

    /// Returns how long ago each other replica was heard, by replica; those never heard since the
    /// start are not in it.
    pub fn contacts(&self) -> BTreeMap<ReplicaId, Duration> {
        self.inner.contacts.all()
    }

    /// Returns for how long no leader with a majority has been in sight; none while one is. A leader
    /// that was lost together with the majority is the last one known, for ever: only its silence
    /// tells.
    pub fn without_quorum(&self) -> Option<Duration> {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let (since, limit) = match (metrics.state, metrics.current_leader) {
            (ServerState::Leader, _) => {
                (observe::since_quorum(&metrics)?, self.inner.tuning.election_max)
            }
            (_, None) => return self.inner.contacts.leaderless(),
            (_, Some(leader)) => {
                let silence = self.inner.contacts.silence(ReplicaId(leader));
                (silence, self.inner.tuning.election_max * 2)
            }
        };
        (since > limit).then_some(since)
    }

    /// Returns what is applied here, which may be old; O(1).
    pub fn local(&self) -> ClusterState {
        self.inner.view.state()
    }

    /// Tells the revision of [`Consensus::local`] after each change of it.
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.inner.view.changes()
    }

    /// Tells when the document of a node may say something else than before.
    pub fn document(&self, node: NodeId) -> watch::Receiver<u64> {
        self.inner.view.document(node)
    }

    /// Returns the newest events of what was applied here; [`Consensus::changes`] tells when there
    /// are more.
    pub fn events(&self) -> Arc<Ring> {
        self.inner.view.events()
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
        let heard = self.contacts();
        let members = metrics.membership_config.nodes().map(|(id, node)| Member {
            replica: ReplicaId(*id),
            address: node.addr.clone(),
            voter: voters.contains(id),
            matched: matched(id),
            contact: heard.get(&ReplicaId(*id)).copied(),
        });
        let failure = self.inner.flusher.lost().borrow().clone();
        let since_quorum = observe::since_quorum(&metrics);
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
            since_quorum,
            failure: failure.map(|lost| lost.reason.to_string()),
        }
    }

    /// Returns after how many entries a checkpoint is written.
    pub fn checkpoint_every(&self) -> u64 {
        self.inner.tuning.checkpoint_every
    }

    /// Sets the gauges of this replica, for a scrape.
    pub fn sample(&self) {
        let led = self.without_quorum().is_none();
        observe::sample(&self.inner.raft.metrics().borrow_watched(), &self.inner.flusher, led);
        measure::probe::raft_queues(self.inner.reads.waiting(), self.inner.flusher.waiting());
    }

    /// Returns the service for the other replicas' messages; the Raft listener mounts it. Calls
    /// that stay open end with `stop`.
    pub fn service(&self, stop: CancellationToken) -> RaftRpc {
        RaftRpc::new(self.clone(), stop)
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
