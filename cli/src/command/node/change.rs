//! `warren node cordon|uncordon|label|remove|rejoin`.

use clap::Args;
use warren_common::spec::validate_labels;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api,
    app::App,
    command::{Change, cluster::confirm::yes, present, refused},
    error::{Error, Outcome},
    value::{self, LabelChange},
    view::node::Node,
};

/// Arguments of verbs that change one node.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Name or id.
    node: String,
    /// Only where the node has not changed since this revision, as `node show -o json` gives.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    change: Change,
}

/// Arguments of `node label`.
#[derive(Debug, Args)]
pub(crate) struct Label {
    #[command(flatten)]
    target: Target,
    /// What to change: KEY=VALUE sets a label, KEY- takes it away; may be repeated.
    #[arg(required = true, value_name = "KEY=VALUE|KEY-", value_parser = value::label_change)]
    labels: Vec<LabelChange>,
}

/// Arguments of `node remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    target: Target,
    /// A workspace on it whose home is given up with the node; may be repeated.
    #[arg(long, value_name = "CLIENT/WORKSPACE")]
    lost: Vec<String>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

impl Target {
    fn mutation(&self, app: &App) -> Option<pb::Mutation> {
        let mutation = api::mutation(&self.change.id(app));
        Some(pb::Mutation { if_revision: self.if_revision, ..mutation })
    }
}

pub(super) async fn cordon(app: &App, target: &Target) -> Outcome {
    availability(app, target, (pb::NodeAvailability::Cordoned, "takes nothing new")).await
}

pub(super) async fn uncordon(app: &App, target: &Target) -> Outcome {
    availability(app, target, (pb::NodeAvailability::Active, "takes workspaces")).await
}

async fn availability(
    app: &App,
    target: &Target,
    (availability, says): (pb::NodeAvailability, &str),
) -> Outcome {
    let request = pb::SetNodeAvailabilityRequest {
        mutation: target.mutation(app),
        node: target.node.clone(),
        availability: availability.into(),
    };
    let mut api = app.api()?;
    let answer = api
        .write(async |channel| api::nodes(channel).set_node_availability(request.clone()).await)
        .await?;
    let node = Node::from(present(answer.node)?);
    app.output.object(&node, &node.name, || format!("{} {says}\n", node.name))?;
    Ok(0)
}

pub(super) async fn label(app: &App, label: &Label) -> Outcome {
    let (mut set, mut remove_labels) = (Vec::new(), Vec::new());
    for change in &label.labels {
        match change {
            LabelChange::Set(key, value) => set.push((key.clone(), value.clone())),
            LabelChange::Remove(key) => remove_labels.push(key.clone()),
        }
    }
    let set = value::labels("the label", &set).map_err(Error::usage)?;
    validate_labels("labels", &set).map_err(refused)?;
    let request = pb::LabelNodeRequest {
        mutation: label.target.mutation(app),
        node: label.target.node.clone(),
        set_labels: set.into_iter().collect(),
        remove_labels,
    };
    let mut api = app.api()?;
    let answer =
        api.write(async |channel| api::nodes(channel).label_node(request.clone()).await).await?;
    let node = Node::from(present(answer.node)?);
    app.output.object(&node, &node.name, || node.labelled())?;
    Ok(0)
}

pub(super) async fn remove(app: &App, remove: &Remove) -> Outcome {
    let Remove { target, lost, yes: sure } = remove;
    if !sure {
        confirm(target, lost)?;
    }
    let request = pb::RemoveNodeRequest {
        mutation: target.mutation(app),
        node: target.node.clone(),
        lost_workspaces: lost.clone(),
    };
    let mut api = app.api()?;
    let answer =
        api.write(async |channel| api::nodes(channel).remove_node(request.clone()).await).await?;
    let node = Node::from(present(answer.node)?);
    app.output.object(&node, &node.name, || {
        format!(
            "{} is removed and its certificates are refused; what runs there runs on until its \
             machine is cleaned: install-node --uninstall\n",
            node.name
        )
    })?;
    Ok(0)
}

fn confirm(target: &Target, lost: &[String]) -> Result<(), Error> {
    let node = &target.node;
    let homes = match lost.len() {
        0 => String::new(),
        _ => format!(" and give up the homes of {}", lost.join(", ")),
    };
    let question = format!("Take node {node} out for good{homes}? [y/N] ");
    yes(&question, &format!("warren node remove {node} --yes"))
}

pub(super) async fn rejoin(app: &App, target: &Target) -> Outcome {
    let request =
        pb::RejoinNodeRequest { mutation: target.mutation(app), node: target.node.clone() };
    let mut api = app.api()?;
    let answer =
        api.write(async |channel| api::nodes(channel).rejoin_node(request.clone()).await).await?;
    let node = Node::from(present(answer.node)?);
    app.output.object(&node, &node.name, || {
        format!("{}: the next agent that shows its identity is let in\n", node.name)
    })?;
    Ok(0)
}
