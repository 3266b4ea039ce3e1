//! `warren client`: customer engagements.

use clap::{Args, Subcommand};
use warren_common::{ClientName, spec::validate_labels};
use warren_proto::{error::reason, pb::admin::v1 as pb};

mod allowed;
mod label;

use super::{Change, Fresh, Watch, at_revision, present, refused};
use crate::{
    api,
    app::App,
    error::{Error, Kind, Outcome},
    follow::Follow,
    value,
    view::{client::Client, served},
};

/// Verbs on clients.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a client.
    #[command(
        after_help = "Examples:\n  warren client create acme\n  warren client create acme --label team=web"
    )]
    Create(Create),
    /// List clients.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  warren client list -o name\n  warren client list --watch"
    )]
    List(Watch),
    /// Show one client.
    #[command(after_help = "Example:\n  warren client show acme")]
    Show(Show),
    /// Set and take away labels of a client; the others stay.
    #[command(
        after_help = "Examples:\n  warren client label acme team=web tier=gold\n  warren client label acme tier-"
    )]
    Label(label::Label),
    /// Let the client's workspaces reach what is closed to others, such as a database in a private
    /// network.
    #[command(
        after_help = "Examples:\n  warren client allow acme 10.1.2.0/24:5432\n  warren client allow acme 192.168.7.3:53/udp\n\nThe host, the cluster, other workspaces, loopback and metadata services stay closed."
    )]
    Allow(allowed::Allow),
    /// Close again what `client allow` opened; connections that are open are cut.
    #[command(after_help = "Example:\n  warren client disallow acme 10.1.2.0/24:5432")]
    Disallow(allowed::Disallow),
    /// List what `client allow` opened.
    #[command(
        after_help = "Examples:\n  warren client allowed acme -o json\n  warren client allowed acme --reviewed"
    )]
    Allowed(allowed::Allowed),
    /// Delete a client that has no workspaces.
    #[command(visible_alias = "rm", after_help = "Example:\n  warren client delete acme")]
    Delete(Delete),
}

/// Arguments of `client create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: a-z, 0-9 and '-'.
    #[arg(value_name = "CLIENT")]
    name: ClientName,
    /// A label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    labels: Vec<(String, String)>,
    /// Succeed where the client exists already.
    #[arg(long)]
    if_missing: bool,
    #[command(flatten)]
    change: Change,
}

/// Arguments of `client show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name or id.
    client: String,
    #[command(flatten)]
    fresh: Fresh,
}

/// Arguments of `client delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Name or id.
    client: String,
    #[command(flatten)]
    change: Change,
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(create) => run_create(app, &create).await,
        Verb::List(watch) => list(app, watch).await,
        Verb::Show(show) => {
            let mut api = app.api()?;
            let (client, at) = get(&mut api, &show.client, show.fresh.read()).await?;
            api.notice(at.as_ref());
            let now = served(at.as_ref());
            app.output.of(at.as_ref()).object(&client, &client.name, || client.text(now))?;
            Ok(0)
        }
        Verb::Label(label) => label::run(app, &label).await,
        Verb::Allow(allow) => allow.run(app).await,
        Verb::Disallow(disallow) => disallow.run(app).await,
        Verb::Allowed(allowed) => allowed.run(app).await,
        Verb::Delete(delete) => {
            let request = pb::DeleteClientRequest {
                mutation: Some(api::mutation(&delete.change.id(app))),
                client: delete.client.clone(),
            };
            let mut api = app.api()?;
            let deleted = api
                .write(async |channel| api::clients(channel).delete_client(request.clone()).await)
                .await?;
            let at = at_revision(deleted.revision);
            app.output.talk(&format!("client {} is deleted{at}", delete.client));
            Ok(0)
        }
    }
}

async fn run_create(app: &App, create: &Create) -> Outcome {
    let labels = value::labels("--label", &create.labels).map_err(Error::usage)?;
    validate_labels("labels", &labels).map_err(refused)?;
    let request = pb::CreateClientRequest {
        mutation: Some(api::mutation(&create.change.id(app))),
        name: create.name.to_string(),
        labels: labels.into_iter().collect(),
    };
    let mut api = app.api()?;
    let created =
        api.write(async |channel| api::clients(channel).create_client(request.clone()).await).await;
    let (client, word) = match created {
        Ok(pb::CreateClientResponse { client: Some(client), .. }) => {
            (Client::from(client), "created")
        }
        Ok(pb::CreateClientResponse { client: None, .. }) => {
            let name = &create.name;
            app.output.talk(&format!("client {name} was created, and has been deleted since"));
            return Ok(0);
        }
        Err(error) if create.if_missing && error.kind == Kind::Conflict => {
            match get(&mut api, create.name.as_str(), None).await {
                Ok((client, _)) => (client, "unchanged"),
                Err(_) => return Err(error),
            }
        }
        Err(error) if error.reason == reason::NAME_TAKEN => {
            return Err(error.or_next(format!("warren client show {}", create.name)));
        }
        Err(error) => return Err(error),
    };
    app.output.object(&client, &client.name, || format!("client {} {word}\n", client.name))?;
    Ok(0)
}

async fn get(
    api: &mut api::Api,
    client: &str,
    read: Option<pb::Read>,
) -> Result<(Client, Option<pb::Freshness>), Error> {
    let request = pb::GetClientRequest { client: client.to_owned(), read };
    let answer =
        api.read(async |channel| api::clients(channel).get_client(request.clone()).await).await?;
    Ok((Client::from(present(answer.client)?), answer.freshness))
}

async fn list(app: &App, watch: Watch) -> Outcome {
    let read = watch.fresh.read();
    let mut api = app.api()?;
    let list = async |api: &mut api::Api| {
        let listed = api::pages(api, async |api, page_size, page_token| {
            let request = pb::ListClientsRequest { page_size, page_token, read };
            let page = api
                .read(async |channel| api::clients(channel).list_clients(request.clone()).await)
                .await?;
            Ok((page.clients, page.next_page_token, page.freshness))
        });
        Ok(listed.await?.map(Client::from))
    };
    let empty = "no clients yet; warren client create NAME makes one";
    if watch.watch {
        let follow = Follow { app, request: pb::WatchRequest::default(), empty };
        return follow.run(&mut api, list).await;
    }
    let listed = list(&mut api).await?;
    app.output.of(Some(&listed.at)).list(&listed.items, listed.now, empty)?;
    Ok(0)
}
