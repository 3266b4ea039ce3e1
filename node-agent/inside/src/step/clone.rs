//! The clone, made inside the workspace: whatever the repository does happens behind its walls.
//!
//! It goes into a folder beside the checkout and is renamed at the end, so that a half clone is
//! never taken for a whole one. Git cannot ask anybody anything, speaks http, https and git alone,
//! and is killed with its helpers at the deadline. Submodules and LFS are left to the setup script.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tokio::time::{Instant, sleep};
use warren_common::Limits;
use warren_proto::pb::inside::v1::Setup;

use super::{Startup, below, duration, failure::Failure, progress::Progress};
use crate::{
    board::Outcome,
    clock,
    program::{self, RunError},
};

const STEP: &str = "clone";
/// How long a server that cannot be reached is tried again, inside the clone's own deadline.
const RETRY_FOR: Duration = Duration::from_secs(60);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(15);
/// Removing what a crash left behind.
const REMOVE_LIMIT: Duration = Duration::from_secs(120);
/// Writing the checkout to disk before it counts as cloned.
const SYNC_LIMIT: Duration = Duration::from_secs(30);
/// Settings of this one command: slow servers are given up, other transports are refused.
const SETTINGS: [&str; 7] = [
    "protocol.allow=never",
    "protocol.http.allow=always",
    "protocol.https.allow=always",
    "protocol.git.allow=always",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "advice.detachedHead=false",
];

/// Returns the step's title before anything is known: `git clone acme/web`.
pub(super) fn title(setup: &Setup) -> String {
    format!("git clone {}", short_name(&setup.repo))
}

/// Clones the repository where its folder is not there yet.
pub(super) async fn run(startup: &Startup, setup: &Setup) -> Outcome {
    let Some(target) = below(&startup.config.home, &setup.folder) else {
        return Outcome::Failed(format!("{:?} is not a folder below the home", setup.folder));
    };
    if !["http://", "https://", "git://"].iter().any(|scheme| setup.repo.starts_with(scheme)) {
        return Outcome::Failed("the repository's URL is not http, https or git".to_owned());
    }
    match occupied(&target) {
        Occupied::Checkout => {
            startup.board.title(STEP, &format!("{} (already cloned)", title(setup)));
            return Outcome::Skipped;
        }
        Occupied::Other => {
            let folder = &setup.folder;
            return Outcome::Failed(format!(
                "the folder {folder} is in the way and is not a git checkout; move it away"
            ));
        }
        Occupied::Free => {}
    }
    let attempt = Attempt { startup, setup, fresh: beside(&target), target: &target };
    match attempt.until_deadline().await {
        Ok(()) => Outcome::Done,
        Err(message) => {
            // What is left is removed at the next start too.
            let _ = attempt.remove_fresh().await;
            Outcome::Failed(message)
        }
    }
}

struct Attempt<'a> {
    startup: &'a Startup,
    setup: &'a Setup,
    /// Where git writes.
    fresh: PathBuf,
    /// Where it goes when it is whole.
    target: &'a Path,
}

/// Why one attempt failed.
enum Broken {
    /// Git said why.
    Git(Failure, String),
    /// It took too long; whether the server had answered by then.
    Deadline(bool),
    /// Something on our side.
    Ours(String),
}

impl Attempt<'_> {
    async fn until_deadline(&self) -> Result<(), String> {
        let limit = duration(self.setup.clone_timeout_ms, Limits::CLONE_TIMEOUT);
        let started = Instant::now();
        let mut pause = RETRY_FIRST;
        loop {
            let left = limit.saturating_sub(started.elapsed());
            let broken = match self.once(left).await {
                Ok(()) => return Ok(()),
                Err(broken) => broken,
            };
            let host = host(&self.setup.repo);
            let (failure, output) = match broken {
                Broken::Git(failure, output) => (failure, output),
                Broken::Deadline(answered) => return Err(late(host, limit, answered)),
                Broken::Ours(message) => return Err(message),
            };
            let explained = failure.explain(host, &self.setup.branch, &output);
            let next = started.elapsed() + pause;
            if !failure.transient() || next >= limit || next >= RETRY_FOR {
                return Err(explained);
            }
            let again = format!("{} (trying again: {explained})", title(self.setup));
            self.startup.board.title(STEP, &again);
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MOST);
        }
    }

    async fn once(&self, limit: Duration) -> Result<(), Broken> {
        self.remove_fresh().await.map_err(Broken::Ours)?;
        if let Some(parent) = self.target.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| Broken::Ours(format!("{}: {error}", parent.display())))?;
        }
        let mut progress = Progress::default();
        let mut output = String::new();
        let code = self.startup.watch(STEP, (self.git(), limit), |piece| {
            progress.line(&piece.text);
            if !piece.fleeting && output.len() < Limits::STEP_OUTPUT_BYTES {
                output.push_str(&piece.text);
                output.push('\n');
            }
            self.retitle(progress.running());
        });
        match code.await {
            Ok(0) => {}
            Ok(_) => return Err(Broken::Git(Failure::read(&output), output)),
            Err(RunError::Timeout { .. }) => return Err(Broken::Deadline(progress.answered)),
            Err(error @ (RunError::Start { .. } | RunError::Read { .. })) => {
                return Err(Broken::Ours(error.to_string()));
            }
        }
        self.retitle(progress.done());
        self.keep().await
    }

    /// Makes the whole clone the checkout, durably.
    async fn keep(&self) -> Result<(), Broken> {
        let mut sync = Command::new("sync");
        sync.arg("-f").arg(&self.fresh);
        // A slow disk makes a power cut riskier, not the clone wrong.
        let _ = program::output(&self.startup.reaper, sync, SYNC_LIMIT).await;
        fs::rename(&self.fresh, self.target).map_err(|error| {
            Broken::Ours(format!("the clone cannot be moved to {}: {error}", self.setup.folder))
        })
    }

    fn retitle(&self, detail: Option<String>) {
        let title = title(self.setup);
        let title = detail.map_or(title.clone(), |detail| format!("{title} ({detail})"));
        self.startup.board.title(STEP, &title);
    }

    fn git(&self) -> Command {
        let mut command = Command::new("git");
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        command.args(["clone", "--progress"]);
        if !self.setup.branch.is_empty() {
            command.arg(format!("--branch={}", self.setup.branch));
        }
        command.arg("--").arg(&self.setup.repo).arg(&self.fresh);
        command.current_dir(&self.startup.config.home);
        // Nobody is there to answer; git's words are parsed, so they must be English.
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "/bin/false");
        command.env("SSH_ASKPASS", "/bin/false").env("GCM_INTERACTIVE", "never");
        command.env("LC_ALL", "C.UTF-8").env_remove("LANGUAGE");
        command
    }

    async fn remove_fresh(&self) -> Result<(), String> {
        if fs::symlink_metadata(&self.fresh).is_err() {
            return Ok(());
        }
        let mut command = Command::new("rm");
        command.arg("-rf").arg("--").arg(&self.fresh);
        match program::output(&self.startup.reaper, command, REMOVE_LIMIT).await {
            Ok(done) if done.code == 0 => Ok(()),
            Ok(done) => Err(format!("a half clone cannot be removed: {}", done.text.trim())),
            Err(error) => Err(error.to_string()),
        }
    }
}

enum Occupied {
    Free,
    Checkout,
    Other,
}

fn occupied(target: &Path) -> Occupied {
    if target.join(".git").exists() {
        return Occupied::Checkout;
    }
    match fs::read_dir(target) {
        // An empty folder is replaced by the rename.
        Ok(mut entries) => entries.next().map_or(Occupied::Free, |_| Occupied::Other),
        Err(_) if fs::symlink_metadata(target).is_ok() => Occupied::Other,
        Err(_) => Occupied::Free,
    }
}

/// Where a clone grows: beside its target, on the same filesystem.
fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.warren-clone"))
}

fn late(host: &str, limit: Duration, answered: bool) -> String {
    let limit = clock::span(limit);
    if answered {
        format!("the clone took longer than {limit} and was stopped; allow it more time")
    } else {
        format!("{host} did not answer within {limit}; check the URL and the node's network")
    }
}

fn host(repo: &str) -> &str {
    let rest = repo.split_once("://").map_or(repo, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    &rest[..end]
}

/// The last two parts of the URL's path without `.git`.
fn short_name(repo: &str) -> String {
    let rest = repo.split_once("://").map_or(repo, |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let path = path.trim_end_matches('/').trim_end_matches(".git");
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => host(repo).to_owned(),
        [.., owner, name] => format!("{owner}/{name}"),
        [name] => (*name).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shortened_for_people() {
        assert_eq!(short_name("https://git.example/acme/web.git"), "acme/web");
        assert_eq!(short_name("https://git.example/a/b/acme/web/"), "acme/web");
        assert_eq!(short_name("http://10.0.0.1:8000/web.git"), "web");
        assert_eq!(short_name("http://git.example"), "git.example");
        assert_eq!(host("http://10.0.0.1:8000/web.git"), "10.0.0.1:8000");
    }

    #[test]
    fn only_a_checkout_or_nothing_is_taken_for_what_it_is() {
        let home = tempfile::tempdir().expect("a folder");
        let target = home.path().join("web");
        assert!(matches!(occupied(&target), Occupied::Free));
        fs::create_dir(&target).expect("a folder");
        assert!(matches!(occupied(&target), Occupied::Free));
        fs::write(target.join("notes"), "").expect("a file");
        assert!(matches!(occupied(&target), Occupied::Other));
        fs::create_dir(target.join(".git")).expect("a folder");
        assert!(matches!(occupied(&target), Occupied::Checkout));
        assert_eq!(beside(&target), home.path().join(".web.warren-clone"));
    }
}
