//! Objects of the state as callers see them: what was decided beside what was seen.

use warren_common::{Bytes, NodeId, Timestamp};
use warren_model::{
    ClusterState, LiveView, Liveness,
    command::Availability,
    plan::{Candidate, Explanation, FilterCount, ScorePart},
    state::{Client, Desired, Node, PhaseKind, Workspace},
};
use warren_proto::pb::{admin::v1 as pb, node::v1 as node_pb};

/// What an answer is made from.
pub struct View<'a> {
    /// What was asked and decided.
    pub state: &'a ClusterState,
    /// What was seen.
    pub live: &'a LiveView,
    /// The present.
    pub now: Timestamp,
}

impl View<'_> {
    /// Says of which state the answer is, and when it was made.
    pub fn freshness(&self) -> pb::Freshness {
        let recovery = self.state.recovery.as_ref();
        let notice = recovery.map(|recovery| recovery.holds_back(self.state));
        pb::Freshness {
            revision: self.state.revision.0,
            served_unix_ms: self.now.0,
            notice: notice.unwrap_or_default(),
            incarnation: self.state.cluster.as_ref().map_or(0, |cluster| cluster.incarnation),
            ..pb::Freshness::default()
        }
    }

    /// Shows a client.
    pub fn client(&self, client: &Client) -> pb::Client {
        let workspaces = count(self.state.workspaces_of(client.id).count());
        let allowed = self.state.allowed.get(&client.id);
        let allowed = allowed.into_iter().flatten().map(ToString::to_string).collect();
        pb::Client { workspaces, allowed, ..self::client(client) }
    }

    /// Shows a node with what it last said it has free.
    pub fn node(&self, node: &Node, usage: Option<node_pb::NodeUsage>) -> pb::Node {
        let standing = warren_model::liveness(node, self.live, self.now);
        let placed = || self.state.workspaces_on(node.id).map(|one| &one.spec.resources);
        let sum = |sum: Bytes, part: Bytes| sum.plus(part);
        pb::Node {
            liveness: liveness(standing.liveness).into(),
            reason: standing.reason,
            last_seen_unix_ms: standing.last_seen.map_or(0, |at| at.0),
            usage,
            reserved_memory_bytes: placed().map(|one| one.reserve).fold(Bytes(0), sum).0,
            capped_memory_bytes: placed().map(|one| one.memory).fold(Bytes(0), sum).0,
            workspaces: count(placed().count()),
            ..self::node(node)
        }
    }

    /// Shows a workspace with what its node says of its current generation.
    pub fn workspace(&self, workspace: &Workspace) -> pb::Workspace {
        let client = self.state.clients.get(&workspace.client);
        let client = client.map(|client| client.name.to_string()).unwrap_or_default();
        let node = workspace.assignment.as_ref().map(|assignment| assignment.node);
        let label = node.map(|node| self.state.node_label(node)).unwrap_or_default();
        let seen = node.and_then(|node| self.live.observed(node, workspace.id));
        let seen = seen.filter(|seen| seen.observed.generation == workspace.generation);
        let ready = node.is_some_and(|node| self.is_ready(node));
        pb::Workspace {
            observed: seen.map(|seen| seen.observed.as_ref().clone().into()),
            observed_unix_ms: seen.map_or(0, |seen| seen.received.0),
            observed_live: seen.is_some() && ready,
            request_id: self.origin(workspace),
            ..self::workspace(workspace, &client, &label)
        }
    }

    /// Names the request that last asked for a workspace's run; empty where none is known.
    fn origin(&self, workspace: &Workspace) -> String {
        let origin = self.state.origins.get(&workspace.id);
        origin.map(ToString::to_string).unwrap_or_default()
    }

    /// Shows the sessions of a workspace, by name, as its node last said.
    pub fn sessions(&self, workspace: &Workspace) -> Vec<pb::Session> {
        let Some(node) = workspace.assignment.as_ref().map(|assignment| assignment.node) else {
            return Vec::new();
        };
        let seen = self.live.observed(node, workspace.id);
        let Some(seen) = seen.filter(|seen| seen.observed.generation == workspace.generation)
        else {
            return Vec::new();
        };
        let client = self.state.clients.get(&workspace.client);
        let client = client.map(|client| client.name.to_string()).unwrap_or_default();
        let mut sessions = seen.observed.sessions.clone();
        sessions.sort_by(|one, other| one.name.cmp(&other.name));
        let show = |session: warren_common::status::SessionObserved| pb::Session {
            client: client.clone(),
            workspace: workspace.name.to_string(),
            node: self.state.node_label(node),
            observed: Some(session.into()),
            observed_unix_ms: seen.received.0,
            observed_live: self.is_ready(node),
        };
        sessions.into_iter().map(show).collect()
    }

    /// Whether a node has reported within its time.
    pub fn is_ready(&self, node: NodeId) -> bool {
        let liveness = |node| warren_model::liveness(node, self.live, self.now).liveness;
        self.state.nodes.get(&node).is_some_and(|node| liveness(node) == Liveness::Ready)
    }

    /// Shows a placement decision.
    pub fn explanation(&self, explanation: Explanation) -> pb::Explanation {
        let node = explanation.node.map(|node| self.state.node_label(node));
        pb::Explanation {
            summary: explanation.summary,
            node: node.unwrap_or_default(),
            filters: explanation.filters.into_iter().map(filter).collect(),
            candidates: explanation.candidates.into_iter().map(candidate).collect(),
        }
    }
}

/// Shows what was decided of a client; what counts over others is left out.
pub fn client(client: &Client) -> pb::Client {
    pb::Client {
        id: client.id.to_string(),
        name: client.name.to_string(),
        labels: client.labels.clone().into_iter().collect(),
        created_unix_ms: client.created.0,
        revision: client.revision.0,
        workspaces: 0,
        allowed: Vec::new(),
    }
}

/// Shows what was decided of a node, and its facts; what it reports and what counts over others is
/// left out.
pub fn node(node: &Node) -> pb::Node {
    pb::Node {
        id: node.id.to_string(),
        name: node.name.to_string(),
        availability: availability(node.availability).into(),
        epoch: node.epoch.0,
        facts: Some(node.facts.clone().into()),
        revision: node.revision.0,
        joined_unix_ms: node.joined.0,
        ..pb::Node::default()
    }
}

/// Shows what was decided of a workspace, with the names of its client and of its node; what its
/// node reports is left out.
pub fn workspace(workspace: &Workspace, client: &str, node: &str) -> pb::Workspace {
    let on = workspace.assignment.as_ref().map(|assignment| assignment.node.to_string());
    pb::Workspace {
        id: workspace.id.to_string(),
        client: client.to_owned(),
        name: workspace.name.to_string(),
        spec: Some(workspace.spec.clone().into()),
        run: desired(workspace.desired).into(),
        phase: phase(&workspace.phase.kind).into(),
        reason: workspace.phase.reason.clone(),
        phase_since_unix_ms: workspace.phase.since.0,
        phase_deadline_unix_ms: workspace.phase.deadline.map(|at| at.0),
        generation: workspace.generation.0,
        run_serial: workspace.run_serial,
        node_id: on.unwrap_or_default(),
        node: node.to_owned(),
        created_unix_ms: workspace.created.0,
        revision: workspace.revision.0,
        failover: "manual (no fence yet)".to_owned(),
        ..pb::Workspace::default()
    }
}

fn filter(filter: FilterCount) -> pb::FilterCount {
    pb::FilterCount {
        filter: filter.filter.as_str().to_owned(),
        considered: filter.considered,
        refused: filter.refused,
    }
}

fn candidate(candidate: Candidate) -> pb::Candidate {
    let (refused_by, detail) = match candidate.misfit {
        Some(misfit) => (misfit.cause.filter().as_str().to_owned(), misfit.detail),
        None => (String::new(), format!("{} free", candidate.free)),
    };
    pb::Candidate {
        node: candidate.name.to_string(),
        refused_by,
        detail,
        score: candidate.score,
        parts: candidate.parts.into_iter().map(part).collect(),
    }
}

fn part(part: ScorePart) -> pb::ScorePart {
    pb::ScorePart { name: part.name.to_owned(), value: part.value, weight: part.weight }
}

const fn desired(desired: Desired) -> pb::DesiredRun {
    match desired {
        Desired::Running => pb::DesiredRun::Running,
        Desired::Stopped => pb::DesiredRun::Stopped,
        Desired::Deleted => pb::DesiredRun::Deleted,
    }
}

/// Returns the wire's name of a phase.
pub const fn phase(phase: &PhaseKind) -> pb::Phase {
    match phase {
        PhaseKind::Queued => pb::Phase::Queued,
        PhaseKind::Assigned => pb::Phase::Assigned,
        PhaseKind::Preparing => pb::Phase::Preparing,
        PhaseKind::StartPermitted => pb::Phase::StartPermitted,
        PhaseKind::Active => pb::Phase::Active,
        PhaseKind::Stopping => pb::Phase::Stopping,
        PhaseKind::Stopped => pb::Phase::Stopped,
        PhaseKind::Unconfirmed => pb::Phase::Unconfirmed,
        PhaseKind::Fencing => pb::Phase::Fencing,
        PhaseKind::Restoring => pb::Phase::Restoring,
        PhaseKind::Migrating => pb::Phase::Migrating,
        PhaseKind::Failed { .. } => pb::Phase::Failed,
    }
}

const fn availability(availability: Availability) -> pb::NodeAvailability {
    match availability {
        Availability::Active => pb::NodeAvailability::Active,
        Availability::Cordoned => pb::NodeAvailability::Cordoned,
        Availability::Draining => pb::NodeAvailability::Draining,
        Availability::Retired => pb::NodeAvailability::Retired,
    }
}

const fn liveness(liveness: Liveness) -> pb::NodeLiveness {
    match liveness {
        Liveness::Joining => pb::NodeLiveness::Joining,
        Liveness::Ready => pb::NodeLiveness::Ready,
        Liveness::Suspect => pb::NodeLiveness::Suspect,
        Liveness::Unreachable => pb::NodeLiveness::Unreachable,
    }
}

/// A length as the wire counts.
pub fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
