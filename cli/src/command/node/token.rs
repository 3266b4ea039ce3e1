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
    /// To be run on the new server, as root.
    command: String,
    /// The same where the agent is installed already.
    join_command: String,
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
    let join_command = join(&answer.token, token.name.as_ref());
    let installer = answer.installer.as_ref();
    let install = installer.map(|one| install(one, &answer.token, token.name.as_ref()));
    if install.is_none() {
        app.output.talk(
            "the coordinator has no programs to install from ([install] in its configuration): \
             the new server needs warren-node-agent first",
        );
    }
    let view = View {
        command: install.unwrap_or_else(|| join_command.clone()),
        join_command,
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

/// Returns the one line for a fresh server. The key that the coordinator shows is pinned, so
/// whatever answers there is the coordinator; the token stands in no program's arguments.
fn install(installer: &pb::Installer, token: &str, name: Option<&NodeName>) -> String {
    let pb::Installer { address, path, public_key_pin } = installer;
    let curl =
        "{ command -v curl || { apt-get update && apt-get install -y curl; }; } >/dev/null 2>&1";
    let name = name.map(|name| format!(" -s -- --name {name}")).unwrap_or_default();
    format!(
        "{curl}; curl -fsSk --pinnedpubkey 'sha256//{public_key_pin}' https://{address}{path} | \
         WARREN_JOIN_TOKEN={token} sh{name}"
    )
}

/// Returns the command for a server that has the agent; the token knows the coordinators.
fn join(token: &str, name: Option<&NodeName>) -> String {
    let name = name.map(|name| format!(" --name {name}"));
    format!("warren-node-agent join{} {token}", name.unwrap_or_default())
}
