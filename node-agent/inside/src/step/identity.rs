//! Who commits are by. Set once per value, so that a person's later change inside stays.

use std::{process::Command, time::Duration};

use warren_proto::pb::inside::v1::Setup;

use super::Startup;
use crate::{board::Outcome, files, program};

const LIMIT: Duration = Duration::from_secs(10);

/// Sets `user.name` and `user.email` of git for the workspace's user.
pub(super) async fn run(startup: &Startup, setup: &Setup) -> Outcome {
    let marker = startup.config.state().join("git-identity");
    let value = format!("{}\n{}\n", setup.git_name, setup.git_email);
    startup.board.title("git-identity", &format!("git identity {}", who(setup)));
    if files::holds(&marker, &value) {
        startup.board.title("git-identity", &format!("git identity {} (already set)", who(setup)));
        return Outcome::Skipped;
    }
    for (key, value) in [("user.name", &setup.git_name), ("user.email", &setup.git_email)] {
        if value.is_empty() {
            continue;
        }
        let mut command = Command::new("git");
        command.args(["config", "--global", "--replace-all", key, value]);
        match program::output(&startup.reaper, command, LIMIT).await {
            Ok(done) if done.code == 0 => {}
            Ok(done) => return Outcome::Failed(format!("git says: {}", done.text.trim())),
            Err(error) => return Outcome::Failed(error.to_string()),
        }
    }
    match super::setup::write_marker(&marker, &value) {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(format!("{} cannot be written: {error}", marker.display())),
    }
}

fn who(setup: &Setup) -> String {
    match (setup.git_name.is_empty(), setup.git_email.is_empty()) {
        (false, false) => format!("{} <{}>", setup.git_name, setup.git_email),
        (true, _) => format!("<{}>", setup.git_email),
        (false, true) => setup.git_name.clone(),
    }
}
