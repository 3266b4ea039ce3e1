//! What progress says: pure, from what was seen of a workspace to lines.

use std::{collections::BTreeSet, time::Duration};

use warren_common::{Timestamp, status::reason};

use crate::{
    render::time::rfc3339_seconds,
    view::{observed::Step, workspace::Workspace},
};

/// Titles are padded to this, so that the seconds stand in one column.
const TITLE: usize = 50;

/// What was said already.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Run that the said steps belong to.
    run_serial: u64,
    steps: BTreeSet<String>,
    placed: bool,
    note: String,
}

impl Progress {
    /// Returns the line of a placement, once.
    pub(super) fn placed(&mut self, summary: &str, took: Duration) -> Option<String> {
        if std::mem::replace(&mut self.placed, true) {
            return None;
        }
        Some(line(&reason(summary), took))
    }

    /// Returns what newly holds a stop or a removal up; the steps of its last start say nothing.
    pub(super) fn ending(&mut self, workspace: &Workspace) -> Vec<String> {
        self.new_note(workspace).into_iter().collect()
    }

    /// Returns what newly keeps its node from holding it to new caps.
    pub(super) fn holding(&mut self, workspace: &Workspace) -> Vec<String> {
        self.say(held_back(workspace)).into_iter().collect()
    }

    /// Returns the line that counts on while the node is to hold it to new caps.
    pub(super) fn live_caps(workspace: &Workspace, took: Duration) -> String {
        let node = workspace.node.as_deref().unwrap_or("its node");
        line(&format!("new caps on {node}"), took)
    }

    /// Returns the lines of a start that are new.
    pub(super) fn update(&mut self, workspace: &Workspace, took: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(note) = self.new_note(workspace) {
            lines.push(note);
        }
        let waiting = workspace.phase == "queued";
        if let Some(node) =
            workspace.node.as_ref().filter(|_| !waiting && workspace.run_serial <= 1)
        {
            lines.extend(self.placed(&format!("placed on {node}"), took));
        }
        let Some(seen) = &workspace.observed else { return lines };
        if seen.run_serial != workspace.run_serial {
            return lines;
        }
        if self.run_serial != seen.run_serial {
            self.run_serial = seen.run_serial;
            self.steps.clear();
        }
        for step in &seen.steps {
            let ended = matches!(step.state, "done" | "failed" | "skipped");
            if ended && self.steps.insert(step.name.clone()) {
                lines.push(step_line(step));
            }
        }
        lines
    }

    /// What holds it up, once per reason.
    fn new_note(&mut self, workspace: &Workspace) -> Option<String> {
        self.say(note(workspace))
    }

    fn say(&mut self, note: Option<String>) -> Option<String> {
        let note = note?;
        if note == self.note {
            return None;
        }
        self.note.clone_from(&note);
        Some(format!("  {note}"))
    }

    /// Returns the line that counts on: the running step, or the phase.
    pub(super) fn live(&self, workspace: &Workspace, took: Duration) -> String {
        let seen = workspace.observed.as_ref();
        let seen = seen.filter(|seen| seen.run_serial == workspace.run_serial);
        let running = seen.and_then(|seen| seen.steps.iter().find(|step| step.state == "running"));
        match running {
            Some(step) => {
                let since = step.started_at.map(|at| warren_daemon::clock::now().since(at.0));
                let shown = Duration::from_millis(step.elapsed_ms);
                // two clocks: what the step itself says is the least
                line(&reason(&step.title), since.unwrap_or(shown).clamp(shown, shown.max(took)))
            }
            None => line(workspace.phase, took),
        }
    }
}

fn note(workspace: &Workspace) -> Option<String> {
    if workspace.phase == "queued" {
        return Some(format!("queued: {}", reason(&workspace.reason)));
    }
    let seen = workspace.observed.as_ref()?;
    let node = workspace.node.as_deref().unwrap_or("its node");
    if let Some(silent) = silent(workspace) {
        return Some(silent);
    }
    if seen.state == "failed" && seen.failure_retry {
        let why = reason(seen.reason.as_deref().unwrap_or("no reason given"));
        let code = seen.failure_code.as_deref().unwrap_or("FAILED");
        return Some(format!("{node}: {code}: {why}; it tries again"));
    }
    let again =
        workspace.phase == "preparing" && seen.state == "stopped" && seen.exit_code.is_some();
    again.then(|| format!("preparing: {}", reason(&workspace.reason)))
}

/// Why its node does not hold it to what was asked for.
pub(super) fn held_back(workspace: &Workspace) -> Option<String> {
    let seen = workspace.observed.as_ref()?;
    let node = workspace.node.as_deref().unwrap_or("its node");
    let over = seen.state == "failed" && !seen.failure_retry;
    let then = if over { "" } else { "; it tries again" };
    let why = || Some(format!("{node}: {}{then}", reason(seen.caps_reason.as_deref()?)));
    silent(workspace).or_else(why)
}

fn silent(workspace: &Workspace) -> Option<String> {
    let node = workspace.node.as_deref().filter(|_| !workspace.observed_live)?;
    let at = workspace.observed_at.map_or(Timestamp(0), |at| at.0);
    Some(format!("{node} is silent since {}", rfc3339_seconds(at)))
}

/// `  title                                                0.1 s`
fn line(title: &str, took: Duration) -> String {
    format!("  {title:<TITLE$} {:>5.1} s", took.as_secs_f64())
}

fn step_line(step: &Step) -> String {
    let line = line(&reason(&step.title), Duration::from_millis(step.elapsed_ms));
    match step.state {
        "failed" => format!("{line}  failed"),
        "skipped" => format!("{line}  skipped"),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_as_the_design_shows_them() {
        let mut progress = Progress::default();
        let summary = "placed on n2 (11.2 GiB free, 0 workspaces of acme)";
        assert_eq!(
            progress.placed(summary, Duration::from_millis(4)).as_deref(),
            Some("  placed on n2 (11.2 GiB free, 0 workspaces of acme)   0.0 s")
        );
        assert_eq!(progress.placed(summary, Duration::ZERO), None);
        assert_eq!(
            line("git clone acme/web (1,204 objects)", Duration::from_millis(2_080)),
            "  git clone acme/web (1,204 objects)                   2.1 s"
        );
    }
}
