//! From what people type to the object they mean: a name, an id, or a bare workspace name where
//! only one fits. A name wins over an id that is spelt like it.

use std::sync::Arc;

use tonic::Code;
use warren_common::{ClientId, ClientName, NodeId, WorkspaceAddress, WorkspaceId, WorkspaceName};
use warren_model::{
    ClusterState,
    state::{Client, Node, Workspace},
};
use warren_proto::error::{ApiError, reason};

use super::errors::{invalid, not_found};

/// Finds a client by name or id.
///
/// # Errors
/// Nothing given, or no such client.
pub fn client<'a>(state: &'a ClusterState, text: &str) -> Result<&'a Client, ApiError> {
    given("client", text)?;
    let named = text.parse::<ClientName>().ok().and_then(|name| state.client_named(&name));
    let found = named.or_else(|| state.clients.get(&text.parse::<ClientId>().ok()?));
    found.ok_or_else(|| not_found("client", text))
}

/// Finds a node by name or id.
///
/// # Errors
/// Nothing given, or no such node.
pub fn node<'a>(state: &'a ClusterState, text: &str) -> Result<&'a Arc<Node>, ApiError> {
    given("node", text)?;
    let named = text.parse().ok().and_then(|name| state.node_named(&name));
    let found = named.or_else(|| state.nodes.get(&text.parse::<NodeId>().ok()?));
    found.ok_or_else(|| not_found("node", text))
}

/// Finds a workspace by `client/workspace`, bare name or id.
///
/// # Errors
/// Nothing given, no such workspace, or a bare name that more than one client uses.
pub fn workspace<'a>(state: &'a ClusterState, text: &str) -> Result<&'a Arc<Workspace>, ApiError> {
    given("workspace", text)?;
    if text.contains('/') {
        let address: WorkspaceAddress = text.parse().map_err(|why| invalid("workspace", why))?;
        return state.workspace_at(&address).ok_or_else(|| not_found("workspace", text));
    }
    if let Ok(name) = text.parse::<WorkspaceName>() {
        let named = |id: &_| state.workspace_names.get(&(*id, name.clone()));
        let found: Vec<_> = state.clients.keys().filter_map(named).collect();
        match found[..] {
            [] => {}
            [id] => return state.workspaces.get(id).ok_or_else(|| not_found("workspace", text)),
            _ => {
                let labels = found.iter().take(5).map(|id| state.workspace_label(**id));
                let labels = labels.collect::<Vec<_>>().join(", ");
                let message = format!("{} workspaces are named {text}", found.len());
                return Err(ApiError::new(
                    Code::FailedPrecondition,
                    reason::AMBIGUOUS_NAME,
                    message,
                )
                .next(format!("say which: {labels}")));
            }
        }
    }
    let found = text.parse::<WorkspaceId>().ok().and_then(|id| state.workspaces.get(&id));
    found.ok_or_else(|| not_found("workspace", text))
}

fn given(kind: &str, text: &str) -> Result<(), ApiError> {
    if text.is_empty() { Err(invalid(kind, "is not set")) } else { Ok(()) }
}
