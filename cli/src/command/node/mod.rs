//! `warren node`: machines that run workspaces.

mod token;

use clap::{Args, Subcommand};
use warren_proto::pb::admin::v1 as pb;

use super::{Fresh, Watch, present, top};
use crate::{
    api,
    app::App,
    error::Outcome,
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
    List(Watch),
    /// Show one node with what its preflight found.
    #[command(after_help = "Example:\n  warren node show n1")]
    Show(Show),
    /// Show what each node uses, the busiest first, until Ctrl-C.
    #[command(after_help = "Examples:\n  warren node top\n  warren node top --once -o json")]
    Top(top::Nodes),
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
        Verb::List(watch) => list(app, watch).await,
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

async fn list(app: &App, watch: Watch) -> Outcome {
    let read = watch.fresh.read();
    let mut api = app.api()?;
    let list = async |api: &mut api::Api| {
        let listed = api::pages(api, async |api, page_size, page_token| {
            let request = pb::ListNodesRequest { page_size, page_token, read };
            let page = api
                .read(async |channel| api::nodes(channel).list_nodes(request.clone()).await)
                .await?;
            Ok((page.nodes, page.next_page_token, page.freshness))
        });
        Ok(listed.await?.map(Node::from))
    };
    let empty = "no nodes yet; warren node token prints how to join one";
    if watch.watch {
        let follow = Follow { app, request: pb::WatchRequest::default(), empty };
        return follow.run(&mut api, list).await;
    }
    let listed = list(&mut api).await?;
    app.output.of(Some(&listed.at)).list(&listed.items, listed.now, empty)?;
    Ok(0)
}
