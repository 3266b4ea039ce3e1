//! Adoption: what a node knows more than a state that came from a backup.
//!
//! A node tells the orders it was given by the cluster as it was, and which runs it began. The
//! higher generation wins, within one the node's word on what was begun: a run is never granted
//! twice. What a person asked for since the restore is kept.

use std::{str::FromStr, sync::Arc};

use warren_common::{
    ClientId, Limits, NodeEpoch, WorkspaceAddress,
    spec::{HeldOrder, Run, WorkspaceOrder, WorkspaceSpec},
};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{AdoptNode, AdoptWorkspace, Availability},
    event::EventKind,
    state::{
        Assignment, Client, ClusterState, Desired, Node, Phase, PhaseKind, Workspace,
        node::{self as nodes, validate_facts},
        node_end, recipe, secret, session,
        workspace::wrong,
    },
};

const TOLD: &str = "as its node was told before the restore";

pub(crate) fn node(
    state: &mut ClusterState,
    context: &Context,
    command: &AdoptNode,
) -> Result<Change, Refusal> {
    let AdoptNode { node: id, name, facts } = command;
    if state.nodes.contains_key(id) {
        return Ok(Change::none(Outcome::Node(*id)));
    }
    if state.nodes.len() >= Limits::NODES {
        let message = format!("the cluster has {} nodes, the limit", Limits::NODES);
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    validate_facts(facts)?;
    let name = free(name, |name| node_end::is_taken(state, name))?;
    node_end::free_name(state, &name);
    let node = Node {
        id: *id,
        name: name.clone(),
        availability: Availability::Active,
        epoch: NodeEpoch(0),
        facts: facts.clone(),
        overcommitted: false,
        joined: context.at,
        registered: None,
        revision: context.revision,
    };
    state.nodes.insert(*id, Arc::new(node));
    state.node_names.insert(name.clone(), *id);
    if let Some(recovery) = &mut state.recovery {
        recovery.awaited.insert(*id);
    }
    Ok(Change::new("node.adopt", Outcome::Node(*id))
        .object(&name, id)
        .detail(format!("host {}, joined after the backup", facts.hostname))
        .event(EventKind::NodeJoined(*id, name)))
}

pub(crate) fn workspace(
    state: &mut ClusterState,
    context: &Context,
    command: &AdoptWorkspace,
) -> Result<Change, Refusal> {
    let HeldOrder { order, started_run } = &command.held;
    let node = state.nodes.get(&command.node).ok_or_else(|| nodes::missing(command.node))?;
    if node.availability == Availability::Retired {
        return Err(wrong(format!("node {} is retired", node.name)));
    }
    let present = state.cluster.as_ref().map_or(0, |cluster| cluster.incarnation);
    let given = order.generation;
    if given.counter() == 0 || given.incarnation() > present || order.run_serial == 0 {
        let message = format!("generation {given} was never given by this cluster");
        return Err(Refusal::new(RefusalCode::InvalidSpec, message));
    }
    order
        .spec
        .validate()
        .map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))?;
    if state.workspaces.contains_key(&order.workspace) {
        return correct(state, context, command);
    }
    let (client, made) = owner(state, context, order)?;
    make(state, context, (command, client, *started_run)).map(|change| match made {
        Some(event) => change.event(event),
        None => change,
    })
}

/// Returns the client of an order, making it again where it was made after the backup.
fn owner(
    state: &mut ClusterState,
    context: &Context,
    order: &WorkspaceOrder,
) -> Result<(Client, Option<EventKind>), Refusal> {
    if state.workspaces.len() >= Limits::WORKSPACES {
        let message = format!("the cluster holds {} workspaces, the limit", Limits::WORKSPACES);
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    if let Some(client) = state.clients.get(&order.client) {
        return Ok((client.clone(), None));
    }
    if state.clients.len() >= Limits::CLIENTS {
        let message = format!("the cluster holds {} clients, the limit", Limits::CLIENTS);
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    let name = free(&order.address.client, |name| state.client_names.contains_key(name))?;
    let client = Client {
        id: order.client,
        name: name.clone(),
        labels: Default::default(),
        created: context.at,
        revision: context.revision,
    };
    state.clients.insert(client.id, client.clone());
    state.client_names.insert(name.clone(), client.id);
    Ok((client.clone(), Some(EventKind::ClientCreated(client.id, name))))
}

fn make(
    state: &mut ClusterState,
    context: &Context,
    (command, client, started_run): (&AdoptWorkspace, Client, u64),
) -> Result<Change, Refusal> {
    let order = &command.held.order;
    let owner: ClientId = client.id;
    let taken = |name: &_| state.workspace_names.contains(&(owner, Clone::clone(name)));
    let name = free(&order.address.workspace, taken)?;
    let mut spec = order.spec.clone();
    spec.placement.pin = spec.placement.pin.filter(|pin| state.nodes.contains_key(pin));
    let mut workspace = Workspace {
        id: order.workspace,
        client: owner,
        name: name.clone(),
        spec: spec.into(),
        desired: Desired::Running,
        run_serial: order.run_serial.max(started_run),
        generation: order.generation,
        assignment: None,
        phase: Phase::enter(PhaseKind::Queued, TOLD, (context.at, context.at)),
        failed_runs: 0,
        not_before: None,
        created: context.at,
        revision: context.revision,
    };
    let on = state.node_label(command.node);
    place(&mut workspace, command, &on);
    take_order(&mut workspace, &command.held, context);
    let to = workspace.phase.kind.clone();
    let address = WorkspaceAddress { client: client.name, workspace: name.clone() };
    state.placed.insert((command.node, order.workspace), ());
    state.workspace_names.insert((owner, name), order.workspace);
    state.workspaces.insert(order.workspace, Arc::new(workspace));
    state.weigh(command.node);
    let id = order.workspace;
    Ok(Change::new("workspace.adopt", Outcome::Workspace(id))
        .object(&address, &id)
        .detail(format!("generation {}, found on {on}: made after the backup", order.generation))
        .event(EventKind::WorkspaceCreated(id, address))
        .event(EventKind::WorkspacePhase { workspace: id, from: None, to }))
}

/// Brings a workspace that the state knows to where it was last told to be.
fn correct(
    state: &mut ClusterState,
    context: &Context,
    command: &AdoptWorkspace,
) -> Result<Change, Refusal> {
    let AdoptWorkspace { node, revision, held } = command;
    let order = &held.order;
    let id = order.workspace;
    let label = state.workspace_label(id);
    let restored = state.restored.unwrap_or_default();
    let on = state.node_label(*node);
    let Some(known) = state.workspaces.get(&id) else { return Ok(Change::none(Outcome::Done)) };
    let moved = order.generation > known.generation;
    let here = known.assignment.as_ref().is_some_and(|one| one.node == *node);
    if !moved && (order.generation < known.generation || !here) {
        return Ok(Change::none(Outcome::Workspace(id)));
    }
    let mut workspace = Workspace::clone(known);
    let (before, had) = (workspace.assignment.as_ref().map(|one| one.node), known.spec.whole());
    let untouched = known.revision <= restored;
    let resized = state.resized.contains(&id);
    if moved {
        workspace.spec = order.spec.clone().into();
        place(&mut workspace, command, &on);
    }
    if resized {
        workspace.spec.resources = known.spec.resources.clone();
    }
    if untouched && (moved || *revision >= known.revision) {
        workspace.run_serial = workspace.run_serial.max(order.run_serial).max(held.started_run);
        workspace.spec = order.spec.clone().into();
        take_order(&mut workspace, held, context);
    } else {
        // whoever asked for another run since the restore asked for no other caps and no other
        // image, and what the node was told after the backup is newer than it
        if *revision >= restored {
            let updated = state.updated.contains(&id);
            let caps = if resized { &known.spec.resources } else { &order.spec.resources };
            let rest = if updated { known.spec.whole() } else { order.spec.clone() };
            workspace.spec = WorkspaceSpec { resources: caps.clone(), ..rest }.into();
        }
        keep_intent(&mut workspace, (held, moved), context);
    }
    if workspace == **known {
        return Ok(Change::none(Outcome::Workspace(id)));
    }
    workspace.revision = context.revision;
    let (from, to) = (Some(known.phase.kind.clone()), workspace.phase.kind.clone());
    let (generation, serial) = (workspace.generation, workspace.run_serial);
    let (client, spec) = (workspace.client, workspace.spec.whole());
    recipe::follow(state, id, &spec.template);
    session::forget_others(state, id, &spec);
    state.workspaces.insert(id, Arc::new(workspace));
    for at in before.into_iter().filter(|_| moved) {
        state.placed.remove(&(at, id));
        state.weigh(at);
    }
    state.placed.insert((*node, id), ());
    state.weigh(*node);
    let change = Change::new("workspace.adopt", Outcome::Workspace(id))
        .object(&label, &id)
        .detail(format!("generation {generation}, run {serial}, found on {on}"))
        .event(EventKind::WorkspacePhase { workspace: id, from, to });
    Ok(secret::told(change, &secret::leave_spec(state, client, &had)))
}

fn place(workspace: &mut Workspace, command: &AdoptWorkspace, on: &str) {
    workspace.generation = command.held.order.generation;
    workspace.assignment = Some(Assignment {
        node: command.node,
        generation: workspace.generation,
        permit: None,
        reason: format!("found on {on} after a restore").into(),
    });
}

/// Takes what the node was told as what was asked for.
fn take_order(workspace: &mut Workspace, held: &HeldOrder, context: &Context) {
    let (serial, at) = (workspace.run_serial, context.at);
    let permit = held.order.permit.filter(|permit| permit.run_serial == serial);
    let had = workspace.assignment.as_ref().and_then(|one| one.permit);
    let failed = matches!(workspace.phase.kind, PhaseKind::Failed { .. });
    let same = match (held.order.run, workspace.desired) {
        (Run::Removed, Desired::Deleted) => true,
        // a failed one is stopped on its node too
        (Run::Stopped, Desired::Stopped) => true,
        (Run::Stopped, Desired::Running) => failed,
        (Run::Running, Desired::Running) => {
            !failed && workspace.phase.kind != PhaseKind::Queued && had == permit
        }
        (Run::Removed | Run::Stopped | Run::Running, _) => false,
    };
    let begun = held.started_run >= serial;
    if same && (permit.is_some() || !begun || held.order.run != Run::Running) {
        return;
    }
    workspace.not_before = None;
    if let Some(assignment) = &mut workspace.assignment {
        assignment.permit = permit.filter(|_| held.order.run == Run::Running);
    }
    match held.order.run {
        Run::Removed => {
            workspace.desired = Desired::Deleted;
            workspace.enter(PhaseKind::Stopping, &format!("being deleted, {TOLD}"), at);
        }
        Run::Stopped => {
            workspace.desired = Desired::Stopped;
            workspace.enter(PhaseKind::Stopping, &format!("stopped or failed, {TOLD}"), at);
        }
        Run::Running if permit.is_some() => {
            workspace.desired = Desired::Running;
            workspace.enter(PhaseKind::StartPermitted, TOLD, at);
        }
        Run::Running => {
            workspace.desired = Desired::Running;
            // a run that was begun is never granted again
            workspace.run_serial = if begun { held.started_run.saturating_add(1) } else { serial };
            workspace.enter(PhaseKind::Assigned, TOLD, at);
        }
    }
}

/// Keeps what is asked for, over what the node was told: it was asked since the restore, or the
/// node was away when it was asked before. A run that may have been begun is not granted again.
fn keep_intent(workspace: &mut Workspace, (held, moved): (&HeldOrder, bool), context: &Context) {
    let begun = held.started_run.max(held.order.run_serial);
    let permitted = workspace.assignment.as_ref().is_some_and(|one| one.permit.is_some());
    let serial = workspace.run_serial;
    match workspace.desired {
        Desired::Running => {
            let failed = matches!(workspace.phase.kind, PhaseKind::Failed { .. });
            let spent = begun > serial || (held.started_run == serial && !permitted);
            if failed {
                workspace.run_serial = serial.max(begun);
            } else if spent || moved {
                workspace.run_serial = serial.max(begun).saturating_add(1);
                if let Some(assignment) = &mut workspace.assignment {
                    assignment.permit = None;
                }
                workspace.not_before = None;
                let why = "a new run: an earlier one was begun before the restore";
                workspace.enter(PhaseKind::Preparing, why, context.at);
            }
        }
        Desired::Stopped | Desired::Deleted => workspace.run_serial = serial.max(begun),
    }
}

/// Returns `wanted`, or the first of `wanted-2`, `wanted-3`, … that is free.
fn free<Name>(wanted: &Name, taken: impl Fn(&Name) -> bool) -> Result<Name, Refusal>
where
    Name: Clone + ToString + FromStr,
{
    if !taken(wanted) {
        return Ok(wanted.clone());
    }
    let text = wanted.to_string();
    for number in 2..1000_u32 {
        let ending = format!("-{number}");
        let kept = text.get(..Limits::NAME_BYTES - ending.len()).unwrap_or(&text);
        let name = format!("{}{ending}", kept.trim_end_matches('-')).parse::<Name>();
        if let Some(name) = name.ok().filter(|name| !taken(name)) {
            return Ok(name);
        }
    }
    let message = format!("the name {text} is taken, and so are the next ones");
    Err(Refusal::new(RefusalCode::NameTaken, message))
}
