//! Ending every program of the workspace.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    journal::event,
    processes::{self, Process},
};

/// Between two looks at who is left.
const LOOK: Duration = Duration::from_millis(20);
/// For the kernel to end what was killed.
const KILLED: Duration = Duration::from_secs(2);

/// Ends every process of the workspace, and returns when none is left or the kernel cannot end one.
///
/// SIGTERM goes first, to programs alone: they may tidy up while their terminals are still there.
/// What ignores it, such as a shell, and tmux itself get a hang-up when those are done, or shortly
/// before `grace` ends. What is left then is killed.
pub(crate) async fn everything(grace: Duration) {
    let deadline = Instant::now() + grace;
    processes::signal(&programs(), Signal::TERM);
    // What was stopped must run to see it.
    processes::signal(&programs(), Signal::CONT);
    until(deadline - grace / 5, || programs().is_empty()).await;
    for signal in [Signal::TERM, Signal::HUP, Signal::CONT] {
        processes::signal(&processes::of_workspace(), signal);
    }
    if until(deadline, none_left).await {
        return;
    }
    let left = processes::of_workspace();
    event!("{} processes did not end in time and are killed", left.len());
    let deadline = Instant::now() + KILLED;
    while Instant::now() < deadline {
        // Again and again: one that was starting may have been missed.
        processes::signal(&processes::of_workspace(), Signal::KILL);
        if until(Instant::now() + LOOK, none_left).await {
            return;
        }
    }
    event!("{} processes could not be killed", processes::of_workspace().len());
}

fn none_left() -> bool {
    processes::of_workspace().is_empty()
}

/// Processes that SIGTERM ends, tmux aside.
fn programs() -> Vec<Process> {
    let mut all = processes::of_workspace();
    all.retain(|process| process.heeds_term() && !process.is_tmux_server());
    all
}

async fn until(deadline: Instant, condition: impl Fn() -> bool) -> bool {
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK).await;
    }
}
