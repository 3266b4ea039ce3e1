//! Watching: what happened, kept for a while and told to whoever asks.
//!
//! Applying a batch appends its events to one [`Ring`] per replica and wakes the readers; nothing
//! is done per reader there. A [`Watcher`] pulls from the ring at its reader's pace and holds
//! nothing but its place in it: one that falls behind what is kept is cut. Events are history and
//! not state: after a restart the ring holds what the replayed log gave.

mod fed;
mod feed;
mod filter;
mod record;
mod ring;
mod show;
mod slots;
mod watcher;

#[cfg(test)]
pub(crate) mod tests;

pub use feed::{Decided, Feed};
pub use filter::{Filter, Scope, tells_of_people};
pub use record::{Record, Subject};
pub use ring::{Batch, Cursor, Gap, Ring};
pub use slots::{Full, Slot, Slots};
pub use watcher::{Watcher, resync};

pub(crate) use record::Gathered;
