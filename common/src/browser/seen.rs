//! What may be seen of a browser.

use super::state::{BrowserEnd, Dialog};
use crate::{Bytes, Timestamp};

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Its DevTools answer; of which version it is.
    Connected(String),
    /// Its DevTools cannot be looked at, and why.
    Blind(String),
    /// These windows of it are on the display, and no others: titles that count where its DevTools
    /// cannot be looked at.
    Windows(Vec<Target>),
    /// These pages are there, and no others.
    Pages(Vec<Target>),
    /// This page is there, perhaps at another address. Its title may be of earlier.
    Page(Target),
    /// A page is there no more.
    PageGone(String),
    /// A page's process ended.
    PageCrashed(String),
    /// A page began another document.
    Navigated(String),
    /// Whether a page has loaded.
    Loaded(String, bool),
    /// An error of a page.
    Error(String, String),
    /// A page shows a dialog, or none any more.
    Dialog(String, Option<Dialog>),
    /// A page answers; the browser where none is named.
    Answered(Option<String>),
    /// A page does not answer what it was asked then; the browser where none is named.
    Silent(Option<String>, Timestamp),
    /// What it uses.
    Weighs(Weight),
    /// Its process is gone.
    Ended(Ended),
}

/// A page as DevTools list it, or a window: that has no address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: String,
    /// Its address.
    pub url: String,
    /// Its title.
    pub title: String,
}

/// What the processes of a browser use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// Memory, each shared page in shares.
    pub memory: Bytes,
    /// Processes, itself counted.
    pub processes: u32,
    /// Those that show pages.
    pub renderers: u32,
}

/// How a process was seen to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// What the kernel told, as far as it did.
    pub end: BrowserEnd,
    /// The program that drove it ended with it.
    pub driver_ended: bool,
    /// It left the lock on its profile behind; none where it has none to look at.
    pub lock_left: Option<bool>,
}
