//! `warren workspace start|stop|restart`.

use clap::Args;
use tokio::time::Instant;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{self, Api},
    app::App,
    command::{Change, present},
    error::{Error, Outcome},
    progress::{self, Goal, Waiter},
    view::workspace::Workspace,
};

/// Arguments of verbs that change one workspace.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// client/workspace, a bare name that fits one, or an id.
    workspace: String,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    change: Change,
}

/// Whether to wait.
#[derive(Debug, Clone, Args)]
pub(crate) struct Waiting {
    /// Return once it is committed, without waiting for it.
    #[arg(long, overrides_with = "wait")]
    pub(crate) no_wait: bool,
    /// Wait until it is done, at most --timeout (10m); this is the default.
    #[arg(long, hide = true, overrides_with = "no_wait")]
    wait: bool,
}

pub(crate) async fn start(app: &App, target: &Target) -> Outcome {
    let request = pb::StartWorkspaceRequest {
        mutation: Some(api::mutation(&target.change.id(app))),
        workspace: target.workspace.clone(),
    };
    let (mut api, begun) = (app.api()?, Instant::now());
    let answer = api
        .write(async |channel| api::workspaces(channel).start_workspace(request.clone()).await)
        .await?;
    let workspace = Workspace::from(present(answer.workspace)?);
    let goal = Goal::Running { run_serial: workspace.run_serial };
    follow(app, &mut api, target, (goal, workspace, begun)).await
}

pub(crate) async fn restart(app: &App, target: &Target) -> Outcome {
    let request = pb::RestartWorkspaceRequest {
        mutation: Some(api::mutation(&target.change.id(app))),
        workspace: target.workspace.clone(),
    };
    let (mut api, begun) = (app.api()?, Instant::now());
    let answer = api
        .write(async |channel| api::workspaces(channel).restart_workspace(request.clone()).await)
        .await?;
    let workspace = Workspace::from(present(answer.workspace)?);
    let goal = Goal::Running { run_serial: workspace.run_serial };
    follow(app, &mut api, target, (goal, workspace, begun)).await
}

pub(crate) async fn stop(app: &App, target: &Target) -> Outcome {
    let request = pb::StopWorkspaceRequest {
        mutation: Some(api::mutation(&target.change.id(app))),
        workspace: target.workspace.clone(),
    };
    let (mut api, begun) = (app.api()?, Instant::now());
    let answer = api
        .write(async |channel| api::workspaces(channel).stop_workspace(request.clone()).await)
        .await?;
    let workspace = Workspace::from(present(answer.workspace)?);
    follow(app, &mut api, target, (Goal::Stopped, workspace, begun)).await
}

async fn follow(
    app: &App,
    api: &mut Api,
    target: &Target,
    (goal, workspace, begun): (Goal, Workspace, Instant),
) -> Result<u8, Error> {
    if target.waiting.no_wait {
        app.output.object(&workspace, &workspace.address, || {
            format!("{}: {} ({})\n", workspace.address, workspace.phase, workspace.reason)
        })?;
        return Ok(0);
    }
    let done = Waiter::new(app, goal, begun).wait(api, workspace).await?;
    progress::finish(app, done)
}
