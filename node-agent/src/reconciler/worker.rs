//! The one task of one workspace: look, decide, take one step, look again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, histogram};
use tokio::sync::{Notify, watch};
use tracing::{Instrument as _, Span, debug, info, info_span, warn};
use warren_common::{
    Bytes, Generation, WorkspaceId,
    spec::{Run, WorkspaceOrder},
    status::RunState,
};
use warren_daemon::{backoff::Backoff, telemetry::Chain};
use warren_model::{Action, Held, HeldContainer, HeldState, diff, diff_recovering};
use warren_proto::{convert::tell_sessions, pb::inside::v1::Setup};

use super::{
    Shared,
    failure::Failure,
    guard::Guard,
    inventory,
    picture::{Picture, Standing},
};
use crate::{
    engine::{ContainerSeen, ContainerState},
    gauge::Reading,
    inside::{Door, Expected, InsideView},
    ledger::Started,
};

/// What a stop adds to the grace that PID 1 had already.
pub(super) const LAST_GRACE: Duration = Duration::from_secs(2);
/// Waits after a failed step.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// The longest wait while engine or disk do not answer: what ended meanwhile is to be seen soon.
const BLIND: Duration = Duration::from_secs(5);

/// The task of one workspace.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) workspace: WorkspaceId,
    pub(super) wake: Arc<Notify>,
    pub(super) picture: Picture,
    /// The network was made in this life of the agent.
    pub(super) network_made: bool,
    /// The network was removed in this life of the agent.
    pub(super) network_gone: bool,
    /// The container that was made, or read back against its plan, in this life of the agent.
    pub(super) checked: Option<String>,
    /// The size that the volume was made sure of in this life of the agent.
    pub(super) sized: Option<Bytes>,
    /// The volume's use is known at no cost.
    pub(super) metered: bool,
    /// Why caps or quota are not as ordered, where they cannot be for now.
    pub(super) held_back: Option<String>,
    /// Why secrets are not as ordered, where they cannot be for now.
    pub(super) outdated: Option<String>,
    pub(super) guard: Guard,
    pub(super) view: Option<watch::Receiver<InsideView>>,
    pub(super) readings: Option<watch::Receiver<Reading>>,
    pub(super) running: Option<ContainerSeen>,
    backoff: Backoff,
}

/// Returns what PID 1 of an order's run is told.
pub(super) fn setup(order: &WorkspaceOrder) -> Setup {
    let request_id = order.request.map(|request| request.to_string()).unwrap_or_default();
    let mut setup = Setup { request_id, ..Setup::from(&order.spec) };
    if !order.sessions.is_empty() {
        tell_sessions(&mut setup, &order.sessions);
    }
    setup
}

/// What a look found.
pub(super) struct Found {
    pub(super) held: Held,
    pub(super) container: Option<ContainerSeen>,
}

/// What follows a turn.
pub(super) enum Follow {
    /// Something was done: look again.
    Again,
    /// All is as it should be: wait to be woken.
    Idle,
    /// A step failed: wait for another order, or try again after a while.
    Failed(Option<Box<WorkspaceOrder>>, Option<Duration>),
    /// Nothing of the workspace is left and nobody asks for it.
    Gone,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, workspace: WorkspaceId, wake: Arc<Notify>) -> Self {
        let picture = Picture::new(Arc::clone(&shared.parts.board), workspace);
        let readings = shared.parts.gauge.watch(workspace);
        Self {
            shared,
            workspace,
            wake,
            picture,
            network_made: false,
            network_gone: false,
            checked: None,
            sized: None,
            metered: false,
            held_back: None,
            outdated: None,
            guard: Guard::default(),
            view: None,
            readings,
            running: None,
            backoff: Backoff::seeded(RETRY.0, RETRY.1),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let span = self.span();
            match self.turn().instrument(span).await {
                Follow::Again => {}
                Follow::Idle => self.idle().await,
                Follow::Failed(order, wait) => self.pause(order.as_deref(), wait).await,
                Follow::Gone => return,
            }
        }
    }

    /// Returns the span of a turn: whose it is and which request asked for it stand in every line
    /// below.
    fn span(&self) -> Span {
        let memory = self.shared.parts.ledger.memory();
        let order = memory.orders.get(&self.workspace);
        let request = order.and_then(|order| order.request).map(tracing::field::display);
        let address = order.map(|order| tracing::field::display(&order.address));
        info_span!("turn", address, request)
    }

    async fn turn(&mut self) -> Follow {
        counter!("warren_node_rounds_total").increment(1);
        let memory = self.shared.parts.ledger.memory();
        let order = memory.orders.get(&self.workspace).cloned();
        let found = match self.look(order.as_ref()).await {
            Ok(found) => found,
            Err(failure) => return self.blind(order, &failure),
        };
        // an agent that may not act may know less than whoever does: it judges nothing either
        let held = self.shared.parts.held.borrow().is_some();
        if !held && let Some(follow) = self.guard(order.as_ref(), &found).await {
            return follow;
        }
        let decide = if memory.recovering { diff_recovering } else { diff };
        let next = decide(order.as_ref(), &found.held, self.shared.parts.place.boot);
        debug!(workspace = %self.workspace, action = ?next.action, state = ?next.report, "turn");
        let acts = !held && next.action != Action::Refuse;
        if acts && let Err(failure) = self.end_unlisted(order.as_ref(), &found).await {
            return self.blind(order, &failure);
        }
        let gone = order.is_none() && next.report == RunState::Absent;
        if gone {
            return self.leave().await;
        }
        self.show(order.as_ref(), &found, (next.report, next.reason));
        if held {
            debug!(workspace = %self.workspace, action = ?next.action, "this agent may not act");
            return Follow::Idle;
        }
        match next.action {
            Action::Nothing | Action::AwaitPermit | Action::Refuse => {
                self.backoff.reset();
                self.rest(order.as_ref(), &found).await;
                if next.action == Action::Refuse {
                    warn!(workspace = %self.workspace, reason = next.reason, "order refused");
                    self.falls_short(order.as_ref(), next.reason);
                } else {
                    self.resize(order.as_ref(), &found).await;
                    self.renew_secrets(order.as_ref()).await;
                }
                Follow::Idle
            }
            Action::EnsureVolume
            | Action::EnsureNetwork
            | Action::CreateContainer
            | Action::Start
            | Action::Stop
            | Action::RemoveContainer
            | Action::RemoveNetwork
            | Action::RemoveVolume => {
                let began = Instant::now();
                let outcome = self.act(next.action, order.as_ref(), &found).await;
                histogram!("warren_node_step_seconds", "step" => format!("{:?}", next.action))
                    .record(began.elapsed().as_secs_f64());
                self.judge(next.action, order, outcome)
            }
        }
    }

    fn judge(
        &mut self,
        action: Action,
        order: Option<WorkspaceOrder>,
        outcome: Result<(), Failure>,
    ) -> Follow {
        let result = if outcome.is_ok() { "ok" } else { "failed" };
        counter!("warren_node_steps_total", "step" => format!("{action:?}"), "result" => result)
            .increment(1);
        match outcome {
            Ok(()) => {
                info!(workspace = %self.workspace, step = ?action, "step taken");
                Follow::Again
            }
            Err(failure) => {
                let (code, retry, error) = (failure.code, failure.retry, &failure.message);
                warn!(workspace = %self.workspace, step = ?action, code, retry, %error, "step failed");
                self.picture.fail_steps(&failure.message);
                let (run, _) = self.picture.standing();
                let pid = self.running.as_ref().and_then(pid_of);
                let reason = &failure.message;
                self.picture.stand(Standing { run, state: failure.state(), reason, pid });
                self.falls_short(order.as_ref(), reason);
                Follow::Failed(order.map(Box::new), failure.retry.then(|| self.backoff.next_wait()))
            }
        }
    }

    /// The engine or the disk does not answer. What ran goes on running as far as anybody knows.
    pub(super) fn blind(&mut self, order: Option<WorkspaceOrder>, failure: &Failure) -> Follow {
        let (code, error) = (failure.code, &failure.message);
        if self.backoff.failures() == 0 {
            warn!(workspace = %self.workspace, code, %error, "cannot look; trying again");
        }
        self.falls_short(order.as_ref(), &failure.message);
        let ordered = order.as_ref().map(|order| (order.generation, order.run_serial));
        let (shown, state) = self.picture.standing();
        let ran = matches!(state, RunState::Starting | RunState::Running);
        if ran && ordered.is_none_or(|run| run == shown) {
            self.picture.explain(&failure.message);
        } else {
            let (run, reason) = (ordered.unwrap_or(shown), failure.message.as_str());
            self.picture.stand(Standing { run, state: failure.state(), reason, pid: None });
        }
        Follow::Failed(order.map(Box::new), Some(self.backoff.next_wait().min(BLIND)))
    }

    /// What is done where there is nothing to do.
    async fn rest(&mut self, order: Option<&WorkspaceOrder>, found: &Found) {
        let absent = found.container.is_none();
        let removed = order.is_none_or(|order| order.run == Run::Removed);
        if order.is_none_or(|order| order.run != Run::Running) && self.running.is_none() {
            self.withdraw();
        }
        if absent && removed {
            self.view = None;
            self.shared.parts.doors.close(self.workspace).await;
        }
    }

    async fn look(&mut self, order: Option<&WorkspaceOrder>) -> Result<Found, Failure> {
        let container = inventory::chosen(self.shared.parts.engine.list_of(self.workspace).await?);
        let volume = self.shared.parts.volumes.exists(self.workspace).await?;
        let started = self.shared.parts.ledger.memory().started.get(&self.workspace).copied();
        if let Some(container) = &container {
            self.listen(order, container)?;
        }
        let network = self.network(order, container.as_ref()).await?;
        self.running = container.clone().filter(|seen| pid_of(seen).is_some());
        let runs = self.running.as_ref().and_then(|seen| Some((seen.id.as_str(), pid_of(seen)?)));
        self.shared.parts.gauge.follow(self.workspace, runs);
        let held = match &container {
            Some(seen) => Some(self.hold(seen, started).await),
            None => None,
        };
        let started = started.map(|run| (run.generation, run.run_serial));
        Ok(Found { held: Held { volume, network, container: held, started }, container })
    }

    async fn hold(&self, seen: &ContainerSeen, started: Option<Started>) -> HeldContainer {
        let run = (seen.generation, seen.run_serial);
        let started = started.filter(|begun| (begun.generation, begun.run_serial) == run);
        let state = self.state(seen, started.is_some_and(|begun| begun.settled));
        if state == (HeldState::Running { settled: true }) {
            self.settle(started).await;
        }
        HeldContainer {
            generation: seen.generation,
            run_serial: seen.run_serial,
            state,
            started_in_boot: started.map(|begun| begun.boot),
        }
    }

    /// Whether the network is there. The engine does not list networks: one that was made in this
    /// life is, an earlier one is made sure of, and one to be removed is until it was.
    async fn network(
        &mut self,
        order: Option<&WorkspaceOrder>,
        container: Option<&ContainerSeen>,
    ) -> Result<bool, Failure> {
        match (order, container) {
            (Some(order), Some(seen)) if order.run == Run::Running => {
                if seen.state == ContainerState::Created && !self.network_made {
                    self.make_network(order).await?;
                }
                Ok(true)
            }
            (Some(order), None) if order.run == Run::Running => Ok(self.network_made),
            (Some(_) | None, _) => Ok(!self.network_gone),
        }
    }

    fn state(&self, seen: &ContainerSeen, was_settled: bool) -> HeldState {
        match seen.state {
            ContainerState::Created => HeldState::Created,
            ContainerState::Running { .. } => {
                let told = self.view.as_ref().is_some_and(|view| started(&view.borrow()));
                HeldState::Running { settled: was_settled || told }
            }
            ContainerState::Exited { exit_code, oom } => {
                let oom = oom || self.shared.killed_in(self.workspace, &seen.id);
                HeldState::Exited { code: Some(exit_code), oom }
            }
            // not chosen by the inventory; gone as far as anybody can tell
            ContainerState::Removing => HeldState::Exited { code: None, oom: false },
        }
    }

    /// Opens the socket for a container that is of the order's run, or that runs.
    fn listen(
        &mut self,
        order: Option<&WorkspaceOrder>,
        seen: &ContainerSeen,
    ) -> Result<(), Failure> {
        let Some(order) = order else { return Ok(()) };
        let ours = (order.generation, order.run_serial) == (seen.generation, seen.run_serial);
        if !ours || matches!(seen.state, ContainerState::Exited { .. } | ContainerState::Removing) {
            return Ok(());
        }
        let door = self.door()?;
        door.expect(Expected {
            container: Some(seen.id.clone()),
            run_serial: seen.run_serial,
            setup: setup(order),
        });
        Ok(())
    }

    /// Returns the workspace's door, opening it where it is not.
    pub(super) fn door(&mut self) -> Result<Arc<Door>, Failure> {
        let door = self.shared.parts.doors.open(self.workspace);
        let door = door.map_err(|error| Failure::socket(&error))?;
        if self.view.is_none() {
            self.view = Some(door.view());
        }
        Ok(door)
    }

    fn show(
        &self,
        order: Option<&WorkspaceOrder>,
        found: &Found,
        (state, reason): (RunState, &str),
    ) {
        let held = found.container.as_ref().map(|seen| (seen.generation, seen.run_serial));
        let ordered = order.map(|order| (order.generation, order.run_serial));
        let run: (Generation, u64) = ordered.or(held).unwrap_or_default();
        let pid = found.container.as_ref().and_then(pid_of);
        self.picture.stand(Standing { run, state, reason, pid });
        let view = self.view.as_ref().map(|view| view.borrow().clone()).unwrap_or_default();
        if held == Some(run) {
            if let Some(status) = &view.status {
                self.shared.parts.gauge.sessions(self.workspace, &status.sessions);
            }
            self.picture.inside(&view);
        }
    }

    /// Notes that the start has ended, so that a restarted agent knows before PID 1 speaks again.
    async fn settle(&self, run: Option<Started>) {
        if run.is_none_or(|run| run.settled) {
            return;
        }
        if let Err(failed) = self.shared.parts.ledger.settle(self.workspace).await {
            warn!(workspace = %self.workspace, error = %Chain(&failed), "a start is not noted");
        }
    }

    pub(super) async fn measure(&self) {
        let Some(running) = &self.running else { return };
        match self.shared.parts.engine.usage(running).await {
            Ok(usage) => self.picture.usage(usage),
            Err(failed) => debug!(workspace = %self.workspace, error = %failed, "no usage"),
        }
    }
}

pub(super) fn started(view: &InsideView) -> bool {
    view.status.as_ref().is_some_and(|status| status.started)
}

pub(super) const fn pid_of(seen: &ContainerSeen) -> Option<u32> {
    match seen.state {
        ContainerState::Running { pid } => Some(pid),
        ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Removing => None,
    }
}
