//! `warren top`, `warren workspace top`, `warren node top`: what uses the cluster up, now.
//!
//! On a terminal the screen is drawn anew until Ctrl-C; elsewhere each look is printed below the
//! one before, and with `-o json` it is one line.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::Args;
use warren_proto::pb::admin::v1 as pb;

use super::present;
use crate::{
    api::{self, Api, Listed},
    app::App,
    error::{Error, Outcome},
    render::{Format, Tabular, stdout_width, table},
    value,
    view::{
        Moment,
        node::Node,
        top::{Look, NodeLoad, Sort, WorkspaceLoad, sort},
        workspace::Workspace,
    },
};

/// Puts the cursor at the top left; the rest is overwritten line by line, so that nothing flickers.
const HOME: &str = "\x1b[H";
/// Clears from the cursor to the line's end, and to the screen's.
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
/// The first look begins with an empty screen.
const CLEAR: &str = "\x1b[2J";

/// How it is looked.
#[derive(Debug, Clone, Args)]
pub(crate) struct How {
    /// What comes first.
    #[arg(long, value_enum, default_value = "pressure")]
    sort: Sort,
    /// Look once and end.
    #[arg(long)]
    once: bool,
    /// Between two looks; nodes measure every 5 s.
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "5s")]
    every: Duration,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(crate) struct All {
    #[command(flatten)]
    how: How,
}

/// Arguments of `workspace top`.
#[derive(Debug, Args)]
pub(crate) struct Workspaces {
    /// client/workspace, a bare name that fits one, or an id; all workspaces without it.
    workspace: Option<String>,
    /// Only the workspaces of this client.
    #[arg(long, short = 'c', value_name = "CLIENT", conflicts_with = "workspace")]
    client: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Arguments of `node top`.
#[derive(Debug, Args)]
pub(crate) struct Nodes {
    #[command(flatten)]
    how: How,
}

/// What is looked at.
enum Subject<'a> {
    All,
    Nodes,
    Workspaces { client: &'a str },
    Workspace(&'a str),
}

/// Runs `warren top`.
pub(crate) async fn all(app: &App, all: &All) -> Outcome {
    run(app, &Subject::All, &all.how).await
}

/// Runs `warren node top`.
pub(crate) async fn nodes(app: &App, nodes: &Nodes) -> Outcome {
    run(app, &Subject::Nodes, &nodes.how).await
}

/// Runs `warren workspace top`.
pub(crate) async fn workspaces(app: &App, some: &Workspaces) -> Outcome {
    let subject = match &some.workspace {
        Some(workspace) => Subject::Workspace(workspace),
        None => Subject::Workspaces { client: some.client.as_deref().unwrap_or_default() },
    };
    run(app, &subject, &some.how).await
}

async fn run(app: &App, subject: &Subject<'_>, how: &How) -> Outcome {
    let mut api = app.api()?;
    let live = app.output.format == Format::Table && !how.once && io::stdout().is_terminal();
    let mut first = true;
    loop {
        let mut look = look(&mut api, subject).await?;
        sort(&mut look, how.sort);
        if live {
            let begin = if first { CLEAR } else { "" };
            app.output.data(&format!("{begin}{}", screen(&text(&look))))?;
        } else if app.output.format == Format::Table {
            let apart = if first { "" } else { "\n" };
            app.output.data(&format!("{apart}{}", text(&look)))?;
        } else {
            let names = names(&look);
            app.output.line(&look, names.trim_end(), String::new)?;
        }
        if how.once {
            return Ok(0);
        }
        first = false;
        tokio::time::sleep(how.every).await;
    }
}

async fn look(api: &mut Api, subject: &Subject<'_>) -> Result<Look, Error> {
    let (nodes, workspaces) = match subject {
        Subject::All => (Some(list_nodes(api).await?), Some(list(api, "").await?)),
        Subject::Nodes => (Some(list_nodes(api).await?), None),
        Subject::Workspaces { client } => (None, Some(list(api, client).await?)),
        Subject::Workspace(workspace) => (None, Some(one(api, workspace).await?)),
    };
    let at = workspaces.as_ref().map(|listed| listed.now);
    let at = at.or(nodes.as_ref().map(|listed| listed.now)).unwrap_or_default();
    Ok(Look {
        at: Moment(at),
        nodes: nodes.map(|listed| listed.map(NodeLoad::new).items),
        workspaces: workspaces.map(|listed| {
            let now = listed.now;
            listed.map(|workspace| WorkspaceLoad::new(workspace, now)).items
        }),
    })
}

async fn list_nodes(api: &mut Api) -> Result<Listed<Node>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let request = pb::ListNodesRequest { page_size, page_token, ..Default::default() };
        let page =
            api.read(async |channel| api::nodes(channel).list_nodes(request.clone()).await).await?;
        Ok((page.nodes, page.next_page_token, page.freshness))
    });
    Ok(listed.await?.map(Node::from))
}

async fn list(api: &mut Api, client: &str) -> Result<Listed<Workspace>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let client = client.to_owned();
        let request = pb::ListWorkspacesRequest { page_size, page_token, client, read: None };
        let page = api
            .read(async |channel| api::workspaces(channel).list_workspaces(request.clone()).await)
            .await?;
        Ok((page.workspaces, page.next_page_token, page.freshness))
    });
    Ok(listed.await?.map(Workspace::from))
}

async fn one(api: &mut Api, workspace: &str) -> Result<Listed<Workspace>, Error> {
    let answer = super::workspace::get(api, workspace).await?;
    let now = crate::view::served(answer.freshness.as_ref());
    let at = answer.freshness.unwrap_or_default();
    Ok(Listed { items: vec![present(answer.workspace)?.into()], now, at })
}

/// Returns the tables of a look, the nodes first.
fn text(look: &Look) -> String {
    let nodes = look.nodes.as_ref().map(|all| part(all, look, "no nodes yet"));
    let workspaces = look.workspaces.as_ref().map(|all| part(all, look, "no workspaces"));
    let parts: Vec<String> = nodes.into_iter().chain(workspaces).collect();
    parts.join("\n")
}

fn part<T: Tabular>(rows: &[T], look: &Look, empty: &str) -> String {
    if rows.is_empty() {
        return format!("{empty}\n");
    }
    table::table(rows, look.at.0, stdout_width())
}

fn names(look: &Look) -> String {
    let nodes = look.nodes.iter().flatten().map(Tabular::address);
    let workspaces = look.workspaces.iter().flatten().map(Tabular::address);
    let all: Vec<String> = nodes.chain(workspaces).collect();
    all.join("\n")
}

/// Returns what draws a text over the screen before, cut to the rows there are.
fn screen(text: &str) -> String {
    let rows = crate::render::window(io::stdout()).map_or(usize::MAX, |(_, rows)| rows.into());
    let lines = text.lines().take(rows.saturating_sub(1));
    let drawn: String = lines.map(|line| format!("{line}{REST_OF_LINE}\r\n")).collect();
    format!("{HOME}{drawn}{REST_OF_SCREEN}")
}
