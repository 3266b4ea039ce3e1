//! Waiting between two turns of a workspace's task, and what is shown meanwhile.

use std::time::{Duration, Instant};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};
use warren_common::{Limits, spec::WorkspaceOrder, status::RunState};
use warren_daemon::clock;

use super::worker::{Worker, started};

/// Usage is read this often while a container runs.
const USAGE: Duration = Duration::from_secs(5);
/// For so long after nobody is heard any more it is looked whether that is shown.
const LATE: Duration = Duration::from_secs(5);
/// What a volume takes is read at every so many readings.
const VOLUME_EVERY: u32 = 3;

impl Worker {
    /// Waits until something may have changed; meanwhile shows usage and what PID 1 says.
    pub(super) async fn idle(&mut self) {
        let mut ticks = 0_u32;
        let mut usage = interval(USAGE);
        usage.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let again = self.guard.again();
        loop {
            let unheard = self.unheard();
            tokio::select! {
                () = self.wake.notified() => return,
                () = sleep_until(again.unwrap_or_else(Instant::now).into()), if again.is_some() => {
                    return;
                }
                () = changed(&mut self.view) => if self.heard().await { return },
                () = sleep(unheard.unwrap_or_default()), if unheard.is_some() => {
                    if self.heard().await {
                        return;
                    }
                    self.picture.pass();
                }
                () = changed(&mut self.readings) => self.read(),
                _ = usage.tick(), if self.running.is_some() => {
                    if self.readings.is_none() {
                        self.measure().await;
                    }
                    if ticks.is_multiple_of(VOLUME_EVERY) {
                        self.weigh().await;
                    }
                    ticks = ticks.wrapping_add(1);
                    if (self.held_back.is_some() || self.outdated.is_some()) && ticks > 1 {
                        return;
                    }
                }
            }
        }
    }

    /// Shows what was measured.
    fn read(&mut self) {
        if let Some(readings) = &mut self.readings {
            let reading = readings.borrow_and_update().clone();
            self.picture.measured(&reading);
        }
    }

    /// Returns how long it is until nobody would know any more what the agents inside do; none where
    /// PID 1 was not heard for so long already.
    fn unheard(&self) -> Option<Duration> {
        let heard = self.view.as_ref()?.borrow().heard?;
        let silent = clock::now().since(heard);
        match Limits::AGENT_UNHEARD.checked_sub(silent) {
            // a clock of milliseconds may show the end a little late
            Some(left) => Some(left + Duration::from_millis(1)),
            None => (silent < Limits::AGENT_UNHEARD + LATE).then_some(Duration::from_secs(1)),
        }
    }

    /// Shows what PID 1 said; returns whether the workspace stands elsewhere because of it.
    async fn heard(&mut self) -> bool {
        let Some(view) = self.view.as_mut().map(|view| view.borrow_and_update().clone()) else {
            return false;
        };
        if let Some(status) = &view.status {
            self.shared.parts.gauge.sessions(self.workspace, &status.sessions);
            self.picture.inside(&view);
        }
        self.picture.standing().1 == RunState::Starting && started(&view)
    }

    /// Waits after a failure: for another order than the one that failed, or for a while. What runs
    /// inside is shown meanwhile, which takes neither the engine nor the disk.
    pub(super) async fn pause(&mut self, order: Option<&WorkspaceOrder>, wait: Option<Duration>) {
        let until = wait.map(|wait| Instant::now() + wait);
        loop {
            let unheard = self.unheard();
            let mut view = self.view.take();
            let changed = tokio::select! {
                () = sleep_until(until.unwrap_or_else(Instant::now).into()), if until.is_some() => {
                    false
                }
                () = self.reordered(order) => false,
                () = changed(&mut view) => true,
                () = sleep(unheard.unwrap_or_default()), if unheard.is_some() => true,
            };
            self.view = view;
            if !changed {
                return;
            }
            // of a run that was never begun nothing is said inside
            let runs = matches!(self.picture.standing().1, RunState::Starting | RunState::Running);
            if runs {
                self.heard().await;
            }
            self.picture.pass();
        }
    }

    /// Waits until the order is another than this. Cancel safe.
    pub(super) async fn reordered(&self, order: Option<&WorkspaceOrder>) {
        while self.shared.parts.ledger.order(self.workspace).as_ref() == order {
            self.wake.notified().await;
        }
    }
}

/// Waits for news; for ever where nobody can have any. Cancel safe.
async fn changed<T>(watched: &mut Option<watch::Receiver<T>>) {
    match watched {
        Some(receiver) => {
            if receiver.changed().await.is_err() {
                // the door was closed; the next one is watched when it is opened
                *watched = None;
            }
        }
        None => std::future::pending().await,
    }
}
