//! `cluster recover`: one survivor goes on alone after the majority is lost for good.
//!
//! Asked over the local socket, done at the next start, which the same call brings about: the whole
//! of the survivor's log is applied, its log and checkpoints are moved aside and kept, and the state
//! is seeded under a new replica id and a new incarnation. Every step finds what an earlier attempt
//! left.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tonic::Code;
use tracing::{info, warn};
use warren_common::ReplicaId;
use warren_daemon::{
    clock,
    files::{self, FileError},
    telemetry::Chain,
};
use warren_proto::{error::ApiError, pb::admin::v1 as pb};

use super::{Begin, Founder, Intent, IntentError};
use crate::{
    api::errors,
    backup::last_replica,
    raft::{self, OpenError, Seed, SeedError, Status, decode_state, encode_state, salvage},
    store::{Engine, StoreError},
};

const FILE: &str = "recovering.json";
const STATE: &str = "state.bin";
/// How long another coordinator is given to be found alive.
const PROBE: Duration = Duration::from_secs(2);

/// A recovery that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    incarnation: u32,
    /// Known only once the log was read.
    position: Option<Position>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    replica: ReplicaId,
    term: u64,
    index: u64,
}

/// Why a survivor cannot go on alone.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A file of the state folder.
    #[error("preparing the state folder")]
    Folder(#[source] FileError),
    /// What was asked for is not readable.
    #[error("{FILE} in the state folder is damaged: {0}")]
    Damaged(String),
    /// Log or checkpoints cannot be read.
    #[error("reading the survivor's log")]
    Salvage(#[source] OpenError),
    /// The state cannot be kept.
    #[error("writing the survivor's state")]
    State(#[source] StoreError),
    /// The old log cannot be moved aside.
    #[error("moving {} aside", path.display())]
    Aside {
        /// What.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The new log.
    #[error("seeding the log")]
    Seed(#[source] SeedError),
    /// The intent.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// The coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
}

impl Founder {
    /// Decides whether this coordinator may go on alone; if so, it is done at the next start, which
    /// is asked for.
    pub(super) async fn recover(
        &self,
        request: &pb::RecoverRequest,
    ) -> Result<pb::RecoverResponse, ApiError> {
        let stage = self.0.stage.lock().await;
        let folder = self.state_dir().to_owned();
        let intent = Intent::load(&folder).map_err(|error| broken(&error.into()))?;
        let Some(intent) = intent else { return Err(errors::not_initialised()) };
        if intent.name != request.cluster_name {
            let message = format!("this is cluster {}, not {}", intent.name, request.cluster_name);
            return Err(ApiError::new(Code::FailedPrecondition, "NOT_CONFIRMED", message)
                .next("give the cluster's own name"));
        }
        let Some(opened) = &stage.opened else {
            let message = "the cluster's log is not open";
            return Err(ApiError::new(Code::Unavailable, "STOPPED", message)
                .next("look at the coordinator's log: it says why"));
        };
        let status = opened.consensus.status();
        if opened.consensus.linearizable().await.is_ok() {
            let message = "a majority of the coordinators answers";
            return Err(ApiError::new(Code::FailedPrecondition, "QUORUM_ANSWERS", message)
                .next("nothing is lost: warren cluster status; remove single ones with care"));
        }
        alone(&status).await?;
        let state = opened.consensus.local();
        let known = state.cluster.as_ref().map_or(intent.incarnation, |one| one.incarnation);
        let now = u32::try_from(clock::now().0 / 1000).unwrap_or(u32::MAX);
        let incarnation = known.max(intent.incarnation).saturating_add(1).max(now);
        let pending = Pending { incarnation, position: None };
        store(&folder, &pending).map_err(|error| broken(&error))?;
        let others = status.members.iter().map(|member| member.replica);
        let highest = others.clone().map(|id| id.0).max().unwrap_or_default();
        warn!(incarnation, "going on alone: the coordinator starts anew for it");
        self.0.again.store(true, Ordering::Release);
        self.shutdown().request();
        Ok(pb::RecoverResponse {
            incarnation,
            replica_id: highest.max(last_replica(&state)).saturating_add(1),
            set_aside: aside(&folder, incarnation).display().to_string(),
            dropped_replica_ids: others.filter(|id| *id != intent.replica).map(|id| id.0).collect(),
        })
    }

    /// Whether the process is to start anew once it has ended.
    pub fn again(&self) -> bool {
        self.0.again.load(Ordering::Acquire)
    }
}

/// Refuses where so many others can be dialled that they could elect somebody with us, or without.
async fn alone(status: &Status) -> Result<(), ApiError> {
    let voters: Vec<_> = status.members.iter().filter(|member| member.voter).collect();
    let mut there = Vec::new();
    for other in voters.iter().filter(|member| member.replica != status.replica) {
        let dialled = tokio::time::timeout(PROBE, TcpStream::connect(other.address.as_str())).await;
        if matches!(dialled, Ok(Ok(_))) {
            there.push(format!("{} at {}", other.replica, other.address));
        }
    }
    let majority = voters.len() / 2 + 1;
    if there.is_empty() || there.len() + 1 < majority {
        return Ok(());
    }
    let message = "enough coordinators can be reached to form a majority";
    Err(ApiError::new(Code::FailedPrecondition, "QUORUM_ANSWERS", message)
        .why(format!("something listens for coordinator {}", there.join(", ")))
        .next("wait for them; where they are lost for good, stop them first"))
}

/// Does what was asked for before the last end, if anything was.
pub(super) async fn finish(founder: &Founder) -> Result<(), RecoverError> {
    let folder = founder.state_dir().to_owned();
    let Some(pending) = load(&folder)? else { return Ok(()) };
    let Some(mut intent) = Intent::load(&folder)? else { return Ok(()) };
    if intent.incarnation >= pending.incarnation {
        return files::remove_optional(&folder.join(FILE)).map_err(RecoverError::Folder);
    }
    let (path, engine) = (folder.clone(), founder.config().engine);
    let found = tokio::task::spawn_blocking(move || set_aside(&path, engine, pending)).await;
    let (pending, position, state) = found.map_err(|_| RecoverError::Stopping)??;
    let before = intent.replica;
    intent.incarnation = pending.incarnation;
    intent.replica = position.replica;
    intent.peers.clear();
    intent.begin = Some(Begin {
        reason: format!("coordinator {before} went on alone: the majority was lost"),
        backup: None,
    });
    let seeding = Seed {
        folder: folder.clone(),
        engine,
        replica: position.replica,
        address: founder.addresses(&intent).raft_address,
        term: position.term.saturating_add(1),
        index: position.index.saturating_add(1),
        state,
    };
    let seeded = tokio::task::spawn_blocking(move || raft::seed(&seeding)).await;
    seeded.map_err(|_| RecoverError::Stopping)?.map_err(RecoverError::Seed)?;
    intent.store(&folder)?;
    files::remove_optional(&folder.join(FILE)).map_err(RecoverError::Folder)?;
    info!(replica = %intent.replica, incarnation = intent.incarnation, "the survivor goes on alone");
    Ok(())
}

type Aside = (Pending, Position, warren_model::ClusterState);

/// Reads the log once, keeps what it gives, and moves it aside; blocks.
fn set_aside(folder: &Path, engine: Engine, mut pending: Pending) -> Result<Aside, RecoverError> {
    let aside = aside(folder, pending.incarnation);
    files::private_folder(&aside).map_err(RecoverError::Folder)?;
    let position = match pending.position {
        Some(position) => position,
        None => {
            let found = salvage(folder, engine).map_err(RecoverError::Salvage)?;
            let highest = found.replicas.iter().max().copied().unwrap_or_default();
            let replica = ReplicaId(highest.max(last_replica(&found.state)).saturating_add(1));
            let content = encode_state(&found.state).map_err(RecoverError::State)?;
            files::write_atomic(&aside.join(STATE), &content, 0o600)
                .map_err(RecoverError::Folder)?;
            let position = Position { replica, term: found.term, index: found.index };
            pending.position = Some(position);
            store(folder, &pending)?;
            position
        }
    };
    for name in ["log", "checkpoints", "log-seal", "log-engine"] {
        let (from, to) = (folder.join(name), aside.join(name));
        if !to.exists() && from.exists() {
            let moved = std::fs::rename(&from, &to);
            moved.map_err(|source| RecoverError::Aside { path: from, source })?;
        }
    }
    files::sync_folder(&aside).map_err(RecoverError::Folder)?;
    files::sync_folder(folder).map_err(RecoverError::Folder)?;
    let path = aside.join(STATE);
    let content = std::fs::read(&path);
    let content = content.map_err(|source| RecoverError::Aside { path, source })?;
    let state = decode_state(&Bytes::from(content)).map_err(RecoverError::Damaged)?;
    Ok((pending, position, state))
}

fn aside(folder: &Path, incarnation: u32) -> PathBuf {
    folder.join(format!("before-{incarnation}"))
}

fn load(folder: &Path) -> Result<Option<Pending>, RecoverError> {
    let text = files::read_optional(&folder.join(FILE)).map_err(RecoverError::Folder)?;
    let read = |text: String| {
        serde_json::from_str(&text).map_err(|error| RecoverError::Damaged(error.to_string()))
    };
    text.map(read).transpose()
}

fn store(folder: &Path, pending: &Pending) -> Result<(), RecoverError> {
    let text = serde_json::to_vec(pending);
    let text = text.map_err(|error| RecoverError::Damaged(error.to_string()))?;
    files::write_atomic(&folder.join(FILE), &text, 0o600).map_err(RecoverError::Folder)
}

fn broken(error: &RecoverError) -> ApiError {
    let cause = Chain(error).to_string();
    errors::internal("going on alone", &cause).why(cause)
}
