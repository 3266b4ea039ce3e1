//! `warren secret`: what workspaces log in with. A value goes in and never comes out.

pub(crate) mod value;

use clap::{Args, Subcommand};
use warren_common::{SecretName, name::InvalidName};
use warren_daemon::Secret as Unseen;
use warren_proto::pb::admin::v1 as pb;

use super::{Change, Fresh, at_revision, refused};
use crate::{
    api::{self, Api},
    app::App,
    error::{Error, Outcome},
    view::secret::{Secret, vault},
};

/// Verbs on secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Set a secret of a client's vault, or of the shared one; workspaces that run get it too.
    ///
    /// The value comes from a file, from stdin, from a variable of the environment, or is asked for.
    /// It is a file in the client's workspaces: /run/secrets/NAME.
    #[command(after_help = "Examples:
  warren secret set acme git-token                 (asks for it, unseen)
  warren secret set acme git-token @token.txt
  pass show acme/npm | warren secret set acme npm-token @-
  warren secret set --shared anthropic-api-key env:ANTHROPIC_API_KEY")]
    Set(Set),
    /// List secrets: their versions and which workspaces get them, never a value.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  warren secret list\n  warren secret list acme\n  warren secret list --shared -o json"
    )]
    List(List),
    /// Delete a secret: it is shredded, and taken from workspaces that run.
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  warren secret delete acme git-token\n  warren secret delete --shared npm-token"
    )]
    Delete(Delete),
}

/// Arguments of `secret set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The client (not with --shared), the secret's name, and where its value is: @FILE, @- or
    /// env:VARIABLE [default: it is asked for].
    #[arg(required = true, num_args = 1..=3, value_names = ["CLIENT", "NAME", "SOURCE"])]
    words: Vec<String>,
    /// In the shared vault, which every client's workspaces get.
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    change: Change,
}

/// Arguments of `secret list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those of this client: name or id.
    #[arg(conflicts_with = "shared")]
    client: Option<String>,
    /// Only those of the shared vault.
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    fresh: Fresh,
}

/// Arguments of `secret delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The client (not with --shared) and the secret's name.
    #[arg(required = true, num_args = 1..=2, value_names = ["CLIENT", "NAME"])]
    words: Vec<String>,
    /// In the shared vault.
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    change: Change,
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Set(set) => run_set(app, &set).await,
        Verb::List(list) => run_list(app, &list).await,
        Verb::Delete(delete) => run_delete(app, &delete).await,
    }
}

/// Returns the client, empty for the shared vault, the name, and what follows.
fn split(words: &[String], shared: bool) -> Result<(&str, SecretName, Option<&str>), Error> {
    let mut words = words.iter().map(String::as_str);
    let client = if shared { "" } else { words.next().unwrap_or_default() };
    if client.is_empty() && !shared {
        return Err(Error::usage("the client's name is empty").next(
            "give CLIENT NAME, or --shared NAME for one that every client's workspaces get",
        ));
    }
    let name = words.next().ok_or_else(|| {
        Error::usage("the secret's name is missing")
            .next("give CLIENT NAME, or --shared NAME for one that every client's workspaces get")
    })?;
    let name = name.parse().map_err(|why: InvalidName| match value::is_place(name) {
        true => Error::usage("the secret's name is missing").next("give CLIENT NAME, then where"),
        false => refused(why),
    })?;
    let rest = words.next();
    match words.next() {
        None => Ok((client, name, rest)),
        Some(_) => Err(Error::usage("there is a word too many").next("add --help for examples")),
    }
}

async fn run_set(app: &App, set: &Set) -> Outcome {
    let (client, name, place) = split(&set.words, set.shared)?;
    let value = value::read(app, &format!("secret {name}"), place)?;
    let id = set.change.id(app);
    let mut api = app.api()?;
    match put(&mut api, (client, &name, ""), &value, &id).await? {
        Some(secret) => {
            let text = || format!("{} is set, version {}\n", secret.label(), secret.version);
            app.output.object(&secret, &secret.label(), text)?;
        }
        None => app.output.talk(&format!("secret {name} was set, and has been deleted since")),
    }
    Ok(0)
}

/// Sets a secret, for a workspace of that name where it is not empty; none where it is gone again.
///
/// # Errors
/// As any call.
pub(crate) async fn put(
    api: &mut Api,
    (client, name, made_for): (&str, &SecretName, &str),
    value: &Unseen<Vec<u8>>,
    request_id: &str,
) -> Result<Option<Secret>, Error> {
    let set = api
        .write(async |channel| {
            let request = pb::SetSecretRequest {
                mutation: Some(api::mutation(request_id)),
                client: client.to_owned(),
                shared: client.is_empty(),
                name: name.to_string(),
                value: value.expose().clone().into(),
                made_for: made_for.to_owned(),
            };
            api::secrets(channel).set_secret(request).await
        })
        .await?;
    Ok(set.secret.map(Secret::from))
}

/// Returns the secrets of a client's vault.
///
/// # Errors
/// As any call.
pub(crate) async fn of_client(api: &mut Api, client: &str) -> Result<Vec<pb::Secret>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let (client, read) = (client.to_owned(), None);
        let request = pb::ListSecretsRequest { page_size, page_token, read, client, shared: false };
        let page = api
            .read(async |channel| api::secrets(channel).list_secrets(request.clone()).await)
            .await?;
        Ok((page.secrets, page.next_page_token, page.freshness))
    });
    Ok(listed.await?.items)
}

async fn run_list(app: &App, list: &List) -> Outcome {
    let read = list.fresh.read();
    let mut api = app.api()?;
    let listed = api::pages(&mut api, async |api, page_size, page_token| {
        let client = list.client.clone().unwrap_or_default();
        let request =
            pb::ListSecretsRequest { page_size, page_token, read, client, shared: list.shared };
        let page = api
            .read(async |channel| api::secrets(channel).list_secrets(request.clone()).await)
            .await?;
        Ok((page.secrets, page.next_page_token, page.freshness))
    });
    let listed = listed.await?.map(Secret::from);
    app.output.of(Some(&listed.at)).list(&listed.items, listed.now, "no secrets")?;
    Ok(0)
}

async fn run_delete(app: &App, delete: &Delete) -> Outcome {
    let (client, name, more) = split(&delete.words, delete.shared)?;
    if more.is_some() {
        return Err(Error::usage("there is a word too many").next("give NAME alone with --shared"));
    }
    let request = pb::DeleteSecretRequest {
        mutation: Some(api::mutation(&delete.change.id(app))),
        client: client.to_owned(),
        shared: client.is_empty(),
        name: name.to_string(),
    };
    let mut api = app.api()?;
    let deleted = api
        .write(async |channel| api::secrets(channel).delete_secret(request.clone()).await)
        .await?;
    let at = at_revision(deleted.revision);
    let vault = vault((!delete.shared).then_some(client));
    app.output.talk(&format!("secret {vault}/{name} is deleted{at}"));
    Ok(0)
}
