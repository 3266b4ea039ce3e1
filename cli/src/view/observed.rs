//! What a node last saw of a workspace, as it is printed.

use serde::Serialize;
use warren_common::{Bytes, status::VolumeUse};
use warren_proto::pb::node::v1 as pb;

use super::{
    Moment,
    agent::RollUp,
    browser::BrowserSeen,
    filled,
    measure::{Kill, Pressure, share},
    moment,
    service::Service,
    session::SessionSeen,
    spec::Resources,
};

/// One workspace as its node saw it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Observed {
    pub(crate) state: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) since: Option<Moment>,
    pub(crate) run_serial: u64,
    pub(crate) exit_code: Option<i32>,
    pub(crate) oom: bool,
    pub(crate) failure_code: Option<String>,
    pub(crate) failure_retry: bool,
    pub(crate) pid: Option<u32>,
    pub(crate) steps: Vec<Step>,
    pub(crate) sessions: Vec<SessionSeen>,
    pub(crate) browsers: Vec<BrowserSeen>,
    pub(crate) usage: Usage,
    /// None where the node does not meter volumes.
    pub(crate) volume: Option<Volume>,
    /// What it is held to, or will be when it starts; none before the node has looked.
    pub(crate) caps: Option<Caps>,
    /// Why that is not what was asked for.
    pub(crate) caps_reason: Option<String>,
    /// The last processes killed for memory, newest first.
    pub(crate) kills: Vec<Kill>,
    /// What is kept up beside the sessions, in the order in which it is started.
    pub(crate) services: Vec<Service>,
}

/// What home, `/tmp` and snapshots take together.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Volume {
    pub(crate) used_bytes: u64,
    pub(crate) limit_bytes: u64,
    /// Next to nothing can be written any more.
    pub(crate) full: bool,
}

/// The hard caps of one workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Caps {
    pub(crate) memory_bytes: u64,
    pub(crate) swap_bytes: u64,
    /// None without a cap.
    pub(crate) milli_cpus: Option<u32>,
    pub(crate) disk_bytes: u64,
}

/// One startup step.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) state: &'static str,
    pub(crate) message: Option<String>,
    pub(crate) started_at: Option<Moment>,
    pub(crate) elapsed_ms: u64,
    pub(crate) output: Option<String>,
}

/// What it uses.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Usage {
    pub(crate) memory_bytes: u64,
    pub(crate) swap_bytes: u64,
    pub(crate) pids: u32,
    pub(crate) cpu_ms: u64,
    pub(crate) oom_kills: u64,
    /// Of the memory, what could not be given back without swap.
    pub(crate) held_bytes: u64,
    pub(crate) working_set_bytes: u64,
    pub(crate) memory_cap_bytes: u64,
    pub(crate) milli_cpus: u32,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) pressure: Pressure,
}

impl From<pb::WorkspaceObserved> for Observed {
    fn from(seen: pb::WorkspaceObserved) -> Self {
        Self {
            state: run_state(seen.state()),
            reason: filled(&seen.reason),
            since: moment(seen.since_unix_ms),
            run_serial: seen.run_serial,
            exit_code: seen.exit_code,
            oom: seen.oom,
            failure_code: filled(&seen.failure_code),
            failure_retry: seen.failure_retry,
            pid: seen.pid,
            steps: seen.steps.into_iter().map(Step::from).collect(),
            sessions: seen.sessions.into_iter().map(SessionSeen::from).collect(),
            browsers: seen.browsers.into_iter().filter_map(BrowserSeen::read).collect(),
            usage: seen.usage.map(Usage::from).unwrap_or_default(),
            volume: seen.volume.map(Volume::from),
            caps: seen.caps.map(Caps::from),
            caps_reason: filled(&seen.caps_reason),
            kills: seen.kills.into_iter().map(Kill::from).collect(),
            services: seen.services.into_iter().map(Service::from).collect(),
        }
    }
}

impl From<pb::VolumeUsage> for Volume {
    fn from(volume: pb::VolumeUsage) -> Self {
        let pb::VolumeUsage { used_bytes, limit_bytes } = volume;
        Self { used_bytes, limit_bytes, full: VolumeUse::from(volume).is_full() }
    }
}

impl From<pb::CapsHeld> for Caps {
    fn from(caps: pb::CapsHeld) -> Self {
        let pb::CapsHeld { memory_bytes, swap_bytes, milli_cpus, disk_bytes } = caps;
        Self { memory_bytes, swap_bytes, milli_cpus, disk_bytes }
    }
}

impl From<&Resources> for Caps {
    fn from(asked: &Resources) -> Self {
        let Resources { memory_bytes, swap_bytes, milli_cpus, disk_bytes, .. } = *asked;
        Self { memory_bytes, swap_bytes, milli_cpus, disk_bytes }
    }
}

impl Volume {
    /// Returns `19.9 of 20 GiB`, the first unit only where it is another.
    pub(crate) fn text(&self) -> String {
        let (used, limit) =
            (Bytes(self.used_bytes).to_string(), Bytes(self.limit_bytes).to_string());
        let (number, unit) = used.split_once(' ').unwrap_or((&used, ""));
        match limit.ends_with(unit) {
            true => format!("{number} of {limit}"),
            false => format!("{used} of {limit}"),
        }
    }
}

impl From<pb::StartupStep> for Step {
    fn from(step: pb::StartupStep) -> Self {
        Self {
            state: step_state(step.state()),
            name: step.name,
            title: step.title,
            message: filled(&step.message),
            started_at: moment(step.started_unix_ms),
            elapsed_ms: step.elapsed_ms,
            output: filled(&step.output),
        }
    }
}

impl From<pb::Usage> for Usage {
    fn from(usage: pb::Usage) -> Self {
        Self {
            memory_bytes: usage.memory_bytes,
            swap_bytes: usage.swap_bytes,
            pids: usage.pids,
            cpu_ms: usage.cpu_ms,
            oom_kills: usage.oom_kills,
            held_bytes: usage.held_bytes,
            working_set_bytes: usage.working_set_bytes,
            memory_cap_bytes: usage.memory_cap_bytes,
            milli_cpus: usage.milli_cpus,
            received_bytes: usage.received_bytes,
            sent_bytes: usage.sent_bytes,
            pressure: usage.pressure.map(Pressure::from).unwrap_or_default(),
        }
    }
}

impl Observed {
    /// Returns what the agents in it come to.
    pub(crate) fn agents(&self) -> Option<RollUp> {
        RollUp::of(self.sessions.iter().filter_map(|session| session.agent.as_ref()))
    }

    /// Returns the first startup step that failed.
    pub(crate) fn failed_step(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.state == "failed")
    }
}

impl Usage {
    /// Returns what `workspace show` says beside memory and processor: nothing of what is zero.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if self.received_bytes > 0 || self.sent_bytes > 0 {
            let (received, sent) = (Bytes(self.received_bytes), Bytes(self.sent_bytes));
            rows.push(("network", format!("{received} in, {sent} out")));
        }
        if self.pressure.some_60 > 0 {
            let (some, full) = (share(self.pressure.some_60), share(self.pressure.full_60));
            let text = format!("{some} of the last minute waited for memory, {full} all of it");
            rows.push(("pressure", text));
        }
        rows
    }
}

/// Returns the word for a run state.
pub(crate) const fn run_state(state: pb::RunState) -> &'static str {
    match state {
        pb::RunState::Unspecified => "unknown",
        pb::RunState::Absent => "absent",
        pb::RunState::Preparing => "preparing",
        pb::RunState::Prepared => "prepared",
        pb::RunState::Starting => "starting",
        pb::RunState::Running => "running",
        pb::RunState::Stopping => "stopping",
        pb::RunState::Stopped => "stopped",
        pb::RunState::Failed => "failed",
    }
}

const fn step_state(state: pb::StepState) -> &'static str {
    match state {
        pb::StepState::Unspecified => "unknown",
        pb::StepState::Pending => "pending",
        pb::StepState::Running => "running",
        pb::StepState::Done => "done",
        pb::StepState::Skipped => "skipped",
        pb::StepState::Failed => "failed",
    }
}
