//! Workspaces as they are printed.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;
use warren_common::{Bytes, Generation, MilliCpus, Timestamp};
use warren_proto::pb::admin::v1 as pb;

use super::{
    Moment,
    agent::RollUp,
    event::{Event, Object},
    fields, filled, labels,
    measure::cores,
    moment,
    observed::{Observed, Volume},
    spec::Spec,
};
use crate::{
    follow::Watched,
    render::{
        Tabular, table,
        time::{age, rfc3339_seconds},
    },
};

/// One workspace.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Workspace {
    pub(crate) address: String,
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) name: String,
    /// One phrase for people: what the phase and the node's report come to.
    pub(crate) status: String,
    /// What was last asked for: `running`, `stopped` or `deleted`.
    pub(crate) run: &'static str,
    pub(crate) phase: &'static str,
    pub(crate) reason: String,
    pub(crate) phase_since: Option<Moment>,
    pub(crate) phase_deadline: Option<Moment>,
    /// None while it is queued.
    pub(crate) node: Option<String>,
    pub(crate) node_id: Option<String>,
    /// `incarnation.counter`.
    pub(crate) generation: String,
    pub(crate) run_serial: u64,
    pub(crate) failover: String,
    /// What the agents in it come to; none where there are none.
    pub(crate) agents: Option<RollUp>,
    pub(crate) observed: Option<Observed>,
    pub(crate) observed_at: Option<Moment>,
    /// False where the node is silent: `observed` is the past.
    pub(crate) observed_live: bool,
    pub(crate) spec: Spec,
    pub(crate) created_at: Option<Moment>,
    pub(crate) revision: u64,
    /// The request that last asked for its run: what logs and the container's label name.
    pub(crate) request_id: Option<String>,
    /// When the renewal was sent that last confirmed its node's lease.
    pub(crate) lease_confirmed_at: Option<Moment>,
    /// When its node's right to run it ends or ended; none where it keeps running for ever.
    pub(crate) lease_expires_at: Option<Moment>,
    /// When its node was last heard of, where it is silent.
    pub(crate) silent_since: Option<Moment>,
    /// The image that it had before its last update.
    pub(crate) image_before: Option<String>,
}

impl From<pb::Workspace> for Workspace {
    fn from(workspace: pb::Workspace) -> Self {
        let (run, phase) = (desired(workspace.run()), phase(workspace.phase()));
        let observed = workspace.observed.map(Observed::from);
        let mut view = Self {
            address: format!("{}/{}", workspace.client, workspace.name),
            id: workspace.id,
            client: workspace.client,
            name: workspace.name,
            status: String::new(),
            run,
            phase,
            reason: workspace.reason,
            phase_since: moment(workspace.phase_since_unix_ms),
            phase_deadline: workspace.phase_deadline_unix_ms.and_then(moment),
            node: filled(&workspace.node),
            node_id: filled(&workspace.node_id),
            generation: Generation(workspace.generation).to_string(),
            run_serial: workspace.run_serial,
            failover: workspace.failover,
            observed_at: moment(workspace.observed_unix_ms),
            observed_live: workspace.observed_live,
            agents: observed.as_ref().and_then(Observed::agents),
            observed,
            spec: workspace.spec.map(Spec::from).unwrap_or_default(),
            created_at: moment(workspace.created_unix_ms),
            revision: workspace.revision,
            request_id: filled(&workspace.request_id),
            lease_confirmed_at: moment(workspace.lease_confirmed_unix_ms),
            lease_expires_at: moment(workspace.lease_expires_unix_ms),
            silent_since: moment(workspace.silent_since_unix_ms),
            image_before: filled(&workspace.image_before),
        };
        view.status = view.status_text();
        view
    }
}

const fn desired(run: pb::DesiredRun) -> &'static str {
    match run {
        pb::DesiredRun::Unspecified => "unknown",
        pb::DesiredRun::Running => "running",
        pb::DesiredRun::Stopped => "stopped",
        pb::DesiredRun::Deleted => "deleted",
    }
}

/// Returns the word for a phase.
pub(crate) const fn phase(phase: pb::Phase) -> &'static str {
    match phase {
        pb::Phase::Unspecified => "unknown",
        pb::Phase::Queued => "queued",
        pb::Phase::Assigned => "assigned",
        pb::Phase::Preparing => "preparing",
        pb::Phase::StartPermitted => "starting",
        pb::Phase::Active => "active",
        pb::Phase::Stopping => "stopping",
        pb::Phase::Stopped => "stopped",
        pb::Phase::Unconfirmed => "unconfirmed",
        pb::Phase::Fencing => "fencing",
        pb::Phase::Restoring => "restoring",
        pb::Phase::Migrating => "migrating",
        pb::Phase::Failed => "failed",
    }
}

impl Workspace {
    /// A silent node's report is told as the past; an active workspace reads as its node sees it.
    fn status_text(&self) -> String {
        let node = self.node.as_deref().unwrap_or("no node");
        let (Some(observed), Some(at)) = (&self.observed, self.observed_at) else {
            return match self.silent_since {
                _ if self.run == "deleted" => "deleting".to_owned(),
                Some(at) => {
                    format!("{}, {node} silent since {}", self.phase, rfc3339_seconds(at.0))
                }
                None => self.phase.to_owned(),
            };
        };
        if self.node.is_some() && !self.observed_live {
            return format!("last seen {} at {} on {node}", observed.state, rfc3339_seconds(at.0));
        }
        if self.run == "deleted" {
            return "deleting".to_owned();
        }
        let current = observed.run_serial == self.run_serial;
        match (self.phase, observed.failed_step()) {
            ("active", Some(step)) if current => {
                format!("{}, {} failed", observed.state, step.name)
            }
            ("active", None) if current => observed.state.to_owned(),
            _ if observed.state == "failed" => {
                format!("{}: {}", self.phase, observed.failure_code.as_deref().unwrap_or("failed"))
            }
            _ => self.phase.to_owned(),
        }
    }

    /// Returns `oom 2x, last: node (main) 3m ago` where a process was killed for memory; without
    /// `now`, how long ago is left out.
    pub(crate) fn oom_note(&self, now: Option<Timestamp>) -> Option<String> {
        let observed = self.observed.as_ref()?;
        let known = u64::try_from(observed.kills.len()).unwrap_or(u64::MAX);
        let count = observed.usage.oom_kills.max(known);
        if count == 0 {
            return None;
        }
        let last = observed.kills.first().map(|kill| match now {
            Some(now) => format!(", last: {} {} ago", kill.victim(), kill.ago(now)),
            None => format!(", last: {}", kill.victim()),
        });
        Some(format!("oom {count}x{}", last.unwrap_or_default()))
    }

    /// The reason, then who was killed for memory.
    fn table_note(&self, now: Option<Timestamp>) -> String {
        let parts = [Some(self.table_reason()), self.oom_note(now)].into_iter().flatten();
        parts.filter(|one| !one.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// The reason where it says more than the status.
    fn table_reason(&self) -> String {
        let fine = self.phase == "active" && self.observed_live;
        let seen = self.observed.as_ref().filter(|_| self.observed_live);
        let failed = seen.filter(|seen| seen.state == "failed").and_then(|s| s.reason.clone());
        match failed {
            Some(reason) => reason,
            None if fine && self.volume().is_some_and(|volume| volume.full) => {
                format!("home {}", self.home())
            }
            None if fine => String::new(),
            None => self.reason.clone(),
        }
    }

    /// Whether the node still has the right to run it. Nothing is frozen where it has not: there is no
    /// fence yet.
    fn lease_text(&self, now: Timestamp) -> String {
        match (self.lease_confirmed_at, self.lease_expires_at) {
            (_, Some(expires)) if expires.0 <= now => {
                let at = rfc3339_seconds(expires.0);
                format!("expired at {at} (nothing is frozen: no fence yet)")
            }
            (Some(confirmed), Some(expires)) => {
                let (ago, at) = (age(confirmed.0, now), rfc3339_seconds(expires.0));
                format!("confirmed {ago} ago, until {at}")
            }
            (Some(confirmed), None) => {
                format!("confirmed {} ago; it keeps running without one", age(confirmed.0, now))
            }
            (None, _) => "-".to_owned(),
        }
    }

    fn cpu_now(&self) -> String {
        match self.observed.as_ref().filter(|_| self.observed_live) {
            Some(observed) if observed.usage.milli_cpus > 0 => {
                format!(" ({} in use)", cores(observed.usage.milli_cpus))
            }
            _ => String::new(),
        }
    }

    fn memory(&self) -> String {
        let cap = Bytes(self.spec.resources.memory_bytes);
        match self.observed.as_ref().filter(|_| self.observed_live) {
            Some(observed) if observed.usage.memory_bytes > 0 => {
                format!("{} of {cap}", Bytes(observed.usage.memory_bytes))
            }
            _ => cap.to_string(),
        }
    }

    /// Returns what home, `/tmp` and snapshots take, where the node knows it now.
    fn volume(&self) -> Option<&Volume> {
        self.observed.as_ref().filter(|_| self.observed_live)?.volume.as_ref()
    }

    fn home(&self) -> String {
        match self.volume() {
            Some(volume) if volume.full => format!("full, {}", volume.text()),
            Some(volume) => volume.text(),
            None => Bytes(self.spec.resources.disk_bytes).to_string(),
        }
    }

    /// Returns the line that `workspace resize` prints.
    pub(crate) fn resized(&self) -> String {
        format!("{}: {}\n", self.address, self.caps())
    }

    /// Returns its caps in one line.
    pub(crate) fn caps(&self) -> String {
        let resources = &self.spec.resources;
        let swap = match resources.swap_bytes {
            0 => String::new(),
            bytes => format!(", {} swap", Bytes(bytes)),
        };
        let cpus = resources.milli_cpus;
        let cpus = cpus.map_or_else(String::new, |cap| format!(", {} cores", MilliCpus(cap)));
        format!(
            "{} of memory ({} reserved{swap}){cpus}, home {}",
            Bytes(resources.memory_bytes),
            Bytes(resources.reserve_bytes),
            Bytes(resources.disk_bytes),
        )
    }

    /// Returns the page that `workspace show` prints.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        let ago = |at: Option<Moment>| at.map_or_else(String::new, |at| age(at.0, now));
        let resources = &self.spec.resources;
        let cpus = resources.milli_cpus.map_or_else(
            || format!("weight {}", resources.cpu_weight),
            |cap| format!("at most {}, weight {}", MilliCpus(cap), resources.cpu_weight),
        );
        let memory = format!(
            "{} ({} reserved, {})",
            self.memory(),
            Bytes(resources.reserve_bytes),
            match resources.swap_bytes {
                0 => "no swap".to_owned(),
                bytes => format!("{} swap", Bytes(bytes)),
            }
        );
        let mut rows = vec![
            ("workspace", self.address.clone()),
            ("id", self.id.clone()),
            ("status", self.status.clone()),
            ("phase", format!("{} for {}", self.phase, ago(self.phase_since))),
            ("reason", self.reason.clone()),
            ("node", self.node.clone().unwrap_or_else(|| "-".to_owned())),
            ("generation", format!("{}, run {}", self.generation, self.run_serial)),
            ("failover", self.failover.clone()),
            ("lease", self.lease_text(now)),
            ("image", format!("{} (template {})", self.spec.image, self.spec.template)),
        ];
        if let Some(repo) = &self.spec.repo {
            let branch = self.spec.branch.as_ref().map(|branch| format!(" ({branch})"));
            rows.push(("repository", format!("{repo}{}", branch.unwrap_or_default())));
        }
        if self.spec.browser_sandbox {
            rows.push(("browsers", "with their own sandbox".to_owned()));
        }
        rows.extend([
            ("memory", memory),
            ("cpu", format!("{cpus}{}", self.cpu_now())),
            ("home", self.home()),
            ("processes", format!("at most {}", resources.pids)),
            ("labels", labels(&self.spec.labels)),
            ("age", ago(self.created_at)),
        ]);
        if let Some(request) = &self.request_id {
            rows.push(("request", request.clone()));
        }
        if let Some(usage) = self.observed.as_ref().map(|seen| &seen.usage) {
            rows.extend(usage.rows());
        }
        rows.extend(self.oom_note(Some(now)).map(|note| ("killed", note)));
        let mut text = fields(&rows);
        if let Some(observed) = &self.observed {
            text.push_str(&kills_text(observed, now));
            text.push_str(&steps_text(observed));
            text.push_str(&sessions_text(observed, now));
            text.push_str(&super::service::text(&observed.services, now));
        }
        text
    }
}

fn kills_text(observed: &Observed, now: Timestamp) -> String {
    if observed.kills.is_empty() {
        return String::new();
    }
    let row = |kill: &super::measure::Kill| {
        let command = kill.command.clone().or_else(|| kill.cgroup.clone()).unwrap_or_default();
        let session = kill.session.clone().unwrap_or_default();
        vec![kill.ago(now), kill.process.clone(), session, command]
    };
    let rows = observed.kills.iter().map(row).collect();
    format!("\n{}", table::lay_out(&["KILLED", "PROCESS", "SESSION", "COMMAND"], rows, 3, None))
}

fn steps_text(observed: &Observed) -> String {
    if observed.steps.is_empty() {
        return String::new();
    }
    let row = |step: &super::observed::Step| {
        let seconds = format!("{:.1} s", Duration::from_millis(step.elapsed_ms).as_secs_f64());
        let title = match &step.message {
            Some(message) => format!("{}: {message}", step.title),
            None => step.title.clone(),
        };
        vec![step.name.clone(), step.state.to_owned(), seconds, title]
    };
    let rows = observed.steps.iter().map(row).collect();
    format!("\n{}", table::lay_out(&["STEP", "STATE", "TOOK", "TITLE"], rows, 3, None))
}

fn sessions_text(observed: &Observed, now: Timestamp) -> String {
    if observed.sessions.is_empty() {
        return String::new();
    }
    let row = |session: &super::session::SessionSeen| {
        let active = session.active_at.map_or_else(String::new, |at| age(at.0, now));
        vec![
            session.name.clone(),
            session.kind(),
            session.status(),
            session.lasts(now),
            session.viewers.to_string(),
            active,
            session.command.clone().unwrap_or_default(),
        ]
    };
    let rows = observed.sessions.iter().map(row).collect();
    let header = ["SESSION", "AGENT", "STATUS", "FOR", "VIEWERS", "ACTIVE", "COMMAND"];
    format!("\n{}", table::lay_out(&header, rows, 6, None))
}

impl Tabular for Workspace {
    const HEADER: &'static [&'static str] =
        &["WORKSPACE", "STATUS", "AGENTS", "NODE", "MEMORY", "AGE", "REASON"];
    const FLEXIBLE: usize = 6;

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.address.clone(),
            self.status.clone(),
            self.agents.as_ref().map(RollUp::text).unwrap_or_default(),
            self.node.clone().unwrap_or_default(),
            self.memory(),
            self.created_at.map_or_else(String::new, |at| age(at.0, now)),
            self.table_note(Some(now)),
        ]
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

impl Watched for Workspace {
    const KINDS: &'static [pb::EventKind] = &[
        pb::EventKind::WorkspaceCreated,
        pb::EventKind::WorkspacePhaseChanged,
        pb::EventKind::WorkspaceRemoved,
        pb::EventKind::WorkspaceResized,
    ];
    const STANDINGS: bool = true;

    fn standing(&self) -> Vec<String> {
        vec![
            self.status.clone(),
            self.agents.as_ref().map(RollUp::text).unwrap_or_default(),
            self.node.clone().unwrap_or_default(),
            self.table_note(None),
        ]
    }

    fn revision(&self) -> Option<u64> {
        Some(self.revision)
    }

    fn keep(&mut self, known: &Self) {
        if self.generation == known.generation {
            self.observed.clone_from(&known.observed);
            self.agents.clone_from(&known.agents);
            (self.observed_at, self.observed_live) = (known.observed_at, known.observed_live);
            (self.lease_confirmed_at, self.lease_expires_at) =
                (known.lease_confirmed_at, known.lease_expires_at);
            self.silent_since = known.silent_since;
            self.status = self.status_text();
        }
    }

    fn of(event: Event) -> Option<Self> {
        match event.object? {
            Object::Workspace(workspace) => Some(*workspace),
            Object::Client(_) | Object::Node(_) | Object::Session(_) | Object::Browser(_) => None,
        }
    }
}
