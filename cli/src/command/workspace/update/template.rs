//! `warren workspace update --template`: another version of its template, planned by the coordinator.

use serde::Serialize;
use tokio::time::Instant;
use warren_common::TemplateName;
use warren_proto::pb::admin::v1::{self as pb, update_workspace_request as request};

use super::{Update, finish};
use crate::{
    api::{self, Api},
    app::App,
    command::{cluster::confirm, present},
    error::{Error, Outcome},
    view::workspace::Workspace,
};

/// The version that new workspaces are made from.
const LATEST: &str = "latest";

/// Which version of which template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// The workspace's own where empty.
    name: String,
    /// The active one where zero.
    number: u32,
}

/// Reads `agent@4`, `agent@latest`, `agent`, `4` and `latest`.
///
/// # Errors
/// Says what it takes.
pub(crate) fn version(text: &str) -> Result<Version, String> {
    let takes =
        || format!("{text:?} is no version: give NUMBER, NAME@NUMBER, latest or NAME@latest");
    let number = |text: &str| match text {
        LATEST => Some(0),
        _ => text.parse().ok().filter(|number| *number > 0),
    };
    let named = |text: &str| text.parse::<TemplateName>().map(|name| name.to_string()).ok();
    let (name, number) = match text.split_once('@') {
        Some((name, version)) => (named(name), number(version)),
        None => match number(text) {
            Some(number) => (Some(String::new()), Some(number)),
            // digits alone are a version, and there is no version 0
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => (None, None),
            None => (named(text), Some(0)),
        },
    };
    let (Some(name), Some(number)) = (name, number) else { return Err(takes()) };
    Ok(Version { name, number })
}

/// What an update comes to.
#[derive(Debug, Serialize)]
struct Plan {
    address: String,
    /// Templates with their versions.
    from: String,
    to: String,
    changes: Vec<Change>,
    /// Differs from the new version and stays.
    kept: Vec<Change>,
    /// Parameters that the new version does not have.
    dropped: Vec<String>,
    /// It runs, and starts again.
    restarts: bool,
    /// What is ended by that: sessions with what is in them.
    ends: Vec<String>,
}

/// One difference.
#[derive(Debug, Serialize)]
struct Change {
    what: String,
    from: Option<String>,
    to: Option<String>,
}

impl From<pb::UpdateChange> for Change {
    fn from(change: pb::UpdateChange) -> Self {
        let pb::UpdateChange { what, from, to } = change;
        Self { what, from, to }
    }
}

pub(super) async fn run(app: &App, update: &Update, version: &Version) -> Outcome {
    let id = update.change.id(app);
    let mut api = app.api()?;
    let mut request = pb::UpdateWorkspaceRequest {
        mutation: Some(api::mutation(&id)),
        workspace: update.workspace.clone(),
        update: Some(asked(update, version)),
        when_idle: update.when_idle,
        plan: true,
    };
    let begun = Instant::now();
    let planned = send(&mut api, &request).await?;
    let workspace = Workspace::from(present(planned.workspace)?);
    let plan = planned.plan.map(|plan| Plan::of(&workspace, plan));
    if let Some(plan) = &plan {
        if update.dry_run {
            app.output.object(plan, &plan.address, || plan.text())?;
            return Ok(0);
        }
        app.output.talk(plan.text().trim_end());
        if !update.yes && !plan.changes.is_empty() {
            let instead = format!("warren workspace update {} --yes ...", plan.address);
            confirm::yes("Update it? [y/N] ", &instead)?;
        }
        // what was shown is what changes, whatever is active by now
        let shown = self::version(&plan.to).map_err(Error::usage)?;
        request.update = Some(asked(update, &shown));
    } else if update.dry_run {
        // a plan was asked for, and nothing is left to be planned
        app.output.talk(&format!("{} was updated by this request before", workspace.address));
        return Ok(0);
    }
    request.workspace.clone_from(&workspace.id);
    request.plan = false;
    let answer = send(&mut api, &request).await?;
    let updated = Workspace::from(present(answer.workspace)?);
    let restarts = plan.is_none_or(|plan| plan.restarts);
    finish(app, &mut api, (update, updated, restarts), begun).await
}

async fn send(
    api: &mut Api,
    request: &pb::UpdateWorkspaceRequest,
) -> Result<pb::UpdateWorkspaceResponse, Error> {
    api.write(async |channel| api::workspaces(channel).update_workspace(request.clone()).await)
        .await
}

fn asked(update: &Update, version: &Version) -> request::Update {
    request::Update::Template(pb::TemplateUpdate {
        template: version.name.clone(),
        version: version.number.into(),
        parameters: update.params.iter().cloned().collect(),
    })
}

impl Plan {
    fn of(workspace: &Workspace, plan: pb::UpdatePlan) -> Self {
        let pb::UpdatePlan { from, to, changes, kept, restarts, dropped } = plan;
        Self {
            address: workspace.address.clone(),
            from,
            to,
            changes: changes.into_iter().map(Change::from).collect(),
            kept: kept.into_iter().map(Change::from).collect(),
            dropped,
            restarts,
            ends: super::ends(workspace, restarts),
        }
    }

    fn text(&self) -> String {
        let Self { address, from, to, .. } = self;
        let mut text = match from == to {
            true => format!("{address}: template {to}\n"),
            false => format!("{address}: template {from} to {to}\n"),
        };
        let none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        for change in &self.changes {
            let (from, to) = (none(&change.from), none(&change.to));
            text.push_str(&format!("  {}: {from} to {to}\n", change.what));
        }
        if self.changes.is_empty() {
            text.push_str("  nothing else changes\n");
        }
        if self.changes.iter().any(|change| change.what == "setup script") {
            text.push_str("  the setup script runs at the next start\n");
        }
        for change in &self.kept {
            let (says, has) = (none(&change.from), none(&change.to));
            text.push_str(&format!("  {} stays {has}; the template: {says}\n", change.what));
        }
        if !self.dropped.is_empty() {
            let names = self.dropped.join(", ");
            text.push_str(&format!("  {to} has no parameter {names}\n"));
        }
        text.push_str(match self.restarts {
            true => "  it starts again, with its home\n",
            false => "  nothing is restarted\n",
        });
        if !self.ends.is_empty() {
            text.push_str(&format!("  ended by it: {}\n", self.ends.join("; ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_with_or_without_its_template() {
        let of = |name: &str, number| Ok(Version { name: name.to_owned(), number });
        for (text, wanted) in [
            ("agent@4", of("agent", 4)),
            ("agent@latest", of("agent", 0)),
            ("agent", of("agent", 0)),
            ("4", of("", 4)),
            ("latest", of("", 0)),
        ] {
            assert_eq!(version(text), wanted, "{text}");
        }
        for odd in ["", "0", "agent@", "agent@0", "@4", "agent@four", "a b"] {
            assert!(version(odd).is_err(), "{odd:?} passed");
        }
    }

    #[test]
    fn a_plan_says_what_changes_what_stays_and_what_ends() {
        let change = |what: &str, from: &str, to: &str| Change {
            what: what.to_owned(),
            from: Some(from.to_owned()).filter(|text| !text.is_empty()),
            to: Some(to.to_owned()),
        };
        let plan = Plan {
            address: "acme/web".to_owned(),
            from: "agent@3".to_owned(),
            to: "agent@4".to_owned(),
            changes: vec![change("image", "a:1", "a:2"), change("session tests", "", "make")],
            kept: vec![change("memory", "4 GiB", "8 GiB")],
            dropped: vec!["branch".to_owned()],
            restarts: true,
            ends: vec!["main (claude works)".to_owned()],
        };
        assert_eq!(
            plan.text(),
            "acme/web: template agent@3 to agent@4\n  image: a:1 to a:2\n  session tests: none to \
             make\n  memory stays 8 GiB; the template: 4 GiB\n  agent@4 has no parameter branch\n  \
             it starts again, with its home\n  ended by it: main (claude works)\n"
        );
    }
}
