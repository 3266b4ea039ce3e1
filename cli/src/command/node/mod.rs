//! `warren node`: machines that run workspaces.

mod change;
mod token;

use clap::{Args, Subcommand};
use warren_proto::pb::admin::v1 as pb;

use super::{Fresh, Watch, present, top};
use crate::{
    api,
    app::App,
    error::{Error, Outcome},
    follow::Follow,
    view::{node::Node, served},
};

/// Verbs on nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Mint a single-use join token and print the one command to run on the new machine.
    #[command(
        after_help = "Examples:\n  warren node token\n  warren node token --name n2\n  warren node token -o name > token    (the bare token)"
    )]
    Token(token::Token),
    /// List nodes.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  warren node list\n  warren node list --watch"
    )]
    List(List),
    /// Show one node with what its preflight found.
    #[command(after_help = "Example:\n  warren node show n1")]
    Show(Show),
    /// Close a node to placement; what is there stays.
    #[command(after_help = "Example:\n  warren node cordon n1")]
    Cordon(change::Target),
    /// Open a node to placement again.
    #[command(after_help = "Example:\n  warren node uncordon n1")]
    Uncordon(change::Target),
    /// Set and take away labels; they win over those of the node's own configuration.
    #[command(
        after_help = "Examples:\n  warren node label n1 region=eu-central disk-\n  warren node label n1 warren.client=acme    (keeps the node for client acme)"
    )]
    Label(change::Label),
    /// Take a node out for good: its certificates are refused, its connections are cut.
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  warren node remove n1\n  warren node remove n1 --lost acme/web    (gives up the home that is there)"
    )]
    Remove(change::Remove),
    /// Let the next agent in that shows a node's identity, after IDENTITY_CONFLICT.
    #[command(after_help = "Example:\n  warren node rejoin n1")]
    Rejoin(change::Target),
    /// Show what each node uses, the busiest first, until Ctrl-C.
    #[command(after_help = "Examples:\n  warren node top\n  warren node top --once -o json")]
    Top(top::Nodes),
}

/// Arguments of `node list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Those that were removed too.
    #[arg(long)]
    removed: bool,
    #[command(flatten)]
    watch: Watch,
}

/// Arguments of `node show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name or id.
    node: String,
    #[command(flatten)]
    fresh: Fresh,
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Token(token) => token::run(app, &token).await,
        Verb::List(arguments) => list(app, arguments).await,
        Verb::Cordon(target) => change::cordon(app, &target).await,
        Verb::Uncordon(target) => change::uncordon(app, &target).await,
        Verb::Label(label) => change::label(app, &label).await,
        Verb::Remove(remove) => change::remove(app, &remove).await,
        Verb::Rejoin(target) => change::rejoin(app, &target).await,
        Verb::Top(nodes) => top::nodes(app, &nodes).await,
        Verb::Show(show) => {
            let request = pb::GetNodeRequest { node: show.node, read: show.fresh.read() };
            let mut api = app.api()?;
            let answer = api
                .read(async |channel| api::nodes(channel).get_node(request.clone()).await)
                .await?;
            let at = answer.freshness.as_ref();
            api.notice(at);
            let now = served(at);
            let node = Node::from(present(answer.node)?);
            app.output.of(at).object(&node, &node.name, || node.text(now))?;
            Ok(0)
        }
    }
}

async fn list(app: &App, List { removed, watch }: List) -> Outcome {
    let read = watch.fresh.read();
    let mut api = app.api()?;
    let list = async |api: &mut api::Api| Ok(all(api, read, removed).await?.map(Node::from));
    let empty = "no nodes yet; warren node token prints how to join one";
    if watch.watch {
        let follow = Follow { app, request: pb::WatchRequest::default(), empty };
        return follow.run(&mut api, list).await;
    }
    let listed = list(&mut api).await?;
    app.output.of(Some(&listed.at)).list(&listed.items, listed.now, empty)?;
    Ok(0)
}

/// Returns all nodes.
pub(super) async fn all(
    api: &mut api::Api,
    read: Option<pb::Read>,
    removed: bool,
) -> Result<api::Listed<pb::Node>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let request = pb::ListNodesRequest { page_size, page_token, read, removed };
        let page =
            api.read(async |channel| api::nodes(channel).list_nodes(request.clone()).await).await?;
        Ok((page.nodes, page.next_page_token, page.freshness))
    });
    listed.await
}
