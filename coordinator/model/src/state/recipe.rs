//! What workspaces were made from: a template's version and the parameters it was given, so that
//! another version can be filled in with them.
//!
//! A parameter of type secret holds the secret's name, as its workspace's request did. Nothing here
//! says what a workspace is: that is its spec, which people may have changed since.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use warren_common::{Limits, TemplateName, WorkspaceId};

use crate::{
    answer::{Refusal, RefusalCode},
    apply::{Change, Context},
    command::MakeWorkspace,
    state::{ClusterState, workspace},
};

/// A template's version with the parameters it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The template.
    pub template: TemplateName,
    /// Its version.
    pub version: u32,
    /// Its parameters as they were given, by name.
    pub parameters: BTreeMap<String, String>,
}

impl Recipe {
    /// Returns `agent@3`, as the workspace's spec names it.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.template, self.version)
    }

    /// Refuses more than is kept of one workspace.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let sizes = self.parameters.iter().map(|(name, value)| name.len() + value.len());
        let (bytes, limit) = (sizes.sum::<usize>(), Limits::PARAMETERS_BYTES);
        if bytes <= limit {
            return Ok(());
        }
        let message = format!("the parameters have {bytes} bytes, the limit is {limit}");
        Err(Refusal::new(RefusalCode::InvalidSpec, message))
    }

    /// The same of the version that a reference names; none where it names no version of it.
    fn at(&self, reference: &str) -> Option<Self> {
        let (name, version) = reference.split_once('@')?;
        let version = version.parse().ok().filter(|_| name == self.template.as_str())?;
        Some(Self { version, ..self.clone() })
    }
}

/// Makes a workspace and remembers from what.
pub(crate) fn make(
    state: &mut ClusterState,
    context: &Context,
    command: &MakeWorkspace,
) -> Result<Change, Refusal> {
    command.recipe.check()?;
    let change = workspace::create(state, context, &command.create)?;
    state.recipes.insert(command.create.workspace, Arc::new(command.recipe.clone()));
    Ok(change)
}

/// Brings what is remembered to what a node was told after the backup: the same parameters in
/// another version, and nothing where it was another template.
pub(crate) fn follow(state: &mut ClusterState, id: WorkspaceId, reference: &str) {
    let Some(known) = state.recipes.get(&id) else { return };
    if known.reference() == reference {
        return;
    }
    match known.at(reference) {
        Some(recipe) => drop(state.recipes.insert(id, Arc::new(recipe))),
        None => drop(state.recipes.remove(&id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        let parameters = [("repo".to_owned(), "https://h/x".to_owned())].into();
        Recipe { template: "agent".parse().expect("a name"), version: 3, parameters }
    }

    #[test]
    fn parameters_are_kept_up_to_the_limit_and_not_one_byte_past_it() {
        let of = |bytes: usize| Recipe {
            parameters: [("a".to_owned(), "x".repeat(bytes - 1))].into(),
            ..recipe()
        };
        assert!(of(Limits::PARAMETERS_BYTES).check().is_ok());
        let refused = of(Limits::PARAMETERS_BYTES + 1).check().expect_err("one too many");
        assert_eq!(refused.code, RefusalCode::InvalidSpec);
    }

    #[test]
    fn another_version_has_the_same_parameters_and_another_template_none() {
        assert_eq!(recipe().at("agent@7"), Some(Recipe { version: 7, ..recipe() }));
        for other in ["plain@7", "agent", "agent@x", "base"] {
            assert_eq!(recipe().at(other), None, "{other}");
        }
    }
}
