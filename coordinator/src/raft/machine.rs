//! The state machine: committed commands go through the model, records of them to the audit log.
//!
//! The state lives in memory; a crash is healed by the newest checkpoint and the log behind it.
//! Readers get what is applied through [`View`], an O(1) clone that never waits for a writer.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Instant,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::sync::watch;
use warren_common::{NodeId, Revision};
use warren_model::{AuditRecord, ClusterState, command::Touched};

use super::{
    checkpoint::{Checkpoints, Loaded},
    observe,
    types::{Entry, LogId, Reply, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::{
    audit::{AuditLog, AuditSync},
    store::Flusher,
    sync::locked,
    watch::{Gathered, Ring},
};

/// What is applied here, for readers.
pub(crate) struct View {
    state: ArcSwap<ClusterState>,
    revision: watch::Sender<Revision>,
    /// Index of the newest entry in the state; told after the state is there.
    applied: watch::Sender<Option<u64>>,
    events: Arc<Ring>,
    /// Of each node that somebody tells its document.
    documents: Mutex<BTreeMap<NodeId, watch::Sender<u64>>>,
}

impl View {
    /// Returns the state after the last applied entry.
    pub(crate) fn state(&self) -> ClusterState {
        ClusterState::clone(&self.state.load())
    }

    /// Tells the revision after each change.
    pub(crate) fn changes(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// Returns the index of the newest entry that [`View::state`] holds.
    pub(crate) fn applied(&self) -> Option<u64> {
        *self.applied.borrow()
    }

    /// Waits until the entry at `index` is applied here; false where the replica ends before.
    pub(crate) async fn reaches(&self, index: u64) -> bool {
        let mut applied = self.applied.subscribe();
        applied.wait_for(|applied| *applied >= Some(index)).await.is_ok()
    }

    /// Returns the newest events of what was applied here.
    pub(crate) fn events(&self) -> Arc<Ring> {
        self.events.clone()
    }

    /// Tells when a node's document may say something else; costs nothing for the others.
    pub(crate) fn document(&self, node: NodeId) -> watch::Receiver<u64> {
        let mut documents = locked(&self.documents);
        documents.retain(|_, sender| sender.receiver_count() > 0);
        documents.entry(node).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Wakes those who tell the nodes; after the state is there.
    fn tell(&self, touched: &Touched) {
        let documents = locked(&self.documents);
        let wake = |sender: &watch::Sender<u64>| sender.send_modify(|n| *n = n.wrapping_add(1));
        match touched.all {
            true => documents.values().for_each(wake),
            false => touched.nodes.iter().filter_map(|id| documents.get(id)).for_each(wake),
        }
    }

    fn publish(&self, state: &ClusterState, applied: Option<u64>) {
        self.state.store(Arc::new(state.clone()));
        self.applied.send_replace(applied);
        self.revision.send_if_modified(|revision| {
            let changed = *revision != state.revision;
            *revision = state.revision;
            changed
        });
    }
}

/// What applying a batch gathers for the files and the readers.
struct Gains {
    records: Vec<AuditRecord>,
    events: Gathered,
    touched: Touched,
}

impl Gains {
    fn none(state: &ClusterState) -> Self {
        Self { records: Vec::new(), events: Gathered::default(), touched: Touched::none(state) }
    }
}

/// Returns which cluster's which state this is.
fn position(state: &ClusterState) -> (u32, Revision) {
    (state.cluster.as_ref().map_or(0, |cluster| cluster.incarnation), state.revision)
}

/// The state machine of one replica.
pub(crate) struct Machine {
    state: ClusterState,
    applied: Option<LogId>,
    membership: StoredMembership,
    audit: AuditLog,
    checkpoints: Arc<Checkpoints>,
    view: Arc<View>,
    flusher: Flusher,
}

impl Machine {
    /// Starts from a checkpoint, or from nothing.
    pub(crate) fn new(
        loaded: Option<Loaded>,
        checkpoints: Arc<Checkpoints>,
        audit: AuditLog,
        flusher: Flusher,
    ) -> Self {
        let Loaded { meta, state } = loaded.unwrap_or_else(|| Loaded {
            meta: SnapshotMeta::default(),
            state: ClusterState::default(),
        });
        let (incarnation, revision) = position(&state);
        let view = Arc::new(View {
            state: ArcSwap::from_pointee(state.clone()),
            applied: watch::Sender::new(meta.last_log_id.map(|id| id.index)),
            revision: watch::Sender::new(revision),
            events: Arc::new(Ring::new(incarnation, revision)),
            documents: Mutex::default(),
        });
        let (applied, membership) = (meta.last_log_id, meta.last_membership);
        Self { state, applied, membership, audit, checkpoints, view, flusher }
    }

    /// Returns the readers' side.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Applies one entry; a panic of the model is an error that names the entry, because the entry
    /// will be there again after a restart.
    fn apply_one(&mut self, entry: Entry, gains: &mut Gains) -> io::Result<Reply> {
        let position = entry.log_id;
        let reply = match entry.payload {
            EntryPayload::Blank => Reply(None),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(position), membership);
                Reply(None)
            }
            EntryPayload::Normal(proposal) => {
                let state = &mut self.state;
                let before = Gathered::before(state, &proposal.0.command);
                let applied = catch_unwind(AssertUnwindSafe(|| state.apply(&proposal.0)));
                let effect = applied.map_err(|_| {
                    io::Error::other(format!("applying log entry {position} panicked"))
                })?;
                gains.records.extend(effect.audit);
                let (command, named) = (&proposal.0.command, before.as_deref());
                gains.touched.take(command, named, &self.state);
                gains.events.take(&self.state, before.as_ref(), effect.events);
                Reply(Some(effect.result))
            }
        };
        self.applied = Some(position);
        Ok(reply)
    }

    /// Nothing is acknowledged after a failure, whoever met it.
    fn failed(&self, error: io::Error) -> io::Error {
        self.flusher.fail(&error.to_string());
        error
    }

    async fn install(&mut self, meta: &SnapshotMeta, content: Bytes) -> io::Result<()> {
        // The records so far must be on disk before a checkpoint says that they exist.
        let audit = self.audit.syncer();
        let (meta, checkpoints) = (meta.clone(), self.checkpoints.clone());
        let loaded = blocking("installing a checkpoint", move || {
            let read = Checkpoints::decode(&content).map_err(|odd| odd.to_string());
            let loaded = read.and_then(|loaded| {
                let same = loaded.meta == meta;
                if same { Ok(loaded) } else { Err("is not the one announced".to_owned()) }
            });
            let loaded = loaded.map_err(|reason| {
                io::Error::new(io::ErrorKind::InvalidData, format!("the checkpoint {reason}"))
            })?;
            audit.sync().map_err(|error| error.into_io())?;
            checkpoints.write(&meta, &content).map_err(|error| error.into_io())?;
            Ok(loaded)
        });
        let loaded = loaded.await?;
        self.audit.resume(loaded.state.audit).map_err(|error| error.into_io())?;
        self.applied = loaded.meta.last_log_id;
        self.membership = loaded.meta.last_membership;
        self.state = loaded.state;
        let (incarnation, revision) = position(&self.state);
        self.view.events.replace(incarnation, revision);
        self.view.publish(&self.state, self.applied.map(|id| id.index));
        let mut touched = Touched::none(&self.state);
        touched.all = true;
        self.view.tell(&touched);
        Ok(())
    }
}

/// Runs work on files off the async workers.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|panicked| Err(io::Error::other(format!("{what}: {panicked}"))))
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let began = Instant::now();
        let (mut answers, mut gains) = (Vec::new(), Gains::none(&self.state));
        while let Some((entry, responder)) = entries.try_next().await? {
            let reply = self.apply_one(entry, &mut gains).map_err(|error| self.failed(error))?;
            answers.extend(responder.map(|responder| (responder, reply)));
        }
        // One short write into the page cache; it is synced before a checkpoint lets the log go.
        let written = self.audit.append(&gains.records);
        written.map_err(|error| self.failed(error.into_io()))?;
        // Before the state: who reads a revision finds that its events are there.
        let events = gains.events.into_records();
        self.view.events.append(position(&self.state), events, Instant::now());
        self.view.publish(&self.state, self.applied.map(|id| id.index));
        self.view.tell(&gains.touched);
        metrics::histogram!("warren_raft_apply_seconds").record(began.elapsed().as_secs_f64());
        for (responder, reply) in answers {
            responder.send(reply);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            state: self.state.clone(),
            audit: self.audit.syncer(),
            checkpoints: self.checkpoints.clone(),
            flusher: self.flusher.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        content: Bytes,
    ) -> Result<(), io::Error> {
        let installed = self.install(meta, content).await;
        installed.map_err(|error| self.failed(error))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let checkpoints = self.checkpoints.clone();
        let read = move || checkpoints.newest().map_err(|error| error.into_io());
        let newest = blocking("reading a checkpoint", read).await;
        let newest = newest.map_err(|error| self.failed(error))?;
        Ok(newest.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes one checkpoint of the state as it was when it was made.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    state: ClusterState,
    audit: AuditSync,
    checkpoints: Arc<Checkpoints>,
    flusher: Flusher,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, state) = (self.meta.clone(), self.state.clone());
        let (audit, checkpoints) = (self.audit.clone(), self.checkpoints.clone());
        let work = move || -> io::Result<Snapshot> {
            audit.sync().map_err(|error| error.into_io())?;
            let snapshot = Checkpoints::encode(&meta, &state).map_err(|error| error.into_io())?;
            checkpoints.write(&meta, &snapshot).map_err(|error| error.into_io())?;
            Ok(Snapshot { meta, snapshot })
        };
        let began = Instant::now();
        let outcome = blocking("writing a checkpoint", work).await;
        observe::checkpoint(outcome.is_ok(), began.elapsed());
        outcome.inspect_err(|error| self.flusher.fail(&error.to_string()))
    }
}
