//! Sessions that people made, stopped or ran again after their workspace was made.
//!
//! The sessions of a workspace's spec stay there; a record of the same name says what was asked of
//! one since. What a node is told is both together.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use warren_common::{
    Limits, Revision, SessionName, Timestamp, WorkspaceId,
    spec::{SessionOrder, SessionProgram, SessionWish, WorkspaceSpec},
};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{
        Principal, SessionCommand,
        session::{AdoptSessions, CreateSession, NamedSession, RestartSession},
    },
    state::{
        ClusterState, Desired, Workspace, secret,
        workspace::{missing, wrong},
    },
};

/// The session that works in the checkout itself.
const MAIN: &str = "main";
/// The branches that sessions get by themselves begin with this.
const BRANCHES: &str = "warren/";
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
        let own = after.sessions.len();
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
        SessionCommand::Create(create) => self::create(state, context, (create, by)),
        SessionCommand::Stop(named) => stop(state, context, named),
        SessionCommand::Restart(restart) => self::restart(state, context, restart),
        SessionCommand::Delete(named) => delete(state, context, named),
        SessionCommand::Adopt(adopt) => self::adopt(state, context, (adopt, by)),
    }
}

fn create(
    state: &mut ClusterState,
    context: &Context,
    (command, by): (&CreateSession, &Principal),
) -> Result<Change, Refusal> {
    let id = command.workspace;
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    let label = state.workspace_label(id);
    context.unchanged_since(workspace.revision, || format!("workspace {label}"))?;
    let mut there = state.orders_applied(workspace);
    there.retain(|order| order.wish != SessionWish::Delete);
    if there.len() >= Limits::SESSIONS {
        let message = format!("workspace {label} has {} sessions, the limit", there.len());
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    let taken = |name: &SessionName| there.iter().any(|order| order.name == *name);
    let name = match &command.name {
        Some(name) if taken(name) => {
            let message = format!("session {label}/{name} already exists");
            return Err(Refusal::new(RefusalCode::NameTaken, message));
        }
        Some(name) => name.clone(),
        None => free(&command.program, taken)?,
    };
    let mut program = command.program.clone();
    let has_repo = workspace.spec.whole().repo.is_some();
    if program.branch.is_none() && has_repo {
        let own = !there.is_empty() && name.to_string() != MAIN;
        program.branch = own.then(|| format!("{BRANCHES}{name}"));
    }
    check(&program, (&label, has_repo, &there))?;
    let run = number(state, context);
    let detail = told(&program);
    let made = MadeSession { program, by: by.clone(), at: context.at };
    let record = SessionRecord {
        made: Some(Box::new(made)),
        life: run,
        run,
        conversation: run,
        wish: SessionWish::Run,
        revision: context.revision,
    };
    records(state, id).insert(name.clone(), record);
    let outcome = Outcome::Session { workspace: id, life: run };
    Ok(Change::new("session.create", outcome)
        .object(&format!("{label}/{name}"), &id)
        .detail(detail))
}

/// Says what was made, without the arguments: they may hold what is nobody else's.
fn told(program: &SessionProgram) -> String {
    let what = program.agent.map_or("command", |agent| agent.as_str());
    match &program.branch {
        Some(branch) => format!("{what} on branch {branch}"),
        None => format!("{what} in the checkout"),
    }
}

fn check(
    program: &SessionProgram,
    (label, has_repo, there): (&str, bool, &[SessionOrder]),
) -> Result<(), Refusal> {
    program
        .validate()
        .map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))?;
    if let (Some(branch), false) = (&program.branch, has_repo) {
        let message = format!("workspace {label} has no repository to take branch {branch} from");
        return Err(Refusal::new(RefusalCode::InvalidSpec, message));
    }
    if let Some(branch) = &program.branch
        && let Some(other) =
            there.iter().find(|other| other.program.branch.as_ref() == Some(branch))
    {
        let message = format!("session {label}/{} works on branch {branch}", other.name);
        return Err(Refusal::new(RefusalCode::NameTaken, message));
    }
    let bytes: usize = there.iter().map(|order| order.program.bytes()).sum();
    let (bytes, limit) = (bytes + program.bytes(), Limits::SESSIONS_BYTES);
    if bytes > limit {
        let message = format!(
            "commands and prompts of workspace {label} would take {bytes} bytes, the limit is {limit}"
        );
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    Ok(())
}

/// Returns the first name after the program that nobody has.
fn free(
    program: &SessionProgram,
    taken: impl Fn(&SessionName) -> bool,
) -> Result<SessionName, Refusal> {
    let word = program.agent.map_or("command", |agent| agent.as_str());
    // one more than there can be
    for number in 1..=Limits::SESSIONS + 1 {
        let name = if number == 1 { word.to_owned() } else { format!("{word}-{number}") };
        if let Some(name) = name.parse().ok().filter(|name| !taken(name)) {
            return Ok(name);
        }
    }
    Err(wrong(format!("every name after {word} is taken")))
}

fn stop(
    state: &mut ClusterState,
    context: &Context,
    command: &NamedSession,
) -> Result<Change, Refusal> {
    let NamedSession { workspace: id, name } = command;
    let record = of(state, (*id, name), context)?;
    if record.wish == SessionWish::Stop {
        return Ok(Change::none(Outcome::Workspace(*id)));
    }
    let record = SessionRecord { wish: SessionWish::Stop, revision: context.revision, ..record };
    Ok(put(state, (*id, name, record), "session.stop"))
}

fn restart(
    state: &mut ClusterState,
    context: &Context,
    command: &RestartSession,
) -> Result<Change, Refusal> {
    let RestartSession { workspace: id, name, fresh } = command;
    let record = of(state, (*id, name), context)?;
    let run = number(state, context).max(record.run.saturating_add(1));
    let record = SessionRecord {
        run,
        conversation: if *fresh { run } else { record.conversation },
        wish: SessionWish::Run,
        revision: context.revision,
        ..record
    };
    let how = if *fresh { "with a new conversation" } else { "with its conversation" };
    Ok(put(state, (*id, name, record), "session.restart").detail(how))
}

fn delete(
    state: &mut ClusterState,
    context: &Context,
    command: &NamedSession,
) -> Result<Change, Refusal> {
    let NamedSession { workspace: id, name } = command;
    let record = of(state, (*id, name), context)?;
    if state.workspaces.get(id).is_some_and(|one| in_spec(one, name)) {
        let wish = SessionWish::Delete;
        let record = SessionRecord { made: None, wish, revision: context.revision, ..record };
        return Ok(put(state, (*id, name, record), "session.delete"));
    }
    let records = records(state, *id);
    records.remove(name);
    if records.is_empty() {
        state.sessions.remove(id);
    }
    let label = state.workspace_label(*id);
    let change = Change::new("session.delete", Outcome::Workspace(*id))
        .object(&format!("{label}/{name}"), id);
    let client = state.workspaces.get(id).map(|workspace| workspace.client);
    let secrets = client.map(|client| secret::leave_with(state, client, &record));
    Ok(secret::told(change, &secrets.unwrap_or_default()))
}

/// Takes over what is newer than the backup, deletions too; what somebody asked for since the
/// restore is kept.
fn adopt(
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
    let known = state.orders_applied(workspace);
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

/// Returns the revision of the mutation that has this number.
const fn revision_of(number: u64) -> u64 {
    number & ((1 << REVISION_BITS) - 1)
}

/// Returns what is known of a session that is there.
fn of(
    state: &ClusterState,
    (id, name): (WorkspaceId, &SessionName),
    context: &Context,
) -> Result<SessionRecord, Refusal> {
    let workspace = state.workspaces.get(&id).ok_or_else(|| missing(id))?;
    let address = format!("{}/{name}", state.workspace_label(id));
    let in_spec = in_spec(workspace, name);
    let record = match state.session(id, name) {
        Some(record) if record.wish != SessionWish::Delete => record.clone(),
        None if in_spec => SessionRecord::of_spec(workspace.revision),
        Some(_) | None => {
            let message = format!("there is no session {address}");
            return Err(Refusal::new(RefusalCode::NotFound, message));
        }
    };
    context.unchanged_since(record.revision, || format!("session {address}"))?;
    Ok(record)
}

fn in_spec(workspace: &Workspace, name: &SessionName) -> bool {
    workspace.spec.whole().sessions.iter().any(|spec| spec.name == *name)
}

fn put(
    state: &mut ClusterState,
    (id, name, record): (WorkspaceId, &SessionName, SessionRecord),
    action: &'static str,
) -> Change {
    records(state, id).insert(name.clone(), record);
    let label = state.workspace_label(id);
    Change::new(action, Outcome::Workspace(id)).object(&format!("{label}/{name}"), &id)
}

fn records(state: &mut ClusterState, id: WorkspaceId) -> &mut Records {
    Arc::make_mut(state.sessions.entry(id).or_default())
}
