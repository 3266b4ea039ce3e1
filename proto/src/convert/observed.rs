//! One workspace as its node sees it. It comes from a node, which passes on what comes from
//! inside: texts are cleaned and lists bounded.

use warren_common::{
    Bytes, Generation, Limits, MilliCpus, Timestamp,
    measure::Pressure,
    status::{CapsHeld, RunState, Usage, VolumeUse, WorkspaceObserved, clean, reason},
};

use super::{InvalidMessage, browser::browsers, convert_all, enumeration, parse, unspecified};
use crate::pb::node::v1 as pb;

impl From<WorkspaceObserved> for pb::WorkspaceObserved {
    fn from(observed: WorkspaceObserved) -> Self {
        let quiet = |state| (state, None, false, String::new(), false);
        let (state, exit_code, oom, failure_code, failure_retry) = match observed.state {
            RunState::Absent => quiet(pb::RunState::Absent),
            RunState::Preparing => quiet(pb::RunState::Preparing),
            RunState::Prepared => quiet(pb::RunState::Prepared),
            RunState::Starting => quiet(pb::RunState::Starting),
            RunState::Running => quiet(pb::RunState::Running),
            RunState::Stopping => quiet(pb::RunState::Stopping),
            RunState::Stopped { exit_code, oom } => {
                (pb::RunState::Stopped, exit_code, oom, String::new(), false)
            }
            RunState::Failed { code, retry } => (pb::RunState::Failed, None, false, code, retry),
        };
        Self {
            workspace_id: observed.workspace.to_string(),
            generation: observed.generation.0,
            run_serial: observed.run_serial,
            state: state.into(),
            exit_code,
            oom,
            failure_code,
            failure_retry,
            reason: observed.reason,
            since_unix_ms: observed.since.0,
            pid: observed.pid,
            steps: observed.steps.into_iter().map(Into::into).collect(),
            sessions: observed.sessions.into_iter().map(Into::into).collect(),
            usage: Some(observed.usage.into()),
            volume: observed.volume.map(Into::into),
            caps: observed.caps.map(Into::into),
            caps_reason: observed.caps_reason,
            kills: observed.kills.into_iter().map(Into::into).collect(),
            services: observed.services.into_iter().map(Into::into).collect(),
            browsers: observed.browsers.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::WorkspaceObserved> for WorkspaceObserved {
    type Error = InvalidMessage;
    fn try_from(observed: pb::WorkspaceObserved) -> Result<Self, InvalidMessage> {
        let state = match enumeration("state", observed.state)? {
            pb::RunState::Unspecified => return Err(unspecified("state")),
            pb::RunState::Absent => RunState::Absent,
            pb::RunState::Preparing => RunState::Preparing,
            pb::RunState::Prepared => RunState::Prepared,
            pb::RunState::Starting => RunState::Starting,
            pb::RunState::Running => RunState::Running,
            pb::RunState::Stopping => RunState::Stopping,
            pb::RunState::Stopped => {
                RunState::Stopped { exit_code: observed.exit_code, oom: observed.oom }
            }
            pb::RunState::Failed => RunState::Failed {
                code: clean(&observed.failure_code, Limits::NAME_BYTES),
                retry: observed.failure_retry,
            },
        };
        Ok(Self {
            workspace: parse("workspace_id", &observed.workspace_id)?,
            generation: Generation(observed.generation),
            run_serial: observed.run_serial,
            state,
            reason: reason(&observed.reason),
            since: Timestamp(observed.since_unix_ms),
            pid: observed.pid,
            steps: convert_all("steps", observed.steps, Limits::STEPS)?,
            sessions: convert_all("sessions", observed.sessions, Limits::SESSIONS)?,
            usage: observed.usage.map(Into::into).unwrap_or_default(),
            volume: observed.volume.map(Into::into),
            caps: observed.caps.map(Into::into),
            caps_reason: reason(&observed.caps_reason),
            kills: convert_all("kills", observed.kills, Limits::KILLS)?,
            services: convert_all("services", observed.services, Limits::SERVICES)?,
            browsers: browsers(observed.browsers),
        })
    }
}

impl From<Usage> for pb::Usage {
    fn from(usage: Usage) -> Self {
        Self {
            memory_bytes: usage.memory.0,
            swap_bytes: usage.swap.0,
            pids: usage.pids,
            cpu_ms: usage.cpu_ms,
            oom_kills: usage.oom_kills,
            held_bytes: usage.held.0,
            working_set_bytes: usage.working_set.0,
            memory_cap_bytes: usage.memory_cap.0,
            milli_cpus: usage.cpu.0,
            received_bytes: usage.received.0,
            sent_bytes: usage.sent.0,
            pressure: Some(usage.pressure)
                .filter(|pressure| *pressure != Pressure::default())
                .map(Into::into),
        }
    }
}

impl From<pb::Usage> for Usage {
    fn from(usage: pb::Usage) -> Self {
        Self {
            memory: Bytes(usage.memory_bytes),
            swap: Bytes(usage.swap_bytes),
            pids: usage.pids,
            cpu_ms: usage.cpu_ms,
            oom_kills: usage.oom_kills,
            held: Bytes(usage.held_bytes),
            working_set: Bytes(usage.working_set_bytes),
            memory_cap: Bytes(usage.memory_cap_bytes),
            cpu: MilliCpus(usage.milli_cpus),
            received: Bytes(usage.received_bytes),
            sent: Bytes(usage.sent_bytes),
            pressure: usage.pressure.map(Into::into).unwrap_or_default(),
        }
    }
}

impl From<CapsHeld> for pb::CapsHeld {
    fn from(caps: CapsHeld) -> Self {
        Self {
            memory_bytes: caps.memory.0,
            swap_bytes: caps.swap.0,
            milli_cpus: caps.cpus.map(|cpus| cpus.0),
            disk_bytes: caps.disk.0,
        }
    }
}

impl From<pb::CapsHeld> for CapsHeld {
    fn from(caps: pb::CapsHeld) -> Self {
        Self {
            memory: Bytes(caps.memory_bytes),
            swap: Bytes(caps.swap_bytes),
            cpus: caps.milli_cpus.map(MilliCpus),
            disk: Bytes(caps.disk_bytes),
        }
    }
}

impl From<VolumeUse> for pb::VolumeUsage {
    fn from(volume: VolumeUse) -> Self {
        Self { used_bytes: volume.used.0, limit_bytes: volume.limit.0 }
    }
}

impl From<pb::VolumeUsage> for VolumeUse {
    fn from(volume: pb::VolumeUsage) -> Self {
        Self { used: Bytes(volume.used_bytes), limit: Bytes(volume.limit_bytes) }
    }
}
