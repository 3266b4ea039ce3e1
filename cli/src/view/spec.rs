//! What was asked for one workspace, as it is printed.

use serde::Serialize;
use warren_common::spec::{BROWSER_SANDBOX_LABEL, Labels, ON};
use warren_proto::pb::node::v1 as pb;

use super::filled;

/// The spec of a workspace. A setup script is told by its size: it may be long.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Spec {
    pub(crate) template: String,
    pub(crate) image: String,
    pub(crate) repo: Option<String>,
    pub(crate) branch: Option<String>,
    pub(crate) setup_bytes: usize,
    pub(crate) git_name: Option<String>,
    pub(crate) git_email: Option<String>,
    pub(crate) sessions: Vec<SessionSpec>,
    pub(crate) resources: Resources,
    pub(crate) pin_node_id: Option<String>,
    pub(crate) required_labels: Labels,
    pub(crate) tier: &'static str,
    pub(crate) failover: &'static str,
    pub(crate) browser_sandbox: bool,
    pub(crate) labels: Labels,
}

/// One session as asked for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SessionSpec {
    pub(crate) name: String,
    /// None for a login shell.
    pub(crate) command: Option<String>,
}

/// Caps and weights.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Resources {
    pub(crate) memory_bytes: u64,
    pub(crate) swap_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) cpu_weight: u32,
    /// None without a cap.
    pub(crate) milli_cpus: Option<u32>,
    pub(crate) disk_bytes: u64,
    pub(crate) pids: u32,
}

impl From<pb::WorkspaceSpec> for Spec {
    fn from(spec: pb::WorkspaceSpec) -> Self {
        let failover = match spec.failover() {
            pb::Failover::Unspecified => "unknown",
            pb::Failover::Auto => "auto",
            pb::Failover::Manual => "manual",
        };
        let placement = spec.placement.unwrap_or_default();
        let identity = spec.git_identity.unwrap_or_default();
        let session = |session: pb::SessionSpec| SessionSpec {
            name: session.name,
            command: session.command.filter(|command| !command.is_empty()),
        };
        Self {
            template: spec.template,
            image: spec.image,
            repo: spec.repo,
            branch: spec.branch,
            setup_bytes: spec.setup.map_or(0, |setup| setup.len()),
            git_name: filled(&identity.name),
            git_email: filled(&identity.email),
            sessions: spec.sessions.into_iter().map(session).collect(),
            resources: spec.resources.map(Resources::from).unwrap_or_default(),
            tier: tier(placement.tier()),
            pin_node_id: placement.pin_node_id,
            required_labels: placement.required_labels.into_iter().collect(),
            failover,
            browser_sandbox: spec
                .labels
                .get(BROWSER_SANDBOX_LABEL)
                .is_some_and(|value| value == ON),
            labels: spec.labels.into_iter().collect(),
        }
    }
}

impl From<pb::Resources> for Resources {
    fn from(resources: pb::Resources) -> Self {
        Self {
            memory_bytes: resources.memory_bytes,
            swap_bytes: resources.swap_bytes,
            reserve_bytes: resources.reserve_bytes,
            cpu_weight: resources.cpu_weight,
            milli_cpus: resources.milli_cpus,
            disk_bytes: resources.disk_bytes,
            pids: resources.pids,
        }
    }
}

const fn tier(tier: pb::IsolationTier) -> &'static str {
    match tier {
        pb::IsolationTier::Unspecified => "unknown",
        pb::IsolationTier::Container => "container",
        pb::IsolationTier::UserNamespace => "userns",
        pb::IsolationTier::Gvisor => "gvisor",
        pb::IsolationTier::Dedicated => "dedicated",
    }
}
