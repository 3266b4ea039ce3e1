//! What a node was told of sessions before a restore, where it knows more than the backup.

use std::collections::BTreeSet;

use warren_common::{Limits, SessionName, spec::SessionOrder};

use super::{MadeSession, SessionRecord, in_spec, incarnation_of, records, revision_of};
use crate::{
    answer::{Outcome, Refusal},
    apply::{Change, Context},
    command::{Principal, session::AdoptSessions},
    state::{ClusterState, Workspace, secret, workspace::missing},
};

/// What a node was told last before it came back.
pub(super) struct Word<'a> {
    /// Of the cluster that told it; none in logs of before that was said, which are applied as they
    /// were.
    pub(super) incarnation: Option<u32>,
    pub(super) told: &'a AdoptSessions,
}

impl Word<'_> {
    /// Whether what was asked of a session came in a later incarnation: whoever told the node knew
    /// nothing of it.
    fn is_before(&self, record: &SessionRecord) -> bool {
        let asked = incarnation_of(record.life.max(record.run));
        self.incarnation.is_some_and(|incarnation| asked > u64::from(incarnation))
    }
}

/// Takes over what is newer than the backup, deletions too; what somebody asked for since the
/// restore is kept.
pub(super) fn adopt(
    state: &mut ClusterState,
    context: &Context,
    (word, by): (&Word<'_>, &Principal),
) -> Result<Change, Refusal> {
    let id = word.told.workspace;
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    let client = workspace.client;
    // of a workspace that runs elsewhere, or of another generation of it, nobody's word counts
    let holds = workspace.assignment.as_ref().is_some_and(|assignment| {
        (assignment.node, assignment.generation) == (word.told.node, word.told.generation)
    });
    // what was told before the backup was made holds nothing that the backup does not
    let knows_more = word.told.told >= state.restored.unwrap_or_default();
    if !holds || !knows_more {
        return Ok(Change::none(Outcome::Workspace(id)));
    }
    let gone = gone(state, word);
    let (newer, left) = fitting(state, newer(state, workspace, word), (word, &gone));
    if newer.is_empty() && gone.is_empty() && left.is_empty() {
        return Ok(Change::none(Outcome::Workspace(id)));
    }
    let label = state.workspace_label(id);
    let detail = told(&newer, &gone, &left);
    let records = records(state, id);
    let before = records.clone();
    records.retain(|name, _| !gone.contains(name));
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
    let change =
        Change::new("session.adopt", Outcome::Workspace(id)).object(&label, &id).detail(detail);
    Ok(secret::told(change, &secret::leave_with(state, client, before.values())))
}

/// Says what was taken over, and what was not.
fn told(newer: &[SessionOrder], gone: &[SessionName], left: &[SessionName]) -> String {
    let names = newer.iter().map(|order| order.name.to_string());
    let deleted = gone.iter().map(|name| format!("{name} (deleted)"));
    let limit = Limits::SESSIONS;
    let left = left.iter().map(|name| {
        format!("{name} (left out: people may have made {limit} sessions of one workspace)")
    });
    let names: Vec<String> = names.chain(deleted).chain(left).collect();
    format!("{}, as the node was told before the restore", names.join(", "))
}

/// Returns which of these there is room for beside what people made since, and the names of the
/// others: with every session that a spec can have they are as many as a node can be told.
fn fitting(
    state: &ClusterState,
    newer: Vec<SessionOrder>,
    (word, gone): (&Word<'_>, &[SessionName]),
) -> (Vec<SessionOrder>, Vec<SessionName>) {
    if word.incarnation.is_none() {
        return (newer, Vec::new());
    }
    let records = state.sessions.get(&word.told.workspace);
    let records = records.into_iter().flat_map(|records| records.iter());
    let made = records.filter(|(name, record)| record.made.is_some() && !gone.contains(name));
    let mut made: BTreeSet<SessionName> = made.map(|(name, _)| name.clone()).collect();
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for order in newer {
        let fits = made.len() < Limits::SESSIONS || made.contains(&order.name);
        if order.life == 0 {
            taken.push(order);
        } else if fits {
            made.insert(order.name.clone());
            taken.push(order);
        } else {
            left.push(order.name);
        }
    }
    (taken, left)
}

/// Returns what the node was told after the backup and nobody asked otherwise since the restore.
fn newer(state: &ClusterState, workspace: &Workspace, word: &Word<'_>) -> Vec<SessionOrder> {
    let id = workspace.id;
    let restored = state.restored.unwrap_or_default();
    let known = state.orders_applied(workspace);
    let newer = |order: &&SessionOrder| {
        let record = state.session(id, &order.name);
        let asked_since = record.is_some_and(|one| one.revision > restored || word.is_before(one));
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
    let most = match word.incarnation {
        Some(_) => Limits::SESSIONS_TOLD,
        None => Limits::SESSIONS,
    };
    word.told.sessions.iter().take(most).filter(newer).cloned().collect()
}

/// Returns the sessions of the backup that were deleted after it, where the node was told so: what
/// it was told names all that its cluster knew of.
fn gone(state: &ClusterState, word: &Word<'_>) -> Vec<SessionName> {
    let restored = state.restored.unwrap_or_default();
    let named = |name: &SessionName| word.told.sessions.iter().any(|order| order.name == *name);
    let records = state.sessions.get(&word.told.workspace);
    let gone = |(name, record): &(&SessionName, &SessionRecord)| {
        record.made.is_some()
            && record.revision <= restored
            && !word.is_before(record)
            && !named(name)
    };
    let records = records.into_iter().flat_map(|records| records.iter());
    records.filter(gone).map(|(name, _)| name.clone()).collect()
}
