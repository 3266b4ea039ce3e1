//! Watches that a container stays what it was made as.
//!
//! Once a minute, and at once where the engine says that somebody changed it, the container is read
//! back: what the engine holds, and what the kernel does. What differs twice in a row stops the
//! container, and the workspace says which field it was. It is not started again by itself: whoever
//! could change it could do so again.

use std::time::{Duration, Instant};

use tracing::{debug, error, warn};
use warren_common::spec::{Run, WorkspaceOrder, WorkspaceSpec};
use warren_daemon::telemetry::Chain;

use super::{
    SWEEP,
    act::caps,
    failure::Failure,
    picture::Standing,
    worker::{Follow, Found, LAST_GRACE, Worker, pid_of},
};
use crate::{
    container::{Caps, Drift, plan},
    engine::ContainerSeen,
    host::{capacity, cgroup::level::Caps as Level},
    volume::Volume,
};

/// Between two readings: with the sweep that wakes every worker no more than a minute.
const EVERY: Duration = Duration::from_secs(5);
const _: () = assert!(SWEEP.as_secs() + EVERY.as_secs() <= 60, "each minute");
/// A difference must still be there after this: a change that was asked for may be under way.
const AGAIN: Duration = Duration::from_secs(2);
/// For so long after the order asked for other caps, nothing is held against the container.
const SETTLING: Duration = Duration::from_secs(30);

/// What is known of the container that is guarded.
#[derive(Default)]
pub(super) struct Guard {
    /// When which container was as planned, and whether it ran.
    read: Option<(String, bool, Instant)>,
    /// The container that differed when it was last read, and when it is read again.
    suspect: Option<(String, Instant)>,
    /// The container that differed twice, and how.
    drifted: Option<(String, Failure)>,
    /// Where the home is.
    volume: Option<Volume>,
    /// What the order asks, and since when; none before the first one.
    asked: Option<(WorkspaceSpec, Option<Instant>)>,
}

impl Guard {
    /// Whether the order asked for something else a moment ago.
    fn settles(&mut self, spec: &WorkspaceSpec) -> bool {
        let before = self.asked.as_ref().map(|(before, _)| before);
        if before != Some(spec) {
            let since = before.is_some().then(Instant::now);
            self.asked = Some((spec.clone(), since));
        }
        let since = self.asked.as_ref().and_then(|(_, since)| *since);
        since.is_some_and(|since| since.elapsed() < SETTLING)
    }

    /// When the container is to be looked at again; none where the next sweep is soon enough, as it
    /// is where that moment passed without anybody being able to look.
    pub(super) fn again(&self) -> Option<Instant> {
        let again = self.suspect.as_ref().map(|(_, again)| *again);
        again.filter(|again| *again > Instant::now())
    }

    fn is_due(&self, id: &str, runs: bool) -> bool {
        let read = self.read.as_ref().filter(|(read, ran, _)| read == id && *ran == runs);
        read.is_none_or(|(_, _, at)| runs && at.elapsed() >= EVERY)
    }
}

impl Worker {
    /// Reads the order's container back where it is due; returns what follows where it is not what
    /// it was made as.
    pub(super) async fn guard(
        &mut self,
        order: Option<&WorkspaceOrder>,
        found: &Found,
    ) -> Option<Follow> {
        let order = order.filter(|order| order.run == Run::Running)?;
        // what a cluster that recovers asks may be older than what runs, and a home that is gone is
        // not made anew for a comparison
        if self.shared.parts.ledger.memory().recovering || !found.held.volume {
            return None;
        }
        let container = found.container.as_ref().filter(|seen| {
            (seen.generation, seen.run_serial) == (order.generation, order.run_serial)
        })?;
        let runs = pid_of(container).is_some();
        if self.guard.drifted.as_ref().is_some_and(|(id, _)| *id == container.id) {
            return Some(self.outlaw(container).await);
        }
        let ended = !runs && container.finished.0 != 0;
        if !runs && !ended {
            // one that never ran is read back before its start
            return None;
        }
        self.hold_caps(order, container).await;
        let told = self.shared.was_changed(self.workspace);
        if self.guard.settles(&order.spec) || !(told || self.guard.is_due(&container.id, runs)) {
            return None;
        }
        let drifts = self.compare(order, container).await?;
        if drifts.is_empty() {
            self.guard.suspect = None;
            self.guard.read = Some((container.id.clone(), runs, Instant::now()));
            return None;
        }
        let suspected = self.guard.suspect.as_ref().filter(|(id, _)| *id == container.id);
        match suspected {
            _ if !runs => {}
            None => {
                let found = Drift::list(&drifts);
                warn!(workspace = %self.workspace, drifts = %found, "it differs; looking again");
                self.guard.suspect = Some((container.id.clone(), Instant::now() + AGAIN));
                self.guard.read = None;
                // the turn goes on: it may be about to change what differs, as was asked
                return None;
            }
            Some((_, again)) if Instant::now() < *again => return None,
            Some(_) => {}
        }
        let failure = Failure::drifted(&drifts);
        error!(workspace = %self.workspace, reason = %failure.message, "the container drifted");
        self.guard.drifted = Some((container.id.clone(), failure));
        Some(self.outlaw(container).await)
    }

    /// Compares the container with the order's plan; none where nobody can say now.
    async fn compare(
        &mut self,
        order: &WorkspaceOrder,
        container: &ContainerSeen,
    ) -> Option<Vec<Drift>> {
        if self.guard.volume.is_none() {
            let ensured =
                self.shared.parts.volumes.ensure(self.workspace, order.spec.resources.disk);
            let ensured = ensured.await.inspect_err(
                |failed| debug!(workspace = %self.workspace, error = %Chain(failed), "no home to compare with"),
            );
            self.guard.volume = ensured.ok();
        }
        let ground = self.ground(Some(self.guard.volume.as_ref()?)).await.ok()?;
        let plan = plan(order, &ground);
        // caps that the agent gave it, or may have, are good until those of the order can be set
        let (wanted, cores) = (plan.caps(), capacity::cores().unwrap_or_default());
        let run = self.begun(container);
        let given = run.and_then(|run| run.caps).unwrap_or(wanted);
        let good = [Some(wanted), Some(given), run.and_then(|run| run.next)];
        let met = |caps: Caps| caps.are_met_by(&container.caps, cores);
        let held = if good.into_iter().flatten().any(met) { container.caps } else { given };
        let plan = plan.with_caps(held);
        let checked = self.shared.parts.engine.check(&container.id, &plan).await;
        checked
            .inspect_err(
                |failed| debug!(workspace = %self.workspace, error = %Chain(failed), "not read back"),
            )
            .ok()
    }

    /// Shows that the container drifted, then stops it.
    async fn outlaw(&mut self, container: &ContainerSeen) -> Follow {
        let Some((_, failure)) = &self.guard.drifted else { return Follow::Again };
        let (run, pid) = ((container.generation, container.run_serial), pid_of(container));
        let (state, reason) = (failure.state(), failure.message.as_str());
        self.picture.stand(Standing { run, state, reason, pid });
        if pid.is_none() {
            return Follow::Idle;
        }
        // told first: what is shown of a container that ends must not be that it ended by itself
        match self.shared.parts.engine.stop(&container.id, LAST_GRACE).await {
            Ok(()) => Follow::Again,
            Err(failed) => {
                warn!(workspace = %self.workspace, error = %Chain(&failed), "it cannot be stopped");
                Follow::Failed(None, Some(AGAIN))
            }
        }
    }

    /// Holds the order's caps in the workspace's own cgroup; never less than its container has now,
    /// or the kernel would kill in it.
    async fn hold_caps(&self, order: &WorkspaceOrder, container: &ContainerSeen) {
        let Ok(parent) = self.level().await else { return };
        let (asked, has) = (caps(order), container.caps);
        let swap = has.memory_and_swap.unwrap_or_default().minus(has.memory);
        let held =
            Level { memory: asked.memory.max(has.memory), swap: asked.swap.max(swap), ..asked };
        if let Err(error) = self.shared.parts.levels.hold(&parent, held).await {
            warn!(workspace = %self.workspace, %error, "the workspace's cgroup does not take its caps");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::fixture::order;

    #[test]
    fn a_container_is_read_when_it_is_new_when_it_ended_and_every_minute() {
        let mut guard = Guard::default();
        assert!(guard.is_due("a", true));
        guard.read = Some(("a".to_owned(), true, Instant::now()));
        assert!(!guard.is_due("a", true));
        assert!(guard.is_due("b", true) && guard.is_due("a", false));
        guard.read = Instant::now().checked_sub(EVERY).map(|at| ("a".to_owned(), true, at));
        assert!(guard.is_due("a", true));
        guard.read = Instant::now().checked_sub(EVERY).map(|at| ("a".to_owned(), false, at));
        assert!(!guard.is_due("a", false), "what ended does not change");
    }

    #[test]
    fn an_order_that_asks_for_other_caps_is_given_time() {
        let (mut guard, mut spec) = (Guard::default(), order().spec);
        assert!(!guard.settles(&spec), "the first order has nothing to settle");
        spec.resources.pids += 1;
        assert!(guard.settles(&spec) && guard.settles(&spec));
        let (asked, _) = guard.asked.take().expect("asked");
        guard.asked = Some((asked, Instant::now().checked_sub(SETTLING)));
        assert!(!guard.settles(&spec));
    }
}
