//! Sessions that people made, stopped or ran again after their workspace was made.
//!
//! The sessions of a workspace's spec stay there; a record of the same name says what was asked of
//! one since. What a node is told is both together.

mod adopt;
mod change;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use warren_common::{
    Limits, Revision, SessionName, Timestamp, WorkspaceId,
    spec::{SessionOrder, SessionProgram, SessionWish, WorkspaceSpec},
};

use self::adopt::Word;
use crate::{
    answer::{Refusal, RefusalCode},
    apply::{Change, Context},
    command::{Principal, SessionCommand, session::TakeOverSessions},
    state::{
        ClusterState, Desired, Workspace,
        workspace::{missing, wrong},
    },
};

/// Of a number that was given after a restore, the bits of the revision; those above are of the
/// incarnation.
const REVISION_BITS: u32 = 32;

/// What was asked of one session. One that the spec names has a record once it was stopped,
/// restarted or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// How it was made; none for one of the spec.
    pub made: Option<Box<MadeSession>>,
    /// The number of the mutation that made it, which tells it from earlier ones of its name; zero
    /// for one of the spec.
    pub life: u64,
    /// The number of the mutation that last asked for a run; zero for the run that the workspace's
    /// start made.
    pub run: u64,
    /// The run that its conversation began with.
    pub conversation: u64,
    /// What is wanted of it.
    pub wish: SessionWish,
    /// The mutation that last changed it.
    pub revision: Revision,
}

/// How a session was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeSession {
    /// What runs in it.
    pub program: SessionProgram,
    /// Who asked for it.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
}

impl SessionRecord {
    const fn of_spec(revision: Revision) -> Self {
        let wish = SessionWish::Run;
        Self { made: None, life: 0, run: 0, conversation: 0, wish, revision }
    }
}

/// The records of one workspace.
pub(crate) type Records = BTreeMap<SessionName, SessionRecord>;

/// Decides whether a workspace can have the sessions of another spec beside those that people made; one
/// that has too many already may keep as many.
///
/// # Errors
/// They are more, or take more bytes, than one workspace may have.
pub(crate) fn fit(
    state: &ClusterState,
    workspace: &Workspace,
    after: &WorkspaceSpec,
) -> Result<(), Refusal> {
    if !state.sessions.contains_key(&workspace.id) {
        return Ok(());
    }
    let sums = |orders: Vec<SessionOrder>| {
        let there = orders.iter().filter(|order| order.wish != SessionWish::Delete);
        there.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.program.bytes()))
    };
    let (had, had_bytes): (usize, usize) = sums(state.orders_applied(workspace));
    let (count, bytes) = sums(state.orders(workspace.id, &after.sessions));
    let label = state.workspace_label(workspace.id);
    let to_do = format!("warren session delete {label}/SESSION makes room");
    let refused =
        |what: String| Err(Refusal::new(RefusalCode::LimitReached, format!("{what}: {to_do}")));
    let limit = Limits::SESSIONS;
    if count > limit && count > had {
        let deleted = |name| {
            let record = state.session(workspace.id, name);
            record.is_some_and(|record| record.wish == SessionWish::Delete)
        };
        let own = after.sessions.iter().filter(|one| !deleted(&one.name)).count();
        return refused(format!(
            "workspace {label} would have {count} sessions, {own} of its template and the rest made \
             by people, and {limit} is the limit"
        ));
    }
    let limit = Limits::SESSIONS_BYTES;
    if bytes > limit && bytes > had_bytes {
        return refused(format!(
            "commands and prompts of the sessions of workspace {label} would take {bytes} bytes, and \
             {limit} is the limit"
        ));
    }
    Ok(())
}

/// Drops the records of sessions that were of an earlier spec and are not of this one.
pub(crate) fn forget_others(state: &mut ClusterState, id: WorkspaceId, spec: &WorkspaceSpec) {
    let Some(records) = state.sessions.get_mut(&id) else { return };
    let named = |name: &SessionName| spec.sessions.iter().any(|one| one.name == *name);
    let left = |name: &SessionName, record: &SessionRecord| record.made.is_some() || named(name);
    if records.iter().any(|(name, record)| !left(name, record)) {
        Arc::make_mut(records).retain(|name, record| left(name, record));
    }
    if records.is_empty() {
        state.sessions.remove(&id);
    }
}

/// Returns the number of this mutation, higher than that of any before it: after a restore revisions
/// come again, and what a node knows by their numbers is another session's.
fn number(state: &ClusterState, context: &Context) -> u64 {
    let incarnation = state.cluster.as_ref().map_or(0, |cluster| cluster.incarnation);
    let begun = state.restored.map_or(0, |_| u64::from(incarnation) << REVISION_BITS);
    begun.saturating_add(context.revision.0)
}

pub(crate) fn command(
    state: &mut ClusterState,
    context: &Context,
    (command, by): (&SessionCommand, &Principal),
) -> Result<Change, Refusal> {
    let id = command.workspace();
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    if workspace.desired == Desired::Deleted {
        let label = state.workspace_label(id);
        return Err(wrong(format!("workspace {label} is being deleted")));
    }
    match command {
        SessionCommand::Create(create) => change::create(state, context, (create, by)),
        SessionCommand::Stop(named) => change::stop(state, context, named),
        SessionCommand::Restart(restart) => change::restart(state, context, restart),
        SessionCommand::Delete(named) => change::delete(state, context, named),
        SessionCommand::Adopt(adopt) => {
            adopt::adopt(state, context, (&Word { incarnation: None, told: adopt }, by))
        }
        SessionCommand::TakeOver(TakeOverSessions { incarnation, adopt: told }) => {
            let word = Word { incarnation: Some(*incarnation), told };
            adopt::adopt(state, context, (&word, by))
        }
    }
}

/// Returns in which incarnation a number was given; zero before the first restore.
const fn incarnation_of(number: u64) -> u64 {
    number >> REVISION_BITS
}

/// Returns the revision of the mutation that has this number.
const fn revision_of(number: u64) -> u64 {
    number & ((1 << REVISION_BITS) - 1)
}

fn in_spec(workspace: &Workspace, name: &SessionName) -> bool {
    workspace.spec.whole().sessions.iter().any(|spec| spec.name == *name)
}

fn records(state: &mut ClusterState, id: WorkspaceId) -> &mut Records {
    Arc::make_mut(state.sessions.entry(id).or_default())
}
