//! Browsers as they are printed.

use std::cmp::Reverse;

use serde::Serialize;
use warren_common::{
    Bytes, Timestamp,
    browser::{
        BrowserEnd, BrowserState, BrowserStatus, Dialog as SeenDialog, Page as SeenPage, Source,
        Urgency, UrgencyKey,
    },
};
use warren_proto::pb::{admin::v1 as pb, inside::v1 as inside};

use super::{Moment, event::Event, fields, filled, moment};
use crate::{
    follow::Watched,
    render::{
        Tabular, table,
        time::{age, rfc3339_seconds},
    },
};

/// One browser of the cluster.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Browser {
    pub(crate) address: String,
    pub(crate) client: String,
    pub(crate) workspace: String,
    pub(crate) node: Option<String>,
    #[serde(flatten)]
    pub(crate) seen: BrowserSeen,
    pub(crate) observed_at: Option<Moment>,
    /// False where the node is silent: what was seen is the past.
    pub(crate) observed_live: bool,
}

/// One browser as its workspace saw it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BrowserSeen {
    pub(crate) id: String,
    /// The session it was started in; none where that is not known.
    pub(crate) session: Option<String>,
    /// `mcp`, `test`, `script`, `manual` or `unknown`.
    pub(crate) launcher: &'static str,
    /// `chromium`, `firefox` or `webkit`.
    pub(crate) engine: &'static str,
    pub(crate) version: Option<String>,
    pub(crate) headless: bool,
    pub(crate) display: Option<String>,
    /// `starting`, `running`, `hung`, `crashed`, `closed` or `unknown`.
    pub(crate) state: &'static str,
    /// What it was, where the state is `unknown`.
    pub(crate) last_state: Option<&'static str>,
    /// State and what its pages come to, in the words of lists.
    pub(crate) status: String,
    /// How much it needs a person: `crashed`, `page-crashed`, `hung`, `dialog`, `unknown`, `running`
    /// or `closed`.
    pub(crate) attention: &'static str,
    pub(crate) needs_me: bool,
    pub(crate) since: Moment,
    pub(crate) started_at: Moment,
    pub(crate) exit: Option<Ended>,
    /// `devtools`, `window`, or `process`: its pages are not seen, and `blind` says why.
    pub(crate) source: &'static str,
    pub(crate) blind: Option<String>,
    pub(crate) evidence_at: Moment,
    pub(crate) pages: Vec<Page>,
    /// Pages that are left out.
    pub(crate) more_pages: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) processes: u32,
    pub(crate) renderers: u32,
    #[serde(skip)]
    told: BrowserStatus,
}

/// How a browser's process ended, as far as it is known.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) oom: bool,
    /// It ended with its workspace, which has come back since.
    pub(crate) lost: bool,
}

/// One page.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Page {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) title: String,
    pub(crate) loading: bool,
    pub(crate) navigated_at: Option<Moment>,
    pub(crate) errors: u32,
    pub(crate) last_error: Option<String>,
    pub(crate) dialog: Option<Dialog>,
    pub(crate) crashed: bool,
    pub(crate) hung_since: Option<Moment>,
}

/// A dialog that a page shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Dialog {
    /// `alert`, `confirm`, `prompt` or `beforeunload`.
    pub(crate) kind: String,
    pub(crate) text: String,
}

impl BrowserSeen {
    /// Reads the wire's; none where a coordinator of another version says what is not known here.
    pub(crate) fn read(status: inside::BrowserStatus) -> Option<Self> {
        BrowserStatus::try_from(status).ok().map(Self::from)
    }

    /// Returns which stay in which state this is: the same for as long as it lasts.
    fn stay(&self) -> (&'static str, Timestamp) {
        let hung = self.told.pages.iter().filter_map(|page| page.hung).min();
        let since = match (Urgency::of(&self.told), self.told.state) {
            (Urgency::Hung, BrowserState::Running) => hung.unwrap_or(self.told.since),
            _ => self.told.since,
        };
        (self.attention, since)
    }

    fn shown(&self) -> Option<&SeenPage> {
        self.told.page("")
    }
}

impl From<BrowserStatus> for BrowserSeen {
    fn from(told: BrowserStatus) -> Self {
        let urgency = Urgency::of(&told);
        let BrowserEnd { code, signal, oom, lost } = told.end;
        let ended = told.state.has_ended();
        let state = if told.unknown { "unknown" } else { told.state.as_str() };
        Self {
            id: told.id.to_string(),
            session: told.session.as_ref().map(ToString::to_string),
            launcher: told.launcher.as_str(),
            engine: told.engine.as_str(),
            version: filled(&told.version),
            headless: told.headless,
            display: filled(&told.display),
            state,
            last_state: told.unknown.then(|| told.state.as_str()),
            status: words(&told, urgency),
            attention: urgency.as_str(),
            needs_me: urgency.needs_person(),
            since: Moment(told.since),
            started_at: Moment(told.started),
            exit: ended.then_some(Ended { code, signal, oom, lost }),
            source: told.source.as_str(),
            blind: filled(&told.blind),
            evidence_at: Moment(told.evidence),
            pages: told.pages.iter().map(Page::from).collect(),
            more_pages: told.more_pages,
            memory_bytes: told.memory.0,
            processes: told.processes,
            renderers: told.renderers,
            told,
        }
    }
}

impl From<&SeenPage> for Page {
    fn from(page: &SeenPage) -> Self {
        let dialog = |one: &SeenDialog| Dialog { kind: one.kind.clone(), text: one.text.clone() };
        Self {
            id: page.id.clone(),
            url: page.url.clone(),
            title: page.title.clone(),
            loading: page.loading,
            navigated_at: page.navigated.map(Moment),
            errors: page.errors,
            last_error: filled(&page.last_error),
            dialog: page.dialog.as_ref().map(dialog),
            crashed: page.crashed,
            hung_since: page.hung.map(Moment),
        }
    }
}

impl Browser {
    /// Reads the wire's, as [`BrowserSeen::read`].
    pub(crate) fn read(browser: pb::Browser) -> Option<Self> {
        let seen = BrowserSeen::read(browser.observed?)?;
        Some(Self {
            address: format!("{}/{}/{}", browser.client, browser.workspace, seen.id),
            client: browser.client,
            workspace: browser.workspace,
            node: filled(&browser.node),
            seen,
            observed_at: moment(browser.observed_unix_ms),
            observed_live: browser.observed_live,
        })
    }

    /// Returns which state it is in.
    pub(crate) const fn state(&self) -> BrowserState {
        self.seen.told.state
    }

    /// Returns its place in a list: who should be looked at first, then by address.
    pub(crate) fn key(&self) -> impl Ord + use<> {
        let UrgencyKey { urgency, .. } = UrgencyKey::of(&self.seen.told);
        (Reverse(urgency), self.client.clone(), self.workspace.clone(), self.seen.told.id)
    }

    /// Returns which stay in which state this is.
    pub(crate) fn stay(&self) -> (&'static str, Timestamp) {
        self.seen.stay()
    }

    /// Returns what happened where it came to need a person: the event, and what it says.
    pub(crate) fn news(&self) -> Option<(&'static str, String)> {
        let event = match Urgency::of(&self.seen.told) {
            Urgency::Crashed | Urgency::PageCrashed => "browser.crashed",
            Urgency::Hung => "browser.hung",
            Urgency::Closed | Urgency::Running | Urgency::Unknown | Urgency::Dialog => return None,
        };
        let page = self.seen.shown().map(|page| page.url.clone()).unwrap_or_default();
        Some((event, format!("{} {page}", self.seen.status).trim_end().to_owned()))
    }

    fn status(&self) -> String {
        match (self.observed_live, self.observed_at) {
            (false, Some(at)) if self.seen.state != "unknown" => format!(
                "last seen {} at {} on {}",
                self.seen.status,
                rfc3339_seconds(at.0),
                self.node.as_deref().unwrap_or("no node")
            ),
            _ => self.seen.status.clone(),
        }
    }

    fn place(&self) -> String {
        match (&self.seen.display, self.seen.headless) {
            (_, true) => "headless".to_owned(),
            (Some(display), false) => format!("on display {display}"),
            (None, false) => "headed".to_owned(),
        }
    }

    /// Returns the page for people.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        let seen = &self.seen;
        let version = seen.version.as_deref().unwrap_or_default();
        let told = format!("{}, {} ago", seen.source, age(seen.evidence_at.0, now));
        let mut rows = vec![
            ("browser", self.address.clone()),
            ("status", self.status()),
            ("for", age(seen.stay().1, now)),
            ("session", seen.session.clone().unwrap_or_else(|| "not known".to_owned())),
            ("started", format!("{} ago, by {}", age(seen.started_at.0, now), seen.launcher)),
            ("engine", format!("{} {version}", seen.engine).trim_end().to_owned()),
            ("shown", self.place()),
            ("told by", told),
        ];
        if let Some(why) = &seen.blind {
            rows.push(("not seen", format!("its pages: {why}")));
        }
        if seen.exit.is_none() {
            let memory = Bytes(seen.memory_bytes);
            rows.push(("memory", format!("{memory} in {} processes", seen.processes)));
        }
        let mut text = fields(&rows);
        if !seen.pages.is_empty() {
            let header = ["PAGE", "STATUS", "NAVIGATED", "ERRORS", "TITLE", "URL"];
            // of a window only its title is known
            let window = seen.told.source == Source::Window;
            let row = |page: &Page| {
                let ago = |at: Moment| age(at.0, now);
                vec![
                    page.id.chars().take(8).collect(),
                    if window { "window".to_owned() } else { page.status() },
                    page.navigated_at.map_or_else(String::new, ago),
                    if window { String::new() } else { page.errors.to_string() },
                    page.title.clone(),
                    page.url.clone(),
                ]
            };
            let rows = seen.pages.iter().map(row).collect();
            text.push_str(&format!("\n{}", table::lay_out(&header, rows, 5, None)));
            for page in &seen.pages {
                if let Some(error) = &page.last_error {
                    let id: String = page.id.chars().take(8).collect();
                    text.push_str(&format!("last error of {id}: {error}\n"));
                }
            }
        }
        if seen.more_pages > 0 {
            text.push_str(&format!("and {} more pages\n", seen.more_pages));
        }
        text
    }
}

impl Page {
    fn status(&self) -> String {
        match self {
            Self { crashed: true, .. } => "crashed".to_owned(),
            Self { dialog: Some(dialog), .. } => format!("{} {:?}", dialog.kind, dialog.text),
            Self { hung_since: Some(_), .. } => "hung".to_owned(),
            Self { loading: true, .. } => "loading".to_owned(),
            Self { .. } => "loaded".to_owned(),
        }
    }
}

/// Returns what a browser does, in one line.
fn words(told: &BrowserStatus, urgency: Urgency) -> String {
    let state = told.state.as_str();
    if told.unknown {
        return format!("unknown (was {state})");
    }
    let dialog = told.pages.iter().find_map(|page| page.dialog.as_ref());
    match (urgency, dialog, told.end) {
        (Urgency::Crashed, _, BrowserEnd { oom: true, .. }) => "crashed: oom".to_owned(),
        (Urgency::Crashed, _, BrowserEnd { signal: Some(signal), .. }) => {
            format!("crashed: signal {signal}")
        }
        (Urgency::Crashed, _, BrowserEnd { code: Some(code), .. }) => {
            format!("crashed: code {code}")
        }
        (Urgency::Closed, _, BrowserEnd { lost: true, .. }) => {
            "closed with its workspace".to_owned()
        }
        (Urgency::PageCrashed, ..) => "page crashed".to_owned(),
        (Urgency::Hung, ..) if told.state != BrowserState::Hung => "page hung".to_owned(),
        (Urgency::Dialog, Some(dialog), _) => format!("{} {:?}", dialog.kind, dialog.text),
        _ if !told.blind.is_empty() && !told.state.has_ended() => {
            format!("{state}, pages not seen")
        }
        _ => state.to_owned(),
    }
}

impl Tabular for Browser {
    const HEADER: &'static [&'static str] =
        &["BROWSER", "SESSION", "STATUS", "FOR", "PAGES", "ERRORS", "MEMORY", "TITLE", "URL"];
    const FLEXIBLE: usize = 8;

    fn row(&self, now: Timestamp) -> Vec<String> {
        let seen = &self.seen;
        let page = seen.shown();
        let pages = seen.pages.len() + usize::try_from(seen.more_pages).unwrap_or_default();
        let errors: u64 = seen.pages.iter().map(|page| u64::from(page.errors)).sum();
        vec![
            self.address.clone(),
            seen.session.clone().unwrap_or_default(),
            self.status(),
            age(seen.stay().1, now),
            pages.to_string(),
            errors.to_string(),
            Bytes(seen.memory_bytes).to_string(),
            page.map(|page| page.title.clone()).unwrap_or_default(),
            page.map(|page| page.url.clone()).unwrap_or_default(),
        ]
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

impl Watched for Browser {
    const KINDS: &'static [pb::EventKind] = &[];

    fn standing(&self) -> Vec<String> {
        let page = self.seen.shown();
        vec![
            self.status(),
            self.seen.session.clone().unwrap_or_default(),
            page.map(|page| page.title.clone()).unwrap_or_default(),
            page.map(|page| page.url.clone()).unwrap_or_default(),
        ]
    }

    fn stands_as(&self, other: &Self) -> bool {
        let standing = |one: &Self| one.seen.told.clone().standing();
        standing(self) == standing(other) && self.standing() == other.standing()
    }

    fn revision(&self) -> Option<u64> {
        None
    }

    fn keep(&mut self, _: &Self) {}

    fn of(_: Event) -> Option<Self> {
        None
    }
}
