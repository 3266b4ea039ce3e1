//! `warren node token`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use warren_common::{NodeName, Timestamp};
use warren_daemon::clock;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api,
    app::App,
    command::Change,
    error::Outcome,
    render::time::{rfc3339, spell},
};

/// Arguments of `node token`.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The name the node must take; any free one without it.
    #[arg(long, value_name = "NODE")]
    name: Option<NodeName>,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Serialize)]
struct View {
    token: String,
    expires_at: String,
    coordinators: Vec<String>,
    command: String,
}

pub(crate) async fn run(app: &App, token: &Token) -> Outcome {
    let request = pb::CreateNodeTokenRequest {
        mutation: Some(api::mutation(&token.change.id(app))),
        node_name: token.name.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let mut api = app.api()?;
    let answer = api
        .write(async |channel| api::nodes(channel).create_node_token(request.clone()).await)
        .await?;
    let expires = Timestamp(answer.expires_unix_ms);
    let coordinators = api.context.coordinators.clone();
    let view = View {
        command: command(&answer.token, token.name.as_ref()),
        token: answer.token,
        expires_at: rfc3339(expires),
        coordinators,
    };
    // the way here took its part of a second
    let good = spell(expires.since(clock::now()) + Duration::from_secs(1));
    app.output.talk(&format!("good once, for {good}; run on the new machine, as root:"));
    app.output.object(&view, &view.token, || format!("{}\n", view.command))?;
    Ok(0)
}

/// Returns the one command for the new machine; the token knows the coordinators.
fn command(token: &str, name: Option<&NodeName>) -> String {
    let name = name.map(|name| format!(" --name {name}"));
    format!("warren-node-agent join{} {token}", name.unwrap_or_default())
}
