//! `warren cluster token` and `warren cluster replace`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use warren_common::Timestamp;
use warren_daemon::clock;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api,
    app::App,
    command::Change,
    error::Outcome,
    render::time::{rfc3339, spell},
};

/// Arguments of `cluster token`.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The number of the coordinator that goes once the new one votes.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    replaces: Option<u64>,
    #[command(flatten)]
    change: Change,
}

/// Arguments of `cluster replace`.
#[derive(Debug, Args)]
pub(crate) struct Replace {
    /// The number of the coordinator that goes once the new one votes.
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    coordinator: u64,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Serialize)]
struct View {
    token: String,
    expires_at: String,
    replaces: Option<u64>,
    command: String,
}

pub(crate) async fn replace(app: &App, replace: Replace) -> Outcome {
    let Replace { coordinator, change } = replace;
    run(app, &Token { replaces: Some(coordinator), change }).await
}

pub(crate) async fn run(app: &App, token: &Token) -> Outcome {
    let request = pb::CreateCoordinatorTokenRequest {
        mutation: Some(api::mutation(&token.change.id(app))),
        replaces_replica_id: token.replaces.unwrap_or(0),
    };
    let mut api = app.api()?;
    let answer = api
        .write(async |channel| {
            api::cluster(channel).create_coordinator_token(request.clone()).await
        })
        .await?;
    let expires = Timestamp(answer.expires_unix_ms);
    let view = View {
        command: format!("warren-coordinator join {}", answer.token),
        token: answer.token,
        expires_at: rfc3339(expires),
        replaces: token.replaces,
    };
    // the way here took its part of a second
    let good = spell(expires.since(clock::now()) + Duration::from_secs(1));
    app.output.talk(&format!("good once, for {good}; run on the new machine, as root:"));
    app.output.object(&view, &view.token, || format!("{}\n", view.command))?;
    Ok(0)
}
