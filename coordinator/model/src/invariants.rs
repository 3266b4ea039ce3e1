//! What must never break (DESIGN §12), each rule a named function over an applied state.
//!
//! Tests check them after every step, debug builds after every command. The rules that span more
//! than the state (durability, secrets) live with the parts that hold them.

use std::{collections::BTreeSet, sync::Arc};

use warren_common::{
    ClientId, Limits, NodeId, TemplateName,
    spec::{Destination, Permit},
};

use crate::{
    command::Availability,
    plan::fit::Capacity,
    state::{Assignment, ClusterState, Desired, Node, Phase, PhaseKind, Template, Workspace},
};

/// A rule that does not hold, and of what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {rule} is broken: {detail}")]
pub struct Violation {
    /// The function's name.
    pub rule: &'static str,
    /// Which object, and how.
    pub detail: String,
}

type Rule = fn(&ClusterState) -> Result<(), String>;

/// The rules over one state, by name.
pub const RULES: [(&str, Rule); 10] = [
    ("permits_are_for_the_current_run", permits_are_for_the_current_run),
    ("memory_rules_hold", memory_rules_hold),
    ("everything_has_a_reason_and_a_deadline", everything_has_a_reason_and_a_deadline),
    ("phases_agree_with_what_is_asked", phases_agree_with_what_is_asked),
    ("indexes_agree", indexes_agree),
    ("every_mutation_has_one_record", every_mutation_has_one_record),
    ("bounds_hold", bounds_hold),
    ("revoked_people_are_out", revoked_people_are_out),
    ("a_recovery_waits_for_nodes_that_are_there", a_recovery_waits_for_nodes_that_are_there),
    ("replacements_are_among_coordinators", replacements_are_among_coordinators),
];

/// Checks every rule over one state.
///
/// # Errors
/// Returns the first rule that is broken.
pub fn check(state: &ClusterState) -> Result<(), Violation> {
    RULES
        .iter()
        .try_for_each(|(rule, holds)| holds(state).map_err(|detail| Violation { rule, detail }))
}

/// Checks what one applied command may do between two states.
///
/// # Errors
/// Returns the first rule that is broken.
pub fn check_step(before: &ClusterState, after: &ClusterState) -> Result<(), Violation> {
    numbers_only_rise(before, after)
        .map_err(|detail| Violation { rule: "numbers_only_rise", detail })?;
    no_replica_returns(before, after)
        .map_err(|detail| Violation { rule: "no_replica_returns", detail })?;
    only_facts_overcommit(before, after)
        .map_err(|detail| Violation { rule: "only_facts_overcommit", detail })
}

fn workspaces(state: &ClusterState) -> impl Iterator<Item = (&Workspace, String)> {
    state.workspaces.values().map(|one| (one.as_ref(), state.workspace_label(one.id)))
}

/// §12.1: at most one assignment of a workspace is permitted to run: the current one, in the
/// current run, and only while it is asked to run.
pub fn permits_are_for_the_current_run(state: &ClusterState) -> Result<(), String> {
    for (workspace, label) in workspaces(state) {
        let Some(Assignment { generation, permit, .. }) = &workspace.assignment else { continue };
        if *generation != workspace.generation {
            return Err(format!(
                "{label} is at {} and assigned {generation}",
                workspace.generation
            ));
        }
        let running = matches!(workspace.phase.kind, PhaseKind::StartPermitted | PhaseKind::Active);
        match permit {
            Some(Permit { run_serial, .. }) if *run_serial != workspace.run_serial => {
                return Err(format!("{label} holds a permit of run {run_serial}"));
            }
            Some(_) if !running || workspace.desired != Desired::Running => {
                return Err(format!("{label} holds a permit and is not to run"));
            }
            None if running => return Err(format!("{label} may run without a permit")),
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// §12.4: the memory rules A and B hold on every node that did not shrink under what it holds.
pub fn memory_rules_hold(state: &ClusterState) -> Result<(), String> {
    for node in state.nodes.values() {
        let holds = Capacity::of(&node.facts).holds(&state.load(node.id));
        if holds == node.overcommitted {
            let over = node.overcommitted;
            return Err(format!("node {} holds: {holds}, marked: {over}", node.name));
        }
    }
    Ok(())
}

/// §12.5: every object has a reason; every phase that may not last has a deadline, and no other.
pub fn everything_has_a_reason_and_a_deadline(state: &ClusterState) -> Result<(), String> {
    for (workspace, label) in workspaces(state) {
        let Phase { kind, reason, deadline, .. } = &workspace.phase;
        if reason.trim().is_empty() || reason.len() > Limits::REASON_BYTES {
            return Err(format!("{label} is {} without a fit reason", kind.as_str()));
        }
        if deadline.is_some() != kind.within().is_some() {
            return Err(format!("{label} is {} until {deadline:?}", kind.as_str()));
        }
        let unexplained = |one: &Assignment| one.reason.trim().is_empty();
        if workspace.assignment.as_ref().is_some_and(unexplained) {
            return Err(format!("{label} is placed without a reason"));
        }
    }
    Ok(())
}

/// A phase, an assignment and what was asked for do not contradict each other.
pub fn phases_agree_with_what_is_asked(state: &ClusterState) -> Result<(), String> {
    use PhaseKind::{
        Active, Assigned, Failed, Fencing, Migrating, Preparing, Queued, Restoring, StartPermitted,
        Stopped, Stopping, Unconfirmed,
    };
    for (workspace, label) in workspaces(state) {
        let placed = workspace.assignment.is_some();
        let agrees = match (&workspace.phase.kind, workspace.desired) {
            (Queued, Desired::Running) => !placed,
            (
                Assigned
                | Preparing
                | StartPermitted
                | Active
                | Unconfirmed
                | Fencing
                | Restoring
                | Migrating
                | Failed { .. },
                Desired::Running,
            ) => placed,
            (Stopping, Desired::Stopped | Desired::Deleted) => placed,
            (Stopped, Desired::Stopped) => true,
            (
                Queued
                | Assigned
                | Preparing
                | StartPermitted
                | Active
                | Stopping
                | Stopped
                | Unconfirmed
                | Fencing
                | Restoring
                | Migrating
                | Failed { .. },
                _,
            ) => false,
        };
        if !agrees {
            let (kind, desired) = (workspace.phase.kind.as_str(), workspace.desired);
            return Err(format!("{label} is {kind}, asked {desired:?}, placed {placed}"));
        }
    }
    Ok(())
}

/// Names, placements and objects tell the same.
pub fn indexes_agree(state: &ClusterState) -> Result<(), String> {
    for client in state.clients.values() {
        if state.client_names.get(&client.name) != Some(&client.id) {
            return Err(format!("client {} is not under its name", client.name));
        }
    }
    for node in state.nodes.values() {
        if state.node_names.get(&node.name) != Some(&node.id) {
            return Err(format!("node {} is not under its name", node.name));
        }
    }
    if let Some(id) = state.origins.keys().find(|id| !state.workspaces.contains_key(*id)) {
        return Err(format!("workspace {id} is gone and its request is remembered"));
    }
    let odd = |(id, allowed): &(&ClientId, &BTreeSet<Destination>)| {
        allowed.is_empty() || !state.clients.contains_key(*id)
    };
    if let Some((id, _)) = state.allowed.iter().find(odd) {
        return Err(format!("client {id} is gone, or is allowed an empty list"));
    }
    if let Some(id) = state.unreviewed.iter().find(|id| !state.allowed.contains_key(*id)) {
        return Err(format!("client {id} is to be looked at and is allowed nothing"));
    }
    let mut updated = state.images_before.keys().chain(&state.updated);
    if let Some(id) = updated.find(|id| !state.workspaces.contains_key(*id)) {
        return Err(format!("workspace {id} is gone and that it was updated is remembered"));
    }
    if let Some(id) = state.recipes.keys().find(|id| !state.workspaces.contains_key(*id)) {
        return Err(format!("workspace {id} is gone and what it was made from is remembered"));
    }
    if let Some(id) = state.resized.iter().find(|id| !state.workspaces.contains_key(*id)) {
        return Err(format!("workspace {id} is gone and that it was resized is remembered"));
    }
    let inactive = |(_, one): &(&TemplateName, &Arc<Template>)| one.version(one.active).is_none();
    if let Some((name, _)) = state.templates.iter().find(inactive) {
        return Err(format!("the active version of template {name} is gone"));
    }
    let mut placed = 0;
    for (workspace, label) in workspaces(state) {
        let key = (workspace.client, workspace.name.clone());
        if state.workspace_names.get(&key) != Some(&workspace.id) {
            return Err(format!("{label} is not under its name"));
        }
        if !state.clients.contains_key(&workspace.client) {
            return Err(format!("{label} has no client"));
        }
        let Some(assignment) = &workspace.assignment else { continue };
        placed += 1;
        if !state.nodes.contains_key(&assignment.node)
            || !state.placed.contains(&(assignment.node, workspace.id))
        {
            return Err(format!("{label} is not under its node"));
        }
    }
    let sizes = [
        (state.client_names.len(), state.clients.len(), "client names"),
        (state.node_names.len(), state.nodes.len(), "node names"),
        (state.workspace_names.len(), state.workspaces.len(), "workspace names"),
        (state.placed.len(), placed, "placements"),
    ];
    match sizes.iter().find(|(index, objects, _)| index != objects) {
        Some((index, objects, what)) => Err(format!("{index} {what} for {objects}")),
        None => Ok(()),
    }
}

/// §12.9: revisions and audit records count alike.
pub fn every_mutation_has_one_record(state: &ClusterState) -> Result<(), String> {
    let (revision, sequence) = (state.revision.0, state.audit.sequence);
    match revision == sequence {
        true => Ok(()),
        false => Err(format!("revision {revision} with {sequence} audit records")),
    }
}

/// What is bounded is within its bound.
pub fn bounds_hold(state: &ClusterState) -> Result<(), String> {
    if let Some(principal) = state.requests.unsound() {
        return Err(format!("the remembered requests of {principal:?} are unsound"));
    }
    let sizes = [
        (state.clients.len(), Limits::CLIENTS, "clients"),
        (state.nodes.len(), Limits::NODES, "nodes"),
        (state.workspaces.len(), Limits::WORKSPACES, "workspaces"),
        (state.tokens.len(), Limits::TOKENS, "join tokens"),
        (state.revoked.len(), Limits::REVOKED, "revoked certificates"),
        (state.people.len(), Limits::PEOPLE, "people"),
        (state.invitations.len(), Limits::INVITATIONS, "invitations"),
        (state.certificates.len(), Limits::CERTIFICATES, "certificates"),
        (state.replicas.len(), Limits::REPLICAS, "coordinators"),
        (state.coordinator_tokens.len(), Limits::TOKENS, "coordinators' join tokens"),
    ];
    match sizes.iter().find(|(size, limit, _)| size > limit) {
        Some((size, limit, what)) => Err(format!("{size} {what}, the limit is {limit}")),
        None => Ok(()),
    }
}

/// §6: nobody who is out has spent an invitation since.
pub fn revoked_people_are_out(state: &ClusterState) -> Result<(), String> {
    let is_out = |name| state.people.get(name).is_some_and(|person| person.revoked.is_some());
    match state.invitations.values().find(|one| one.spent.is_some() && is_out(&one.name)) {
        Some(one) => Err(format!("{} is revoked and has a spent invitation", one.name)),
        None => Ok(()),
    }
}

/// A recovery waits for known nodes that may come back, and only a restored state has one.
pub fn a_recovery_waits_for_nodes_that_are_there(state: &ClusterState) -> Result<(), String> {
    let Some(recovery) = &state.recovery else { return Ok(()) };
    if state.restored.is_none() {
        return Err("a recovery without a restore".to_owned());
    }
    let gone = |id: &&NodeId| {
        let retired = |node: &Arc<Node>| node.availability == Availability::Retired;
        state.nodes.get(*id).is_none_or(retired)
    };
    match recovery.awaited.iter().find(gone) {
        Some(id) => Err(format!("node {id} is awaited and cannot come")),
        None => Ok(()),
    }
}

/// A coordinator that replaces another, and that other, belong to the cluster.
pub fn replacements_are_among_coordinators(state: &ClusterState) -> Result<(), String> {
    for (new, old) in &state.replacing {
        let both = state.replicas.contains_key(new) && state.replicas.contains_key(old);
        if !both || new == old {
            return Err(format!("coordinator {new} replaces {old}"));
        }
    }
    Ok(())
}

/// An id of a coordinator is given once: whoever comes has a higher one than all before.
pub fn no_replica_returns(before: &ClusterState, after: &ClusterState) -> Result<(), String> {
    let highest = before.highest_replica();
    if after.highest_replica() < highest {
        return Err(format!("the highest coordinator was {highest}"));
    }
    let mut came = after.replicas.keys().filter(|id| !before.replicas.contains_key(*id));
    match came.find(|id| **id <= highest) {
        Some(id) => Err(format!("coordinator {id} came although {highest} was given")),
        None => Ok(()),
    }
}

/// Revision, generations, runs and registrations never fall; a command counts once at most.
pub fn numbers_only_rise(before: &ClusterState, after: &ClusterState) -> Result<(), String> {
    if after.revision < before.revision || after.revision > before.revision.next() {
        return Err(format!("revision {} after {}", after.revision, before.revision));
    }
    for old in before.workspaces.values() {
        let Some(new) = after.workspaces.get(&old.id) else { continue };
        if new.generation < old.generation || new.run_serial < old.run_serial {
            return Err(format!("{} went back", after.workspace_label(old.id)));
        }
        let moved = old.assignment.as_ref().map(|one| one.node)
            != new.assignment.as_ref().map(|one| one.node);
        if moved && new.generation == old.generation {
            return Err(format!("{} moved at one generation", after.workspace_label(old.id)));
        }
    }
    for old in before.nodes.values() {
        if after.nodes.get(&old.id).is_none_or(|new| new.epoch < old.epoch) {
            return Err(format!("node {} went back or is gone", old.name));
        }
    }
    Ok(())
}

/// A node becomes overcommitted only by its own facts, or by what it turns out to hold already after
/// a restore; never by a placement.
pub fn only_facts_overcommit(before: &ClusterState, after: &ClusterState) -> Result<(), String> {
    for new in after.nodes.values().filter(|node| node.overcommitted) {
        let Some(old) = before.nodes.get(&new.id) else { continue };
        let found = after.workspaces_on(new.id).any(|one| {
            let earlier = before
                .cluster
                .as_ref()
                .is_some_and(|cluster| one.generation.incarnation() < cluster.incarnation);
            // what a restored state hears of its nodes: a workspace, or the caps of one
            let known = before.workspaces.get(&one.id);
            let other = known.is_some_and(|known| known.spec.resources != one.spec.resources);
            let resized = other && after.restored.is_some() && !after.resized.contains(&one.id);
            earlier && (resized || !before.placed.contains(&(new.id, one.id)))
        });
        if !old.overcommitted && old.facts == new.facts && !found {
            return Err(format!("node {} was given more than it holds", new.name));
        }
    }
    Ok(())
}
