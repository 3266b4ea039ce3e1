//! The parts of a browser's status.

use std::{cmp::Reverse, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Bytes, Limits, SessionName, Timestamp,
    mask::{mask, mask_address},
    status::clean,
};

/// A browser within its workspace: its process, told from a later one with the same number.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BrowserId {
    /// Its process id inside.
    pub pid: u32,
    /// When it began, as the kernel counts.
    pub start: u64,
}

/// A text that names no browser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no browser's id (two numbers such as 4711-83921)")]
pub struct InvalidBrowserId(String);

impl fmt::Display for BrowserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.start)
    }
}

impl FromStr for BrowserId {
    type Err = InvalidBrowserId;
    fn from_str(text: &str) -> Result<Self, InvalidBrowserId> {
        let invalid = || InvalidBrowserId(text.chars().take(80).collect());
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (pid, start) = text.split_once('-').ok_or_else(invalid)?;
        match (number(pid), number(start), pid.parse(), start.parse()) {
            (true, true, Ok(pid), Ok(start)) => Ok(Self { pid, start }),
            _ => Err(invalid()),
        }
    }
}

/// What a browser is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Engine {
    /// Chromium, Chrome, their headless shell.
    #[default]
    Chromium,
    /// Firefox.
    Firefox,
    /// WebKit.
    WebKit,
}

impl Engine {
    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
            Self::WebKit => "webkit",
        }
    }
}

/// Who started a browser.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Launcher {
    /// Nobody knows.
    #[default]
    Unknown,
    /// Playwright's MCP server, for an agent.
    Mcp,
    /// Playwright's test runner.
    Test,
    /// A program that drives it.
    Script,
    /// Somebody at a shell: nothing drives it.
    Manual,
}

impl Launcher {
    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Mcp => "mcp",
            Self::Test => "test",
            Self::Script => "script",
            Self::Manual => "manual",
        }
    }
}

/// What a status stands on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// Its processes alone: pages are not seen.
    #[default]
    Process,
    /// Its DevTools.
    DevTools,
    /// The titles of its windows on the display: nothing else of its pages is seen.
    Window,
}

impl Source {
    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::DevTools => "devtools",
            Self::Window => "window",
        }
    }
}

/// What a browser does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BrowserState {
    /// Its process is there, and nothing was heard of it.
    #[default]
    Starting,
    /// It runs.
    Running,
    /// It does not answer.
    Hung,
    /// Its process ended, and nobody closed it.
    Crashed,
    /// It was closed.
    Closed,
}

impl BrowserState {
    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Hung => "hung",
            Self::Crashed => "crashed",
            Self::Closed => "closed",
        }
    }

    /// Returns whether its process is gone.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Crashed | Self::Closed)
    }
}

/// How its process ended, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct BrowserEnd {
    /// Exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed for memory at that time.
    pub oom: bool,
    /// It ended with its workspace, which has come back since.
    pub lost: bool,
}

/// A dialog that a page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dialog {
    /// `alert`, `confirm`, `prompt` or `beforeunload`.
    pub kind: String,
    /// What it says.
    pub text: String,
}

/// One page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Page {
    /// Its id, as DevTools name it; of a window, the display's number in hex.
    pub id: String,
    /// Its address, without secrets.
    pub url: String,
    /// Its title.
    pub title: String,
    /// It has not loaded yet.
    pub loading: bool,
    /// When it last began another document; none where that was before anybody looked.
    pub navigated: Option<Timestamp>,
    /// Errors of its document: written to the console, or thrown and not caught.
    pub errors: u32,
    /// The last of them.
    pub last_error: String,
    /// The dialog it shows.
    pub dialog: Option<Dialog>,
    /// Its process ended.
    pub crashed: bool,
    /// Since when it does not answer.
    pub hung: Option<Timestamp>,
}

/// The status of one browser at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BrowserStatus {
    /// Which browser.
    pub id: BrowserId,
    /// The session it was started in.
    pub session: Option<SessionName>,
    /// Who started it.
    pub launcher: Launcher,
    /// What it is made of.
    pub engine: Engine,
    /// Its version; empty where its DevTools did not tell.
    pub version: String,
    /// It shows nothing on a display.
    pub headless: bool,
    /// The display it is on, such as `:99`; empty where it is headless.
    pub display: String,
    /// What it does.
    pub state: BrowserState,
    /// Nobody has heard of it for [`Limits::AGENT_UNHEARD`]: the rest is the last that was known.
    pub unknown: bool,
    /// When it came into that state.
    pub since: Timestamp,
    /// When it was started.
    pub started: Timestamp,
    /// How its process ended.
    pub end: BrowserEnd,
    /// What this stands on.
    pub source: Source,
    /// Why its pages are not seen; empty where they are.
    pub blind: String,
    /// When it last told of itself.
    pub evidence: Timestamp,
    /// Its pages, those opened first first. Where it stands on its windows, one for each: with a title
    /// and no address.
    pub pages: Vec<Page>,
    /// Pages that are left out.
    pub more_pages: u32,
    /// Memory of its processes.
    pub memory: Bytes,
    /// Its processes.
    pub processes: u32,
    /// Those that show pages.
    pub renderers: u32,
}

impl BrowserStatus {
    /// Returns the same with every text cleaned, cut and masked, and every list cut: what comes from
    /// a workspace is not believed to be so.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.version = line(&self.version, Limits::AGENT_NAME_BYTES);
        self.display = line(&self.display, Limits::NAME_BYTES);
        self.blind = line(&self.blind, Limits::PAGE_TEXT_BYTES);
        let over = self.pages.len().saturating_sub(Limits::PAGES);
        self.more_pages = self.more_pages.saturating_add(u32::try_from(over).unwrap_or(u32::MAX));
        self.pages.truncate(Limits::PAGES);
        self.pages = self.pages.into_iter().map(Page::bounded).collect();
        self
    }

    /// Returns the same without what only says that something still moves: two that are equal so
    /// stand alike to people.
    #[must_use]
    pub fn standing(self) -> Self {
        let zero = Timestamp(0);
        Self { evidence: zero, memory: Bytes(0), processes: 0, renderers: 0, ..self }
    }

    /// Returns the same of a browser that nobody has heard of since `heard`: unknown, once that is
    /// [`Limits::AGENT_UNHEARD`] ago. One that ended stays so.
    #[must_use]
    pub fn unheard(self, heard: Timestamp, now: Timestamp) -> Self {
        let silent = now.since(heard) >= Limits::AGENT_UNHEARD;
        if self.unknown || self.state.has_ended() || !silent {
            return self;
        }
        Self { unknown: true, since: heard.plus(Limits::AGENT_UNHEARD), ..self }
    }

    /// Returns the page that people mean: the one that is named by the beginning of its id, else the
    /// one that navigated last.
    pub fn page(&self, named: &str) -> Option<&Page> {
        if named.is_empty() {
            return self.pages.iter().max_by_key(|page| page.navigated);
        }
        self.pages.iter().find(|page| page.id.starts_with(named))
    }

    /// Returns about how many bytes it takes to tell.
    fn size(&self) -> usize {
        let own = 160 + self.version.len() + self.blind.len() + self.display.len();
        own + self.pages.iter().map(Page::size).sum::<usize>()
    }
}

impl Page {
    pub(super) fn bounded(self) -> Self {
        Self {
            id: id(&self.id),
            url: address(&self.url),
            title: title(&self.title),
            last_error: text(&self.last_error),
            dialog: self.dialog.map(Dialog::bounded),
            ..self
        }
    }

    fn size(&self) -> usize {
        let dialog = self.dialog.as_ref().map_or(0, |one| one.kind.len() + one.text.len());
        64 + self.id.len() + self.url.len() + self.title.len() + self.last_error.len() + dialog
    }
}

impl Dialog {
    pub(super) fn bounded(self) -> Self {
        Self { kind: line(&self.kind, Limits::NAME_BYTES), text: text(&self.text) }
    }
}

/// Returns as many of them, with as many of their pages, as [`Limits`] allow one workspace: the
/// running ones first, those started first first, and then the ended ones that [`kept`] names.
pub fn fit(mut browsers: Vec<BrowserStatus>) -> Vec<BrowserStatus> {
    browsers.sort_by_key(|one| (one.state.has_ended(), one.started, one.id));
    let kept = kept(&browsers);
    let (mut running, mut ended) = (0, 0);
    browsers.retain(|one| match one.state.has_ended() {
        true => {
            // one id may be there more than once
            let shown = kept.contains(&one.id) && ended < Limits::BROWSERS_ENDED;
            ended += usize::from(shown);
            shown
        }
        false => {
            running += 1;
            running <= Limits::BROWSERS
        }
    });
    let mut size: usize = browsers.iter().map(BrowserStatus::size).sum();
    while size > Limits::BROWSERS_BYTES {
        let fullest = browsers.iter_mut().max_by_key(|one| one.pages.len());
        let Some(fullest) = fullest else { break };
        let Some(page) = fullest.pages.pop() else { break };
        fullest.more_pages = fullest.more_pages.saturating_add(1);
        size = size.saturating_sub(page.size());
    }
    browsers
}

/// Returns which of the ended ones are shown: at most [`Limits::BROWSERS_ENDED`]. Crashed ones go before
/// those that were closed, and among each the last to end before the first.
pub fn kept<'a>(browsers: impl IntoIterator<Item = &'a BrowserStatus>) -> Vec<BrowserId> {
    let ended = browsers.into_iter().filter(|one| one.state.has_ended());
    let mut ended: Vec<&BrowserStatus> = ended.collect();
    ended.sort_by_key(|one| (one.state != BrowserState::Crashed, Reverse((one.since, one.id))));
    ended.truncate(Limits::BROWSERS_ENDED);
    ended.into_iter().map(|one| one.id).collect()
}

/// Returns an id of a page.
pub(super) fn id(text: &str) -> String {
    line(text, Limits::AGENT_NAME_BYTES)
}

/// Returns an address without secrets, of one line.
pub(super) fn address(url: &str) -> String {
    // what is cut away needs no mask, and what is left may end within a secret
    line(&mask_address(&line(url, 4 * Limits::PAGE_URL_BYTES)), Limits::PAGE_URL_BYTES)
}

/// Returns a title: Chromium shows the address of a page that has none.
pub(super) fn title(title: &str) -> String {
    let title = line(title, 4 * Limits::PAGE_TEXT_BYTES);
    let masked = if title.starts_with("data:") { mask_address(&title) } else { mask(&title) };
    line(&masked, Limits::PAGE_TEXT_BYTES)
}

/// Returns the title of a page as a window shows it, without the browser's own name.
pub(super) fn window_title(shown: &str) -> String {
    const NAMES: [&str; 4] =
        ["Chromium", "Google Chrome", "Google Chrome for Testing", "Mozilla Firefox"];
    let shown = line(shown, 4 * Limits::PAGE_TEXT_BYTES);
    let page = NAMES.iter().find_map(|name| {
        let page = shown.strip_suffix(name)?;
        page.strip_suffix(" - ").or_else(|| page.strip_suffix(" \u{2014} "))
    });
    title(page.unwrap_or(&shown))
}

/// Returns a text of one line without secrets.
pub(super) fn text(text: &str) -> String {
    line(&mask(&line(text, 4 * Limits::PAGE_TEXT_BYTES)), Limits::PAGE_TEXT_BYTES)
}

pub(super) fn line(text: &str, limit: usize) -> String {
    // much of nothing leaves no work behind
    let near: String = text.chars().take(4 * limit).collect();
    clean(&near, limit).replace(['\n', '\t'], " ")
}
