//! `warren client allow|disallow|allowed`: what a client's workspaces may reach although it is
//! closed to others.

use clap::Args;
use warren_common::spec::Destination;
use warren_proto::pb::admin::v1 as pb;

use super::{Change, Fresh, get, refused};
use crate::{
    api,
    app::App,
    error::Outcome,
    view::{client::Client, destination::Allowance, served},
};

/// Arguments of `client allow`.
#[derive(Debug, Args)]
pub(crate) struct Allow {
    #[command(flatten)]
    named: Named,
}

/// Arguments of `client disallow`.
#[derive(Debug, Args)]
pub(crate) struct Disallow {
    #[command(flatten)]
    named: Named,
}

/// Arguments of `client allowed`.
#[derive(Debug, Args)]
pub(crate) struct Allowed {
    /// Name or id.
    client: String,
    /// After a restore: you have looked at what is listed, and it is to stay open.
    #[arg(long, conflicts_with_all = ["stale", "min_revision"])]
    reviewed: bool,
    #[command(flatten)]
    fresh: Fresh,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
struct Named {
    /// Name or id.
    client: String,
    /// What: an IPv4 address or range, a port, and a protocol (tcp without one); may be repeated.
    #[arg(required = true, value_name = "CIDR:PORT[/tcp|udp]")]
    destinations: Vec<Destination>,
    /// Only where the client has not changed since this revision, as `client show -o json` gives.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    change: Change,
}

impl Allow {
    pub(super) async fn run(self, app: &App) -> Outcome {
        for destination in &self.named.destinations {
            destination.allowable().map_err(refused)?;
        }
        let allow = self.named.texts();
        self.named.send(app, pb::ChangeAllowedRequest { allow, ..Default::default() }).await
    }
}

impl Disallow {
    pub(super) async fn run(self, app: &App) -> Outcome {
        let disallow = self.named.texts();
        self.named.send(app, pb::ChangeAllowedRequest { disallow, ..Default::default() }).await
    }
}

impl Allowed {
    pub(super) async fn run(self, app: &App) -> Outcome {
        let mut api = app.api()?;
        let (client, at) = get(&mut api, &self.client, self.fresh.read()).await?;
        api.notice(at.as_ref());
        let rows: Vec<Allowance> = client.allowed.iter().map(|text| Allowance::of(text)).collect();
        let empty = "nothing beyond the internet; warren client allow CLIENT CIDR:PORT opens more";
        app.output.of(at.as_ref()).list(&rows, served(at.as_ref()), empty)?;
        if self.reviewed {
            let mutation = api::mutation(&self.change.id(app));
            let request = pb::ChangeAllowedRequest {
                // what is looked at is what was listed
                mutation: Some(pb::Mutation { if_revision: Some(client.revision), ..mutation }),
                client: self.client.clone(),
                ..Default::default()
            };
            api.write(async |channel| api::clients(channel).change_allowed(request.clone()).await)
                .await?;
            app.output.talk(&format!("client {}: reviewed, as listed", client.name));
        }
        Ok(0)
    }
}

impl Named {
    fn texts(&self) -> Vec<String> {
        self.destinations.iter().map(ToString::to_string).collect()
    }

    async fn send(&self, app: &App, change: pb::ChangeAllowedRequest) -> Outcome {
        let mutation = api::mutation(&self.change.id(app));
        let request = pb::ChangeAllowedRequest {
            mutation: Some(pb::Mutation { if_revision: self.if_revision, ..mutation }),
            client: self.client.clone(),
            ..change
        };
        let mut api = app.api()?;
        let answer = api
            .write(async |channel| api::clients(channel).change_allowed(request.clone()).await)
            .await?;
        match answer.client.map(Client::from) {
            Some(client) => app.output.object(&client, &client.name, || client.reaches())?,
            None => {
                let name = &self.client;
                app.output.talk(&format!("client {name} was changed, and has been deleted since"));
            }
        }
        Ok(0)
    }
}
