//! What a command names: its workspace, and the nodes that are told something else after it.

use std::collections::BTreeSet;

use warren_common::{NodeId, WorkspaceId};

use super::{Command, SessionCommand, node::NodeCommand};
use crate::state::{ClusterState, Vault, Workspace};

impl Command {
    /// Whether secrets may go with what its workspace was before it, and the workspace stay.
    fn may_leave_secrets(&self) -> bool {
        if let Self::Session(session) = self {
            return matches!(
                **session,
                SessionCommand::Delete(_) | SessionCommand::Adopt(_) | SessionCommand::TakeOver(_)
            );
        }
        matches!(self, Self::UpdateWorkspace(_) | Self::AdoptWorkspace(_))
    }

    /// Returns the workspace that the command is about.
    pub fn workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::CreateWorkspace(create) => Some(create.workspace),
            Self::MakeWorkspace(make) => Some(make.create.workspace),
            Self::SetRun(set) => Some(set.workspace),
            Self::ResizeWorkspace(resize) => Some(resize.workspace),
            Self::UpdateWorkspace(update) => Some(update.workspace),
            Self::NoteView(note) => Some(note.workspace),
            Self::Assign(assign) => Some(assign.workspace),
            Self::Advance(advance) => Some(advance.workspace),
            Self::Forget(forget) => Some(forget.workspace),
            Self::AdoptWorkspace(adopt) => Some(adopt.held.order.workspace),
            Self::Session(session) => Some(session.workspace()),
            Self::InitCluster(_)
            | Self::SetReplica(_)
            | Self::CreateClient(_)
            | Self::DeleteClient(_)
            | Self::IssueToken(_)
            | Self::JoinNode(_)
            | Self::RegisterNode(_)
            | Self::UpdateNodeFacts(_)
            | Self::SetNodeAvailability(_)
            | Self::RevokeCertificate(_)
            | Self::BeginIncarnation(_)
            | Self::AdoptNode(_)
            | Self::AccountNode(_)
            | Self::EndRecovery(_)
            | Self::InvitePerson(_)
            | Self::EnrolPerson(_)
            | Self::RecordCertificate(_)
            | Self::RevokePerson(_)
            | Self::UpdateClient(_)
            | Self::IssueCoordinatorToken(_)
            | Self::JoinReplica(_)
            | Self::RemoveReplica(_)
            | Self::NoteBackup(_)
            | Self::ChangeAllowed(_)
            | Self::Template(_)
            | Self::Secret(_)
            | Self::Node(_) => None,
        }
    }
}

/// The nodes whose document ([`crate::node_spec`]) commands may have changed, the revision aside:
/// the others need not be looked at. A cluster has many nodes, and nearly every command is about
/// one of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// All of them.
    pub all: bool,
    /// These.
    pub nodes: BTreeSet<NodeId>,
    recovering: bool,
}

impl Touched {
    /// Begins with none, before the first command is applied to `state`.
    pub fn none(state: &ClusterState) -> Self {
        Self { all: false, nodes: BTreeSet::new(), recovering: state.recovery.is_some() }
    }

    /// Whether this node's may have changed.
    pub fn holds(&self, node: NodeId) -> bool {
        self.all || self.nodes.contains(&node)
    }

    /// Adds those of a command that was applied. `before` is the workspace that it names as it was
    /// before it, `after` the state after it.
    pub fn take(&mut self, command: &Command, before: Option<&Workspace>, after: &ClusterState) {
        // it may end with whatever is said of the last node that was waited for
        self.all |= self.recovering != after.recovery.is_some();
        if let Some(id) = command.workspace() {
            let now = after.workspaces.get(&id).map(AsRef::as_ref);
            let on = |one: &Workspace| Some(one.assignment.as_ref()?.node);
            self.nodes.extend([before, now].into_iter().flatten().filter_map(on));
            // secrets may have gone with it or with what it was, which others of its client had
            if let (Some(before), true) = (before, now.is_none() || command.may_leave_secrets()) {
                self.nodes.extend(after.workspaces_of(before.client).filter_map(|one| on(one)));
            }
        }
        match command {
            Command::Node(command) => match command.as_ref() {
                NodeCommand::Enter(enter) => drop(self.nodes.insert(enter.node)),
                // secrets may go with its workspaces
                NodeCommand::Remove(_) => self.all = true,
                NodeCommand::NoteRival(_) | NodeCommand::Rejoin(_) | NodeCommand::Label(_) => {}
            },
            Command::RegisterNode(register) => drop(self.nodes.insert(register.node)),
            Command::Secret(command) => match command.vault() {
                Vault::Shared => self.all = true,
                Vault::Client(client) => {
                    let on = |one: &Workspace| Some(one.assignment.as_ref()?.node);
                    self.nodes.extend(after.workspaces_of(client).filter_map(|one| on(one)));
                }
            },
            Command::InitCluster(_)
            | Command::BeginIncarnation(_)
            | Command::AdoptNode(_)
            | Command::AccountNode(_)
            | Command::EndRecovery(_)
            | Command::ChangeAllowed(_) => self.all = true,
            Command::CreateWorkspace(_)
            | Command::MakeWorkspace(_)
            | Command::SetRun(_)
            | Command::ResizeWorkspace(_)
            | Command::UpdateWorkspace(_)
            | Command::Assign(_)
            | Command::Advance(_)
            | Command::Forget(_)
            | Command::AdoptWorkspace(_)
            | Command::SetReplica(_)
            | Command::CreateClient(_)
            | Command::DeleteClient(_)
            | Command::IssueToken(_)
            | Command::JoinNode(_)
            | Command::UpdateNodeFacts(_)
            | Command::SetNodeAvailability(_)
            | Command::RevokeCertificate(_)
            | Command::InvitePerson(_)
            | Command::EnrolPerson(_)
            | Command::RecordCertificate(_)
            | Command::RevokePerson(_)
            | Command::UpdateClient(_)
            | Command::IssueCoordinatorToken(_)
            | Command::JoinReplica(_)
            | Command::RemoveReplica(_)
            | Command::NoteBackup(_)
            | Command::NoteView(_)
            | Command::Template(_)
            | Command::Session(_) => {}
        }
    }
}
