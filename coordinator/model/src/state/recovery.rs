//! Recovery: what a cluster does not do after it came back from a backup or from one survivor.
//!
//! The state may be behind what the nodes were told by the cluster as it was. Until each of them
//! has told what it holds, nothing is placed and nothing is removed; what they know more is taken
//! over (`adopt.rs`), and what a node has not told yet is left alone.

use std::{sync::Arc, time::Duration};

use imbl::OrdSet;
use serde::{Deserialize, Serialize};
use warren_common::{Limits, NodeId, Timestamp};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{AccountNode, Availability, BeginIncarnation, EndRecovery, NoteBackup},
    event::EventKind,
    state::{ClusterState, Desired, PhaseKind, Replica, Seat, Workspace, cluster::line, node},
};

/// A recovery lasts this long at least: a node that joined after the backup is not known, so
/// nobody waits for it, and it needs a moment to find the new coordinator.
pub const RECOVERY_LEAST: Duration = Duration::from_secs(30);

/// Code of a workspace that its node does not hold any more.
const MISSING: &str = "MISSING_AFTER_RESTORE";

/// The cluster came back and has not heard every node yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// When it began.
    pub since: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// The nodes that have not told yet what they hold.
    pub awaited: OrdSet<NodeId>,
}

impl Recovery {
    /// Returns when it ends by itself; none while nodes are awaited.
    pub fn over_at(&self) -> Option<Timestamp> {
        self.awaited.is_empty().then(|| self.earliest_end())
    }

    /// Returns before when it does not end by itself.
    pub fn earliest_end(&self) -> Timestamp {
        self.since.plus(RECOVERY_LEAST)
    }

    /// Says why nothing is placed now.
    pub fn holds_back(&self, state: &ClusterState) -> String {
        let awaited = self.awaited.iter().map(|id| state.node_label(*id));
        let named: Vec<String> = awaited.clone().take(5).collect();
        let more = if awaited.count() > named.len() { ", …" } else { "" };
        match named.is_empty() {
            true => "the cluster recovers; it goes on in a moment".to_owned(),
            false => format!("the cluster recovers: waiting for node {}{more}", named.join(", ")),
        }
    }
}

/// Refuses what must not happen while the cluster recovers.
pub(crate) fn refuse(state: &ClusterState, what: &str) -> Result<(), Refusal> {
    let Some(recovery) = &state.recovery else { return Ok(()) };
    let message = format!("{what} now: {}", recovery.holds_back(state));
    Err(Refusal::new(RefusalCode::WrongState, message))
}

pub(crate) fn begin(
    state: &mut ClusterState,
    context: &Context,
    command: &BeginIncarnation,
) -> Result<Change, Refusal> {
    let BeginIncarnation { incarnation, replica, reason } = command;
    line("the API address", &replica.api_address, Limits::LABEL_BYTES)?;
    line("the Raft address", &replica.raft_address, Limits::LABEL_BYTES)?;
    line("the reason", reason, Limits::REASON_BYTES)?;
    let alone = state.replicas.len() == 1 && state.replicas.contains_key(&replica.replica);
    let highest = state.highest_replica();
    let Some(cluster) = &mut state.cluster else {
        let message = "the cluster is not initialised";
        return Err(Refusal::new(RefusalCode::NotInitialised, message));
    };
    if cluster.incarnation == *incarnation && alone {
        return Ok(Change::none(Outcome::Done));
    }
    if *incarnation <= cluster.incarnation {
        let known = cluster.incarnation;
        let message = format!("incarnation {incarnation} is not above {known}");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    if highest >= replica.replica {
        let message = format!("coordinator id {} was used before", replica.replica);
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    let before = std::mem::replace(&mut cluster.incarnation, *incarnation);
    let (name, id) = (cluster.name.clone(), cluster.id);
    let row = Replica {
        api_address: replica.api_address.clone(),
        raft_address: replica.raft_address.clone(),
    };
    state.replicas = [(replica.replica, row)].into_iter().collect();
    // whether they were spent meanwhile nobody knows: they are minted anew in a moment
    state.tokens.clear();
    state.coordinator_tokens.clear();
    state.replacing.clear();
    // nodes may have registered since the backup was made
    let open = |(id, seat): (&NodeId, &Seat)| (*id, Seat { claim: None, ..seat.clone() });
    state.seats = state.seats.iter().map(open).collect();
    state.last_replica = replica.replica.0;
    let there = state.nodes.values().filter(|one| one.availability != Availability::Retired);
    let awaited = there.map(|one| one.id).collect();
    state.recovery = Some(Recovery { since: context.at, reason: reason.clone(), awaited });
    state.restored = Some(context.revision);
    state.resized.clear();
    state.updated.clear();
    state.unreviewed = state.allowed.keys().copied().collect();
    Ok(Change::new("cluster.incarnation", Outcome::Done)
        .object(&name, &id)
        .detail(format!("{before} → {incarnation}, coordinator {}: {reason}", replica.replica))
        .event(EventKind::IncarnationBegun(*incarnation)))
}

pub(crate) fn account(
    state: &mut ClusterState,
    context: &Context,
    command: &AccountNode,
) -> Result<Change, Refusal> {
    let AccountNode { node: id, revision, holds } = command;
    let Some(found) = state.nodes.get(id) else { return Err(node::missing(*id)) };
    let name = found.name.clone();
    let awaited = state.recovery.as_ref().is_some_and(|one| one.awaited.contains(id));
    let restored = state.restored.unwrap_or_default();
    let lost = |one: &&Arc<Workspace>| {
        let told_since = *revision >= one.revision && one.revision <= restored;
        let failed = matches!(one.phase.kind, PhaseKind::Failed { .. });
        let runs = one.desired == Desired::Running && !failed;
        told_since && runs && !holds.contains(&one.id)
    };
    let lost: Vec<_> = state.workspaces_on(*id).filter(lost).map(|one| one.id).collect();
    if !awaited && lost.is_empty() {
        return Ok(Change::none(Outcome::Node(*id)));
    }
    stop_awaiting(state, *id);
    let holds = holds.len();
    let missing = lost.len();
    let mut change = Change::new("recovery.account", Outcome::Node(*id))
        .object(&name, id)
        .detail(format!("it holds {holds} workspaces, {missing} are missing there"))
        .event(EventKind::NodeAccounted(*id));
    for workspace in lost {
        let Some(one) = state.workspaces.get_mut(&workspace).map(Arc::make_mut) else { continue };
        let (from, to) = (one.phase.kind.clone(), PhaseKind::Failed { code: MISSING.into() });
        let why = format!(
            "node {name} does not hold it: it was deleted or moved after the backup; delete it, \
             or start it anew with an empty home"
        );
        if let Some(assignment) = &mut one.assignment {
            assignment.permit = None;
        }
        one.not_before = None;
        one.enter(to.clone(), &why, context.at);
        one.revision = context.revision;
        change = change.event(EventKind::WorkspacePhase { workspace, from: Some(from), to });
    }
    Ok(change)
}

pub(crate) fn end(
    state: &mut ClusterState,
    _: &Context,
    command: EndRecovery,
) -> Result<Change, Refusal> {
    let EndRecovery { node: only, early } = command;
    let Some(recovery) = &state.recovery else { return Ok(Change::none(Outcome::Done)) };
    if let Some(id) = only {
        let Some(node) = state.nodes.get(&id) else { return Err(node::missing(id)) };
        let name = node.name.clone();
        if !recovery.awaited.contains(&id) {
            return Ok(Change::none(Outcome::Node(id)));
        }
        stop_awaiting(state, id);
        return Ok(Change::new("recovery.skip", Outcome::Node(id))
            .object(&name, &id)
            .detail("it is not waited for any more")
            .event(EventKind::NodeAccounted(id)));
    }
    if !early && !recovery.awaited.is_empty() {
        return Err(Refusal::new(RefusalCode::WrongState, recovery.holds_back(state)));
    }
    let left = recovery.awaited.len();
    state.recovery = None;
    let (name, id) = name_and_id(state);
    Ok(Change::new("recovery.end", Outcome::Done)
        .object(&name, &id)
        .detail(format!("{left} nodes had not told what they hold"))
        .event(EventKind::RecoveryEnded))
}

/// Notes that a backup is handed out; nothing else changes.
pub(crate) fn note_backup(state: &ClusterState, command: NoteBackup) -> Result<Change, Refusal> {
    let (name, id) = name_and_id(state);
    Ok(Change::new("cluster.backup", Outcome::Done)
        .object(&name, &id)
        .detail(format!("of revision {} or later", command.revision.0)))
}

fn name_and_id(state: &ClusterState) -> (String, String) {
    let cluster = state.cluster.as_ref();
    cluster.map(|one| (one.name.clone(), one.id.to_string())).unwrap_or_default()
}

/// Takes a node off those awaited.
pub(crate) fn stop_awaiting(state: &mut ClusterState, id: NodeId) {
    if let Some(recovery) = &mut state.recovery {
        recovery.awaited.remove(&id);
    }
}
