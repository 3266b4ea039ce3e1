//! Which sessions a workspace is to have: those of its spec and those that people made, together.

use warren_common::{
    SessionName, WorkspaceId,
    spec::{SessionOrder, SessionProgram, SessionSpec},
};

use super::{ClusterState, SessionRecord, Workspace, session::Records};

impl ClusterState {
    /// Returns what was asked of one session since its workspace was made.
    pub fn session(&self, workspace: WorkspaceId, name: &SessionName) -> Option<&SessionRecord> {
        self.sessions.get(&workspace)?.get(name)
    }

    /// Returns every session that a workspace is to have, those of the spec first, and those of the
    /// spec that were deleted.
    pub fn session_orders(&self, workspace: &Workspace) -> Vec<SessionOrder> {
        let spec = workspace.spec.whole();
        let mut orders = self.orders(workspace.id, &spec.sessions);
        for whole in spec.orders() {
            let record = self.session(workspace.id, &whole.name);
            let of_spec = record.is_none_or(|record| record.made.is_none());
            let order = orders.iter_mut().find(|order| of_spec && order.name == whole.name);
            if let Some(order) = order {
                order.program = whole.program;
            }
        }
        orders
    }

    /// Returns the same as entries of the log are applied with it: of a session of the spec only its
    /// command line. Replicas of different versions apply an entry alike, so this never changes.
    pub(crate) fn orders_applied(&self, workspace: &Workspace) -> Vec<SessionOrder> {
        self.orders(workspace.id, &workspace.spec.whole().sessions)
    }

    /// Returns those where the spec named these.
    pub(crate) fn orders(&self, id: WorkspaceId, specs: &[SessionSpec]) -> Vec<SessionOrder> {
        let none = Records::new();
        let records = self.sessions.get(&id).map_or(&none, AsRef::as_ref);
        let of_spec = specs.iter().map(|spec| {
            let record = records.get(&spec.name);
            record.map_or_else(
                || SessionOrder::of_spec(spec),
                |record| SessionOrder {
                    program: program(record).unwrap_or_else(|| SessionProgram::of_spec(spec)),
                    ..order(&spec.name, record)
                },
            )
        });
        let in_spec = |name: &SessionName| specs.iter().any(|spec| spec.name == *name);
        let made = records.iter();
        let made = made.filter(|(name, record)| record.made.is_some() && !in_spec(name));
        of_spec.chain(made.map(|(name, record)| order(name, record))).collect()
    }
}

fn program(record: &SessionRecord) -> Option<SessionProgram> {
    record.made.as_ref().map(|made| made.program.clone())
}

fn order(name: &SessionName, record: &SessionRecord) -> SessionOrder {
    SessionOrder {
        name: name.clone(),
        life: record.life,
        run: record.run,
        conversation: record.conversation,
        wish: record.wish,
        program: program(record).unwrap_or_default(),
    }
}
