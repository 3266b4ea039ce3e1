//! `warren template`: what workspaces are made from.

mod source;

use clap::{Args, Subcommand};
use serde::Serialize;
use similar::TextDiff;
use warren_common::TemplateName;
use warren_proto::pb::admin::v1 as pb;

use super::{Change, Fresh, at_revision, present};
use crate::{
    api::{self, Api},
    app::App,
    error::{Error, Outcome},
    view::{served, template::Template},
};

/// Verbs on templates.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Add a version of a template, or a template.
    ///
    /// The document is template.toml in a folder, a file, or stdin. It is checked before it is
    /// kept; the newest one pushed again adds nothing. A template's first version is active at
    /// once, later ones with --activate or `template activate`. Workspaces that are there stay as
    /// they are.
    #[command(after_help = "Examples:
  warren template push deploy/templates/plain
  warren template push - --name agent -m 'more memory' --activate < agent.toml
  warren template push deploy/templates/plain --dry-run")]
    Push(Push),
    /// List templates.
    #[command(visible_alias = "ls", after_help = "Example:\n  warren template list -o json")]
    List(List),
    /// Show a template: its parameters and versions, or its document.
    #[command(
        after_help = "Examples:\n  warren template show agent\n  warren template show agent --document --version 2"
    )]
    Show(Show),
    /// Show what changed between two versions.
    #[command(
        after_help = "Examples:\n  warren template diff agent            (the active one and the newest)\n  warren template diff agent 2 5"
    )]
    Diff(Diff),
    /// Make new workspaces from another version.
    #[command(after_help = "Example:\n  warren template activate agent 3")]
    Activate(Activate),
    /// Make new workspaces from the version that was active before.
    #[command(after_help = "Example:\n  warren template rollback agent")]
    Rollback(Rollback),
    /// Delete a template with its versions; workspaces made from it stay.
    #[command(visible_alias = "rm", after_help = "Example:\n  warren template delete agent")]
    Delete(Rollback),
}

/// Arguments of `template push`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// A folder with template.toml, a file, or - for stdin.
    #[arg(value_name = "FOLDER")]
    from: String,
    /// The template's name [default: the folder's].
    #[arg(long, value_name = "NAME")]
    name: Option<TemplateName>,
    /// What changed, for whoever looks later.
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    message: String,
    /// Make new workspaces from it at once.
    #[arg(long)]
    activate: bool,
    /// Check it and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    change: Change,
}

/// Arguments of `template list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    fresh: Fresh,
}

/// Arguments of `template show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name.
    #[arg(value_name = "TEMPLATE")]
    name: String,
    /// Print the document as it was pushed.
    #[arg(long)]
    document: bool,
    /// Of this version [default: the active one].
    #[arg(long, value_name = "NUMBER", requires = "document")]
    version: Option<u32>,
    #[command(flatten)]
    fresh: Fresh,
}

/// Arguments of `template diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Its name.
    #[arg(value_name = "TEMPLATE")]
    name: String,
    /// The version to begin with [default: the active one].
    from: Option<u32>,
    /// The version to end with [default: the newest].
    to: Option<u32>,
}

/// Arguments of `template activate`.
#[derive(Debug, Args)]
pub(crate) struct Activate {
    /// Its name.
    #[arg(value_name = "TEMPLATE")]
    name: String,
    /// The version.
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    version: u32,
    #[command(flatten)]
    change: Change,
}

/// Arguments of `template rollback` and `template delete`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Its name.
    #[arg(value_name = "TEMPLATE")]
    name: String,
    #[command(flatten)]
    change: Change,
}

/// A document as `-o json` shows it.
#[derive(Debug, Serialize)]
struct Document {
    name: String,
    version: u32,
    document: String,
}

/// A difference as `-o json` shows it.
#[derive(Debug, Serialize)]
struct Difference {
    name: String,
    from: u32,
    to: u32,
    diff: String,
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Push(push) => run_push(app, &push).await,
        Verb::List(list) => run_list(app, &list).await,
        Verb::Show(show) => run_show(app, &show).await,
        Verb::Diff(diff) => run_diff(app, &diff).await,
        Verb::Activate(activate) => {
            switch(app, (&activate.name, activate.version), &activate.change).await
        }
        Verb::Rollback(rollback) => switch(app, (&rollback.name, 0), &rollback.change).await,
        Verb::Delete(delete) => {
            let mutation = Some(api::mutation(&delete.change.id(app)));
            let request = pb::DeleteTemplateRequest { mutation, name: delete.name.clone() };
            let mut api = app.api()?;
            let deleted = api
                .write(async |channel| {
                    api::templates(channel).delete_template(request.clone()).await
                })
                .await?;
            let at = at_revision(deleted.revision);
            app.output.talk(&format!("template {} is deleted{at}", delete.name));
            Ok(0)
        }
    }
}

async fn run_push(app: &App, push: &Push) -> Outcome {
    let (name, document) = source::read(&push.from, push.name.as_ref())?;
    let request = pb::PushTemplateRequest {
        mutation: Some(api::mutation(&push.change.id(app))),
        name: name.to_string(),
        document,
        message: push.message.clone(),
        activate: push.activate,
        dry_run: push.dry_run,
    };
    let mut api = app.api()?;
    let pushed = api
        .write(async |channel| api::templates(channel).push_template(request.clone()).await)
        .await?;
    if push.dry_run {
        app.output.talk(&format!("template {name} is good; nothing was changed"));
        return Ok(0);
    }
    let Some(template) = pushed.template.map(Template::from) else {
        app.output.talk(&format!("template {name} was pushed, and has been deleted since"));
        return Ok(0);
    };
    let version = pushed.version;
    let text = || match template.active {
        Some(active) if active == version => format!("template {name}@{version} is active\n"),
        _ => format!(
            "template {name}@{version} is there; warren template activate {name} {version}\n"
        ),
    };
    app.output.object(&template, &format!("{name}@{version}"), text)?;
    Ok(0)
}

async fn run_list(app: &App, list: &List) -> Outcome {
    let read = list.fresh.read();
    let mut api = app.api()?;
    let listed = api::pages(&mut api, async |api, page_size, page_token| {
        let request = pb::ListTemplatesRequest { page_size, page_token, read };
        let page = api
            .read(async |channel| api::templates(channel).list_templates(request.clone()).await)
            .await?;
        Ok((page.templates, page.next_page_token, page.freshness))
    });
    let listed = listed.await?.map(Template::from);
    app.output.of(Some(&listed.at)).list(&listed.items, listed.now, "no templates")?;
    Ok(0)
}

async fn run_show(app: &App, show: &Show) -> Outcome {
    let mut api = app.api()?;
    let asked = (show.name.as_str(), show.version.unwrap_or_default());
    let answer = get(&mut api, asked, show.fresh.read()).await?;
    api.notice(answer.freshness.as_ref());
    let output = app.output.of(answer.freshness.as_ref());
    if show.document {
        let pb::GetTemplateResponse { version, document, .. } = answer;
        let name = show.name.clone();
        let shown = Document { name, version, document };
        output.object(&shown, &format!("{}@{version}", show.name), || shown.document.clone())?;
        return Ok(0);
    }
    let now = served(answer.freshness.as_ref());
    let template = Template::from(present(answer.template)?);
    output.object(&template, &template.name, || template.text(now))?;
    Ok(0)
}

async fn run_diff(app: &App, diff: &Diff) -> Outcome {
    let mut api = app.api()?;
    let from = get(&mut api, (&diff.name, diff.from.unwrap_or_default()), None).await?;
    let template = Template::from(present(from.template)?);
    let newest = template.versions.last().map_or(0, |newest| newest.number);
    let to = get(&mut api, (&diff.name, diff.to.unwrap_or(newest)), None).await?;
    let name = &diff.name;
    let texts = TextDiff::from_lines(&from.document, &to.document);
    let mut unified = texts.unified_diff();
    let titles = (format!("{name}@{}", from.version), format!("{name}@{}", to.version));
    let text = unified.context_radius(3).header(&titles.0, &titles.1).to_string();
    let difference =
        Difference { name: name.clone(), from: from.version, to: to.version, diff: text };
    app.output.object(&difference, name, || difference.diff.clone())?;
    if difference.diff.is_empty() {
        app.output.talk(&format!("{} and {} are the same", titles.0, titles.1));
    }
    Ok(0)
}

async fn switch(app: &App, (name, version): (&str, u32), change: &Change) -> Outcome {
    let mutation = Some(api::mutation(&change.id(app)));
    let request = pb::ActivateTemplateRequest { mutation, name: name.to_owned(), version };
    let mut api = app.api()?;
    let answer = api
        .write(async |channel| api::templates(channel).activate_template(request.clone()).await)
        .await?;
    let Some(template) = answer.template.map(Template::from) else {
        app.output.talk(&format!("template {name} was changed, and has been deleted since"));
        return Ok(0);
    };
    let active = template.active.unwrap_or_default();
    let text = || format!("template {name}@{active} is active\n");
    app.output.object(&template, &format!("{name}@{active}"), text)?;
    Ok(0)
}

async fn get(
    api: &mut Api,
    (name, version): (&str, u32),
    read: Option<pb::Read>,
) -> Result<pb::GetTemplateResponse, Error> {
    let request = pb::GetTemplateRequest { name: name.to_owned(), version, read };
    api.read(async |channel| api::templates(channel).get_template(request.clone()).await).await
}
