//! Another version of a workspace's template: filled in with what the workspace was made with.
//!
//! What becomes of the workspace is the model's to say; here the versions are read and filled, which
//! the model cannot do. A plan is the same without the command.

use std::collections::{BTreeMap, BTreeSet};

use warren_common::spec::WorkspaceSpec;
use warren_model::{
    ClusterState, Command, Outcome,
    command::{TemplateUpdate, Update, UpdateWorkspace},
    plan::update::{SpecChange, UpdatePlan, updated_rules},
    state::{
        Desired, Recipe, Workspace,
        update::{may_be_ruled, may_update},
    },
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
        // what took effect is answered as it was, whatever is there now
        let done = !ask.plan && self.took_effect(asked);
        if !done {
            may(&moment, workspace, &filled)?;
        }
        let (plan, restarts) = (Some(shown(workspace, &filled)), filled.plan.restarts);
        let update = Update::template(filled.update);
        let id = workspace.id;
        let command = Command::UpdateWorkspace(UpdateWorkspace { workspace: id, update });
        let command = self.fits(asked, command)?;
        if ask.plan {
            return Ok(answer(&moment, workspace, (moment.state.revision.0, plan)));
        }
        if ask.when_idle && restarts && !done {
            idle(&moment, workspace)?;
        }
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

/// Refuses what the state would refuse, so that a plan promises nothing else, and a cap below what is
/// in use, unless a new run ends what uses it.
fn may(moment: &Moment, workspace: &Workspace, filled: &Filled) -> Result<(), ApiError> {
    let (UpdatePlan { spec: after, restarts, .. }, update) = (&filled.plan, &filled.update);
    let changes = may_update(&moment.state, workspace, (&update.to, after), may_be_ruled)
        .map_err(|refusal| resize::no_room(errors::refusal(refusal)))?;
    if !changes {
        return Ok(());
    }
    match *restarts && workspace.desired == Desired::Running {
        true => Ok(()),
        false => resize::may(moment, workspace, &after.resources),
    }
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
    let plan = updated_rules(base.as_ref(), &new, &present);
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
    use warren_common::{
        Bytes, ReplicaId,
        spec::Resources,
        status::{Usage, WorkspaceObserved},
    };
    use warren_model::{LiveView, Report};
    use warren_proto::error::reason;

    use super::*;
    use crate::{api::Basis, watch::tests as cluster};

    fn recipe(version: u32) -> Recipe {
        let parameters: BTreeMap<_, _> = [("agent".to_owned(), "codex".to_owned())].into();
        Recipe { template: "agent".parse().expect("a name"), version, parameters }
    }

    /// A cluster whose first workspace holds this much of its 1 GiB.
    fn holding(held: Bytes) -> Moment {
        let world = cluster::World::with_placed();
        let (state, now) = (world.state, world.now);
        let node = &state.nodes[&cluster::node(1)];
        let workspace = &state.workspaces[&cluster::workspace(1)];
        let seen = WorkspaceObserved {
            generation: workspace.generation,
            usage: Usage { held, ..Usage::default() },
            ..cluster::observed(1)
        };
        let mut live = LiveView::new(now);
        let (epoch, workspaces) = (node.epoch, vec![seen]);
        let report = Report { epoch, sequence: 1, received: now, full: true, workspaces };
        assert!(live.report(node.id, report));
        Moment { state, live, now, replica: ReplicaId(1), basis: Basis::Own }
    }

    fn becomes(moment: &Moment, restarts: bool, how: fn(&mut WorkspaceSpec)) -> Filled {
        let mut spec = moment.state.workspaces[&cluster::workspace(1)].spec.whole();
        how(&mut spec);
        let (from, to) = (Some(recipe(1)), recipe(2));
        let update = TemplateUpdate { from, base: None, to, new: spec.clone() };
        let plan = UpdatePlan { spec, changes: Vec::new(), kept: Vec::new(), restarts };
        Filled { update, plan, dropped: Vec::new() }
    }

    #[test]
    fn less_memory_than_is_held_is_refused_unless_a_new_run_ends_what_holds_it() {
        let moment = holding(Bytes::mib(800));
        let workspace = &moment.state.workspaces[&cluster::workspace(1)];
        let asked = |restarts, how: fn(&mut WorkspaceSpec)| {
            may(&moment, workspace, &becomes(&moment, restarts, how))
        };
        let less = |spec: &mut WorkspaceSpec| {
            spec.resources = Resources::with_memory(Bytes::mib(512));
        };
        let refused = asked(false, less).expect_err("the kernel would kill");
        assert_eq!(refused.reason, reason::CAP_BELOW_USE);
        asked(true, less).expect("it ends first");
        asked(false, |_| ()).expect("as it is");
        let more = |spec: &mut WorkspaceSpec| {
            spec.resources = Resources::with_memory(Bytes::gib(2000));
        };
        let refused = asked(true, more).expect_err("no node has it");
        assert_eq!(refused.reason, reason::NO_NODE_FITS);
        let next = refused.next.expect("what helps");
        assert!(next.contains("make room on its node"), "{next}");
    }

    #[test]
    fn an_answer_is_given_again_only_for_what_was_asked() {
        let recipe = recipe(3);
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
