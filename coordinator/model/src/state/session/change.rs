//! What people do to one session: it is made, stopped, run again, deleted.

use warren_common::{
    Limits, SessionName, WorkspaceId,
    spec::{SessionOrder, SessionProgram, SessionWish},
};

use super::{MadeSession, SessionRecord, in_spec, number, records};
use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{
        Principal,
        session::{CreateSession, NamedSession, RestartSession},
    },
    state::{
        ClusterState, secret,
        workspace::{missing, wrong},
    },
};

/// The session that works in the checkout itself.
const MAIN: &str = "main";
/// The branches that sessions get by themselves begin with this.
const BRANCHES: &str = "warren/";

pub(super) fn create(
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

pub(super) fn stop(
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

pub(super) fn restart(
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

pub(super) fn delete(
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
    let secrets = client.map(|client| secret::leave_with(state, client, [&record].into_iter()));
    Ok(secret::told(change, &secrets.unwrap_or_default()))
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

fn put(
    state: &mut ClusterState,
    (id, name, record): (WorkspaceId, &SessionName, SessionRecord),
    action: &'static str,
) -> Change {
    records(state, id).insert(name.clone(), record);
    let label = state.workspace_label(id);
    Change::new(action, Outcome::Workspace(id)).object(&format!("{label}/{name}"), &id)
}
