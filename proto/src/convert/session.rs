//! States of agents by their names alone.

use warren_common::agent::StateName;

use super::{InvalidMessage, unspecified};
use crate::pb::admin::v1::AgentStateName;

impl From<StateName> for AgentStateName {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Starting => Self::Starting,
            StateName::Working => Self::Working,
            StateName::Waiting => Self::Waiting,
            StateName::Background => Self::Background,
            StateName::Idle => Self::Idle,
            StateName::Error => Self::Error,
            StateName::Exited => Self::Exited,
            StateName::Unknown => Self::Unknown,
        }
    }
}

impl TryFrom<AgentStateName> for StateName {
    type Error = InvalidMessage;
    fn try_from(name: AgentStateName) -> Result<Self, InvalidMessage> {
        Ok(match name {
            AgentStateName::Unspecified => return Err(unspecified("states")),
            AgentStateName::Starting => Self::Starting,
            AgentStateName::Working => Self::Working,
            AgentStateName::Waiting => Self::Waiting,
            AgentStateName::Background => Self::Background,
            AgentStateName::Idle => Self::Idle,
            AgentStateName::Error => Self::Error,
            AgentStateName::Exited => Self::Exited,
            AgentStateName::Unknown => Self::Unknown,
        })
    }
}
