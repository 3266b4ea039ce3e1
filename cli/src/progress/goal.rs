//! What is waited for, and when it is there or out of reach.

use crate::{
    error::{Error, Kind},
    view::{observed::Caps, workspace::Workspace},
};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A node was chosen.
    Placed,
    /// This run or a later one is up, every startup step ended.
    Running {
        /// The run that was asked for.
        run_serial: u64,
    },
    /// It has stopped.
    Stopped,
    /// Its node holds it to these caps.
    Held {
        /// What was asked for.
        caps: Caps,
        /// Of the workspace, with them in it.
        revision: u64,
    },
    /// It is gone.
    Deleted,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Verdict {
    /// There.
    Reached,
    /// On the way.
    Going,
    /// Out of reach.
    Over(Error),
}

impl Goal {
    /// Returns the word for a sentence.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Running { .. } => "running",
            Self::Stopped => "stopped",
            Self::Held { .. } => "held to its new caps",
            Self::Deleted => "deleted",
        }
    }

    /// Judges what was seen last.
    pub(super) fn judge(self, workspace: &Workspace) -> Verdict {
        if self != Self::Deleted && workspace.run == "deleted" {
            return Verdict::Over(gone(workspace));
        }
        match self {
            Self::Placed if workspace.phase == "failed" => Verdict::Over(failed(workspace)),
            Self::Placed if workspace.phase != "queued" && workspace.node.is_some() => {
                Verdict::Reached
            }
            Self::Running { run_serial } => running(workspace, run_serial),
            Self::Stopped if workspace.phase == "stopped" => Verdict::Reached,
            Self::Stopped if workspace.run == "running" => Verdict::Over(
                crossed(workspace, "started")
                    .next(format!("warren workspace show {}", workspace.address)),
            ),
            Self::Stopped if workspace.phase == "failed" => Verdict::Over(failed(workspace)),
            Self::Held { caps, revision } => held(workspace, (caps, revision)),
            Self::Placed | Self::Stopped | Self::Deleted => Verdict::Going,
        }
    }
}

fn running(workspace: &Workspace, run_serial: u64) -> Verdict {
    if workspace.phase == "failed" {
        return Verdict::Over(failed(workspace));
    }
    if workspace.run == "stopped" {
        return Verdict::Over(
            crossed(workspace, "stopped")
                .next(format!("warren workspace start {}", workspace.address)),
        );
    }
    let Some(seen) = &workspace.observed else { return Verdict::Going };
    let this_run = workspace.run_serial >= run_serial && seen.run_serial == workspace.run_serial;
    let ended = seen.steps.iter().all(|s| !matches!(s.state, "pending" | "running" | "unknown"));
    let up = workspace.phase == "active" && seen.state == "running" && workspace.observed_live;
    if up && this_run && ended { Verdict::Reached } else { Verdict::Going }
}

fn held(workspace: &Workspace, (asked, revision): (Caps, u64)) -> Verdict {
    if workspace.revision < revision {
        // a coordinator that has not heard of it yet
        return Verdict::Going;
    }
    if Caps::from(&workspace.spec.resources) != asked {
        return Verdict::Over(
            crossed(workspace, "resized")
                .next(format!("warren workspace show {}", workspace.address)),
        );
    }
    // nothing runs that could be held: its next start is
    let nowhere = workspace.node.is_none() || workspace.phase == "failed";
    let seen = workspace.observed.as_ref().filter(|_| workspace.observed_live);
    let told = seen.and_then(|seen| seen.caps) == Some(asked);
    if nowhere || told { Verdict::Reached } else { Verdict::Going }
}

/// Someone else asked for something else meanwhile.
fn crossed(workspace: &Workspace, done: &str) -> Error {
    let message = format!("{} was {done} meanwhile", workspace.address);
    Error::new(Kind::Conflict, "OVERTAKEN", message).why(workspace.reason.clone())
}

/// It was deleted while we waited for something else.
pub(super) fn gone(workspace: &Workspace) -> Error {
    let message = format!("{} was deleted meanwhile", workspace.address);
    Error::new(Kind::NotFound, "NOT_FOUND", message)
}

fn failed(workspace: &Workspace) -> Error {
    let address = &workspace.address;
    let code = workspace.observed.as_ref().and_then(|seen| seen.failure_code.clone());
    Error::new(
        Kind::Failed,
        code.as_deref().unwrap_or("WORKSPACE_FAILED"),
        format!("{address} cannot run"),
    )
    .why(workspace.reason.clone())
    .next(format!("mend the cause, then warren workspace restart {address}"))
}
