//! What lists of things in workspaces are asked for alike: where these are, their states, their order.

use warren_common::{ClientId, NodeId, WorkspaceId};
use warren_model::state::Workspace;
use warren_proto::error::ApiError;

use super::{Moment, errors, resolve};

/// Where they are; each part is everywhere without a word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    workspace: Option<WorkspaceId>,
    client: Option<ClientId>,
    node: Option<NodeId>,
}

impl Place {
    /// Reads a workspace, a client and a node.
    ///
    /// # Errors
    /// It names what there is not.
    pub(super) fn read(
        moment: &Moment,
        (workspace, client, node): (&str, &str, &str),
    ) -> Result<Self, ApiError> {
        let state = &moment.state;
        Ok(Self {
            workspace: named(workspace, |text| Ok(resolve::workspace(state, text)?.id))?,
            client: named(client, |text| Ok(resolve::client(state, text)?.id))?,
            node: named(node, |text| Ok(resolve::node(state, text)?.id))?,
        })
    }

    /// Whether what is in a workspace can be there.
    pub(super) fn may_hold(&self, workspace: &Workspace) -> bool {
        let on = workspace.assignment.as_ref().map(|assignment| assignment.node);
        self.workspace.is_none_or(|only| only == workspace.id)
            && self.client.is_none_or(|client| client == workspace.client)
            && self.node.is_none_or(|node| on == Some(node))
    }
}

/// Reads a word; none where there is none.
///
/// # Errors
/// As `find`.
pub(super) fn named<T>(
    text: &str,
    find: impl FnOnce(&str) -> Result<T, ApiError>,
) -> Result<Option<T>, ApiError> {
    if text.is_empty() { Ok(None) } else { find(text).map(Some) }
}

/// Reads states.
///
/// # Errors
/// One of them is none.
pub(super) fn states<T>(
    numbers: &[i32],
    known: impl Fn(i32) -> Option<T>,
) -> Result<Vec<T>, ApiError> {
    let read = |(index, number): (usize, &i32)| {
        let field = format!("states[{index}]");
        known(*number).ok_or_else(|| errors::invalid(&field, format!("there is no state {number}")))
    };
    numbers.iter().enumerate().map(read).collect()
}

/// Returns them with their keys, in the order of these.
pub(super) fn keyed<T>(
    all: impl Iterator<Item = T>,
    key: impl Fn(&T) -> String,
) -> std::vec::IntoIter<(String, T)> {
    let mut keyed: Vec<(String, T)> = all.map(|one| (key(&one), one)).collect();
    keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
    keyed.into_iter()
}
