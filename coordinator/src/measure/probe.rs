//! What is read when somebody scrapes: the state's sizes, queues, connections, the disk.
//!
//! A scrape walks the workspaces once and lists four folders; nothing here waits for a lock that is
//! held while something is done.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use metrics::gauge;
use warren_common::{Limits, Timestamp};
use warren_daemon::identity::Connections;
use warren_model::{ClusterState, LiveView, Liveness, state::PhaseKind};

use crate::{hub::Hub, live::Live, raft::Consensus};

/// What a coordinator that serves is asked for at each scrape.
pub struct Probe {
    /// State, log and leadership.
    pub consensus: Consensus,
    /// What nodes report.
    pub live: Arc<Live>,
    /// Which nodes are connected.
    pub hub: Arc<Hub>,
    /// Who is connected.
    pub connections: Connections,
    /// The state folder.
    pub folder: PathBuf,
}

impl Probe {
    /// Sets every gauge that is read rather than counted.
    pub fn sample(&self) {
        self.consensus.sample();
        let state = self.consensus.local();
        objects(&state);
        workspaces(&state);
        nodes(&state, self.live.snapshot());
        gauge!("warren_connections_open").set(number(self.connections.count()));
        for (stream, count) in self.hub.counts() {
            gauge!("warren_node_streams_open", "stream" => stream).set(number(count));
        }
        disk(&self.folder);
    }

    /// Says why this coordinator cannot serve its callers; nothing where it can.
    ///
    /// # Errors
    /// In words for people.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(lost) = self.consensus.failure().borrow().as_ref() {
            return Err(format!("storage failed: {}", lost.reason));
        }
        let leader = self.consensus.leadership().borrow().leader;
        match leader.filter(|_| self.consensus.without_quorum().is_none()) {
            Some(_) => Ok(()),
            None => Err("no coordinator leads".to_owned()),
        }
    }
}

/// Shows how full a queue is.
pub(crate) fn queue(name: &'static str, waiting: usize, limit: usize) {
    gauge!("warren_queue_items", "queue" => name).set(number(waiting));
    gauge!("warren_queue_limit_items", "queue" => name).set(number(limit));
}

fn objects(state: &ClusterState) {
    gauge!("warren_state_revision").set(wide(state.revision.0));
    gauge!("warren_audit_records").set(wide(state.audit.sequence));
    for (kind, count) in [
        ("client", state.clients.len()),
        ("coordinator", state.replicas.len()),
        ("node", state.nodes.len()),
        ("revoked", state.revoked.len()),
        ("token", state.tokens.len()),
        ("workspace", state.workspaces.len()),
    ] {
        gauge!("warren_state_objects", "kind" => kind).set(number(count));
    }
}

fn workspaces(state: &ClusterState) {
    const PHASES: [PhaseKind; 11] = [
        PhaseKind::Queued,
        PhaseKind::Assigned,
        PhaseKind::Preparing,
        PhaseKind::StartPermitted,
        PhaseKind::Active,
        PhaseKind::Stopping,
        PhaseKind::Stopped,
        PhaseKind::Unconfirmed,
        PhaseKind::Fencing,
        PhaseKind::Restoring,
        PhaseKind::Migrating,
    ];
    let mut counts: BTreeMap<&'static str, usize> =
        PHASES.iter().map(|phase| (phase.as_str(), 0)).chain([("failed", 0)]).collect();
    for workspace in state.workspaces.values() {
        *counts.entry(workspace.phase.kind.as_str()).or_default() += 1;
    }
    for (phase, count) in counts {
        gauge!("warren_workspaces", "phase" => phase).set(number(count));
    }
}

fn nodes(state: &ClusterState, (live, now): (LiveView, Timestamp)) {
    let mut counts = BTreeMap::from([
        (word(Liveness::Joining), 0),
        (word(Liveness::Ready), 0),
        (word(Liveness::Suspect), 0),
        (word(Liveness::Unreachable), 0),
    ]);
    for node in state.nodes.values() {
        let standing = warren_model::liveness(node, &live, now);
        *counts.entry(word(standing.liveness)).or_default() += 1;
    }
    for (liveness, count) in counts {
        gauge!("warren_nodes", "liveness" => liveness).set(number(count));
    }
}

const fn word(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Joining => "joining",
        Liveness::Ready => "ready",
        Liveness::Suspect => "suspect",
        Liveness::Unreachable => "unreachable",
    }
}

fn disk(folder: &Path) {
    for (part, name) in
        [("log", "log"), ("checkpoints", "checkpoints"), ("audit", "audit"), ("keys", "keys")]
    {
        let (bytes, _) = contents(&folder.join(name));
        gauge!("warren_store_disk_bytes", "part" => part).set(wide(bytes));
    }
    let (_, newest) = contents(&folder.join("checkpoints"));
    let age = newest.and_then(|at| SystemTime::now().duration_since(at).ok());
    gauge!("warren_checkpoint_age_seconds").set(age.map_or(-1.0, |age| age.as_secs_f64()));
    if let Ok(volume) = rustix::fs::statvfs(folder) {
        gauge!("warren_store_free_bytes")
            .set(wide(volume.f_bavail.saturating_mul(volume.f_frsize)));
    }
}

/// Returns the bytes that the files of a folder take on disk, one folder deep, and when the newest
/// was written.
pub(crate) fn contents(folder: &Path) -> (u64, Option<SystemTime>) {
    use std::os::unix::fs::MetadataExt as _;
    let (mut bytes, mut newest) = (0, None);
    let mut folders = vec![(folder.to_owned(), true)];
    while let Some((folder, deeper)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() && deeper {
                folders.push((entry.path(), false));
            } else if about.is_file() {
                bytes += about.blocks().saturating_mul(512);
                newest = newest.max(about.modified().ok());
            }
        }
    }
    (bytes, newest)
}

/// Returns a count as gauges want it.
pub(crate) fn number(count: usize) -> f64 {
    wide(count as u64)
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats, and nothing here reaches 2^53")]
pub(crate) fn wide(count: u64) -> f64 {
    count as f64
}

/// Shows the queues whose depth is known to `crate::raft`: reads and flushes.
pub(crate) fn raft_queues(reads: usize, flushes: usize) {
    queue("read", reads, Limits::READ_QUEUE);
    queue("flush", flushes, Limits::FLUSH_QUEUE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_measured_one_folder_deep() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(contents(&root.path().join("missing")), (0, None));
        fs::create_dir(root.path().join("blobs")).expect("made");
        fs::write(root.path().join("db"), vec![1; 10_000]).expect("written");
        fs::write(root.path().join("blobs/1"), vec![1; 10_000]).expect("written");
        let (bytes, newest) = contents(root.path());
        assert!(bytes >= 20_000, "{bytes}");
        assert!(newest.is_some());
    }
}
