//! What a watch stream tells of everything that happens.

use warren_common::{ClientId, NodeId, WorkspaceId};
use warren_proto::pb::admin::v1::EventKind;

use super::{Record, show};

/// Which objects a watch is about; where several are named, an event must concern all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only this client and its workspaces.
    pub client: Option<ClientId>,
    /// Only this workspace.
    pub workspace: Option<WorkspaceId>,
    /// Only this node and the workspaces placed on it.
    pub node: Option<NodeId>,
}

/// Which events a watch tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Empty for all.
    pub kinds: Vec<EventKind>,
    /// What they must concern.
    pub scope: Scope,
    /// Whether events about people and certificates are told.
    pub people: bool,
    /// None are told: the watch is about something else.
    pub none: bool,
}

impl Filter {
    /// Whether an event is told.
    pub fn passes(&self, record: &Record) -> bool {
        let Scope { client, workspace, node } = self.scope;
        let kind = show::kind(&record.event.kind);
        !self.none
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.people || !tells_of_people(kind))
            && client.is_none_or(|client| record.client() == Some(client))
            && workspace.is_none_or(|workspace| record.workspace() == Some(workspace))
            && node.is_none_or(|node| record.concerns_node(node))
    }
}

/// Whether events of a kind are told to those alone who may know the people. Certificates are of
/// people too, and an event names no holder to tell them by.
pub const fn tells_of_people(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::PersonInvited
            | EventKind::PersonEnrolled
            | EventKind::PersonRevoked
            | EventKind::CertificateIssued
            | EventKind::CertificateRevoked
    )
}
