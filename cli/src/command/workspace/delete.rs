//! `warren workspace delete`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use tokio::time::Instant;
use warren_proto::pb::admin::v1 as pb;

use super::{change::Waiting, look};
use crate::{
    api::{self, Api},
    app::App,
    command::{Change, at_revision, present, secret},
    error::{Error, Kind, Outcome},
    progress::{self, Goal, Waiter},
    view::workspace::Workspace,
};

/// Arguments of `workspace delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// client/workspace, a bare name that fits one, or an id.
    workspace: String,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    change: Change,
}

pub(crate) async fn run(app: &App, delete: &Delete) -> Outcome {
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !delete.yes && !terminal {
        return Err(Error::usage("delete asks before it deletes, and here is nobody to ask")
            .why("stdin is not a terminal")
            .next(format!("warren workspace delete {} --yes", delete.workspace)));
    }
    let mutation = Some(api::mutation(&delete.change.id(app)));
    let mut api = app.api()?;
    let mut target = delete.workspace.clone();
    if !delete.yes {
        let found = present(look::get(&mut api, &delete.workspace).await?.workspace)?;
        let workspace = Workspace::from(found.clone());
        let secrets = made_for(&mut api, &workspace.address).await?;
        confirm(&workspace, &secrets)?;
        // what was shown is what goes, whatever has the name by now
        target = found.id;
    }
    let request = pb::DeleteWorkspaceRequest { mutation, workspace: target };
    let begun = Instant::now();
    let answer = api
        .write(async |channel| api::workspaces(channel).delete_workspace(request.clone()).await)
        .await?;
    let Some(workspace) = answer.workspace.map(Workspace::from) else {
        let at = at_revision(answer.revision);
        app.output.talk(&format!("{} is deleted{at}", delete.workspace));
        return Ok(0);
    };
    if delete.waiting.no_wait {
        let at = at_revision(answer.revision);
        app.output.talk(&format!("{} is being deleted{at}", workspace.address));
        return Ok(0);
    }
    let done = Waiter::new(app, Goal::Deleted, begun).wait(&mut api, workspace).await?;
    progress::finish(app, done)
}

/// Returns the secrets that were set with a workspace and go with it; none for whoever may not see
/// them.
async fn made_for(api: &mut Api, address: &str) -> Result<Vec<String>, Error> {
    let Some((client, name)) = address.split_once('/') else { return Ok(Vec::new()) };
    let held = match secret::of_client(api, client).await {
        Ok(held) => held,
        Err(error) if error.kind == Kind::NotPermitted => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let made = held.into_iter().filter(|one| one.made_for == name);
    Ok(made.map(|one| format!("{client}/{}", one.name)).collect())
}

fn confirm(workspace: &Workspace, secrets: &[String]) -> Result<(), Error> {
    let address = &workspace.address;
    let with = match secrets {
        [] => String::new(),
        // one that another workspace names stays
        some => format!(" and the secrets made for it ({})", some.join(", ")),
    };
    let mut talk = io::stderr().lock();
    let asked = write!(
        talk,
        "{address} ({}) goes with its home{with}, for good. Delete it? [y/N] ",
        workspace.status
    )
    .and_then(|()| talk.flush());
    asked.map_err(|error| Error::pipe("writing to the terminal", &error))?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Error::pipe("reading from the terminal", &error))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::new(Kind::Failed, "NOT_CONFIRMED", "nothing was deleted")),
    }
}
