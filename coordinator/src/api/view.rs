//! Objects of the state as callers see them: what was decided beside what was seen.

use std::time::Duration;

use warren_common::{Bytes, NodeId, Timestamp, browser::BrowserStatus};
use warren_model::{
    ClusterState, LiveView, Liveness,
    command::Availability,
    plan::{Candidate, Explanation, FilterCount, ScorePart},
    state::{Client, Desired, Node, PhaseKind, Workspace},
};
use warren_proto::pb::{admin::v1 as pb, node::v1 as node_pb};

use crate::live::Live;

/// From here on a node's clock is told to be off: as `warren doctor` warns of others.
const CLOCK_OFF: Duration = Duration::from_secs(5);

/// What a node last said beside its facts.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// What it has free.
    pub usage: Option<node_pb::NodeUsage>,
    /// By how much its clock is ahead of ours, milliseconds.
    pub clock_offset: Option<i64>,
}

impl Said {
    /// Returns what a node last said here.
    pub fn by(live: &Live, node: NodeId) -> Self {
        Self { usage: live.usage(node), clock_offset: live.clock_offset(node) }
    }
}

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

    /// Shows a node with what it last said beside its facts.
    pub fn node(&self, node: &Node, said: Said) -> pb::Node {
        let Said { usage, clock_offset } = said;
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
            findings: self.findings(node, clock_offset),
            lease_confirmed_unix_ms: self.live.confirmed(node.id).map_or(0, |at| at.0),
            clock_offset_ms: clock_offset,
            operator_labels: self.operator_labels(node),
            ..self::node(node)
        }
    }

    fn operator_labels(&self, node: &Node) -> Vec<String> {
        let own = self.state.node_labels.get(&node.id);
        own.map(|own| own.set.keys().cloned().collect()).unwrap_or_default()
    }

    /// What is found here of a node, beside what it finds itself.
    fn findings(&self, node: &Node, clock_offset: Option<i64>) -> Vec<node_pb::Finding> {
        let finding = |code: &str, message: String, fix: String| node_pb::Finding {
            code: code.to_owned(),
            level: node_pb::FindingLevel::Warning.into(),
            message,
            fix,
        };
        let mut findings = Vec::new();
        if let Some(rival) = self.state.rival(node.id, self.now) {
            let fix = format!(
                "stop the agent that should not be {name}; where the refused one is the right one: \
                 warren node rejoin {name}",
                name = node.name
            );
            let message = format!("another agent shows its identity ({})", rival.reason);
            findings.push(finding("IDENTITY_CONFLICT", message, fix));
        }
        let offset = clock_offset.map_or(0, i64::unsigned_abs);
        if Duration::from_millis(offset) >= CLOCK_OFF {
            let way =
                if clock_offset.is_some_and(|offset| offset > 0) { "ahead" } else { "behind" };
            let message = format!(
                "its clock is {} s {way} of this coordinator's: times that it tells are off",
                offset / 1000
            );
            let fix = "keep the clocks of nodes and coordinators right with NTP".to_owned();
            findings.push(finding("CLOCK", message, fix));
        }
        findings
    }

    /// Shows a workspace with what its node says of its current generation.
    pub fn workspace(&self, workspace: &Workspace) -> pb::Workspace {
        let client = self.state.clients.get(&workspace.client);
        let client = client.map(|client| client.name.to_string()).unwrap_or_default();
        let node = workspace.assignment.as_ref().map(|assignment| assignment.node);
        let label = node.map(|node| self.state.node_label(node)).unwrap_or_default();
        let seen = node.and_then(|node| self.live.last_said(node, workspace.id));
        let seen = seen.filter(|seen| seen.observed.generation == workspace.generation);
        let heard = node.is_some_and(|node| self.is_heard(node));
        let lease = warren_model::lease(self.live, workspace);
        pb::Workspace {
            lease_confirmed_unix_ms: lease.map_or(0, |lease| lease.confirmed.0),
            lease_expires_unix_ms: lease.and_then(|lease| lease.expires).map_or(0, |at| at.0),
            silent_since_unix_ms: node
                .and_then(|node| self.silent_since(node))
                .map_or(0, |at| at.0),
            observed: node.zip(seen).map(|(node, seen)| {
                let mut whole = seen.observed.whole(workspace.id);
                self.as_heard(node, &mut whole.sessions);
                self.browsers_as_heard(node, &mut whole.browsers);
                whole.into()
            }),
            observed_unix_ms: seen.map_or(0, |seen| seen.received.0),
            observed_live: seen.is_some() && heard,
            request_id: self.origin(workspace),
            image_before: self.image_before(workspace),
            ..self::workspace(workspace, &client, &label)
        }
    }

    /// Names the request that last asked for a workspace's run; empty where none is known.
    fn origin(&self, workspace: &Workspace) -> String {
        let origin = self.state.origins.get(&workspace.id);
        origin.map(ToString::to_string).unwrap_or_default()
    }

    /// Names the image that a workspace had before its last update; empty where there is none.
    fn image_before(&self, workspace: &Workspace) -> String {
        let before = self.state.images_before.get(&workspace.id);
        before.map(ToString::to_string).unwrap_or_default()
    }

    /// Shows the browsers of a workspace, by id, as its node last said.
    pub fn browsers(&self, workspace: &Workspace) -> Vec<pb::Browser> {
        let Some(node) = workspace.assignment.as_ref().map(|assignment| assignment.node) else {
            return Vec::new();
        };
        let seen = self.live.last_said(node, workspace.id);
        let Some(seen) = seen.filter(|seen| seen.observed.generation == workspace.generation)
        else {
            return Vec::new();
        };
        let client = self.state.clients.get(&workspace.client);
        let client = client.map(|client| client.name.to_string()).unwrap_or_default();
        let mut browsers = seen.observed.browsers();
        self.browsers_as_heard(node, &mut browsers);
        browsers.sort_by_key(|one| one.id);
        let (label, heard) = (self.state.node_label(node), self.is_heard(node));
        let show = |browser: BrowserStatus| pb::Browser {
            client: client.clone(),
            workspace: workspace.name.to_string(),
            node: label.clone(),
            observed: Some(browser.into()),
            observed_unix_ms: seen.received.0,
            observed_live: heard,
        };
        browsers.into_iter().map(show).collect()
    }

    /// As [`Self::as_heard`], of browsers.
    fn browsers_as_heard(&self, node: NodeId, browsers: &mut [BrowserStatus]) {
        let Some(heard) = self.live.nodes.get(&node).map(warren_model::NodeLive::said_at) else {
            return;
        };
        for browser in browsers {
            *browser = std::mem::take(browser).unheard(heard, self.now);
        }
    }

    /// Whether a node has reported within its time.
    pub fn is_ready(&self, node: NodeId) -> bool {
        let liveness = |node| warren_model::liveness(node, self.live, self.now).liveness;
        self.state.nodes.get(&node).is_some_and(|node| liveness(node) == Liveness::Ready)
    }

    /// Whether what a node said last stands for the present: to tell people, and for no decision.
    pub fn is_heard(&self, node: NodeId) -> bool {
        let node = self.state.nodes.get(&node);
        node.is_some_and(|node| warren_model::is_heard(node, self.live, self.now))
    }

    /// When a silent node was last heard of; none where it is heard.
    fn silent_since(&self, node: NodeId) -> Option<Timestamp> {
        let standing = warren_model::liveness(self.state.nodes.get(&node)?, self.live, self.now);
        match standing.liveness {
            Liveness::Joining | Liveness::Ready => None,
            Liveness::Suspect | Liveness::Unreachable => standing.last_seen,
        }
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
        overcommitted: node.overcommitted,
        registered_unix_ms: node.registered.map_or(0, |at| at.0),
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
        spec: Some(workspace.spec.whole().into()),
        run: desired(workspace.desired).into(),
        phase: phase(&workspace.phase.kind).into(),
        reason: workspace.phase.reason.to_string(),
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

/// Returns the wire's name of how a node is heard from.
pub const fn liveness(liveness: Liveness) -> pb::NodeLiveness {
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
