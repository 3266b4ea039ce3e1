//! The one document a node receives, made from the state.

use std::collections::BTreeMap;

use warren_common::{
    NodeId,
    spec::{NodeSpec, Run, WorkspaceOrder},
};

use crate::state::{ClusterState, Desired, PhaseKind, Workspace};

/// Returns what `node` is to do, decided in `term` and as of the state's revision. A node that is
/// assigned nothing, or that is unknown, gets a document without orders.
pub fn node_spec(state: &ClusterState, node: NodeId, term: u64) -> NodeSpec {
    let workspaces: Vec<WorkspaceOrder> =
        state.workspaces_on(node).filter_map(|one| order(state, one)).collect();
    let allowed = workspaces.iter().filter_map(|order| {
        let allowed = state.allowed.get(&order.client)?;
        Some((order.client, allowed.clone()))
    });
    // a node has many workspaces of few clients
    let mut marks = BTreeMap::new();
    let secrets = workspaces.iter().filter_map(|order| {
        let mark = marks.entry(order.client).or_insert_with(|| state.secrets_mark(order.client));
        (*mark != 0).then_some((order.workspace, *mark))
    });
    NodeSpec {
        secrets: secrets.collect(),
        allowed: allowed.collect(),
        incarnation: state.cluster.as_ref().map_or(0, |cluster| cluster.incarnation),
        term,
        revision: state.revision,
        workspaces,
        recovering: state.recovery.is_some(),
    }
}

fn order(state: &ClusterState, workspace: &Workspace) -> Option<WorkspaceOrder> {
    let assignment = workspace.assignment.as_ref()?;
    Some(WorkspaceOrder {
        workspace: workspace.id,
        client: workspace.client,
        address: state.address_of(workspace)?,
        generation: assignment.generation,
        run: run(workspace),
        run_serial: workspace.run_serial,
        permit: assignment.permit,
        spec: workspace.spec.whole(),
        request: state.origins.get(&workspace.id).copied(),
        // an older node is told nothing that it does not know
        sessions: match state.sessions.contains_key(&workspace.id) {
            true => state.session_orders(workspace),
            false => Vec::new(),
        },
        sessions_told: true,
    })
}

/// A failed workspace is stopped until somebody asks for another run.
fn run(workspace: &Workspace) -> Run {
    match (workspace.desired, &workspace.phase.kind) {
        (Desired::Deleted, _) => Run::Removed,
        (Desired::Stopped, _) | (Desired::Running, PhaseKind::Failed { .. }) => Run::Stopped,
        (
            Desired::Running,
            PhaseKind::Queued
            | PhaseKind::Assigned
            | PhaseKind::Preparing
            | PhaseKind::StartPermitted
            | PhaseKind::Active
            | PhaseKind::Stopping
            | PhaseKind::Stopped
            | PhaseKind::Unconfirmed
            | PhaseKind::Fencing
            | PhaseKind::Restoring
            | PhaseKind::Migrating,
        ) => Run::Running,
    }
}
