//! Which browser a person should look at first.

use std::cmp::Reverse;

use super::state::{BrowserState, BrowserStatus};
use crate::Timestamp;

/// How much a browser needs a person, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// It was closed.
    Closed,
    /// It starts or runs.
    Running,
    /// Nobody knows.
    Unknown,
    /// A page shows a dialog.
    Dialog,
    /// It or a page does not answer.
    Hung,
    /// A page's process ended.
    PageCrashed,
    /// Its process ended, and nobody closed it.
    Crashed,
}

impl Urgency {
    /// Returns how much the browser of `status` needs a person.
    pub fn of(status: &BrowserStatus) -> Self {
        let pages = || status.pages.iter();
        match status.state {
            BrowserState::Crashed => Self::Crashed,
            BrowserState::Closed => Self::Closed,
            _ if status.unknown => Self::Unknown,
            _ if pages().any(|page| page.crashed) => Self::PageCrashed,
            BrowserState::Hung => Self::Hung,
            _ if pages().any(|page| page.hung.is_some()) => Self::Hung,
            _ if pages().any(|page| page.dialog.is_some()) => Self::Dialog,
            BrowserState::Starting | BrowserState::Running => Self::Running,
        }
    }

    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Running => "running",
            Self::Unknown => "unknown",
            Self::Dialog => "dialog",
            Self::Hung => "hung",
            Self::PageCrashed => "page-crashed",
            Self::Crashed => "crashed",
        }
    }

    /// Returns whether a person should look.
    pub fn needs_person(self) -> bool {
        self >= Self::Dialog
    }
}

/// The order of lists: the largest key comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UrgencyKey {
    /// How much.
    pub urgency: Urgency,
    /// Since when, the longest last.
    pub since: Reverse<Timestamp>,
}

impl UrgencyKey {
    /// Returns the key of one browser.
    pub fn of(status: &BrowserStatus) -> Self {
        Self { urgency: Urgency::of(status), since: Reverse(status.since) }
    }
}
