//! `warren session stop`, `restart`, `delete` and `show`.

use clap::Args;
use warren_common::status::clean;
use warren_proto::{
    error::reason,
    pb::{
        admin::v1 as pb,
        inside::v1::{Exec, open},
    },
};

use super::{
    reach::{self, Goal},
    sessions_of,
    target::{self, Target},
};
use crate::{
    api::{self, Api},
    app::App,
    command::{Change, workspace::Waiting},
    error::{Error, Kind, Outcome},
    terminal::stream::{Event, Repeat, Stream},
    view::session::Session,
};

/// What is kept of what git says.
const SAID_BYTES: usize = 64 * 1024;

/// What every change of a session takes.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// client/workspace/session, client/workspace, or a bare name that fits one.
    session: String,
    /// Only where the session has not changed since this revision, as `session show -o json` gives.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    change: Change,
}

/// Arguments of `session stop`.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    named: Named,
}

/// Arguments of `session restart`.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    named: Named,
    /// With a new conversation instead of the one it had.
    #[arg(long)]
    fresh: bool,
}

/// Arguments of `session delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    named: Named,
    /// Remove its worktree too; its branch stays. Refused where something is not committed.
    #[arg(long)]
    worktree: bool,
    /// Although something in the worktree is not committed: it is lost.
    #[arg(long, requires = "worktree")]
    force: bool,
}

/// Arguments of `session show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// client/workspace/session, client/workspace, or a bare name that fits one.
    session: String,
}

impl Named {
    fn mutation(&self, app: &App) -> pb::Mutation {
        let mutation = api::mutation(&self.change.id(app));
        pb::Mutation { if_revision: self.if_revision, ..mutation }
    }
}

pub(crate) async fn stop(app: &App, stop: &Stop) -> Outcome {
    let mutation = stop.named.mutation(app);
    let mut api = app.api()?;
    let target = target::find(&mut api, &stop.named.session).await?;
    let session = ask_stop(&mut api, &target, mutation).await?;
    let Some(session) = session else { return gone(app, &target) };
    let no_wait = stop.named.waiting.no_wait;
    reach::finish(app, &mut api, (&target, Goal::Stopped), (session, no_wait)).await
}

async fn ask_stop(
    api: &mut Api,
    target: &Target,
    mutation: pb::Mutation,
) -> Result<Option<Session>, Error> {
    let request = pb::StopSessionRequest {
        mutation: Some(mutation),
        workspace: target.workspace.clone(),
        session: target.session.clone(),
    };
    let answer = api
        .write(async |channel| api::sessions(channel).stop_session(request.clone()).await)
        .await?;
    Ok(answer.session.map(Session::from))
}

pub(crate) async fn restart(app: &App, restart: &Restart) -> Outcome {
    let mutation = restart.named.mutation(app);
    let mut api = app.api()?;
    let target = target::find(&mut api, &restart.named.session).await?;
    let request = pb::RestartSessionRequest {
        mutation: Some(mutation),
        workspace: target.workspace.clone(),
        session: target.session.clone(),
        fresh: restart.fresh,
    };
    let answer = api
        .write(async |channel| api::sessions(channel).restart_session(request.clone()).await)
        .await?;
    let Some(session) = answer.session.map(Session::from) else { return gone(app, &target) };
    let (goal, no_wait) = (Goal::Runs(session.asked_run()), restart.named.waiting.no_wait);
    reach::finish(app, &mut api, (&target, goal), (session, no_wait)).await
}

pub(crate) async fn delete(app: &App, delete: &Delete) -> Outcome {
    let mutation = delete.named.mutation(app);
    let mut api = app.api()?;
    let target = target::find(&mut api, &delete.named.session).await?;
    if delete.worktree {
        remove_worktree(app, &mut api, (&target, delete.force)).await?;
    }
    let request = pb::DeleteSessionRequest {
        mutation: Some(mutation),
        workspace: target.workspace.clone(),
        session: target.session.clone(),
    };
    api.write(async |channel| api::sessions(channel).delete_session(request.clone()).await).await?;
    if !delete.named.waiting.no_wait {
        let left = reach::reached(app, &mut api, &target, Goal::Gone).await?;
        if let Some(session) = left {
            app.output.object(&session, &session.address, || session.text())?;
            return Ok(0);
        }
    }
    gone(app, &target)
}

fn gone(app: &App, target: &Target) -> Outcome {
    app.output.talk(&format!("session {} is deleted", target.address()));
    Ok(0)
}

/// Stops the session and has git remove its worktree, which it refuses where something in it is not
/// committed.
async fn remove_worktree(
    app: &App,
    api: &mut Api,
    (target, force): (&Target, bool),
) -> Result<(), Error> {
    let address = target.address();
    let listed = sessions_of(api, &target.workspace).await?;
    let session = listed.items.into_iter().find(|one| one.address == address);
    let seen = session.and_then(|session| session.seen.worktree);
    let known = match seen {
        Some(path) => Some(path),
        // of one that is stopped nobody tells
        None => worktree_of(api, target).await?,
    };
    let path = known.ok_or_else(|| {
        Error::new(Kind::Conflict, "NO_WORKTREE", format!("no worktree of {address} is known"))
            .why("it works in the checkout, or its worktree is gone already")
            .next("leave --worktree out")
    })?;
    ask_stop(api, target, api::mutation(&api::request_id())).await?;
    reach::reached(app, api, target, Goal::Stopped).await?;
    let mut argv = vec!["git", "worktree", "remove"];
    if force {
        argv.push("--force");
    }
    argv.push(&path);
    let argv = argv.into_iter().map(str::to_owned).collect();
    let (code, said) = exec(api, target, argv).await?;
    if code == 0 {
        return Ok(());
    }
    let message = format!("the worktree of {address} is not removed");
    let last = said.lines().last().unwrap_or("git said nothing").to_owned();
    Err(Error::new(Kind::Conflict, "WORKTREE_IN_USE", message).why(last).next(format!(
        "commit what is there, or add --force; {address} is stopped: warren session restart {address}"
    )))
}

/// Asks git for the worktree of a session.
async fn worktree_of(api: &mut Api, target: &Target) -> Result<Option<String>, Error> {
    let argv = ["git", "worktree", "list", "--porcelain"].map(str::to_owned).into();
    let (_, said) = exec(api, target, argv).await?;
    let end = format!(".worktrees/{}", target.session);
    let paths = said.lines().filter_map(|line| line.strip_prefix("worktree "));
    Ok(paths.filter(|path| path.ends_with(&end)).map(str::to_owned).next())
}

/// Runs a program beside the sessions; returns its exit code and what it said.
async fn exec(api: &mut Api, target: &Target, argv: Vec<String>) -> Result<(i32, String), Error> {
    let what = open::What::Exec(Exec { argv, terminal: None });
    let mut stream = Stream::open(api, &target.workspace, (what, Repeat::Never)).await?;
    let mut said = Vec::new();
    loop {
        match stream.next().await {
            Event::Stdout(bytes) | Event::Stderr(bytes) => {
                let room = SAID_BYTES.saturating_sub(said.len()).min(bytes.len());
                said.extend_from_slice(&bytes[..room]);
            }
            Event::Exited { code, .. } => {
                return Ok((code, clean(&String::from_utf8_lossy(&said), SAID_BYTES)));
            }
            Event::Refused(error) => return Err(error),
            Event::Lost(why) => {
                let message = format!("the connection to {} broke", target.workspace);
                return Err(Error::new(Kind::Unreachable, "CONNECTION_LOST", message)
                    .why(why)
                    .next("ask again: what was done is not done twice"));
            }
        }
    }
}

pub(crate) async fn show(app: &App, show: &Show) -> Outcome {
    let mut api = app.api()?;
    let target = target::find(&mut api, &show.session).await?;
    let address = target.address();
    let listed = sessions_of(&mut api, &target.workspace).await?;
    let Some(session) = listed.items.into_iter().find(|one| one.address == address) else {
        let error =
            Error::new(Kind::NotFound, reason::SESSION_NOT_FOUND, format!("no session {address}"));
        return Err(error.next(format!("warren session list {}", target.workspace)));
    };
    app.output.object(&session, &address, || session.text())?;
    Ok(0)
}
