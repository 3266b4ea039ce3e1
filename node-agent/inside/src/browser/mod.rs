//! What the browsers of the workspace do: found by their processes, told by their DevTools.
//!
//! [`find`] says which processes are browsers; each is watched in a task of its own, [`watch`], which
//! talks to it through [`devtools`] and learns of its end from [`end`]. What follows from what is seen
//! is decided in [`warren_common::browser`]. Where there is no browser, the list of processes is read
//! twice a second and nothing else is done.
//!
//! Everything here comes from the workspace and may be forged by what runs in it. It is bounded,
//! cleaned and shown, and nothing is done because of it.

mod devtools;
mod end;
mod find;
mod message;
mod shot;
mod socket;
mod watch;
mod weigh;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use warren_common::{
    Limits, Timestamp,
    browser::{BrowserId, Fold, Seen, Urgency, fit},
};

use self::find::Finder;
use crate::{agent::look::Kills, board::Board, clock, journal::event, reaper::Reaper};

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
    /// One permit per waiting picture.
    shots: Arc<Semaphore>,
    /// Held while a picture is taken.
    camera: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<BrowserId, Entry>,
    kills: Kills,
    /// When pages may give their next picture.
    paced: BTreeMap<(BrowserId, String), Instant>,
}

#[derive(Debug)]
struct Entry {
    fold: Fold,
    /// Where its DevTools are; none where they do not answer.
    devtools: Option<(u16, String)>,
}

/// Why there is no picture: a stable code and a sentence.
pub(crate) type NoShot = (&'static str, String);

impl Browsers {
    /// Returns none yet.
    pub(crate) fn new(board: Board, reaper: Reaper) -> Self {
        Self {
            state: Arc::default(),
            board,
            reaper,
            shots: Arc::new(Semaphore::new(Limits::SHOTS)),
            camera: Arc::default(),
        }
    }

    /// Looks for browsers and watches them for ever.
    pub(crate) async fn run(self) {
        let mut finder = Finder::default();
        let mut watched = JoinSet::new();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count: u32 = 0;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                Some(_) = watched.join_next() => continue,
            }
            count = count.wrapping_add(1);
            if count.is_multiple_of(LOOKS_PER_TICK) {
                self.tick();
            }
            let known: Vec<BrowserId> = self.state().entries.keys().copied().collect();
            for browser in finder.look(&known, now()) {
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
    pub(crate) async fn shot(&self, browser: &str, page: &str) -> Result<Vec<u8>, NoShot> {
        let most = Limits::SHOTS;
        let full = |_| ("LIMIT_REACHED", format!("{most} pictures are waited for, the limit"));
        let _permit = self.shots.try_acquire().map_err(full)?;
        let (id, page, (port, path)) = self.subject(browser, page)?;
        let _camera = self.camera.lock().await;
        sleep_until(self.pace(id, &page)).await;
        let taken = shot::take((port, &path), &page).await;
        let failed = |error: shot::ShotError| ("WRONG_STATE", crate::uplink::chain(&error));
        taken.map_err(failed)
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

    /// Notes a browser that was found; returns whether it is to be watched.
    fn enter(&self, browser: &find::Browser) -> bool {
        let mut status = browser.status.clone();
        if status.session.is_none() {
            let session = self.board.session_of(&browser.above);
            status.session = session.and_then(|name| name.parse().ok());
        }
        let mut state = self.state();
        let running = |entry: &&Entry| !entry.fold.status().state.has_ended();
        if state.entries.values().filter(running).count() >= Limits::BROWSERS {
            return false;
        }
        event!("browser {} ({}) was started", status.id, status.engine.as_str());
        let entry = Entry { fold: Fold::new(status.clone()), devtools: None };
        state.entries.insert(status.id, entry);
        drop(state);
        self.publish();
        true
    }

    /// Takes in what was seen of a browser.
    fn saw(&self, id: BrowserId, seen: Vec<Seen>) {
        let at = now();
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&id) else { return };
        let before = entry.fold.status().clone();
        seen.into_iter().for_each(|one| entry.fold.take(one, at));
        let after = entry.fold.status();
        let (was, is) = (Urgency::of(&before), Urgency::of(after));
        if was != is {
            event!("browser {id}: {}", is.as_str());
        }
        let changed = before.standing() != after.clone().standing();
        drop(state);
        if changed {
            self.publish();
        }
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
        let over = state.entries.len().saturating_sub(Limits::BROWSERS);
        let ended = |(_, entry): &(&BrowserId, &Entry)| entry.fold.status().state.has_ended();
        let ended: Vec<BrowserId> =
            state.entries.iter().filter(ended).map(|(id, _)| *id).take(over).collect();
        ended.iter().for_each(|id| drop(state.entries.remove(id)));
        drop(state);
        self.publish();
    }

    fn publish(&self) {
        let statuses = self.state().entries.values().map(|one| one.fold.status().clone()).collect();
        self.board.browsers(fit(statuses).into_iter().map(Into::into).collect());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing panics while it holds the state; a half-done fold is still a bounded one
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Timestamp {
    Timestamp(clock::now_ms())
}
