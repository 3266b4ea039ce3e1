//! The status of a browser: what it may be, what may be seen of it, and what follows.
//!
//! A [`Seen`] is one thing that was seen of a browser: its process, what its DevTools said, how it
//! ended. [`Fold`] makes one [`BrowserStatus`] of them. [`Urgency`] says which browser a person should
//! look at first.
//!
//! Nothing here reads a clock, a file or a socket. Everything comes from a workspace and may be
//! forged there: texts are cleaned, cut and masked, lists are bounded.

mod fold;
mod seen;
mod state;
mod urgency;

#[cfg(test)]
mod tests;

pub use fold::Fold;
pub use seen::{Ended, Seen, Target, Weight};
pub use state::{
    BrowserEnd, BrowserId, BrowserState, BrowserStatus, Dialog, Engine, InvalidBrowserId, Launcher,
    Page, Source, fit, kept,
};
pub use urgency::{Urgency, UrgencyKey};
