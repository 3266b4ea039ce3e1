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
    if let Some(address) = installer.map(|one| one.address.as_str()).filter(|one| is_here(one)) {
        app.output.talk(&format!(
            "the coordinator is known as {address}, which is every machine's own: for other servers \
             set [advertise] api in its configuration and restart it"
        ));
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

/// Whether an address means the machine on which it is read.
fn is_here(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_every_machines_own_is_told_from_others() {
        for here in ["127.0.0.1:7400", "localhost:7400", "[::1]:7400", "0.0.0.0:7400"] {
            assert!(is_here(here), "{here}");
        }
        for other in ["10.0.0.1:7400", "vps1.example:7400", "[2001:db8::1]:7400"] {
            assert!(!is_here(other), "{other}");
        }
    }

    #[test]
    fn the_line_pins_the_key_and_keeps_the_token_out_of_arguments() {
        let installer = pb::Installer {
            address: "10.0.0.1:7400".to_owned(),
            path: "/x".to_owned(),
            public_key_pin: "abc=".to_owned(),
        };
        let name = "n2".parse().expect("a name");
        let line = install(&installer, "wrn1_T", Some(&name));
        assert!(line.contains("--pinnedpubkey 'sha256//abc=' https://10.0.0.1:7400/x |"), "{line}");
        assert!(line.ends_with("| WARREN_JOIN_TOKEN=wrn1_T sh -s -- --name n2"), "{line}");
    }
}
