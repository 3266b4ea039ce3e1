//! Nodes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use warren_common::{
    Limits, NodeEpoch, NodeId, NodeName, Revision, Timestamp,
    spec::validate_labels,
    status::{Finding, FindingLevel, NodeFacts},
};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{
        Availability, NodeCommand, RegisterNode, SetNodeAvailability, UpdateNodeFacts,
        node::EnterNode,
    },
    event::EventKind,
    plan::fit::{Capacity, Load},
    state::{ClusterState, node_end, recovery, seat},
};

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// What the operator wants of it.
    pub availability: Availability,
    /// Counts its registrations; zero until the first.
    pub epoch: NodeEpoch,
    /// What it is and has, as it last said.
    pub facts: NodeFacts,
    /// It shrank below what was placed on it: it keeps that and takes nothing new.
    pub overcommitted: bool,
    /// When it joined.
    pub joined: Timestamp,
    /// When it last registered.
    pub registered: Option<Timestamp>,
    /// The mutation that last changed it.
    pub revision: Revision,
}

impl Node {
    /// Returns the findings that keep workspaces away.
    pub fn blocking(&self) -> impl Iterator<Item = &Finding> {
        self.facts.findings.iter().filter(|finding| finding.level == FindingLevel::Blocking)
    }
}

impl ClusterState {
    /// Returns what is set aside on `node` for the workspaces assigned to it.
    pub fn load(&self, node: NodeId) -> Load {
        let mut load = Load::default();
        for workspace in self.workspaces_on(node) {
            load.add(workspace.client, &workspace.spec.resources);
        }
        load
    }

    /// Marks `node` where what is placed on it no longer fits, and unmarks it where it does again.
    pub(crate) fn weigh(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else { return };
        let over = !Capacity::of(&node.facts).holds(&self.load(id));
        if node.overcommitted != over
            && let Some(node) = self.nodes.get_mut(&id)
        {
            Arc::make_mut(node).overcommitted = over;
        }
    }
}

/// Applies what is done to one node.
pub(crate) fn command(
    state: &mut ClusterState,
    context: &Context,
    command: &NodeCommand,
) -> Result<Change, Refusal> {
    match command {
        NodeCommand::Enter(command) => enter(state, context, command),
        NodeCommand::NoteRival(command) => seat::note_rival(state, context, command),
        NodeCommand::Rejoin(command) => seat::rejoin(state, context, *command),
        NodeCommand::Label(command) => node_end::label(state, context, command),
        NodeCommand::Remove(command) => node_end::remove(state, context, command),
    }
}

pub(crate) fn register(
    state: &mut ClusterState,
    context: &Context,
    command: &RegisterNode,
) -> Result<Change, Refusal> {
    let RegisterNode { node, facts } = command;
    let enter_as = EnterNode { node: *node, facts: facts.clone(), claims: None };
    enter(state, context, &enter_as)
}

fn enter(
    state: &mut ClusterState,
    context: &Context,
    command: &EnterNode,
) -> Result<Change, Refusal> {
    let EnterNode { node: id, facts, claims } = command;
    let current = found(state, *id)?;
    not_retired(current)?;
    validate_facts(facts)?;
    seat::take(state, *id, claims.as_ref())?;
    let labels = state.keep_configured(*id, &facts.labels);
    let node = Arc::make_mut(state.nodes.get_mut(id).ok_or_else(|| missing(*id))?);
    let rebooted = node.epoch != NodeEpoch(0) && node.facts.boot != facts.boot;
    node.epoch = node.epoch.next();
    node.facts = NodeFacts { labels, ..facts.clone() };
    node.registered = Some(context.at);
    node.revision = context.revision;
    let (name, epoch) = (node.name.clone(), node.epoch);
    state.weigh(*id);
    let boot = if rebooted { "a new boot" } else { "boot" };
    Ok(Change::new("node.register", Outcome::Node(*id))
        .object(&name, id)
        .detail(format!("epoch {epoch}, {boot} {}, agent {}", facts.boot, facts.version))
        .event(EventKind::NodeRegistered(*id, epoch)))
}

pub(crate) fn update_facts(
    state: &mut ClusterState,
    context: &Context,
    command: &UpdateNodeFacts,
) -> Result<Change, Refusal> {
    let UpdateNodeFacts { node: id, facts } = command;
    let current = found(state, *id)?;
    let name = current.name.clone();
    not_retired(current)?;
    validate_facts(facts)?;
    let labels = state.effective_labels(*id, &facts.labels);
    let own = state.node_labels.get(id).is_none_or(|one| one.configured == facts.labels);
    if own && current.facts == (NodeFacts { labels, ..facts.clone() }) {
        return Ok(Change::none(Outcome::Node(*id)));
    }
    if current.epoch == NodeEpoch(0) || current.facts.boot != facts.boot {
        let message = format!("node {name} has not registered in this boot");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    let labels = state.keep_configured(*id, &facts.labels);
    let node = Arc::make_mut(state.nodes.get_mut(id).ok_or_else(|| missing(*id))?);
    node.facts = NodeFacts { labels, ..facts.clone() };
    node.revision = context.revision;
    state.weigh(*id);
    let NodeFacts { allocatable_memory, swap, disk, .. } = facts;
    Ok(Change::new("node.facts", Outcome::Node(*id))
        .object(&name, id)
        .detail(format!("memory {allocatable_memory}, swap {swap}, disk {disk}"))
        .event(EventKind::NodeFactsChanged(*id)))
}

pub(crate) fn set_availability(
    state: &mut ClusterState,
    context: &Context,
    command: &SetNodeAvailability,
) -> Result<Change, Refusal> {
    let SetNodeAvailability { node: id, availability } = *command;
    let current = found(state, id)?;
    let name = current.name.clone();
    context.unchanged_since(current.revision, || format!("node {name}"))?;
    if current.availability == availability {
        return Ok(Change::none(Outcome::Node(id)));
    }
    not_retired(current)?;
    let held = state.workspaces_on(id).count();
    if availability == Availability::Retired && held > 0 {
        let noun = if held == 1 { "workspace" } else { "workspaces" };
        let message = format!("node {name} still has {held} {noun}; drain it first");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    let node = Arc::make_mut(state.nodes.get_mut(&id).ok_or_else(|| missing(id))?);
    node.availability = availability;
    node.revision = context.revision;
    if availability == Availability::Retired {
        recovery::stop_awaiting(state, id);
    }
    Ok(Change::new("node.availability", Outcome::Node(id))
        .object(&name, &id)
        .detail(availability.as_str())
        .event(EventKind::NodeAvailability(id, availability)))
}

pub(crate) fn missing(id: NodeId) -> Refusal {
    Refusal::new(RefusalCode::NotFound, format!("there is no node {id}"))
}

fn found(state: &ClusterState, id: NodeId) -> Result<&Node, Refusal> {
    state.nodes.get(&id).map(AsRef::as_ref).ok_or_else(|| missing(id))
}

pub(super) fn not_retired(node: &Node) -> Result<(), Refusal> {
    match node.availability {
        Availability::Retired => {
            let message = format!("node {} is retired and never comes back", node.name);
            Err(Refusal::new(RefusalCode::WrongState, message))
        }
        Availability::Active | Availability::Cordoned | Availability::Draining => Ok(()),
    }
}

/// Checks what a node says of itself: it is another machine's word.
pub(crate) fn validate_facts(facts: &NodeFacts) -> Result<(), Refusal> {
    let wrong = |message| Err(Refusal::new(RefusalCode::InvalidSpec, message));
    let texts = [&facts.hostname, &facts.version, &facts.engine, &facts.kernel];
    if texts.iter().any(|text| !clean(text, Limits::LABEL_BYTES)) {
        return wrong(format!(
            "a text of the node's facts is longer than {} bytes or holds control characters",
            Limits::LABEL_BYTES
        ));
    }
    if facts.findings.len() > Limits::FINDINGS {
        let (found, limit) = (facts.findings.len(), Limits::FINDINGS);
        return wrong(format!("the node has {found} findings, the limit is {limit}"));
    }
    let sound = |finding: &Finding| {
        [&finding.code, &finding.message, &finding.fix]
            .iter()
            .all(|text| clean(text, Limits::REASON_BYTES))
    };
    if !facts.findings.iter().all(sound) {
        return wrong(format!(
            "a finding of the node is longer than {} bytes or holds control characters",
            Limits::REASON_BYTES
        ));
    }
    validate_labels("node labels", &facts.labels)
        .map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))
}

fn clean(text: &str, limit: usize) -> bool {
    text.len() <= limit && !text.chars().any(char::is_control)
}
