//! What was asked for one workspace.

use warren_common::{
    Bytes, MilliCpus,
    spec::{
        Failover, GitIdentity, IsolationTier, PlacementRules, Resources, SessionSpec, WorkspaceSpec,
    },
};

use super::{InvalidMessage, convert, enumeration, parse, required, unspecified};
use crate::pb::node::v1 as pb;

impl From<WorkspaceSpec> for pb::WorkspaceSpec {
    fn from(spec: WorkspaceSpec) -> Self {
        Self {
            template: spec.template,
            image: spec.image,
            repo: spec.repo.map(Into::into),
            branch: spec.branch,
            setup: spec.setup,
            git_identity: spec.git_identity.map(Into::into),
            sessions: spec.sessions.into_iter().map(Into::into).collect(),
            resources: Some(spec.resources.into()),
            placement: Some(spec.placement.into()),
            failover: pb::Failover::from(spec.failover).into(),
            labels: spec.labels.into_iter().collect(),
        }
    }
}

impl TryFrom<pb::WorkspaceSpec> for WorkspaceSpec {
    type Error = InvalidMessage;
    /// Checks form alone; `WorkspaceSpec::validate` checks the bounds.
    fn try_from(spec: pb::WorkspaceSpec) -> Result<Self, InvalidMessage> {
        let session = |(index, session)| convert(&format!("sessions[{index}]"), session);
        Ok(Self {
            template: spec.template,
            image: spec.image,
            repo: spec.repo.map(|repo| parse("repo", &repo)).transpose()?,
            branch: spec.branch,
            setup: spec.setup,
            git_identity: spec.git_identity.map(Into::into),
            sessions: spec
                .sessions
                .into_iter()
                .enumerate()
                .map(session)
                .collect::<Result<_, _>>()?,
            resources: required("resources", spec.resources)?.into(),
            placement: convert("placement", required("placement", spec.placement)?)?,
            failover: enumeration::<pb::Failover>("failover", spec.failover)?.try_into()?,
            labels: spec.labels.into_iter().collect(),
        })
    }
}

impl From<GitIdentity> for pb::GitIdentity {
    fn from(identity: GitIdentity) -> Self {
        Self { name: identity.name, email: identity.email }
    }
}

impl From<pb::GitIdentity> for GitIdentity {
    fn from(identity: pb::GitIdentity) -> Self {
        Self { name: identity.name, email: identity.email }
    }
}

impl From<SessionSpec> for pb::SessionSpec {
    fn from(session: SessionSpec) -> Self {
        Self { name: session.name.into(), command: session.command }
    }
}

impl TryFrom<pb::SessionSpec> for SessionSpec {
    type Error = InvalidMessage;
    fn try_from(session: pb::SessionSpec) -> Result<Self, InvalidMessage> {
        Ok(Self { name: parse("name", &session.name)?, command: session.command })
    }
}

impl From<Resources> for pb::Resources {
    fn from(resources: Resources) -> Self {
        Self {
            memory_bytes: resources.memory.0,
            swap_bytes: resources.swap.0,
            reserve_bytes: resources.reserve.0,
            cpu_weight: resources.cpu_weight,
            milli_cpus: resources.cpus.map(|cpus| cpus.0),
            disk_bytes: resources.disk.0,
            pids: resources.pids,
        }
    }
}

impl From<pb::Resources> for Resources {
    fn from(resources: pb::Resources) -> Self {
        Self {
            memory: Bytes(resources.memory_bytes),
            swap: Bytes(resources.swap_bytes),
            reserve: Bytes(resources.reserve_bytes),
            cpu_weight: resources.cpu_weight,
            cpus: resources.milli_cpus.map(MilliCpus),
            disk: Bytes(resources.disk_bytes),
            pids: resources.pids,
        }
    }
}

impl From<PlacementRules> for pb::Placement {
    fn from(rules: PlacementRules) -> Self {
        Self {
            pin_node_id: rules.pin.map(|node| node.to_string()),
            required_labels: rules.required_labels.into_iter().collect(),
            tier: pb::IsolationTier::from(rules.tier).into(),
        }
    }
}

impl TryFrom<pb::Placement> for PlacementRules {
    type Error = InvalidMessage;
    fn try_from(rules: pb::Placement) -> Result<Self, InvalidMessage> {
        Ok(Self {
            pin: rules.pin_node_id.map(|node| parse("pin_node_id", &node)).transpose()?,
            required_labels: rules.required_labels.into_iter().collect(),
            tier: enumeration::<pb::IsolationTier>("tier", rules.tier)?.try_into()?,
        })
    }
}

impl From<IsolationTier> for pb::IsolationTier {
    fn from(tier: IsolationTier) -> Self {
        match tier {
            IsolationTier::Container => Self::Container,
            IsolationTier::UserNamespace => Self::UserNamespace,
            IsolationTier::Gvisor => Self::Gvisor,
            IsolationTier::Dedicated => Self::Dedicated,
        }
    }
}

impl TryFrom<pb::IsolationTier> for IsolationTier {
    type Error = InvalidMessage;
    fn try_from(tier: pb::IsolationTier) -> Result<Self, InvalidMessage> {
        match tier {
            pb::IsolationTier::Unspecified => Err(unspecified("tier")),
            pb::IsolationTier::Container => Ok(Self::Container),
            pb::IsolationTier::UserNamespace => Ok(Self::UserNamespace),
            pb::IsolationTier::Gvisor => Ok(Self::Gvisor),
            pb::IsolationTier::Dedicated => Ok(Self::Dedicated),
        }
    }
}

impl From<Failover> for pb::Failover {
    fn from(failover: Failover) -> Self {
        match failover {
            Failover::Auto => Self::Auto,
            Failover::Manual => Self::Manual,
        }
    }
}

impl TryFrom<pb::Failover> for Failover {
    type Error = InvalidMessage;
    fn try_from(failover: pb::Failover) -> Result<Self, InvalidMessage> {
        match failover {
            pb::Failover::Unspecified => Err(unspecified("failover")),
            pb::Failover::Auto => Ok(Self::Auto),
            pb::Failover::Manual => Ok(Self::Manual),
        }
    }
}
