//! Workspaces and their assignments: what they are, and how they are made, placed and removed.
//!
//! What happens between placement and removal, asked for or observed, is in `workspace_run.rs`.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use warren_common::{
    ClientId, Generation, Limits, NodeId, Revision, Timestamp, WorkspaceAddress, WorkspaceId,
    WorkspaceName, spec::Permit, status::reason_applied,
};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{Assign, CreateWorkspace, Forget},
    event::EventKind,
    plan::fit::{Need, fit},
    state::{ClusterState, Spec, node, recovery, secret},
};

pub use super::workspace_run::{RUN_WELL, back_off};
pub(crate) use super::workspace_run::{advance, set_run};

/// By when a node should have taken an order.
pub const ASSIGNED_WITHIN: Duration = Duration::from_secs(60);
/// By when volume, network and container should be made, an image pulled included.
pub const PREPARED_WITHIN: Duration = Duration::from_secs(15 * 60);
/// By when a permitted run should have started.
pub const STARTED_WITHIN: Duration = Duration::from_secs(2 * 60);
/// By when a workspace should be stopped, or removed: the grace and the engine's own time.
pub const STOPPED_WITHIN: Duration = Duration::from_secs(3 * 60);

/// One workspace: what was asked, what was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Whose it is.
    pub client: ClientId,
    /// Its name, unique within the client.
    pub name: WorkspaceName,
    /// What was asked for.
    pub spec: Spec,
    /// Whether it should run.
    pub desired: Desired,
    /// Counts the runs asked for or granted again; starts at 1.
    pub run_serial: u64,
    /// The highest generation ever given; kept when the assignment goes.
    pub generation: Generation,
    /// Where it was placed; none while queued.
    pub assignment: Option<Assignment>,
    /// Where it stands.
    pub phase: Phase,
    /// Runs that ended by themselves since it last ran well for a while; sets the back-off.
    pub failed_runs: u32,
    /// End of the back-off: no permit is given before it.
    pub not_before: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// The mutation that last changed it.
    pub revision: Revision,
}

/// What was last asked of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Desired {
    /// It should run.
    Running,
    /// It should be stopped.
    Stopped,
    /// It should be gone, home and all.
    Deleted,
}

/// A decision: this node, at this generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Where to.
    pub node: NodeId,
    /// The fencing number.
    pub generation: Generation,
    /// The right to start the current run.
    pub permit: Option<Permit>,
    /// Why there.
    pub reason: Box<str>,
}

/// Where a workspace stands, why, since when and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Which phase.
    pub kind: PhaseKind,
    /// Why, for people; never empty.
    pub reason: Box<str>,
    /// When it was entered.
    pub since: Timestamp,
    /// By when it should have ended; none for the phases that may last.
    pub deadline: Option<Timestamp>,
}

/// The phases of DESIGN §8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhaseKind {
    /// No node yet.
    Queued,
    /// A node was chosen and has not said anything yet.
    Assigned,
    /// The node makes volume, network and container.
    Preparing,
    /// The node may start it.
    StartPermitted,
    /// It runs.
    Active,
    /// It is being stopped.
    Stopping,
    /// It is stopped.
    Stopped,
    /// Its node is silent: nobody knows.
    Unconfirmed,
    /// Its old node is being fenced.
    Fencing,
    /// Its home is being restored.
    Restoring,
    /// It moves to another node.
    Migrating,
    /// It cannot run; the code says why.
    Failed {
        /// Stable code such as `IMAGE_MISSING`.
        code: Box<str>,
    },
}

impl PhaseKind {
    /// Returns the word for people.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Assigned => "assigned",
            Self::Preparing => "preparing",
            Self::StartPermitted => "start permitted",
            Self::Active => "active",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Unconfirmed => "unconfirmed",
            Self::Fencing => "fencing",
            Self::Restoring => "restoring",
            Self::Migrating => "migrating",
            Self::Failed { .. } => "failed",
        }
    }

    /// How long the phase may take; none for the phases that may last.
    pub const fn within(&self) -> Option<Duration> {
        match self {
            Self::Assigned => Some(ASSIGNED_WITHIN),
            Self::Preparing | Self::Restoring | Self::Migrating => Some(PREPARED_WITHIN),
            Self::StartPermitted => Some(STARTED_WITHIN),
            Self::Stopping | Self::Fencing => Some(STOPPED_WITHIN),
            Self::Queued
            | Self::Active
            | Self::Stopped
            | Self::Unconfirmed
            | Self::Failed { .. } => None,
        }
    }
}

impl Phase {
    /// Enters a phase: its deadline follows from its kind, counted from the end of a back-off.
    pub(crate) fn enter(kind: PhaseKind, why: &str, (at, from): (Timestamp, Timestamp)) -> Self {
        let deadline = kind.within().map(|within| from.max(at).plus(within));
        Self { kind, reason: reason_applied(why).into(), since: at, deadline }
    }
}

impl Workspace {
    /// Enters a phase now.
    pub(crate) fn enter(&mut self, kind: PhaseKind, why: &str, at: Timestamp) {
        let from = self.not_before.unwrap_or(at);
        self.phase = Phase::enter(kind, why, (at, from));
    }
}

pub(crate) fn missing(id: WorkspaceId) -> Refusal {
    Refusal::new(RefusalCode::NotFound, format!("there is no workspace {id}"))
}

pub(crate) fn wrong(message: String) -> Refusal {
    Refusal::new(RefusalCode::WrongState, message)
}

pub(crate) fn create(
    state: &mut ClusterState,
    context: &Context,
    command: &CreateWorkspace,
) -> Result<Change, Refusal> {
    let CreateWorkspace { workspace: id, client, name, spec, no_queue: _ } = command;
    let Some(owner) = state.clients.get(client) else {
        return Err(Refusal::new(RefusalCode::NotFound, format!("there is no client {client}")));
    };
    let address = WorkspaceAddress { client: owner.name.clone(), workspace: name.clone() };
    let key = (*client, name.clone());
    if let Some(holder) = state.workspace_names.get(&key) {
        let deleted = |one: &Arc<Workspace>| one.desired == Desired::Deleted;
        let leaving = state.workspaces.get(holder).is_some_and(deleted);
        let how = if leaving { "is still being deleted" } else { "already exists" };
        let message = format!("workspace {address} {how}");
        return Err(Refusal::new(RefusalCode::NameTaken, message));
    }
    if state.workspaces.contains_key(id) {
        return Err(wrong(format!("the id of workspace {address} is in use")));
    }
    if state.workspaces.len() >= Limits::WORKSPACES {
        let message = format!("the cluster has {} workspaces, the limit", Limits::WORKSPACES);
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    spec.validate().map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))?;
    if let Some(pin) = spec.placement.pin
        && !state.nodes.contains_key(&pin)
    {
        return Err(node::missing(pin));
    }
    let workspace = Workspace {
        id: *id,
        client: *client,
        name: name.clone(),
        spec: spec.clone().into(),
        desired: Desired::Running,
        run_serial: 1,
        generation: Generation::default(),
        assignment: None,
        phase: Phase::enter(PhaseKind::Queued, "waiting for a node", (context.at, context.at)),
        failed_runs: 0,
        not_before: None,
        created: context.at,
        revision: context.revision,
    };
    state.workspaces.insert(*id, Arc::new(workspace));
    state.workspace_names.insert(key, *id);
    let phase = EventKind::WorkspacePhase { workspace: *id, from: None, to: PhaseKind::Queued };
    Ok(Change::new("workspace.create", Outcome::Workspace(*id))
        .object(&address, id)
        .detail(format!("image {}, memory {}", spec.image, spec.resources.memory))
        .event(EventKind::WorkspaceCreated(*id, address))
        .event(phase))
}

pub(crate) fn assign(
    state: &mut ClusterState,
    context: &Context,
    command: &Assign,
) -> Result<Change, Refusal> {
    let Assign { workspace: id, node: target, previous, reason: why } = command;
    recovery::refuse(state, "nothing is placed")?;
    let workspace = state.workspaces.get(id).ok_or_else(|| missing(*id))?;
    let label = state.workspace_label(*id);
    let queued = workspace.phase.kind == PhaseKind::Queued && workspace.assignment.is_none();
    if !queued {
        let kind = workspace.phase.kind.as_str();
        return Err(wrong(format!("workspace {label} is {kind}, not queued")));
    }
    if workspace.generation != *previous {
        let generation = workspace.generation;
        let message = format!("workspace {label} is at generation {generation}, not {previous}");
        return Err(wrong(message));
    }
    let node = state.nodes.get(target).ok_or_else(|| node::missing(*target))?;
    let name = node.name.clone();
    let owner = state.clients.get(&workspace.client).ok_or_else(|| missing(*id))?;
    let need = Need::of(owner, workspace);
    fit(node, &state.load(*target), &need).map_err(|misfit| {
        let (is, _) = misfit.cause.phrase();
        let detail = misfit.detail;
        let message = format!("node {name} cannot hold workspace {label}: it {is} ({detail})");
        Refusal::new(RefusalCode::NoNodeFits, message)
    })?;
    let incarnation = state.cluster.as_ref().map_or(0, |cluster| cluster.incarnation);
    let generation = workspace.generation.next(incarnation);
    let workspace = Arc::make_mut(state.workspaces.get_mut(id).ok_or_else(|| missing(*id))?);
    let reason = reason_applied(why);
    let given = if reason.is_empty() { format!("placed on {name}") } else { reason };
    workspace.generation = generation;
    workspace.assignment =
        Some(Assignment { node: *target, generation, permit: None, reason: given.as_str().into() });
    workspace.enter(PhaseKind::Assigned, &given, context.at);
    workspace.revision = context.revision;
    state.placed.insert((*target, *id), ());
    let (from, to) = (Some(PhaseKind::Queued), PhaseKind::Assigned);
    Ok(Change::new("workspace.assign", Outcome::Workspace(*id))
        .object(&label, id)
        .detail(format!("generation {generation}: {given}"))
        .event(EventKind::WorkspacePhase { workspace: *id, from, to }))
}

pub(crate) fn forget(
    state: &mut ClusterState,
    _: &Context,
    command: &Forget,
) -> Result<Change, Refusal> {
    let Forget { workspace: id, generation } = *command;
    recovery::refuse(state, "nothing is removed")?;
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    let label = state.workspace_label(id);
    if workspace.desired != Desired::Deleted {
        return Err(wrong(format!("workspace {label} is not asked to be deleted")));
    }
    if workspace.generation != generation {
        let current = workspace.generation;
        let message = format!("workspace {label} is at generation {current}, not {generation}");
        return Err(wrong(message));
    }
    Ok(remove(state, id, "workspace.forget"))
}

/// Takes a workspace out of every map.
pub(crate) fn remove(state: &mut ClusterState, id: WorkspaceId, action: &'static str) -> Change {
    let address = state.workspaces.get(&id).and_then(|one| state.address_of(one));
    let label = state.workspace_label(id);
    let change = Change::new(action, Outcome::Workspace(id)).object(&label, &id);
    let Some(workspace) = state.workspaces.remove(&id) else { return change };
    state.origins.remove(&id);
    state.resized.remove(&id);
    state.images_before.remove(&id);
    state.updated.remove(&id);
    state.recipes.remove(&id);
    let sessions = state.sessions.remove(&id).unwrap_or_default();
    state.workspace_names.remove(&(workspace.client, workspace.name.clone()));
    if let Some(assignment) = &workspace.assignment {
        state.placed.remove(&(assignment.node, id));
        state.weigh(assignment.node);
    }
    let secrets = secret::leave(state, &workspace, &sessions);
    let change = secret::told(change, &secrets);
    match address {
        Some(address) => change.event(EventKind::WorkspaceRemoved(id, address)),
        None => change,
    }
}
