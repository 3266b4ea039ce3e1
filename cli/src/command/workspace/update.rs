//! `warren workspace update`: another image or another version of its template, with the plan shown
//! first.

mod template;

use clap::{ArgGroup, Args};
use serde::Serialize;
use tokio::time::Instant;
use warren_proto::pb::admin::v1::{self as pb, update_workspace_request as request};

use super::{change::Waiting, look};
use crate::{
    api::{self, Api},
    app::App,
    command::{Change, cluster::confirm, present},
    error::{Error, Kind, Outcome},
    progress::{self, Goal, Waiter},
    value,
    view::workspace::Workspace,
};

/// Arguments of `workspace update`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("to").required(true))]
pub(crate) struct Update {
    /// client/workspace, a bare name that fits one, or an id.
    workspace: String,
    /// Make it of this image.
    #[arg(long, value_name = "IMAGE", group = "to")]
    image: Option<String>,
    /// Make it of the image that it had before its last update.
    #[arg(long, group = "to")]
    rollback: bool,
    /// Make it of another version of its template, or of another template: 4, agent@4, or latest for the
    /// active one. What was changed of it since stays where the versions do not differ.
    #[arg(long, value_name = "[NAME@]VERSION", value_parser = template::version, group = "to")]
    template: Option<template::Version>,
    /// A parameter of the template; may be repeated. What is not named is as it was made with. One of
    /// type secret takes the name of a secret.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = value::pair, requires = "template")]
    params: Vec<(String, String)>,
    /// Refuse where an agent in it works, waits or starts.
    #[arg(long)]
    when_idle: bool,
    /// Only say what would happen.
    #[arg(long, visible_alias = "plan")]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    change: Change,
}

/// What an update comes to.
#[derive(Debug, Serialize)]
struct Plan {
    address: String,
    /// The images.
    from: String,
    to: String,
    /// It runs, so it starts again.
    restarts: bool,
    /// What is ended by that: sessions with what is in them.
    ends: Vec<String>,
}

pub(super) async fn run(app: &App, update: &Update) -> Outcome {
    if let Some(version) = &update.template {
        return Box::pin(template::run(app, update, version)).await;
    }
    let id = update.change.id(app);
    let mut api = app.api()?;
    let found = present(look::get(&mut api, &update.workspace).await?.workspace)?;
    let workspace = Workspace::from(found);
    let plan = plan(&workspace, update)?;
    if update.dry_run {
        app.output.object(&plan, &plan.address, || plan.text())?;
        return Ok(0);
    }
    if plan.from != plan.to {
        app.output.talk(plan.text().trim_end());
        if !update.yes && plan.restarts {
            let instead = format!("warren workspace update {} --yes ...", plan.address);
            confirm::yes("Update it? [y/N] ", &instead)?;
        }
    }
    let asked = match &update.image {
        Some(image) => request::Update::Image(image.clone()),
        None => request::Update::ImageBefore(pb::ImageBefore {}),
    };
    let request = pb::UpdateWorkspaceRequest {
        mutation: Some(api::mutation(&id)),
        // what was shown is what changes, whatever has the name by now
        workspace: workspace.id.clone(),
        update: Some(asked),
        when_idle: update.when_idle,
        plan: false,
    };
    let begun = Instant::now();
    let answer = api
        .write(async |channel| api::workspaces(channel).update_workspace(request.clone()).await)
        .await?;
    let workspace = Workspace::from(present(answer.workspace)?);
    finish(app, &mut api, (update, workspace, true), begun).await
}

/// Waits for what was updated where that starts again.
async fn finish(
    app: &App,
    api: &mut Api,
    (update, workspace, restarts): (&Update, Workspace, bool),
    begun: Instant,
) -> Outcome {
    if update.waiting.no_wait || !restarts || workspace.run != "running" {
        app.output.object(&workspace, &workspace.address, || {
            let Workspace { address, spec, phase, .. } = &workspace;
            format!("{address}: template {}, image {}, {phase}\n", spec.template, spec.image)
        })?;
        return Ok(0);
    }
    let goal = Goal::Running { run_serial: workspace.run_serial };
    let done = Waiter::new(app, goal, begun).wait(api, workspace).await?;
    progress::finish(app, done)
}

/// The sessions that a new run ends, with what is in them.
fn ends(workspace: &Workspace, restarts: bool) -> Vec<String> {
    let sessions = workspace.observed.iter().flat_map(|seen| &seen.sessions);
    let ends = sessions.filter(|one| restarts && one.state == "running");
    ends.map(|one| format!("{} ({})", one.name, one.status())).collect()
}

fn plan(workspace: &Workspace, update: &Update) -> Result<Plan, Error> {
    let from = workspace.spec.image.clone();
    let to = update.image.clone().or_else(|| workspace.image_before.clone());
    let to = to.ok_or_else(|| {
        let message = format!("{} had no other image before {from}", workspace.address);
        Error::new(Kind::Conflict, "WRONG_STATE", message)
            .next(format!("warren workspace update {} --image IMAGE", workspace.address))
    })?;
    let restarts = workspace.run == "running" && from != to;
    let ends = ends(workspace, restarts);
    Ok(Plan { address: workspace.address.clone(), ends, from, to, restarts })
}

impl Plan {
    fn text(&self) -> String {
        let Self { address, from, to, .. } = self;
        if from == to {
            return format!("{address} is made of {to} already\n");
        }
        let mut text = format!("{address}: image {from} to {to}\n");
        if self.restarts {
            text.push_str("  it starts again, with its home\n");
        }
        if !self.ends.is_empty() {
            text.push_str(&format!("  ended by it: {}\n", self.ends.join("; ")));
        }
        text
    }
}
