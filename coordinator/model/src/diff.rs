//! The node's side: from one order and what the node holds, the single next step.
//!
//! Pure, so that the node agent, the simulator and the tests decide alike. The agent takes the step,
//! looks again and asks again; a crash between two steps loses nothing. Three rules stand above all:
//! nothing is started without the permit of this run in this boot, nothing is started twice in one
//! run, and a volume is removed only where the order says `Removed`.

use warren_common::{
    BootId, Generation,
    spec::{Permit, Run, WorkspaceOrder},
    status::RunState,
};

/// What a node has of one workspace: as its engine and its ledger say, not as it remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The home is there.
    pub volume: bool,
    /// The network is there.
    pub network: bool,
    /// The container, where there is one.
    pub container: Option<HeldContainer>,
    /// The newest start in the ledger, which is written before the engine is asked: generation and
    /// run. A run that stands here and has no container has ended.
    pub started: Option<(Generation, u64)>,
}

/// A container as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldContainer {
    /// From its label.
    pub generation: Generation,
    /// From its label.
    pub run_serial: u64,
    /// What the engine says of it.
    pub state: HeldState,
    /// The boot its start was written for in the ledger; none where no start was written.
    pub started_in_boot: Option<BootId>,
}

/// What the engine says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldState {
    /// Made, never started.
    Created,
    /// Running.
    Running {
        /// PID 1 has told that every startup step ended.
        settled: bool,
    },
    /// Not running any more.
    Exited {
        /// Exit code of PID 1 where it is known.
        code: Option<i32>,
        /// Whether the kernel killed for memory in it.
        oom: bool,
    },
}

/// The single next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Everything is as ordered.
    Nothing,
    /// Make the home.
    EnsureVolume,
    /// Make the network.
    EnsureNetwork,
    /// Make the container of this run, without starting it: image, folders, socket and all.
    CreateContainer,
    /// All is made: wait for a permit.
    AwaitPermit,
    /// Write the start into the ledger, then start the container.
    Start,
    /// Stop the container: signal, grace, kill.
    Stop,
    /// Remove the stopped container.
    RemoveContainer,
    /// Remove the network.
    RemoveNetwork,
    /// Remove the home for good.
    RemoveVolume,
    /// The order is older than what is held: touch nothing, say so.
    Refuse,
}

/// The next step and what to report meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// What to do.
    pub action: Action,
    /// What to report as the workspace's state.
    pub report: RunState,
    /// Why, for people.
    pub reason: &'static str,
}

impl Next {
    fn new(action: Action, report: RunState, reason: &'static str) -> Self {
        Self { action, report, reason }
    }
}

/// Decides the next step for one workspace in the running `boot`. Without an order, what runs is
/// stopped and everything is kept: data is never removed unasked.
pub fn diff(order: Option<&WorkspaceOrder>, held: &Held, boot: BootId) -> Next {
    let Some(order) = order else { return unordered(held) };
    if stale(order, held) {
        let report = RunState::Failed { code: "STALE_ORDER".to_owned(), retry: true };
        return Next::new(Action::Refuse, report, "the order is older than what the node holds");
    }
    match order.run {
        Run::Running => running(order, held, boot),
        Run::Stopped => stopped(held),
        Run::Removed => removed(held),
    }
}

/// As [`diff`], while the cluster recovers and may know less than the node: what is not ordered is
/// left as it is, and nothing is removed, not even what the node was told to remove before.
pub fn diff_recovering(order: Option<&WorkspaceOrder>, held: &Held, boot: BootId) -> Next {
    match order {
        Some(order) if order.run != Run::Removed => diff(Some(order), held, boot),
        Some(_) | None => untouched(held),
    }
}

fn untouched(held: &Held) -> Next {
    let why = "left as it is while the cluster recovers";
    let report = match held.container.as_ref().map(|one| one.state) {
        Some(HeldState::Running { settled: true }) => RunState::Running,
        Some(HeldState::Running { settled: false }) => RunState::Starting,
        Some(HeldState::Exited { code, oom }) => RunState::Stopped { exit_code: code, oom },
        Some(HeldState::Created) => ended(),
        None if held.volume => ended(),
        None => return Next::new(Action::Nothing, RunState::Absent, "nothing of it is here"),
    };
    Next::new(Action::Nothing, report, why)
}

/// An order of a generation, or of a run within it, below what was seen here.
fn stale(order: &WorkspaceOrder, held: &Held) -> bool {
    let ordered = (order.generation, order.run_serial);
    let container = held.container.as_ref().map(|one| (one.generation, one.run_serial));
    container.max(held.started).is_some_and(|held| held > ordered)
}

fn unordered(held: &Held) -> Next {
    match held.container.as_ref().map(|one| one.state) {
        Some(HeldState::Running { .. }) => {
            Next::new(Action::Stop, RunState::Stopping, "it is not assigned to this node")
        }
        Some(HeldState::Exited { code, oom }) => {
            let report = RunState::Stopped { exit_code: code, oom };
            Next::new(Action::Nothing, report, "kept, though it is not assigned to this node")
        }
        Some(HeldState::Created) => Next::new(Action::Nothing, ended(), "kept, never started"),
        None if held.volume => Next::new(Action::Nothing, ended(), "its home is kept"),
        None => Next::new(Action::Nothing, RunState::Absent, "nothing of it is here"),
    }
}

fn running(order: &WorkspaceOrder, held: &Held, boot: BootId) -> Next {
    let this_run = (order.generation, order.run_serial);
    let Some(container) = &held.container else {
        if held.started == Some(this_run) {
            return Next::new(Action::Nothing, ended(), "the container of this run is gone");
        }
        return make(held);
    };
    if (container.generation, container.run_serial) != this_run {
        return match container.state {
            HeldState::Running { .. } => {
                Next::new(Action::Stop, RunState::Preparing, "stopping the run before")
            }
            HeldState::Created | HeldState::Exited { .. } => {
                let reason = "removing the container of the run before";
                Next::new(Action::RemoveContainer, RunState::Preparing, reason)
            }
        };
    }
    match container.state {
        HeldState::Created if !held.volume || !held.network => {
            // its mounts and its network are gone from under it
            let reason = "the container lost its home or network";
            Next::new(Action::RemoveContainer, RunState::Preparing, reason)
        }
        HeldState::Created => permitted(order, boot),
        HeldState::Running { .. } if container.started_in_boot != Some(boot) => {
            // somebody else started it: lease rule R7
            let reason = "it runs without a start of ours in this boot";
            Next::new(Action::Stop, RunState::Stopping, reason)
        }
        HeldState::Running { settled: true } => {
            Next::new(Action::Nothing, RunState::Running, "it runs")
        }
        HeldState::Running { settled: false } => {
            Next::new(Action::Nothing, RunState::Starting, "its startup steps go on")
        }
        HeldState::Exited { code, oom } => {
            let report = RunState::Stopped { exit_code: code, oom };
            let reason = if oom { "it was killed for memory" } else { "it ended by itself" };
            Next::new(Action::Nothing, report, reason)
        }
    }
}

fn make(held: &Held) -> Next {
    let report = RunState::Preparing;
    if !held.volume {
        return Next::new(Action::EnsureVolume, report, "making its home");
    }
    if !held.network {
        return Next::new(Action::EnsureNetwork, report, "making its network");
    }
    Next::new(Action::CreateContainer, report, "making its container")
}

fn permitted(order: &WorkspaceOrder, boot: BootId) -> Next {
    let report = RunState::Prepared;
    match order.permit {
        Some(permit) if permit == (Permit { run_serial: order.run_serial, boot }) => {
            Next::new(Action::Start, report, "starting its container")
        }
        Some(_) => Next::new(Action::AwaitPermit, report, "the permit is for another run or boot"),
        None => Next::new(Action::AwaitPermit, report, "ready, waiting for the permit"),
    }
}

fn stopped(held: &Held) -> Next {
    match held.container.as_ref().map(|one| one.state) {
        Some(HeldState::Running { .. }) => {
            Next::new(Action::Stop, RunState::Stopping, "stopping as asked")
        }
        Some(HeldState::Exited { code, oom }) => {
            Next::new(Action::Nothing, RunState::Stopped { exit_code: code, oom }, "stopped")
        }
        Some(HeldState::Created) | None => Next::new(Action::Nothing, ended(), "stopped"),
    }
}

fn removed(held: &Held) -> Next {
    let report = RunState::Stopping;
    match held.container.as_ref().map(|one| one.state) {
        Some(HeldState::Running { .. }) => Next::new(Action::Stop, report, "stopping to remove it"),
        Some(HeldState::Created | HeldState::Exited { .. }) => {
            Next::new(Action::RemoveContainer, report, "removing its container")
        }
        None if held.network => Next::new(Action::RemoveNetwork, report, "removing its network"),
        None if held.volume => Next::new(Action::RemoveVolume, report, "removing its home"),
        None => Next::new(Action::Nothing, RunState::Absent, "nothing of it is left"),
    }
}

fn ended() -> RunState {
    RunState::Stopped { exit_code: None, oom: false }
}
