//! `warren workspace resize`: other caps, while it runs.

use clap::{ArgGroup, Args};
use tokio::time::Instant;
use warren_common::{Bytes, MilliCpus};
use warren_proto::pb::admin::v1 as pb;

use super::change::Waiting;
use crate::{
    api,
    app::App,
    command::Change,
    error::Outcome,
    progress::{self, Goal, Waiter},
    view::{observed::Caps, workspace::Workspace},
};

/// Arguments of `workspace resize`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("caps").required(true).multiple(true))]
pub(crate) struct Resize {
    /// client/workspace, a bare name that fits one, or an id.
    workspace: String,
    /// Hard memory cap, such as 8G.
    #[arg(long, value_name = "SIZE", group = "caps")]
    memory: Option<Bytes>,
    /// Swap beyond the cap; 0 for none.
    #[arg(long, value_name = "SIZE", group = "caps")]
    swap: Option<Bytes>,
    /// Memory that placement sets aside [default: the same share of --memory as before].
    #[arg(long, value_name = "SIZE", group = "caps")]
    reserve: Option<Bytes>,
    /// Hard cap in cores, such as 1.5; 0 for none.
    #[arg(long, value_name = "CORES", group = "caps")]
    cpus: Option<MilliCpus>,
    /// Size of the home.
    #[arg(long, value_name = "SIZE", group = "caps")]
    disk: Option<Bytes>,
    /// Only where the workspace has not changed since this revision, as `workspace show -o json`
    /// gives.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn run(app: &App, resize: &Resize) -> Outcome {
    let mutation = api::mutation(&resize.change.id(app));
    let request = pb::ResizeWorkspaceRequest {
        mutation: Some(pb::Mutation { if_revision: resize.if_revision, ..mutation }),
        workspace: resize.workspace.clone(),
        memory_bytes: resize.memory.map(|bytes| bytes.0),
        swap_bytes: resize.swap.map(|bytes| bytes.0),
        reserve_bytes: resize.reserve.map(|bytes| bytes.0),
        milli_cpus: resize.cpus.map(|cpus| cpus.0),
        disk_bytes: resize.disk.map(|bytes| bytes.0),
    };
    let (mut api, begun) = (app.api()?, Instant::now());
    let answer = api
        .write(async |channel| api::workspaces(channel).resize_workspace(request.clone()).await)
        .await?;
    if !answer.notice.is_empty() {
        app.output.talk(&format!("note: {}", answer.notice));
    }
    let Some(workspace) = answer.workspace.map(Workspace::from) else {
        let name = &resize.workspace;
        app.output.talk(&format!("workspace {name} was resized, and has been deleted since"));
        return Ok(0);
    };
    if resize.waiting.no_wait {
        app.output.object(&workspace, &workspace.address, || workspace.resized())?;
        return Ok(0);
    }
    let caps = Caps::from(&workspace.spec.resources);
    let goal = Goal::Held { caps, revision: workspace.revision };
    let done = Waiter::new(app, goal, begun).wait(&mut api, workspace).await?;
    progress::finish(app, done)
}
