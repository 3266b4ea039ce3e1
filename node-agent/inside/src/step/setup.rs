//! The template's setup script: bash, in the checkout, once per workspace unless it failed.

use std::{fs, io, path::Path, process::Command, time::Duration};

use warren_common::Limits;
use warren_proto::pb::inside::v1::Setup;

use super::{Startup, duration};
use crate::{board::Outcome, clock, files, program::RunError};

const STEP: &str = "setup";

/// Runs the script where it has not run to a good end before, or was changed since.
pub(super) async fn run(startup: &Startup, setup: &Setup) -> Outcome {
    let (state, text) = (startup.config.state(), super::script(setup));
    // The script itself is the mark: it says what ran, and any change to it shows.
    let (script, done) = (state.join("setup.sh"), state.join("setup-done.sh"));
    if files::holds(&done, text) {
        startup.board.title(STEP, "setup script (has run before)");
        return Outcome::Skipped;
    }
    if let Err(error) = write_marker(&script, text) {
        return Outcome::Failed(format!("{} cannot be written: {error}", script.display()));
    }
    let limit = duration(setup.setup_timeout_ms, Limits::SETUP_TIMEOUT);
    let mut command = Command::new("bash");
    command.arg("-l").arg(&script).current_dir(startup.work_folder(setup));
    match startup.watch(STEP, (command, limit), |_| {}).await {
        Ok(0) => match write_marker(&done, text) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(format!(
                "it ran, but {} cannot be written: {error}",
                done.display()
            )),
        },
        Ok(code) => Outcome::Failed(ended(code)),
        Err(RunError::Timeout { limit, .. }) => Outcome::Failed(timed_out(limit)),
        Err(error @ (RunError::Start { .. } | RunError::Read { .. })) => {
            Outcome::Failed(error.to_string())
        }
    }
}

fn ended(code: i32) -> String {
    format!("the setup script ended with code {code}; it runs again at the next start")
}

fn timed_out(limit: Duration) -> String {
    let limit = clock::span(limit);
    format!("the setup script took longer than {limit} and was stopped; see what it waits for")
}

/// Writes a file of the state folder, whole or not at all.
pub(crate) fn write_marker(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    files::write_anew(&fresh, text, 0o644)?;
    fs::rename(&fresh, path)
}
