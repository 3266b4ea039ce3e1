//! Ending every program of the workspace.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{journal::event, processes};

/// Between two looks at who is left.
const LOOK: Duration = Duration::from_millis(20);
/// For the kernel to end what was killed.
const KILLED: Duration = Duration::from_secs(2);

/// Hangs up on and terminates every process of the workspace, kills what is left after `grace`,
/// and returns when none is left or the kernel cannot end one.
pub(crate) async fn everything(grace: Duration) {
    // A shell goes by the hang-up, a service by SIGTERM, a stopped program needs to be woken.
    for signal in [Signal::TERM, Signal::HUP, Signal::CONT] {
        processes::signal(&processes::of_workspace(), signal);
    }
    if gone(grace).await {
        return;
    }
    let left = processes::of_workspace();
    event!("{} processes did not end in time and are killed", left.len());
    let deadline = Instant::now() + KILLED;
    while Instant::now() < deadline {
        // Again and again: one that was starting may have been missed.
        processes::signal(&processes::of_workspace(), Signal::KILL);
        if gone(LOOK).await {
            return;
        }
    }
    event!("{} processes could not be killed", processes::of_workspace().len());
}

async fn gone(within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if processes::of_workspace().is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK).await;
    }
}
