//! A session's own worktree, beside the checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use warren_common::Limits;

use super::{last_line, worktrees};
use crate::{files, journal::event, program, reaper::Reaper};

/// Git's own small files, at most.
const HEAD_BYTES: usize = 4096;
/// What git's lock says while it makes a worktree.
const AT_IT: &str = "initializing";

/// Where a session works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    /// What is checked out there; empty where that is no branch.
    pub(super) branch: String,
    /// Its own worktree; empty without one.
    pub(super) worktree: String,
}

/// What git left of a worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It is whole, somebody else's, or not there.
    Whole,
    /// It is whole, and locked as if git were at it.
    Locked,
    /// It is to be made anew.
    Half,
}

impl Place {
    /// Where a session is that does not run.
    pub(super) const fn nowhere() -> Self {
        Self { folder: PathBuf::new(), branch: String::new(), worktree: String::new() }
    }
}

/// What a session wants.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) reaper: &'a Reaper,
    /// Whose turn it is: git takes one change of a repository at a time.
    pub(super) git: &'a Mutex<()>,
    /// Where those work that have no worktree.
    pub(super) work: &'a Path,
    pub(super) checkout: Option<&'a Path>,
    pub(super) session: &'a str,
    /// Empty for no worktree.
    pub(super) branch: &'a str,
    /// It was begun before: whoever works there may have gone to another branch.
    pub(super) known: bool,
}

impl Wish<'_> {
    /// Returns where the session works; its worktree is made where it is not there.
    ///
    /// # Errors
    /// Says why there is no worktree and what to do.
    pub(super) async fn place(&self) -> Result<Place, String> {
        if self.branch.is_empty() {
            let folder = self.work.to_owned();
            return Ok(Place { branch: branch_of(&folder), folder, worktree: String::new() });
        }
        let Some(checkout) = self.checkout else {
            return Err(format!(
                "there is no checkout to take branch {} from: see the step clone, then restart the \
                 workspace",
                self.branch
            ));
        };
        let path = worktrees(checkout).join(self.session);
        let listed = if self.known { String::new() } else { self.listed(checkout).await? };
        let turn = self.git.lock().await;
        match self.left(&listed, &path) {
            Left::Half => self.remove(checkout, &path).await?,
            Left::Locked => self.unlock(checkout, &path).await,
            Left::Whole => {}
        }
        if !path.join(".git").exists() {
            self.add(checkout, &path).await?;
        }
        drop(turn);
        let branch = branch_of(&path);
        if branch != self.branch && !self.known {
            return Err(format!(
                "its worktree {} is there and holds branch {branch}: make the session with that \
                 branch or another name, or remove the worktree",
                path.display()
            ));
        }
        let worktree = path.to_string_lossy().into_owned();
        Ok(Place { folder: path, branch, worktree })
    }

    async fn add(&self, checkout: &Path, path: &Path) -> Result<(), String> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
        }
        let gone = !path.exists();
        let (branch, path) = (self.branch, path.to_string_lossy().into_owned());
        if gone {
            // what a removed folder left behind would be in the way; that of others is theirs, and may
            // be all that holds their commits. Most often there is nothing.
            let _ = self.git(checkout, &["worktree", "remove", "--force", &path]).await;
        }
        let local = self.has(checkout, &format!("refs/heads/{branch}")).await;
        let remote = format!("refs/remotes/origin/{branch}");
        let start = format!("origin/{branch}");
        if local {
            return self.git(checkout, &["worktree", "add", &path, branch]).await;
        }
        if self.has(checkout, &remote).await {
            let words = ["worktree", "add", "--track", "-b", branch, &path, &start];
            return self.git(checkout, &words).await;
        }
        self.git(checkout, &["worktree", "add", "-b", branch, &path]).await
    }

    /// Returns git's list of worktrees. A call that fails is made again, a few times; one that hangs
    /// may take what is left of the time for all of them.
    async fn listed(&self, checkout: &Path) -> Result<String, String> {
        let deadline = Instant::now() + Limits::WORKTREE_LIST;
        let (mut pause, mut asked) = (Limits::WORKTREE_LIST_PAUSE, 0);
        loop {
            asked += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let list = self.asked(checkout, (&["worktree", "list", "--porcelain"], left)).await;
            let Err(why) = list else { return list };
            if asked >= Limits::WORKTREE_LISTS || Instant::now() + pause >= deadline {
                let checkout = checkout.display();
                return Err(format!(
                    "{why}: mend the checkout {checkout}, then run the session again"
                ));
            }
            event!("session {}: {why}; trying again", self.session);
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// Says whether git began to make this worktree and did not come to its end: it takes a lock away
    /// last that says so, or nothing was ever checked out. One that a session worked in, one with
    /// another lock or with files and no such lock, and one that git does not list, are never taken for
    /// half.
    fn left(&self, listed: &str, path: &Path) -> Left {
        let own = git_folder(path);
        let has_index = own.as_ref().is_some_and(|git| git.join("index").exists());
        if has_index {
            // the index is written last before the lock is taken away
            let lock = own.and_then(|git| text_of(&git.join("locked")));
            return if lock.as_deref() == Some(AT_IT) { Left::Locked } else { Left::Whole };
        }
        let entry = if self.known { None } else { entry_of(listed, path) };
        let Some(entry) = entry else { return Left::Whole };
        match entry.lines().find_map(|line| line.strip_prefix("locked")).map(str::trim) {
            Some(AT_IT) => Left::Half,
            Some(_) => Left::Whole,
            None => {
                let bare = fs::read_dir(path).is_ok_and(|entries| entries.count() == 1);
                if own.is_some() && bare { Left::Half } else { Left::Whole }
            }
        }
    }

    /// Takes git's own lock from a worktree that it had made. One that stays is in nobody's way yet.
    async fn unlock(&self, checkout: &Path, path: &Path) {
        event!("{} was left locked", path.display());
        let unlocked = self.git(checkout, &["worktree", "unlock", &path.to_string_lossy()]).await;
        if let Err(why) = unlocked {
            event!("session {}: {why}", self.session);
        }
    }

    async fn remove(&self, checkout: &Path, path: &Path) -> Result<(), String> {
        event!("{} was left half made and is removed", path.display());
        if !path.join(".git").exists() {
            // git removes what has its file, or what is not there; it was empty then
            let _ = fs::remove_dir(path);
        }
        let path = path.to_string_lossy();
        // twice: once for what is in it, once for the lock
        self.git(checkout, &["worktree", "remove", "--force", "--force", &path]).await
    }

    async fn has(&self, checkout: &Path, reference: &str) -> bool {
        self.git(checkout, &["rev-parse", "--verify", "--quiet", reference]).await.is_ok()
    }

    async fn git(&self, checkout: &Path, words: &[&str]) -> Result<(), String> {
        self.asked(checkout, (words, Limits::WORKTREE_TIMEOUT)).await.map(drop)
    }

    /// Returns what git says within a limit.
    async fn asked(
        &self,
        checkout: &Path,
        (words, limit): (&[&str], Duration),
    ) -> Result<String, String> {
        let mut command = Command::new("git");
        command.arg("-C").arg(checkout).args(words).env("GIT_TERMINAL_PROMPT", "0");
        // what it says is read
        command.env("LC_ALL", "C");
        let done = program::output(self.reaper, command, limit).await;
        match done {
            Ok(done) if done.code == 0 => Ok(done.text),
            Ok(done) => {
                let (verb, why) = (words[..2].join(" "), last_line(&done.text));
                Err(format!("git {verb} refused for branch {}: {why}", self.branch))
            }
            Err(error) => Err(format!("git {}: {error}", words[..2].join(" "))),
        }
    }
}

/// Returns what `git worktree list --porcelain` says of the worktree at `path`.
fn entry_of<'a>(listed: &'a str, path: &Path) -> Option<&'a str> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_it = |entry: &&str| {
        let named = entry.lines().find_map(|line| line.strip_prefix("worktree "));
        named.is_some_and(|named| real(Path::new(named)) == real(path))
    };
    listed.split("\n\n").find(is_it)
}

/// Returns git's own folder of a checkout or of a worktree.
fn git_folder(folder: &Path) -> Option<PathBuf> {
    let dot = folder.join(".git");
    if dot.is_dir() {
        return Some(dot);
    }
    let text = text_of(&dot)?;
    Some(folder.join(text.strip_prefix("gitdir: ")?))
}

fn text_of(path: &Path) -> Option<String> {
    files::read(path, HEAD_BYTES).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Returns the branch that is checked out in a folder; empty where there is none.
pub(super) fn branch_of(folder: &Path) -> String {
    let head = git_folder(folder).and_then(|git| text_of(&git.join("HEAD"))).unwrap_or_default();
    head.strip_prefix("ref: refs/heads/").unwrap_or_default().to_owned()
}
