//! Browsers over lives of the workspace: those that run stand in a file of the home, so that the next
//! life frees their profiles and says which are gone. Nobody but who started them starts them again.
//!
//! The file belongs to the workspace and may hold anything: it is bounded and shown, and nothing is
//! removed because of it but what a browser leaves behind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use warren_common::{
    Limits,
    browser::{BrowserId, BrowserStatus},
};

use crate::{files, journal::event};

const NAME: &str = "browsers.json";
/// As many browsers as there may be, with a few pages each.
const BYTES: usize = 256 * 1024;
/// Pages of one browser that are remembered, those opened first first.
const PAGES: usize = 4;
/// The path of a profile, at most.
const PROFILE_BYTES: usize = 1024;
/// Between two writings where only pages have moved on.
const PAUSE: Duration = Duration::from_secs(10);
/// What Chromium makes in a profile for as long as it runs. It starts with none that seems to be in use.
const LOCKS: [&str; 3] = ["SingletonLock", "SingletonSocket", "SingletonCookie"];

/// A browser that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    status: BrowserStatus,
    /// Where its profile may be.
    profiles: Vec<PathBuf>,
}

impl Line {
    pub(super) fn new(status: &BrowserStatus, profiles: &[PathBuf]) -> Self {
        let mut status = status.clone().standing();
        status.pages.truncate(PAGES);
        let fits = |profile: &&PathBuf| profile.as_os_str().len() <= PROFILE_BYTES;
        Self { status, profiles: profiles.iter().filter(fits).cloned().collect() }
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    /// What stands in it, and since when.
    written: (Vec<Line>, Option<Instant>),
}

impl Book {
    /// Opens the book in the folder of what outlives a run.
    pub(super) fn open(state: &Path) -> Self {
        Self { path: state.join(NAME), written: (Vec::new(), None) }
    }

    /// Returns the browsers of the life before, once what they left behind is removed that is older than
    /// `began`.
    pub(super) fn before(&mut self, began: SystemTime) -> Vec<BrowserStatus> {
        let bytes = files::read(&self.path, BYTES);
        let read = bytes.and_then(|bytes| serde_json::from_slice::<Vec<Value>>(&bytes).ok());
        // one that is not understood is no reason to forget the others
        let lines = read.unwrap_or_default().into_iter().take(Limits::BROWSERS);
        let lines: Vec<Line> = lines.filter_map(|line| serde_json::from_value(line).ok()).collect();
        let profiles: BTreeSet<&PathBuf> = lines.iter().flat_map(|line| &line.profiles).collect();
        for profile in profiles {
            free(profile, began);
        }
        self.written.0.clone_from(&lines);
        lines.into_iter().map(|line| line.status).collect()
    }

    /// Writes which browsers run, where that is not what stands there.
    pub(super) fn keep(&mut self, running: Vec<Line>, now: Instant) {
        let (lines, since) = &self.written;
        // which there are, and which of them show a page
        let there = |lines: &[Line]| -> Vec<(BrowserId, bool)> {
            lines.iter().map(|line| (line.status.id, line.status.pages.is_empty())).collect()
        };
        let early = since.is_some_and(|since| now < since + PAUSE);
        if *lines == running || early && there(lines) == there(&running) {
            return;
        }
        if let Err(error) = self.write(&running) {
            event!("which browsers run is not remembered: {error}");
        }
        // what cannot be written is not tried all the time
        self.written = (running, Some(now));
    }

    fn write(&self, running: &[Line]) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = self.path.with_extension("new");
        files::write_unsynced(&new, &serde_json::to_string(running)?, 0o600)?;
        fs::rename(&new, &self.path)
    }
}

/// Removes the locks of a profile that no browser has any more.
fn free(profile: &Path, began: SystemTime) {
    for lock in LOCKS.map(|name| profile.join(name)) {
        let found = lock.symlink_metadata().ok().filter(|found| found.is_symlink());
        let made = found.and_then(|found| found.modified().ok());
        if made.is_none_or(|made| made >= began) {
            continue;
        }
        match fs::remove_file(&lock) {
            Ok(()) => event!("{} was left behind and is removed", lock.display()),
            Err(error) => event!("{} is left behind and stays: {error}", lock.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use warren_common::browser::Page;

    use super::*;

    fn line(pid: u32, title: &str, profile: &Path) -> Line {
        let page = Page { title: title.to_owned(), ..Page::default() };
        let id = BrowserId { pid, start: 7 };
        let pages = vec![page; PAGES + 2];
        let status = BrowserStatus { id, pages, ..BrowserStatus::default() };
        Line::new(&status, &[profile.to_owned()])
    }

    #[test]
    fn what_ran_is_known_in_the_next_life_and_its_profile_is_free() {
        let home = tempfile::tempdir().expect("a folder");
        let (state, profile) = (home.path().join("a/b"), home.path().join("profile"));
        fs::create_dir(&profile).expect("a folder");
        symlink("elsewhere-42", profile.join("SingletonLock")).expect("a lock");
        fs::write(profile.join("SingletonCookie"), "").expect("no lock");
        fs::write(profile.join("Preferences"), "").expect("a file");
        let mut book = Book::open(&state);
        assert!(book.before(SystemTime::now()).is_empty(), "nothing was written");
        let (one, two) = (line(1, "one", &profile), line(2, "two", &profile));
        book.keep(vec![one.clone(), two.clone()], Instant::now());

        let long_ago = SystemTime::UNIX_EPOCH;
        assert_eq!(Book::open(&state).before(long_ago).len(), 2);
        assert!(profile.join("SingletonLock").is_symlink(), "it is of this life");
        let later = SystemTime::now() + Duration::from_secs(9);
        let known = Book::open(&state).before(later);
        assert_eq!(known, [one.status.clone(), two.status]);
        assert_eq!(one.status.pages.len(), PAGES);
        let left = |name: &str| profile.join(name).symlink_metadata().is_ok();
        assert!(!left("SingletonLock") && left("SingletonCookie") && left("Preferences"));
    }

    #[test]
    fn what_runs_is_written_at_once_and_where_pages_are_now_and_then() {
        let home = tempfile::tempdir().expect("a folder");
        let profile = home.path().join("profile");
        let mut book = Book::open(home.path());
        let now = Instant::now();
        let title = || {
            let known = Book::open(home.path()).before(SystemTime::UNIX_EPOCH);
            known.first().map(|status| status.pages[0].title.clone())
        };
        book.keep(vec![line(1, "one", &profile)], now);
        assert_eq!(title().as_deref(), Some("one"));
        book.keep(vec![line(1, "later", &profile)], now + PAUSE / 2);
        assert_eq!(title().as_deref(), Some("one"), "too soon");
        book.keep(vec![line(1, "later", &profile)], now + PAUSE);
        assert_eq!(title().as_deref(), Some("later"));
        book.keep(Vec::new(), now + PAUSE);
        assert_eq!(title(), None, "that is no matter of pages");

        for odd in ["", "[", "{}", "[{}]", "[{\"status\":7,\"profiles\":[]}]"] {
            fs::write(home.path().join(NAME), odd).expect("a file");
            assert_eq!(title(), None, "{odd}");
        }
    }
}
