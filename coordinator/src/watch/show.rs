//! Events as callers see them.

use std::fmt::Write as _;

use warren_common::{NodeId, NodeName};
use warren_model::{EventKind, NodeStanding, state::PhaseKind};
use warren_proto::pb::admin::v1::{self as pb, event::What};

use super::{Record, Subject, record::Placed};
use crate::api::view;

/// Returns the kind by which callers filter.
pub(super) const fn kind(kind: &EventKind) -> pb::EventKind {
    match kind {
        EventKind::ClusterInitialised => pb::EventKind::ClusterInitialised,
        EventKind::ReplicaSet(_) => pb::EventKind::ReplicaSet,
        EventKind::ClientCreated(..) => pb::EventKind::ClientCreated,
        EventKind::ClientDeleted(..) => pb::EventKind::ClientDeleted,
        EventKind::TokenIssued(_) => pb::EventKind::TokenIssued,
        EventKind::NodeJoined(..) => pb::EventKind::NodeJoined,
        EventKind::NodeRegistered(..) => pb::EventKind::NodeRegistered,
        EventKind::NodeFactsChanged(_) => pb::EventKind::NodeFactsChanged,
        EventKind::NodeAvailability(..) => pb::EventKind::NodeAvailabilityChanged,
        EventKind::WorkspaceCreated(..) => pb::EventKind::WorkspaceCreated,
        EventKind::WorkspacePhase { .. } => pb::EventKind::WorkspacePhaseChanged,
        EventKind::WorkspaceRemoved(..) => pb::EventKind::WorkspaceRemoved,
        EventKind::CertificateRevoked(_) => pb::EventKind::CertificateRevoked,
        EventKind::IncarnationBegun(_) => pb::EventKind::IncarnationBegun,
        EventKind::NodeAccounted(_) => pb::EventKind::NodeAccounted,
        EventKind::RecoveryEnded => pb::EventKind::RecoveryEnded,
        EventKind::PersonInvited(_) => pb::EventKind::PersonInvited,
        EventKind::PersonEnrolled(_) => pb::EventKind::PersonEnrolled,
        EventKind::PersonRevoked(_) => pb::EventKind::PersonRevoked,
        EventKind::CertificateIssued(_) => pb::EventKind::CertificateIssued,
        EventKind::ClientUpdated(..) => pb::EventKind::ClientUpdated,
        EventKind::ReplicaJoined(_) => pb::EventKind::ReplicaJoined,
        EventKind::ReplicaRemoved(_) => pb::EventKind::ReplicaRemoved,
        EventKind::WorkspaceResized(_) => pb::EventKind::WorkspaceResized,
    }
}

/// Shows an event.
pub(super) fn event(record: &Record) -> pb::Event {
    pb::Event {
        revision: record.event.revision.0,
        index: record.index,
        at_unix_ms: record.event.at.0,
        what: Some(what(record)),
    }
}

/// Shows how a node is heard from.
pub(super) fn standing(id: NodeId, name: &NodeName, standing: &NodeStanding) -> pb::NodeStanding {
    pb::NodeStanding {
        node_id: id.to_string(),
        node: name.to_string(),
        liveness: view::liveness(standing.liveness).into(),
        reason: standing.reason.clone(),
        last_seen_unix_ms: standing.last_seen.map_or(0, |at| at.0),
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each kind of event")]
fn what(record: &Record) -> What {
    let subject = &record.subject;
    match &record.event.kind {
        EventKind::ClusterInitialised => What::ClusterInitialised(initialised(subject)),
        EventKind::ReplicaSet(id) => What::ReplicaSet(set(id.0, subject)),
        EventKind::ClientCreated(..) => {
            What::ClientCreated(pb::ClientCreated { client: client(subject) })
        }
        EventKind::ClientDeleted(id, name) => {
            What::ClientDeleted(pb::ClientDeleted { id: id.to_string(), name: name.to_string() })
        }
        EventKind::TokenIssued(id) => {
            What::TokenIssued(pb::TokenIssued { token_id: id.to_string() })
        }
        EventKind::NodeJoined(..) => What::NodeJoined(pb::NodeJoined { node: node(subject) }),
        EventKind::NodeRegistered(..) => {
            What::NodeRegistered(pb::NodeRegistered { node: node(subject) })
        }
        EventKind::NodeFactsChanged(_) => {
            What::NodeFactsChanged(pb::NodeFactsChanged { node: node(subject) })
        }
        EventKind::NodeAvailability(..) => {
            What::NodeAvailabilityChanged(pb::NodeAvailabilityChanged { node: node(subject) })
        }
        EventKind::WorkspaceCreated(..) => {
            What::WorkspaceCreated(pb::WorkspaceCreated { workspace: workspace(subject) })
        }
        EventKind::WorkspacePhase { workspace: _, from, to } => {
            What::WorkspacePhaseChanged(pb::WorkspacePhaseChanged {
                from: from.as_ref().map_or(pb::Phase::Unspecified, view::phase).into(),
                to: phase(to),
                workspace: workspace(subject),
            })
        }
        EventKind::WorkspaceRemoved(id, address) => {
            let left = placed(subject).and_then(|placed| placed.left);
            What::WorkspaceRemoved(pb::WorkspaceRemoved {
                id: id.to_string(),
                client: address.client.to_string(),
                name: address.workspace.to_string(),
                node_id: left.map(|node| node.to_string()).unwrap_or_default(),
            })
        }
        EventKind::CertificateRevoked(serial) => {
            What::CertificateRevoked(pb::CertificateRevoked { serial: hex(serial) })
        }
        EventKind::IncarnationBegun(incarnation) => {
            What::IncarnationBegun(pb::IncarnationBegun { incarnation: *incarnation })
        }
        EventKind::NodeAccounted(_) => {
            What::NodeAccounted(pb::NodeAccounted { node: node(subject) })
        }
        EventKind::RecoveryEnded => What::RecoveryEnded(pb::RecoveryEnded {}),
        EventKind::PersonInvited(name) => {
            What::PersonInvited(pb::PersonInvited { name: name.to_string() })
        }
        EventKind::PersonEnrolled(name) => {
            What::PersonEnrolled(pb::PersonEnrolled { name: name.to_string() })
        }
        EventKind::PersonRevoked(name) => {
            What::PersonRevoked(pb::PersonRevoked { name: name.to_string() })
        }
        EventKind::CertificateIssued(serial) => {
            What::CertificateIssued(pb::CertificateIssued { serial: hex(serial) })
        }
        EventKind::ClientUpdated(..) => {
            What::ClientUpdated(pb::ClientUpdated { client: client(subject) })
        }
        EventKind::ReplicaJoined(id) => What::ReplicaJoined(joined(id.0, subject)),
        EventKind::ReplicaRemoved(id) => What::ReplicaRemoved(pb::ReplicaRemoved { id: id.0 }),
        EventKind::WorkspaceResized(_) => {
            What::WorkspaceResized(pb::WorkspaceResized { workspace: workspace(subject) })
        }
    }
}

fn phase(kind: &PhaseKind) -> i32 {
    view::phase(kind).into()
}

fn initialised(subject: &Subject) -> pb::ClusterInitialised {
    let Subject::Cluster(cluster) = subject else { return pb::ClusterInitialised::default() };
    pb::ClusterInitialised { cluster_id: cluster.id.to_string(), name: cluster.name.clone() }
}

fn set(id: u64, subject: &Subject) -> pb::ReplicaSet {
    pb::ReplicaSet { replica: Some(replica(id, subject)) }
}

fn joined(id: u64, subject: &Subject) -> pb::ReplicaJoined {
    pb::ReplicaJoined { replica: Some(replica(id, subject)) }
}

fn replica(id: u64, subject: &Subject) -> pb::Replica {
    let Subject::Replica(replica) = subject else {
        return pb::Replica { id, ..pb::Replica::default() };
    };
    pb::Replica {
        id,
        api_address: replica.api_address.clone(),
        raft_address: replica.raft_address.clone(),
        ..pb::Replica::default()
    }
}

fn client(subject: &Subject) -> Option<pb::Client> {
    let Subject::Client(client, allowed) = subject else { return None };
    let allowed = allowed.iter().map(ToString::to_string).collect();
    Some(pb::Client { allowed, ..view::client(client) })
}

fn node(subject: &Subject) -> Option<pb::Node> {
    if let Subject::Node(node) = subject { Some(view::node(node)) } else { None }
}

fn placed(subject: &Subject) -> Option<&Placed> {
    if let Subject::Workspace(placed) = subject { Some(placed) } else { None }
}

fn workspace(subject: &Subject) -> Option<pb::Workspace> {
    let placed = placed(subject)?;
    Some(pb::Workspace {
        request_id: placed.origin.map(|request| request.to_string()).unwrap_or_default(),
        ..view::workspace(&placed.workspace, &placed.client, &placed.node)
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // writing to a String cannot fail
        let _ = write!(text, "{byte:02x}");
    }
    text
}
