//! What a store has been told and has not yet written: layers over the database.
//!
//! A [`Layer`] is a sequence of calls, folded: which indexes of what lies below are gone, which
//! entries were added, which named values set. Folding keeps the meaning, so a layer that is
//! written in one transaction stands for all of its calls or for none.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;

use super::{Record, Slot};

/// Calls that are not in the database yet.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Everything before it is purged, here and below.
    pub(super) floor: u64,
    /// Everything from it on is cut off below.
    pub(super) cut: u64,
    /// What was appended; the end of the log.
    pub(super) entries: BTreeMap<u64, Bytes>,
    /// What was set.
    pub(super) slots: BTreeMap<Slot, Bytes>,
}

impl Default for Layer {
    fn default() -> Self {
        Self { floor: 0, cut: u64::MAX, entries: BTreeMap::new(), slots: BTreeMap::new() }
    }
}

impl Layer {
    pub(super) fn is_empty(&self) -> bool {
        let Self { floor, cut, entries, slots } = self;
        (*floor, *cut) == (0, u64::MAX) && entries.is_empty() && slots.is_empty()
    }

    pub(super) fn append(&mut self, records: &[Record]) {
        self.entries.extend(records.iter().cloned());
    }

    pub(super) fn truncate_from(&mut self, from: u64) {
        self.cut = self.cut.min(from);
        self.entries.split_off(&from);
    }

    pub(super) fn purge(&mut self, upto: u64, purged: &[u8]) {
        self.floor = self.floor.max(upto.saturating_add(1));
        self.entries = self.entries.split_off(&self.floor);
        self.put(Slot::Purged, purged);
    }

    pub(super) fn put(&mut self, slot: Slot, value: &[u8]) {
        self.slots.insert(slot, Bytes::copy_from_slice(value));
    }

    /// Returns which part of `range` is still visible of what lies below. The entries here are the
    /// end of the log, so whatever lies below from their first on is this layer, written already.
    pub(super) fn below(&self, range: Range<u64>) -> Range<u64> {
        let own = self.entries.first_key_value().map_or(u64::MAX, |(first, _)| *first);
        range.start.max(self.floor)..range.end.min(self.cut).min(own)
    }

    /// Returns the entries of `range` that stand here.
    pub(super) fn within(&self, range: Range<u64>) -> impl DoubleEndedIterator<Item = Record> {
        // An empty range is fine, an inverted one is not.
        let range = range.start..range.end.max(range.start);
        self.entries.range(range).map(|(index, entry)| (*index, entry.clone()))
    }
}
