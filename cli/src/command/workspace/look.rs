//! `warren workspace list|show|explain`.

use clap::Args;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{self, Api, Listed},
    app::App,
    command::{Fresh, Watch, present},
    error::{Error, Outcome},
    follow::Follow,
    render::stdout_width,
    view::{explanation::Explanation, served, workspace::Workspace},
};

/// Arguments of `workspace list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only the workspaces of this client.
    #[arg(long, short = 'c', value_name = "CLIENT")]
    client: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

/// Arguments of verbs that look at one workspace.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// client/workspace, a bare name that fits one, or an id.
    workspace: String,
    #[command(flatten)]
    fresh: Fresh,
}

/// Returns all workspaces, or those of one client.
///
/// # Errors
/// As the calls fail.
pub(crate) async fn all(
    api: &mut Api,
    client: &str,
    read: Option<pb::Read>,
) -> Result<Listed<Workspace>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let client = client.to_owned();
        let request = pb::ListWorkspacesRequest { page_size, page_token, client, read };
        let page = api
            .read(async |channel| api::workspaces(channel).list_workspaces(request.clone()).await)
            .await?;
        Ok((page.workspaces, page.next_page_token, page.freshness))
    });
    Ok(listed.await?.map(Workspace::from))
}

pub(crate) async fn list(app: &App, list: &List) -> Outcome {
    let (client, read) = (list.client.clone().unwrap_or_default(), list.watch.fresh.read());
    let mut api = app.api()?;
    let all = async |api: &mut Api| self::all(api, &client, read).await;
    let empty = "no workspaces yet; warren workspace create CLIENT/NAME makes one";
    if list.watch.watch {
        let request = pb::WatchRequest { client: client.clone(), ..Default::default() };
        return Follow { app, request, empty }.run(&mut api, all).await;
    }
    let listed = all(&mut api).await?;
    app.output.of(Some(&listed.at)).list(&listed.items, listed.now, empty)?;
    Ok(0)
}

pub(crate) async fn show(app: &App, one: &One) -> Outcome {
    let mut api = app.api()?;
    let answer = get_for(&mut api, &one.workspace, one.fresh.read()).await?;
    let at = answer.freshness.as_ref();
    api.notice(at);
    let now = served(at);
    let workspace = Workspace::from(present(answer.workspace)?);
    app.output.of(at).object(&workspace, &workspace.address, || workspace.text(now))?;
    Ok(0)
}

pub(crate) async fn explain(app: &App, one: &One) -> Outcome {
    let mut api = app.api()?;
    let request =
        pb::ExplainWorkspaceRequest { workspace: one.workspace.clone(), read: one.fresh.read() };
    let answer = api
        .read(async |channel| api::workspaces(channel).explain_workspace(request.clone()).await)
        .await?;
    let at = answer.freshness.as_ref();
    api.notice(at);
    let explanation = Explanation::from(present(answer.explanation)?);
    let name = explanation.node.clone().unwrap_or_default();
    let text = || explanation.text(&one.workspace, stdout_width());
    app.output.of(at).object(&explanation, &name, text)?;
    Ok(0)
}

/// Returns one workspace as the coordinator has it.
///
/// # Errors
/// Not found, ambiguous, or that no coordinator answered.
pub(crate) async fn get(api: &mut Api, workspace: &str) -> Result<pb::GetWorkspaceResponse, Error> {
    get_for(api, workspace, None).await
}

async fn get_for(
    api: &mut Api,
    workspace: &str,
    read: Option<pb::Read>,
) -> Result<pb::GetWorkspaceResponse, Error> {
    let request = pb::GetWorkspaceRequest { workspace: workspace.to_owned(), read };
    api.read(async |channel| api::workspaces(channel).get_workspace(request.clone()).await).await
}
