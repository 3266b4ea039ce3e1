//! What a node was told of sessions before a restore, where it knows more than the backup.

use warren_common::{Limits, SessionName, spec::SessionOrder};

use super::{MadeSession, SessionRecord, in_spec, records, revision_of};
use crate::{
    answer::{Outcome, Refusal},
    apply::{Change, Context},
    command::{Principal, session::AdoptSessions},
    state::{ClusterState, Workspace, workspace::missing},
};

/// Takes over what is newer than the backup, deletions too; what somebody asked for since the
/// restore is kept.
pub(super) fn adopt(
    state: &mut ClusterState,
    context: &Context,
    (command, by): (&AdoptSessions, &Principal),
) -> Result<Change, Refusal> {
    let id = command.workspace;
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    // of a workspace that runs elsewhere, or of another generation of it, nobody's word counts
    let holds = workspace.assignment.as_ref().is_some_and(|assignment| {
        (assignment.node, assignment.generation) == (command.node, command.generation)
    });
    // what was told before the backup was made holds nothing that the backup does not
    let knows_more = command.told >= state.restored.unwrap_or_default();
    if !holds || !knows_more {
        return Ok(Change::none(Outcome::Workspace(id)));
    }
    let newer = newer(state, workspace, command);
    let gone = gone(state, command);
    if newer.is_empty() && gone.is_empty() {
        return Ok(Change::none(Outcome::Workspace(id)));
    }
    let label = state.workspace_label(id);
    let names = newer.iter().map(|order| order.name.to_string());
    let deleted = gone.iter().map(|name| format!("{name} (deleted)"));
    let names: Vec<String> = names.chain(deleted).collect();
    let records = records(state, id);
    for name in &gone {
        records.remove(name);
    }
    for order in newer {
        let made = MadeSession { program: order.program, by: by.clone(), at: context.at };
        let record = SessionRecord {
            made: (order.life > 0).then(|| Box::new(made)),
            life: order.life,
            run: order.run,
            conversation: order.conversation,
            wish: order.wish,
            revision: context.revision,
        };
        records.insert(order.name, record);
    }
    if records.is_empty() {
        state.sessions.remove(&id);
    }
    Ok(Change::new("session.adopt", Outcome::Workspace(id))
        .object(&label, &id)
        .detail(format!("{}, as the node was told before the restore", names.join(", "))))
}

/// Returns what the node was told after the backup and nobody asked otherwise since the restore.
fn newer(
    state: &ClusterState,
    workspace: &Workspace,
    command: &AdoptSessions,
) -> Vec<SessionOrder> {
    let id = workspace.id;
    let restored = state.restored.unwrap_or_default();
    let known = state.session_orders(workspace);
    let newer = |order: &&SessionOrder| {
        let record = state.session(id, &order.name);
        let asked_since = record.is_some_and(|one| one.revision > restored);
        // the backup held every session that was made before it: what is not there was deleted
        let was_there = order.life > 0 && revision_of(order.life) < restored.0;
        // of a spec that was replaced since
        let nobodys = order.life == 0 && !in_spec(workspace, &order.name);
        let deleted = was_there && record.is_none_or(|one| one.life != order.life);
        !asked_since
            && !deleted
            && !nobodys
            && !known.contains(order)
            && order.program.validate().is_ok()
    };
    command.sessions.iter().take(Limits::SESSIONS).filter(newer).cloned().collect()
}

/// Returns the sessions of the backup that were deleted after it, where the node was told so: what
/// it was told names all there were.
fn gone(state: &ClusterState, command: &AdoptSessions) -> Vec<SessionName> {
    let restored = state.restored.unwrap_or_default();
    let named = |name: &SessionName| command.sessions.iter().any(|order| order.name == *name);
    let records = state.sessions.get(&command.workspace);
    let gone = |(name, record): &(&SessionName, &SessionRecord)| {
        record.made.is_some() && record.revision <= restored && !named(name)
    };
    let records = records.into_iter().flat_map(|records| records.iter());
    records.filter(gone).map(|(name, _)| name.clone()).collect()
}
