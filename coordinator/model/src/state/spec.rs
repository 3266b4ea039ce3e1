//! What was asked for, as it is kept: the planner's part stands open, the rest is packed.
//!
//! There is one for each workspace on every coordinator, and most of it is read only when a node is
//! given its orders or a person looks. On disk and in snapshots it is a [`WorkspaceSpec`].

use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use warren_common::spec::{
    Failover, GitIdentity, Labels, PlacementRules, RepoUrl, Resources, SessionSpec, WorkspaceSpec,
};

static USUAL: LazyLock<Rules> = LazyLock::new(Rules::default);

/// A [`WorkspaceSpec`] in a quarter of its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Caps and weights.
    pub resources: Resources,
    /// None where they are those of nearly all.
    rules: Option<Box<Rules>>,
    /// A [`Rest`].
    rest: Box<[u8]>,
}

/// Where it may run, and what happens when its node dies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rules {
    placement: PlacementRules,
    failover: Failover,
}

/// What nobody compares.
#[derive(Serialize, Deserialize)]
struct Rest {
    template: String,
    image: String,
    repo: Option<RepoUrl>,
    branch: Option<String>,
    setup: Option<String>,
    git_identity: Option<GitIdentity>,
    sessions: Vec<SessionSpec>,
    labels: Labels,
}

impl Spec {
    /// Returns all of it.
    pub fn whole(&self) -> WorkspaceSpec {
        let rest: Rest = postcard::from_bytes(&self.rest).expect("it was packed here");
        let Rest { template, image, repo, branch, setup, git_identity, sessions, labels } = rest;
        WorkspaceSpec {
            template,
            image,
            repo,
            branch,
            setup,
            git_identity,
            sessions,
            resources: self.resources.clone(),
            placement: self.placement().clone(),
            failover: self.failover(),
            labels,
        }
    }

    /// Where it may run.
    pub fn placement(&self) -> &PlacementRules {
        &self.rules().placement
    }

    /// What happens when its node dies.
    pub fn failover(&self) -> Failover {
        self.rules().failover
    }

    fn rules(&self) -> &Rules {
        self.rules.as_deref().unwrap_or(&USUAL)
    }

    /// Returns how many bytes it holds beside itself.
    pub fn weight(&self) -> usize {
        self.rest.len() + self.rules.as_ref().map_or(0, |_| size_of::<Rules>())
    }
}

impl From<WorkspaceSpec> for Spec {
    fn from(whole: WorkspaceSpec) -> Self {
        let WorkspaceSpec {
            template,
            image,
            repo,
            branch,
            setup,
            git_identity,
            sessions,
            resources,
            placement,
            failover,
            labels,
        } = whole;
        let rest = Rest { template, image, repo, branch, setup, git_identity, sessions, labels };
        let rest = postcard::to_stdvec(&rest).expect("its types are plain and memory is the bound");
        let rules = Rules { placement, failover };
        let rules = (rules != *USUAL).then(|| Box::new(rules));
        Self { resources, rules, rest: rest.into_boxed_slice() }
    }
}

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.whole().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        WorkspaceSpec::deserialize(deserializer).map(Self::from)
    }
}
