//! Another version of a workspace's template: filled in with what the workspace was made with.
//!
//! What becomes of the workspace is the model's to say; here the versions are read and filled, which
//! the model cannot do. A plan is the same without the command.

use std::collections::{BTreeMap, BTreeSet};

use warren_common::spec::WorkspaceSpec;
use warren_model::{
    ClusterState, Command, Outcome,
    command::{TemplateUpdate, Update, UpdateWorkspace},
    plan::update::{SpecChange, UpdatePlan, updated},
    state::{Desired, Recipe, Workspace, update::may_become},
};
use warren_proto::{error::ApiError, pb::admin::v1 as pb};

use super::{
    Api, Moment,
    create::known_secrets,
    errors,
    mutation::Asked,
    resize, resolve,
    template::{self, BASE, InvalidRequest, document},
    update::idle,
};
use crate::config::TemplateDefaults;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Ask {
    /// Which workspace, as its caller names it.
    pub(super) workspace: String,
    pub(super) template: pb::TemplateUpdate,
    /// Only say what would change.
    pub(super) plan: bool,
    /// Refuse where somebody would be ended.
    pub(super) when_idle: bool,
}

/// What the versions come to.
struct Filled {
    update: TemplateUpdate,
    plan: UpdatePlan,
    /// Parameters of before that the new version does not have.
    dropped: Vec<String>,
}

/// What a version comes to with its parameters.
struct Made {
    recipe: Recipe,
    spec: WorkspaceSpec,
    /// Those that it names.
    secrets: BTreeSet<String>,
}

impl Api {
    /// Plans or makes an update, or answers what an earlier request of this id did.
    pub(super) async fn update_template(
        &self,
        asked: &Asked,
        ask: Ask,
    ) -> Result<pb::UpdateWorkspaceResponse, ApiError> {
        let moment = self.read().await?;
        let workspace = resolve::workspace(&moment.state, &ask.workspace)?;
        let answered = moment.state.requests.answered(&asked.principal, asked.request);
        if let Some(Ok(applied)) = answered
            && applied.outcome == Outcome::Workspace(workspace.id)
            && is_made_so(moment.state.recipes.get(&workspace.id).map(AsRef::as_ref), &ask.template)
        {
            // another version may be active by now, of which it would be another request
            return Ok(answer(&moment, workspace, (applied.revision.0, None)));
        }
        let filled = filled(&moment.state, workspace, (&ask.template, &self.parts().template))?;
        let starts_again = filled.plan.restarts && workspace.desired == Desired::Running;
        let after = &filled.plan.spec;
        let TemplateUpdate { from, to, .. } = &filled.update;
        if *after != workspace.spec.whole() || from.as_ref() != Some(to) {
            // a plan promises nothing that would be refused
            may_become(&moment.state, workspace, after)
                .map_err(|refusal| resize::no_room(errors::refusal(refusal)))?;
        }
        if !starts_again {
            resize::may(&moment, workspace, &after.resources)?;
        }
        let plan = Some(shown(workspace, &filled));
        if ask.plan {
            return Ok(answer(&moment, workspace, (moment.state.revision.0, plan)));
        }
        if ask.when_idle && filled.plan.restarts {
            idle(&moment, workspace)?;
        }
        let update = Update::Template(Box::new(filled.update));
        let id = workspace.id;
        let command = Command::UpdateWorkspace(UpdateWorkspace { workspace: id, update });
        let applied = self.mutate(asked, command).await.map_err(resize::no_room)?;
        let moment = self.local();
        let workspace = moment.state.workspaces.get(&id);
        Ok(pb::UpdateWorkspaceResponse {
            workspace: workspace.map(|one| moment.view().workspace(one)),
            revision: applied.revision.0,
            plan,
        })
    }
}

/// Whether a workspace is made from what is asked for: an id that was spent on something else is
/// refused where it is applied.
fn is_made_so(recipe: Option<&Recipe>, asked: &pb::TemplateUpdate) -> bool {
    recipe.is_some_and(|recipe| {
        (asked.template.is_empty() || asked.template == recipe.template.to_string())
            && (asked.version == 0 || asked.version == u64::from(recipe.version))
            && asked
                .parameters
                .iter()
                .all(|(name, value)| recipe.parameters.get(name) == Some(value))
    })
}

fn answer(
    moment: &Moment,
    workspace: &Workspace,
    (revision, plan): (u64, Option<pb::UpdatePlan>),
) -> pb::UpdateWorkspaceResponse {
    let workspace = Some(moment.view().workspace(workspace));
    pb::UpdateWorkspaceResponse { workspace, revision, plan }
}

/// Fills in both versions.
fn filled(
    state: &ClusterState,
    workspace: &Workspace,
    (asked, defaults): (&pb::TemplateUpdate, &TemplateDefaults),
) -> Result<Filled, ApiError> {
    let (present, from) = (workspace.spec.whole(), state.recipes.get(&workspace.id));
    let own = present.template.split('@').next().unwrap_or_default();
    let name = if asked.template.is_empty() { own } else { &asked.template };
    let named = match asked.version {
        0 => name.to_owned(),
        version => format!("{name}@{version}"),
    };
    let Some((_, document)) = document::find(state, &named)? else {
        let why = format!("template {BASE} is built in and has no versions");
        return Err(errors::invalid("template", why)
            .next("name another one: --template NAME@VERSION; warren template list"));
    };
    let has = |name: &String| document.parameters.iter().any(|one| one.name == *name);
    let mut parameters: BTreeMap<String, String> = asked.parameters.clone().into_iter().collect();
    let mut dropped = Vec::new();
    for (name, value) in from.iter().flat_map(|from| &from.parameters) {
        match has(name) {
            true => drop(parameters.entry(name.clone()).or_insert_with(|| value.clone())),
            false => dropped.push(name.clone()),
        }
    }
    let Made { recipe: to, spec: new, secrets } = made(state, (&named, &parameters), defaults)?;
    known_secrets(state, workspace.client, &secrets)?;
    // one that was swept cannot be compared with
    let base = from.and_then(|from| {
        let made = made(state, (&from.reference(), &from.parameters), defaults);
        made.ok().map(|base| base.spec)
    });
    let plan = updated(base.as_ref(), &new, &present);
    let update = TemplateUpdate { from: from.map(|from| from.as_ref().clone()), base, to, new };
    Ok(Filled { update, plan, dropped })
}

/// Makes the spec of a version without anything that a request says beside it.
fn made(
    state: &ClusterState,
    (named, parameters): (&str, &BTreeMap<String, String>),
    defaults: &TemplateDefaults,
) -> Result<Made, InvalidRequest> {
    let chosen = document::choose(state, named, parameters)?;
    let recipe = chosen.as_ref().and_then(|one| document::recipe(&one.reference, parameters));
    let unknown = || InvalidRequest::Template { name: named.to_owned(), known: Vec::new() };
    let recipe = recipe.ok_or_else(unknown)?;
    let secrets = chosen.as_ref().map(|one| one.filled.secrets.clone()).unwrap_or_default();
    let spec = template::expand(template::Request::default(), chosen, defaults)?;
    Ok(Made { recipe, spec, secrets })
}

fn shown(workspace: &Workspace, filled: &Filled) -> pb::UpdatePlan {
    let change = |one: &SpecChange| pb::UpdateChange {
        what: one.what.clone(),
        from: one.from.clone(),
        to: one.to.clone(),
    };
    let UpdatePlan { changes, kept, restarts, .. } = &filled.plan;
    pb::UpdatePlan {
        from: workspace.spec.whole().template,
        to: filled.update.to.reference(),
        changes: changes.iter().map(change).collect(),
        kept: kept.iter().map(change).collect(),
        restarts: *restarts && workspace.desired == Desired::Running,
        dropped: filled.dropped.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_given_again_only_for_what_was_asked() {
        let parameters: BTreeMap<_, _> = [("agent".to_owned(), "codex".to_owned())].into();
        let template = "agent".parse().expect("a name");
        let recipe = Recipe { template, version: 3, parameters };
        let asked = |template: &str, version: u64, agent: &str| pb::TemplateUpdate {
            template: template.to_owned(),
            version,
            parameters: [("agent".to_owned(), agent.to_owned())].into(),
        };
        for same in [asked("", 0, "codex"), asked("agent", 3, "codex")] {
            assert!(is_made_so(Some(&recipe), &same), "{same:?}");
        }
        let others = [asked("plain", 3, "codex"), asked("", 4, "codex"), asked("", 3, "claude")];
        for other in others {
            assert!(!is_made_so(Some(&recipe), &other), "{other:?}");
        }
        assert!(!is_made_so(None, &asked("", 0, "codex")));
    }
}
