//! What is asked of sessions: from the request into Raft.

use tonic::Code;
use warren_common::{
    Limits, SessionName,
    spec::{Permissions, SessionOrder, SessionProgram, SessionWish, shell_line},
};
use warren_model::{
    Applied, ClusterState, Command, Outcome,
    command::{
        SessionCommand,
        session::{CreateSession, NamedSession, RestartSession},
    },
    state::Workspace,
};
use warren_proto::{
    convert::agent_program,
    error::{ApiError, reason},
    pb::admin::v1 as pb,
};

use super::{Api, Who, errors, mutation::Asked, resolve};

/// What is done to one that is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Stop,
    Restart { fresh: bool },
    Delete,
}

/// One session, and what is asked of it.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) mutation: Option<pb::Mutation>,
    pub(super) workspace: String,
    pub(super) session: String,
    pub(super) change: Change,
}

impl Api {
    /// Makes a session, or answers what an earlier request of this id did.
    pub(super) async fn make_session(
        &self,
        who: Who,
        request: pb::CreateSessionRequest,
    ) -> Result<pb::CreateSessionResponse, ApiError> {
        let asked = Asked::read(who, request.mutation.clone())?;
        let program = program(&request)?;
        let name = match request.name.as_str() {
            "" => None,
            name => Some(named(name)?),
        };
        let command = |state: &ClusterState| {
            let workspace = resolve::workspace(state, &request.workspace)?;
            free_branch(state, workspace, &program)?;
            let workspace = workspace.id;
            let create = CreateSession { workspace, name: name.clone(), program: program.clone() };
            Ok(Command::Session(Box::new(SessionCommand::Create(create))))
        };
        let Applied { outcome, revision, .. } =
            self.mutate_named(&asked, command).await.map_err(|error| match &*error.reason {
                reason::NAME_TAKEN => error.next("choose another name or branch, or delete it"),
                _ => error,
            })?;
        let Outcome::Session { workspace, life } = outcome else {
            return Err(errors::internal("making a session", "another outcome"));
        };
        let moment = self.local();
        let records = moment.state.sessions.get(&workspace);
        let made = records.and_then(|all| all.iter().find(|(_, record)| record.life == life));
        let session = made.and_then(|(name, _)| {
            let workspace = moment.state.workspaces.get(&workspace)?;
            shown(moment.view().sessions(workspace), name)
        });
        Ok(pb::CreateSessionResponse { session, revision: revision.0 })
    }

    /// Stops, restarts or deletes a session; answers with it as it is then, and with the revision of
    /// the effect.
    pub(super) async fn change_session(
        &self,
        who: Who,
        ask: Ask,
    ) -> Result<(Option<pb::Session>, u64), ApiError> {
        let asked = Asked::read(who, ask.mutation)?;
        let name = named(&ask.session)?;
        let command = |state: &ClusterState| {
            let (workspace, name) = (resolve::workspace(state, &ask.workspace)?.id, name.clone());
            Ok(Command::Session(Box::new(match ask.change {
                Change::Stop => SessionCommand::Stop(NamedSession { workspace, name }),
                Change::Delete => SessionCommand::Delete(NamedSession { workspace, name }),
                Change::Restart { fresh } => {
                    SessionCommand::Restart(RestartSession { workspace, name, fresh })
                }
            })))
        };
        let applied = match self.mutate_named(&asked, command).await {
            Ok(applied) => applied,
            Err(error) if self.is_done(&asked, &error) => {
                return Ok((None, self.local().state.revision.0));
            }
            Err(error) => return Err(error),
        };
        let Outcome::Workspace(id) = applied.outcome else {
            return Err(errors::internal("changing a session", "another outcome"));
        };
        let moment = self.local();
        let workspace = moment.state.workspaces.get(&id);
        let session = workspace.and_then(|one| shown(moment.view().sessions(one), &name));
        Ok((session, applied.revision.0))
    }
}

/// Refuses the branch of a session of the spec; those of others are looked at where it is applied.
fn free_branch(
    state: &ClusterState,
    workspace: &Workspace,
    program: &SessionProgram,
) -> Result<(), ApiError> {
    let orders = state.session_orders(workspace);
    let same = |order: &&SessionOrder| {
        let of_spec = order.life == 0 && order.wish != SessionWish::Delete;
        of_spec && order.program.branch == program.branch
    };
    match (&program.branch, orders.iter().find(same)) {
        (Some(branch), Some(order)) => {
            let label = state.workspace_label(workspace.id);
            let message = format!("session {label}/{} works on branch {branch}", order.name);
            Err(ApiError::new(Code::AlreadyExists, reason::NAME_TAKEN, message))
        }
        _ => Ok(()),
    }
}

fn shown(sessions: Vec<pb::Session>, name: &SessionName) -> Option<pb::Session> {
    let name = name.to_string();
    sessions.into_iter().find(|one| one.observed.as_ref().is_some_and(|seen| seen.name == name))
}

fn named(name: &str) -> Result<SessionName, ApiError> {
    name.parse().map_err(|why| errors::invalid("session", why))
}

fn program(request: &pb::CreateSessionRequest) -> Result<SessionProgram, ApiError> {
    let agent = agent_program(&request.agent).map_err(|why| {
        errors::invalid("agent", why).next("name claude, codex or gemini, or none for a command")
    })?;
    let command = shell_line(&request.arguments);
    if command.len() > Limits::SESSION_COMMAND_BYTES {
        let limit = Limits::SESSION_COMMAND_BYTES;
        let why = format!("take {} bytes, the limit is {limit}", command.len());
        return Err(errors::invalid("arguments", why));
    }
    Ok(SessionProgram {
        agent,
        permissions: if request.asks { Permissions::Ask } else { Permissions::Bypass },
        command,
        branch: Some(request.branch.clone()).filter(|branch| !branch.is_empty()),
        prompt: request.prompt.clone(),
    })
}
