//! What follows from all that was seen of one browser.

use super::{
    seen::{Ended, Seen, Target, Weight},
    state::{
        BrowserEnd, BrowserState, BrowserStatus, Dialog, Launcher, Page, Source, address, id, line,
        text, title, window_title,
    },
};
use crate::{Limits, Timestamp};

/// Signals that ask a program to end: INT, HUP and TERM.
const ASKED: [i32; 3] = [2, 1, 15];

/// One browser, as far as it was seen.
#[derive(Debug, Clone)]
pub struct Fold {
    status: BrowserStatus,
    /// Its pages were told at least once.
    listed: bool,
    silent: Option<Timestamp>,
}

impl Fold {
    /// Begins with what its process shows: pages and the state are filled in.
    pub fn new(found: BrowserStatus) -> Self {
        let state = BrowserState::Starting;
        let since = found.started;
        Self {
            status: BrowserStatus { state, since, pages: Vec::new(), ..found }.bounded(),
            listed: false,
            silent: None,
        }
    }

    /// Begins with one that ran when its workspace ended, which came back at `at`.
    pub fn lost(known: BrowserStatus, at: Timestamp) -> Self {
        let pages = known.pages.clone();
        let mut fold = Self::new(known);
        fold.status.pages = pages;
        fold.ends(BrowserState::Closed, BrowserEnd { lost: true, ..BrowserEnd::default() }, at);
        fold.status.unknown = false;
        fold.status.evidence = fold.status.evidence.max(fold.status.started);
        fold.status = fold.status.bounded();
        fold
    }

    /// Returns what is known.
    pub const fn status(&self) -> &BrowserStatus {
        &self.status
    }

    /// Returns whether it is gone and was shown for long enough.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let shown = match self.status.state {
            BrowserState::Crashed => Limits::BROWSER_CRASH_SHOWN,
            BrowserState::Closed if self.status.end.lost => Limits::BROWSER_CRASH_SHOWN,
            BrowserState::Closed => Limits::BROWSER_CLOSE_SHOWN,
            BrowserState::Starting | BrowserState::Running | BrowserState::Hung => return false,
        };
        now.since(self.status.since) >= shown
    }

    /// Takes in what was seen at `at`. After its end nothing counts any more.
    pub fn take(&mut self, seen: Seen, at: Timestamp) {
        if self.status.state.has_ended() {
            return;
        }
        let tells =
            !matches!(seen, Seen::Blind(_) | Seen::Silent(..) | Seen::Weighs(_) | Seen::Windows(_));
        if tells {
            self.status.evidence = self.status.evidence.max(at);
        }
        match seen {
            Seen::Connected(version) => {
                self.status.version = line(&version, Limits::AGENT_NAME_BYTES);
                if self.status.source == Source::Window {
                    self.status.pages.clear();
                    self.status.more_pages = 0;
                }
                self.status.source = Source::DevTools;
                self.status.blind.clear();
                self.silent = None;
            }
            Seen::Blind(why) => self.blind(&why),
            Seen::Windows(windows) => self.windows(&windows, at),
            Seen::Pages(targets) => self.pages(&targets, at),
            Seen::Page(target) => self.see(&target, false, at),
            Seen::PageGone(page) => {
                let page = id(&page);
                self.status.pages.retain(|known| known.id != page);
            }
            Seen::Answered(None) => self.silent = None,
            Seen::Silent(None, since) => self.silent = self.silent.or(Some(since)),
            Seen::Weighs(Weight { memory, processes, renderers }) => {
                (self.status.memory, self.status.processes) = (memory, processes);
                self.status.renderers = renderers;
            }
            Seen::Ended(ended) => return self.end(ended, at),
            Seen::PageCrashed(page)
            | Seen::Navigated(page)
            | Seen::Loaded(page, _)
            | Seen::Error(page, _)
            | Seen::Dialog(page, _)
            | Seen::Answered(Some(page))
            | Seen::Silent(Some(page), _)
                if self.page(&page).is_none() => {}
            Seen::PageCrashed(page) => self.on(&page, |page| {
                (page.crashed, page.loading) = (true, false);
                (page.hung, page.dialog) = (None, None);
            }),
            Seen::Navigated(page) => self.on(&page, |page| page.begins(at)),
            Seen::Loaded(page, loaded) => self.on(&page, |page| page.loading = !loaded),
            Seen::Error(page, what) => self.on(&page, |page| {
                page.errors = page.errors.saturating_add(1);
                page.last_error = text(&what);
            }),
            Seen::Dialog(page, dialog) => self.on(&page, |page| {
                page.dialog = dialog.map(Dialog::bounded);
                page.hung = None;
            }),
            Seen::Answered(Some(page)) => self.on(&page, |page| page.hung = None),
            // a page behind a dialog answers nothing, and a crashed one neither
            Seen::Silent(Some(page), since) => self.on(&page, |page| {
                if page.dialog.is_none() && !page.crashed {
                    page.hung = page.hung.or(Some(since));
                }
            }),
        }
        self.stand(at);
    }

    fn stand(&mut self, at: Timestamp) {
        let (state, since) = match self.silent {
            Some(since) => (BrowserState::Hung, since),
            None if self.status.source == Source::Process && self.status.blind.is_empty() => {
                (BrowserState::Starting, self.status.started)
            }
            None => (BrowserState::Running, at),
        };
        if state != self.status.state {
            (self.status.state, self.status.since) = (state, since);
        }
    }

    fn blind(&mut self, why: &str) {
        self.status.source = Source::Process;
        self.status.blind = line(why, Limits::PAGE_TEXT_BYTES);
        self.status.pages.clear();
        self.status.more_pages = 0;
        (self.listed, self.silent) = (false, None);
    }

    fn windows(&mut self, windows: &[Target], at: Timestamp) {
        if self.status.source == Source::DevTools || self.status.blind.is_empty() {
            return;
        }
        self.status.source = Source::Process;
        self.status.pages.clear();
        let mut ids: Vec<String> = windows.iter().map(|window| id(&window.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        for window in windows {
            // a display that does not answer shows none, and that tells nothing of the browser
            self.status.source = Source::Window;
            self.status.evidence = self.status.evidence.max(at);
            let (id, title) = (id(&window.id), window_title(&window.title));
            if self.status.pages.len() < Limits::PAGES && self.page(&id).is_none() {
                self.status.pages.push(Page { id, title, ..Page::default() });
            }
        }
        let more = ids.len().saturating_sub(self.status.pages.len());
        self.status.more_pages = u32::try_from(more).unwrap_or(u32::MAX);
    }

    fn pages(&mut self, targets: &[Target], at: Timestamp) {
        self.listed = true;
        let ids: Vec<String> = targets.iter().map(|target| id(&target.id)).collect();
        self.status.pages.retain(|page| ids.contains(&page.id));
        for target in targets {
            self.see(target, true, at);
        }
        let more = targets.len().saturating_sub(self.status.pages.len());
        self.status.more_pages = u32::try_from(more).unwrap_or(u32::MAX);
    }

    /// `fresh`: the title is of now, and not of when the address was.
    fn see(&mut self, target: &Target, fresh: bool, at: Timestamp) {
        let (url, named) = (address(&target.url), title(&target.title));
        if let Some(page) = self.page_mut(&target.id) {
            if page.url != url {
                page.url = url;
                page.title.clone_from(&named);
                page.begins(at);
            }
            if fresh {
                page.title = named;
            }
        } else if self.status.pages.len() < Limits::PAGES {
            let navigated = self.listed.then_some(at).filter(|_| !fresh);
            let page = Page { url, title: named, navigated, loading: true, ..Page::default() };
            self.status.pages.push(Page { id: id(&target.id), ..page });
        }
    }

    fn page(&self, named: &str) -> Option<&Page> {
        let named = id(named);
        self.status.pages.iter().find(|page| page.id == named)
    }

    fn page_mut(&mut self, named: &str) -> Option<&mut Page> {
        let named = id(named);
        self.status.pages.iter_mut().find(|page| page.id == named)
    }

    fn on(&mut self, named: &str, change: impl FnOnce(&mut Page)) {
        if let Some(page) = self.page_mut(named) {
            change(page);
        }
    }

    /// A browser that is closed lets its pages go first, and the lock on its profile.
    fn end(&mut self, ended: Ended, at: Timestamp) {
        let Ended { end, driver_ended, lock_left } = ended;
        let asked = end.signal.is_some_and(|signal| ASKED.contains(&signal));
        let emptied = self.listed && self.status.pages.is_empty();
        let crashed = match (end.code, end.signal) {
            _ if end.oom => true,
            (Some(code), _) => code != 0,
            _ if asked || driver_ended => false,
            (None, Some(_)) => true,
            (None, None) if emptied => false,
            // a driver clears the profile away, the lock with it
            (None, None) if self.listed && self.status.launcher != Launcher::Manual => true,
            (None, None) => lock_left.unwrap_or(true),
        };
        let signal = end.signal.or(end.oom.then_some(9));
        let state = if crashed { BrowserState::Crashed } else { BrowserState::Closed };
        self.ends(state, BrowserEnd { signal, ..end }, at);
    }

    fn ends(&mut self, state: BrowserState, end: BrowserEnd, at: Timestamp) {
        (self.status.state, self.status.since) = (state, at);
        self.status.end = end;
        self.status.memory = crate::Bytes(0);
        (self.status.processes, self.status.renderers) = (0, 0);
        for page in &mut self.status.pages {
            (page.loading, page.hung, page.dialog) = (false, None, None);
        }
    }
}

impl Page {
    /// Another document begins: what was said of the one before is over.
    fn begins(&mut self, at: Timestamp) {
        (self.navigated, self.loading, self.crashed) = (Some(at), true, false);
        self.errors = 0;
        self.last_error.clear();
        (self.dialog, self.hung) = (None, None);
    }
}
