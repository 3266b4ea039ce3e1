//! Sessions as callers see them: what was asked of them beside what was seen.

use warren_common::{
    NodeId,
    spec::{Permissions, SessionOrder, SessionWish},
    status::SessionObserved,
};
use warren_model::{
    Principal,
    state::{PhaseKind, SessionRecord, Workspace},
};
use warren_proto::pb::{admin::v1 as pb, node::v1 as node_pb};

use super::view::View;

impl View<'_> {
    /// Shows the sessions of a workspace, by name, as its node last said and as they were asked for.
    pub fn sessions(&self, workspace: &Workspace) -> Vec<pb::Session> {
        let mut sessions = self.seen_sessions(workspace);
        let orders = match self.state.sessions.contains_key(&workspace.id) {
            true => self.state.session_orders(workspace),
            false => Vec::new(),
        };
        for order in orders.iter().filter(|order| order.wish != SessionWish::Delete) {
            let Some(record) = self.state.session(workspace.id, &order.name) else { continue };
            let name = order.name.to_string();
            let is_it = |one: &&mut pb::Session| {
                one.observed.as_ref().is_some_and(|observed| observed.name == name)
            };
            let asked = Some(asked(workspace, order, record));
            match sessions.iter_mut().find(is_it) {
                Some(session) => session.asked = asked,
                None => sessions.push(pb::Session { asked, ..self.unseen(workspace, order) }),
            }
        }
        let name = |one: &pb::Session| one.observed.as_ref().map(|seen| seen.name.clone());
        sessions.sort_by_key(name);
        sessions
    }

    fn seen_sessions(&self, workspace: &Workspace) -> Vec<pb::Session> {
        let Some(node) = workspace.assignment.as_ref().map(|assignment| assignment.node) else {
            return Vec::new();
        };
        let seen = self.live.last_said(node, workspace.id);
        let Some(seen) = seen.filter(|seen| seen.observed.generation == workspace.generation)
        else {
            return Vec::new();
        };
        let mut sessions = seen.observed.sessions();
        self.as_heard(node, &mut sessions);
        let heard = self.is_heard(node);
        let show = |session: SessionObserved| pb::Session {
            observed: Some(session.into()),
            observed_unix_ms: seen.received.0,
            observed_live: heard,
            ..self.placed(workspace)
        };
        sessions.into_iter().map(show).collect()
    }

    /// A session that was asked for and of which its node has said nothing.
    fn unseen(&self, workspace: &Workspace, order: &SessionOrder) -> pb::Session {
        let observed = node_pb::SessionObserved {
            name: order.name.to_string(),
            command: order.program.shown(),
            ..node_pb::SessionObserved::default()
        };
        let heard = workspace.assignment.as_ref().is_some_and(|one| self.is_heard(one.node));
        pb::Session { observed: Some(observed), observed_live: heard, ..self.placed(workspace) }
    }

    fn placed(&self, workspace: &Workspace) -> pb::Session {
        let client = self.state.clients.get(&workspace.client);
        let node = workspace.assignment.as_ref().map(|one| self.state.node_label(one.node));
        pb::Session {
            client: client.map(|client| client.name.to_string()).unwrap_or_default(),
            workspace: workspace.name.to_string(),
            node: node.unwrap_or_default(),
            ..pb::Session::default()
        }
    }

    /// Of agents on a node that is not heard nobody knows what they do: says so, with what they did
    /// last. Nodes report what changes, so it is the node's last sign of life that counts, not the
    /// last report on the workspace.
    pub(super) fn as_heard(&self, node: NodeId, sessions: &mut [SessionObserved]) {
        let Some(heard) = self.live.nodes.get(&node).map(warren_model::NodeLive::said_at) else {
            return;
        };
        for session in sessions {
            if let Some(agent) = session.agent.take() {
                session.agent = Some(Box::new(agent.unheard(heard, self.now)));
            }
        }
    }
}

fn asked(workspace: &Workspace, order: &SessionOrder, record: &SessionRecord) -> pb::SessionAsked {
    let made = record.made.as_ref();
    let by = made.map(|made| match &made.by {
        Principal::Person(name) => name.clone(),
        Principal::Node(id) => format!("node {id}"),
        Principal::Coordinator(id) => format!("coordinator {id}"),
    });
    let runs = matches!(
        workspace.phase.kind,
        PhaseKind::Active | PhaseKind::StartPermitted | PhaseKind::Preparing | PhaseKind::Assigned
    );
    pb::SessionAsked {
        stopped: order.wish == SessionWish::Stop,
        run: order.run,
        agent: order.program.agent.map(|agent| agent.to_string()).unwrap_or_default(),
        asks: order.program.permissions == Permissions::Ask,
        branch: order.program.branch.clone().unwrap_or_default(),
        created_by: by.unwrap_or_default(),
        created_unix_ms: made.map_or(0, |made| made.at.0),
        revision: record.revision.0,
        waits: !runs,
    }
}
