//! A node's labels as the operator sets them, and a node's end.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use warren_common::{
    Limits, NodeId, NodeName, WorkspaceId,
    spec::{Labels, validate_labels},
};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{
        Availability, Principal,
        node::{LabelNode, RemoveNode},
    },
    event::EventKind,
    plan::fit::TIER_LABELS,
    state::{ClusterState, Desired, PhaseKind, cluster::deny, node, recovery, workspace},
};

/// Code of a workspace whose node was removed with it.
const LOST: &str = "NODE_REMOVED";
/// Of the workspaces that something went with, as many are named on the record.
const WENT_TOLD: usize = 16;

/// The operator's labels of a node, beside what its configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLabels {
    /// Set by the operator; they win.
    pub set: Labels,
    /// As the node's own configuration and engine have them.
    pub configured: Labels,
}

impl ClusterState {
    /// Returns the labels that a node has with these of its own: the operator's win.
    pub fn effective_labels(&self, node: NodeId, configured: &Labels) -> Labels {
        let mut labels = configured.clone();
        if let Some(own) = self.node_labels.get(&node) {
            labels.extend(own.set.clone());
        }
        labels
    }

    /// Keeps a node's own labels beside the operator's, and returns what it has by both.
    pub(super) fn keep_configured(&mut self, node: NodeId, configured: &Labels) -> Labels {
        if let Some(own) = self.node_labels.get_mut(&node) {
            own.configured.clone_from(configured);
        }
        self.effective_labels(node, configured)
    }
}

pub(crate) fn label(
    state: &mut ClusterState,
    context: &Context,
    command: &LabelNode,
) -> Result<Change, Refusal> {
    let LabelNode { node: id, set_labels, remove_labels } = command;
    let current = state.nodes.get(id).ok_or_else(|| node::missing(*id))?;
    let name = current.name.clone();
    context.unchanged_since(current.revision, || format!("node {name}"))?;
    node::not_retired(current)?;
    let invalid = |message: String| Refusal::new(RefusalCode::InvalidSpec, message);
    if let Some(key) = set_labels.keys().find(|key| remove_labels.contains(*key)) {
        let message = format!("label {key} of node {name} cannot be both set and removed");
        return Err(invalid(message));
    }
    let told = |key: &&String| key.starts_with(TIER_LABELS);
    if let Some(key) = set_labels.keys().chain(remove_labels).find(told) {
        let message = format!("label {key} is read from the node's engine and cannot be changed");
        return Err(invalid(message));
    }
    let known = state.node_labels.get(id).cloned();
    let mut own = known.unwrap_or_else(|| NodeLabels {
        set: Labels::new(),
        configured: current.facts.labels.clone(),
    });
    for key in remove_labels {
        if own.set.remove(key).is_none() && own.configured.contains_key(key) {
            let message = format!(
                "label {key} stands in the configuration of node {name}: take it away there, or \
                 set another value here"
            );
            return Err(Refusal::new(RefusalCode::WrongState, message));
        }
    }
    own.set.extend(set_labels.clone());
    validate_labels("labels", &own.set).map_err(|error| invalid(error.to_string()))?;
    let mut labels = own.configured.clone();
    labels.extend(own.set.clone());
    if labels == current.facts.labels && state.node_labels.get(id).is_none_or(|one| *one == own) {
        return Ok(Change::none(Outcome::Node(*id)));
    }
    state.node_labels.insert(*id, own);
    let one = Arc::make_mut(state.nodes.get_mut(id).ok_or_else(|| node::missing(*id))?);
    one.facts.labels = labels;
    one.revision = context.revision;
    let keys = |keys: Vec<&String>| keys.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let (set, removed) = (keys(set_labels.keys().collect()), keys(remove_labels.iter().collect()));
    Ok(Change::new("node.label", Outcome::Node(*id))
        .object(&name, id)
        .detail(format!("labels set: {set}; removed: {removed}"))
        .event(EventKind::NodeFactsChanged(*id)))
}

pub(crate) fn remove(
    state: &mut ClusterState,
    context: &Context,
    command: &RemoveNode,
) -> Result<Change, Refusal> {
    let RemoveNode { node: id, lost } = command;
    let current = state.nodes.get(id).ok_or_else(|| node::missing(*id))?;
    let name = current.name.clone();
    context.unchanged_since(current.revision, || format!("node {name}"))?;
    if current.availability == Availability::Retired {
        return Ok(Change::none(Outcome::Node(*id)));
    }
    let held: BTreeSet<WorkspaceId> = state.workspaces_on(*id).map(|one| one.id).collect();
    refuse_held(state, (&name, &held), lost)?;
    let certificates = revoke(state, context, *id)?;
    let one = Arc::make_mut(state.nodes.get_mut(id).ok_or_else(|| node::missing(*id))?);
    one.availability = Availability::Retired;
    one.revision = context.revision;
    recovery::stop_awaiting(state, *id);
    state.node_labels.remove(id);
    state.seats.remove(id);
    let detail = format!("{} certificates, {} workspaces lost", certificates.len(), held.len());
    let retired = EventKind::NodeAvailability(*id, Availability::Retired);
    let mut change = Change::new("node.remove", Outcome::Node(*id)).object(&name, id);
    for serial in certificates {
        change = change.event(EventKind::CertificateRevoked(serial));
    }
    let mut went = Vec::new();
    for workspace in held {
        let label = state.workspace_label(workspace);
        let Some((event, with)) = lose(state, context, (workspace, &name)) else { continue };
        change = change.event(event);
        went.extend((!with.is_empty()).then(|| format!("{label} {with}")));
    }
    state.weigh(*id);
    let change = match went.is_empty() {
        true => change.detail(detail),
        false => change.detail(format!("{detail}: {}", some(&went))),
    };
    Ok(change.event(retired))
}

/// Returns the first of these, and how many more there are.
fn some(went: &[String]) -> String {
    let first = went.iter().take(WENT_TOLD).cloned().collect::<Vec<_>>().join("; ");
    match went.len().saturating_sub(WENT_TOLD) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Refuses while the node holds what was not given up by name.
fn refuse_held(
    state: &ClusterState,
    (name, held): (&NodeName, &BTreeSet<WorkspaceId>),
    lost: &BTreeSet<WorkspaceId>,
) -> Result<(), Refusal> {
    let elsewhere = lost.iter().find(|id| !held.contains(*id));
    if let Some(id) = elsewhere {
        let label = state.workspace_label(*id);
        let message = format!("workspace {label} is not on node {name}: it is not lost with it");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    let kept: Vec<String> = held.difference(lost).map(|id| state.workspace_label(*id)).collect();
    if kept.is_empty() {
        return Ok(());
    }
    let noun = if kept.len() == 1 { "workspace" } else { "workspaces" };
    let some = kept.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = if kept.len() > 5 { ", …" } else { "" };
    let message = format!("node {name} still has {} {noun}: {some}{more}", kept.len());
    Err(Refusal::new(RefusalCode::NodeNotEmpty, message))
}

/// Puts every certificate of the node on the deny-list; returns their serials.
fn revoke(
    state: &mut ClusterState,
    context: &Context,
    id: NodeId,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let held = state.certificates_of(&Principal::Node(id));
    let held: Vec<_> = held.map(|(serial, row)| (serial.clone(), row.expires)).collect();
    let serials = held.iter().map(|(serial, _)| serial.clone()).collect();
    deny(state, context, held)?;
    Ok(serials)
}

/// Takes a workspace off a node that is gone, with the home that was there. Returns what happened, and
/// what went with one that was being deleted; empty where nothing did.
fn lose(
    state: &mut ClusterState,
    context: &Context,
    (id, node): (WorkspaceId, &NodeName),
) -> Option<(EventKind, String)> {
    if state.workspaces.get(&id)?.desired == Desired::Deleted {
        let address = state.workspaces.get(&id).and_then(|one| state.address_of(one))?;
        let removed = workspace::remove(state, id, "workspace.forget");
        return Some((EventKind::WorkspaceRemoved(id, address), removed.told().to_owned()));
    }
    let incarnation = state.cluster.as_ref().map_or(0, |cluster| cluster.incarnation);
    let one = Arc::make_mut(state.workspaces.get_mut(&id)?);
    let from = one.phase.kind.clone();
    let placed = one.assignment.take().map(|assignment| (assignment.node, id));
    // whatever still runs of it there is of an older generation from here on (lease rule R8)
    one.generation = one.generation.next(incarnation);
    one.run_serial = one.run_serial.saturating_add(1);
    (one.desired, one.not_before, one.failed_runs) = (Desired::Stopped, None, 0);
    let why = format!(
        "{LOST}: node {node} was removed and its home with it; warren workspace start makes it \
         anew, with an empty home, on another node"
    );
    one.enter(PhaseKind::Stopped, &why, context.at);
    one.revision = context.revision;
    if let Some(placed) = placed {
        state.placed.remove(&placed);
    }
    let (from, to) = (Some(from), PhaseKind::Stopped);
    Some((EventKind::WorkspacePhase { workspace: id, from, to }, String::new()))
}

/// Whether a node that was not removed has this name.
pub(super) fn is_taken(state: &ClusterState, name: &NodeName) -> bool {
    let named = state.node_named(name);
    named.is_some_and(|one| one.availability != Availability::Retired)
}

/// Frees the name of a node that was removed, so that another may take it: the old one keeps it
/// with the last digits of its id.
pub(super) fn free_name(state: &mut ClusterState, name: &NodeName) {
    let Some(id) = state.node_names.get(name).copied() else { return };
    let digits: String = id.to_string().chars().filter(char::is_ascii_hexdigit).collect();
    let older = |length: usize| {
        let tail = &digits[digits.len().saturating_sub(length)..];
        let base: String = name.as_str().chars().take(Limits::NAME_BYTES - 1 - length).collect();
        format!("{}-{tail}", base.trim_end_matches('-')).parse::<NodeName>().ok()
    };
    let free = |older: &NodeName| !state.node_names.contains_key(older);
    let Some(older) = [8, 12, 32].into_iter().filter_map(older).find(free) else { return };
    if let Some(one) = state.nodes.get_mut(&id) {
        Arc::make_mut(one).name = older.clone();
        state.node_names.remove(name);
        state.node_names.insert(older, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_named_up_to_a_number() {
        let went: Vec<String> = (1..=WENT_TOLD + 3).map(|n| format!("acme/w{n}")).collect();
        assert_eq!(some(&went[..2]), "acme/w1; acme/w2");
        assert!(some(&went[..WENT_TOLD]).ends_with("; acme/w16"));
        assert!(some(&went).ends_with("; acme/w16 and 3 more"));
    }
}
