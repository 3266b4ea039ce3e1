//! What the browsers of the workspace do: found by their processes, told by their DevTools.
//!
//! [`find`] says which processes are browsers; each is watched in a task of its own, [`watch`], which
//! talks to it through [`devtools`] and learns of its end from [`end`]. A browser without DevTools is
//! known by its windows, [`window`]. What follows from what is seen is decided in
//! [`warren_common::browser`]. Where there is no browser, the list of processes is read twice a second
//! and nothing else is done.
//!
//! Everything here comes from the workspace and may be forged by what runs in it. It is bounded,
//! cleaned and shown; all that is done because of it is that locks are removed which browsers left in their
//! profiles, see [`book`].

mod book;
mod devtools;
mod end;
mod find;
mod message;
mod shot;
mod watch;
mod weigh;
mod window;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use warren_common::{
    Limits, Timestamp,
    browser::{BrowserId, BrowserStatus, Fold, Seen, Urgency, fit, kept},
};

use self::{
    book::{Book, Line},
    find::Finder,
};
use crate::{
    agent::look::Kills, board::Board, clock, journal::event, reaper::Reaper, websocket::Held,
};

/// Between two looks for browsers.
const LOOK: Duration = Duration::from_millis(500);
/// Looks between two that show also what only moves on, and what has become old.
const LOOKS_PER_TICK: u32 = 10;
/// Pages of which it is remembered when their last picture was taken.
const SHOTS_REMEMBERED: usize = 64;

/// The browsers; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Browsers {
    state: Arc<Mutex<State>>,
    board: Board,
    reaper: Reaper,
    /// One permit per picture that is waited for or being taken over.
    shots: Arc<Semaphore>,
    /// Something is to be told.
    news: Arc<Notify>,
    /// What messages that have not ended hold.
    held: Held,
    /// Held while a picture is taken.
    camera: Arc<tokio::sync::Mutex<()>>,
    /// Held while windows are looked at: what a display says is held once at a time.
    glance: Arc<tokio::sync::Mutex<()>>,
    /// What is known of them in the workspace's next life; none once this one ends.
    book: Arc<Mutex<Option<Book>>>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<BrowserId, Entry>,
    kills: Kills,
    /// What only moves on is to be told too.
    whole: bool,
    /// When pages may give their next picture.
    paced: BTreeMap<(BrowserId, String), Instant>,
}

#[derive(Debug)]
struct Entry {
    fold: Fold,
    /// Where its DevTools are; none where they do not answer.
    devtools: Option<(u16, String)>,
    /// Where its profile may be.
    profiles: Vec<PathBuf>,
}

impl State {
    /// Forgets ended ones beyond their bound.
    fn cut(&mut self) {
        let kept = kept(self.entries.values().map(|entry| entry.fold.status()));
        self.entries.retain(|id, entry| entry.runs() || kept.contains(id));
    }
}

impl Entry {
    fn runs(&self) -> bool {
        !self.fold.status().state.has_ended()
    }
}

/// A picture of a page. It counts among [`Limits::SHOTS`] until it is dropped.
#[derive(Debug)]
pub(crate) struct Picture {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl Picture {
    /// Returns it as a file has it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why there is no picture: a stable code and a sentence.
pub(crate) type NoShot = (&'static str, String);

impl Browsers {
    /// Returns those that ended with the life before, as `folder` has them, and frees their profiles.
    pub(crate) fn new(board: Board, reaper: Reaper, folder: &Path) -> Self {
        let (mut book, mut state, at) = (Book::open(folder), State::default(), now());
        for known in book.before(SystemTime::now()) {
            let (id, fold) = (known.id, Fold::lost(known, at));
            state.entries.insert(id, Entry { fold, devtools: None, profiles: Vec::new() });
        }
        state.cut();
        Self {
            state: Arc::new(Mutex::new(state)),
            board,
            reaper,
            shots: Arc::new(Semaphore::new(Limits::SHOTS)),
            news: Arc::default(),
            held: Held::default(),
            camera: Arc::default(),
            glance: Arc::default(),
            book: Arc::new(Mutex::new(Some(book))),
        }
    }

    /// Notes that the workspace ends: what runs now is what is lost with it.
    pub(crate) fn close(&self) {
        self.remember();
        self.book.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Looks for browsers and watches them for ever.
    pub(crate) async fn run(self) {
        // what was killed before anybody looked is nobody's end
        self.state().kills.look(now());
        let mut finder = Finder::default();
        let mut watched = JoinSet::new();
        watched.spawn(self.clone().tell());
        self.news.notify_one();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count: u32 = 0;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                Some(_) = watched.join_next() => continue,
            }
            self.remember();
            count = count.wrapping_add(1);
            if count.is_multiple_of(LOOKS_PER_TICK) {
                self.tick();
            }
            let (known, room) = self.known();
            for browser in finder.look(&known, room, now()) {
                if self.enter(&browser) {
                    watched.spawn(watch::run(self.clone(), browser));
                }
            }
        }
    }

    /// Takes a picture of a page.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn shot(&self, browser: &str, page: &str) -> Result<Picture, NoShot> {
        let most = Limits::SHOTS;
        let full = |_| ("LIMIT_REACHED", format!("{most} pictures are waited for, the limit"));
        let permit = Arc::clone(&self.shots).try_acquire_owned().map_err(full)?;
        let (id, page, (port, path)) = self.subject(browser, page)?;
        let _camera = self.camera.lock().await;
        sleep_until(self.pace(id, &page)).await;
        let taken = shot::take((port, &path), &page).await;
        let failed = |error: shot::ShotError| ("WRONG_STATE", crate::uplink::chain(&error));
        Ok(Picture { bytes: taken.map_err(failed)?, _permit: permit })
    }

    /// Finds what a picture is to be taken of.
    fn subject(
        &self,
        browser: &str,
        page: &str,
    ) -> Result<(BrowserId, String, (u16, String)), NoShot> {
        let shown: String = browser.chars().take(40).collect();
        let missing = || ("NOT_FOUND", format!("there is no browser {shown}"));
        let id: BrowserId = browser.parse().map_err(|_| missing())?;
        let state = self.state();
        let entry = state.entries.get(&id).ok_or_else(missing)?;
        let status = entry.fold.status();
        let Some(devtools) = entry.devtools.clone() else {
            let why = match status.blind.as_str() {
                "" => status.state.as_str(),
                why => why,
            };
            return Err(("WRONG_STATE", format!("browser {shown} shows no page: {why}")));
        };
        let Some(page) = status.page(page) else {
            return Err(("NOT_FOUND", format!("browser {shown} has no such page")));
        };
        Ok((id, page.id.clone(), devtools))
    }

    /// Returns when a page may give its picture, and has the next one wait.
    fn pace(&self, id: BrowserId, page: &str) -> Instant {
        let mut state = self.state();
        let now = Instant::now();
        state.paced.retain(|_, at| *at > now);
        let key = (id, page.to_owned());
        let at = state.paced.get(&key).copied().unwrap_or(now);
        if state.paced.len() < SHOTS_REMEMBERED {
            state.paced.insert(key, at + Limits::SHOT_PACE);
        }
        at
    }

    /// Returns the browsers that are known, and how many more may be.
    fn known(&self) -> (Vec<BrowserId>, usize) {
        let state = self.state();
        let running = state.entries.values().filter(|entry| entry.runs()).count();
        (state.entries.keys().copied().collect(), Limits::BROWSERS.saturating_sub(running))
    }

    /// Notes a browser that was found; returns whether it is to be watched.
    fn enter(&self, browser: &find::Browser) -> bool {
        let mut status = browser.status.clone();
        if status.session.is_none() {
            let session = self.board.session_of(&browser.above);
            status.session = session.and_then(|name| name.parse().ok());
        }
        let mut state = self.state();
        if state.entries.values().filter(|entry| entry.runs()).count() >= Limits::BROWSERS {
            return false;
        }
        event!("browser {} ({}) was started", status.id, status.engine.as_str());
        let fold = Fold::new(status.clone());
        let entry = Entry { fold, devtools: None, profiles: browser.locked() };
        state.entries.insert(status.id, entry);
        state.cut();
        drop(state);
        self.news.notify_one();
        true
    }

    /// Takes in what was seen of a browser.
    fn saw(&self, id: BrowserId, seen: Vec<Seen>) {
        let at = now();
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&id) else { return };
        let was = Urgency::of(entry.fold.status());
        seen.into_iter().for_each(|one| entry.fold.take(one, at));
        let is = Urgency::of(entry.fold.status());
        drop(state);
        if was != is {
            event!("browser {id}: {}", is.as_str());
        }
        self.news.notify_one();
    }

    /// Notes where the DevTools of a browser are.
    fn reached(&self, id: BrowserId, devtools: Option<(u16, String)>) {
        if let Some(entry) = self.state().entries.get_mut(&id) {
            entry.devtools = devtools;
        }
    }

    /// Returns whether the kernel killed for memory a moment ago.
    fn ran_out(&self) -> bool {
        let (mut state, now) = (self.state(), now());
        state.kills.look(now);
        state.kills.recent(now)
    }

    fn tick(&self) {
        let mut state = self.state();
        let now = now();
        state.kills.look(now);
        state.entries.retain(|_, entry| !entry.fold.is_over(now));
        state.cut();
        state.whole = true;
        drop(state);
        self.news.notify_one();
    }

    /// Keeps for the next life which run.
    fn remember(&self) {
        let state = self.state();
        let running = state.entries.values().filter(|entry| entry.runs());
        let lines = running.map(|one| Line::new(one.fold.status(), &one.profiles)).collect();
        drop(state);
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(book) = book.as_mut() {
            book.keep(lines, Instant::now());
        }
    }

    /// Tells what changed, at once where nothing was told for [`Limits::BROWSERS_GAP`], and at its end
    /// where something was.
    async fn tell(self) {
        let mut told = Vec::new();
        loop {
            self.news.notified().await;
            let (statuses, whole) = self.statuses();
            let standing: Vec<BrowserStatus> =
                statuses.iter().cloned().map(BrowserStatus::standing).collect();
            if whole || standing != told {
                self.board.browsers(statuses.into_iter().map(Into::into).collect());
                told = standing;
            }
            sleep(Limits::BROWSERS_GAP).await;
        }
    }

    /// Returns what there is to tell, and whether what only moves on counts too.
    fn statuses(&self) -> (Vec<BrowserStatus>, bool) {
        let mut state = self.state();
        let whole = std::mem::take(&mut state.whole);
        (fit(state.entries.values().map(|one| one.fold.status().clone()).collect()), whole)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing panics while it holds the state; a half-done fold is still a bounded one
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Timestamp {
    Timestamp(clock::now_ms())
}

#[cfg(test)]
mod tests {
    use warren_common::browser::{BrowserState, Ended, Target};

    use super::*;

    fn titled(title: &str) -> Vec<Seen> {
        let (id, url, title) = ("A".to_owned(), String::new(), title.to_owned());
        vec![Seen::Pages(vec![Target { id, url, title }])]
    }

    #[test]
    fn one_that_crashed_stays_for_its_time_beside_as_many_as_may_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let browsers = Browsers::new(Board::new(), Reaper::new(folder.path()), folder.path());
        let enter = |pid: u32, state: BrowserState, since: u64| {
            let id = BrowserId { pid, start: 1 };
            let since = Timestamp(now().0 - since);
            let mut fold = Fold::new(BrowserStatus { id, ..BrowserStatus::default() });
            if state == BrowserState::Crashed {
                fold.take(Seen::Ended(Ended::default()), since);
            }
            assert!(state == fold.status().state);
            browsers
                .state()
                .entries
                .insert(id, Entry { fold, devtools: None, profiles: Vec::new() });
        };
        let most = u32::try_from(Limits::BROWSERS).expect("few");
        (100..100 + most).for_each(|pid| enter(pid, BrowserState::Starting, 0));
        // its number is the lowest
        enter(7, BrowserState::Crashed, 60_000);
        browsers.tick();
        assert_eq!(browsers.known(), ((7..=7).chain(100..100 + most).map(id).collect(), 0));
        let ended = u32::try_from(Limits::BROWSERS_ENDED).expect("few");
        (300..300 + ended).for_each(|pid| enter(pid, BrowserState::Crashed, 1000));
        browsers.tick();
        let known = browsers.known().0;
        assert!(!known.contains(&id(7)), "the first to crash makes room");
        assert_eq!(known.len(), Limits::BROWSERS + Limits::BROWSERS_ENDED);
    }

    const fn id(pid: u32) -> BrowserId {
        BrowserId { pid, start: 1 }
    }

    #[test]
    fn what_changes_all_the_time_is_told_now_and_then_and_as_it_stood_last() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let board = Board::new();
            let browsers = Browsers::new(board.clone(), Reaper::new(folder.path()), folder.path());
            let id = BrowserId { pid: 7, start: 1 };
            let fold = Fold::new(BrowserStatus { id, ..BrowserStatus::default() });
            browsers
                .state()
                .entries
                .insert(id, Entry { fold, devtools: None, profiles: Vec::new() });
            let telling = tokio::spawn(browsers.clone().tell());
            let mut seen = board.subscribe();
            let (mut said, mut told) = (0_u32, 0_u32);
            let until = Instant::now() + 5 * Limits::BROWSERS_GAP;
            while Instant::now() < until {
                said += 1;
                browsers.saw(id, titled(&said.to_string()));
                tokio::task::yield_now().await;
                told += u32::from(seen.has_changed().expect("open"));
                seen.mark_unchanged();
            }
            sleep(2 * Limits::BROWSERS_GAP).await;
            assert!(said > 20 && (1..=6).contains(&told), "{told} of {said}");
            let last = seen.borrow().to_status();
            assert_eq!(last.browsers[0].pages[0].title, said.to_string());
            telling.abort();
        });
    }
}
