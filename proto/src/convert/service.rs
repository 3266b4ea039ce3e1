//! What PID 1 keeps up beside the sessions. Built without the `grpc` feature too.

use warren_common::{
    Limits, Timestamp,
    status::{ServiceObserved, ServiceState, clean, reason},
};

use super::{InvalidMessage, enumeration, unspecified};
use crate::pb::inside::v1 as pb;

impl From<ServiceState> for pb::ServiceState {
    fn from(state: ServiceState) -> Self {
        match state {
            ServiceState::Absent => Self::Absent,
            ServiceState::Idle => Self::Idle,
            ServiceState::Starting => Self::Starting,
            ServiceState::Running => Self::Running,
            ServiceState::Failed => Self::Failed,
        }
    }
}

impl From<ServiceObserved> for pb::ServiceStatus {
    fn from(service: ServiceObserved) -> Self {
        Self {
            name: service.name,
            state: pb::ServiceState::from(service.state).into(),
            reason: service.reason,
            restarts: service.restarts,
            since_unix_ms: service.since.0,
        }
    }
}

impl TryFrom<pb::ServiceStatus> for ServiceObserved {
    type Error = InvalidMessage;
    fn try_from(service: pb::ServiceStatus) -> Result<Self, InvalidMessage> {
        let state = match enumeration("state", service.state)? {
            pb::ServiceState::Unspecified => return Err(unspecified("state")),
            pb::ServiceState::Absent => ServiceState::Absent,
            pb::ServiceState::Idle => ServiceState::Idle,
            pb::ServiceState::Starting => ServiceState::Starting,
            pb::ServiceState::Running => ServiceState::Running,
            pb::ServiceState::Failed => ServiceState::Failed,
        };
        Ok(Self {
            name: clean(&service.name, Limits::NAME_BYTES),
            state,
            reason: reason(&service.reason),
            restarts: service.restarts,
            since: Timestamp(service.since_unix_ms),
        })
    }
}
