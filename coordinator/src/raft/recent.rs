//! The newest entries of the log, in memory, for those who read them right after they were written:
//! the state machine, and the replication to every other replica. Without it each of them reads
//! the disk's index and decodes anew what has just been encoded.

use std::collections::VecDeque;

use openraft::entry::RaftEntry as _;
use warren_common::Limits;

use super::types::Entry;

/// The end of the log, at most [`Limits::LOG_MEMORY_BYTES`] of it; indexes are consecutive.
#[derive(Default)]
pub(super) struct Recent {
    /// Entries with the bytes they take encoded.
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    /// Adds what was appended to the log.
    pub(super) fn append(&mut self, entries: impl IntoIterator<Item = (Entry, usize)>) {
        for (entry, bytes) in entries {
            let follows = self.last().is_none_or(|last| last.checked_add(1) == Some(entry.index()));
            if !follows {
                self.clear();
            }
            self.entries.push_back((entry, bytes));
            self.bytes += bytes;
            while self.bytes > Limits::LOG_MEMORY_BYTES && self.entries.len() > 1 {
                self.drop_first();
            }
        }
    }

    /// Returns the entries of `from..to`, ending early once `max_bytes` are exceeded; the first one
    /// is returned whatever its size. None where the beginning is not held here.
    pub(super) fn range(&self, from: u64, to: u64, max_bytes: usize) -> Option<Vec<Entry>> {
        let (first, last) = (self.entries.front()?.0.index(), self.last()?);
        if from < first || from > last {
            return None;
        }
        let skipped = usize::try_from(from - first).ok()?;
        let (mut taken, mut sum) = (Vec::new(), 0_usize);
        for (entry, bytes) in self.entries.iter().skip(skipped) {
            sum = sum.saturating_add(*bytes);
            if entry.index() >= to || sum > max_bytes && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Some(taken)
    }

    /// Forgets the entries with `index >= from`.
    pub(super) fn truncate_from(&mut self, from: u64) {
        while self.last().is_some_and(|last| last >= from) {
            if let Some((_, bytes)) = self.entries.pop_back() {
                self.bytes -= bytes;
            }
        }
    }

    /// Forgets the entries with `index <= upto`.
    pub(super) fn purge(&mut self, upto: u64) {
        while self.entries.front().is_some_and(|(entry, _)| entry.index() <= upto) {
            self.drop_first();
        }
    }

    fn last(&self) -> Option<u64> {
        self.entries.back().map(|(entry, _)| entry.index())
    }

    fn drop_first(&mut self) {
        if let Some((_, bytes)) = self.entries.pop_front() {
            self.bytes -= bytes;
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use openraft::{EntryPayload, impls::leader_id_adv::LeaderId};

    use super::*;
    use crate::raft::types::LogId;

    fn entry(index: u64) -> Entry {
        let log_id = LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index };
        Entry { log_id, payload: EntryPayload::Blank }
    }

    fn indexes(entries: Option<Vec<Entry>>) -> Option<Vec<u64>> {
        entries.map(|entries| entries.iter().map(|entry| entry.log_id.index).collect())
    }

    fn holding(indexes: std::ops::Range<u64>) -> Recent {
        let mut recent = Recent::default();
        recent.append(indexes.map(|index| (entry(index), 10)));
        recent
    }

    #[test]
    fn it_answers_what_it_holds_and_leaves_the_rest_to_the_store() {
        let recent = holding(5..10);
        assert_eq!(indexes(recent.range(5, 8, usize::MAX)), Some(vec![5, 6, 7]));
        assert_eq!(indexes(recent.range(7, 20, usize::MAX)), Some(vec![7, 8, 9]));
        assert_eq!(indexes(recent.range(5, 10, 25)), Some(vec![5, 6]));
        assert_eq!(indexes(recent.range(5, 10, 1)), Some(vec![5]), "the first whatever its size");
        assert_eq!(indexes(recent.range(5, 5, usize::MAX)), Some(vec![]));
        assert!(recent.range(4, 8, usize::MAX).is_none(), "older than what is held");
        assert!(recent.range(10, 12, usize::MAX).is_none(), "newer than what is held");
        assert!(Recent::default().range(0, 9, usize::MAX).is_none());
    }

    #[test]
    fn it_follows_the_log_when_either_end_is_cut() {
        let mut recent = holding(5..10);
        recent.truncate_from(8);
        recent.purge(5);
        assert_eq!(indexes(recent.range(6, 99, usize::MAX)), Some(vec![6, 7]));
        recent.append([(entry(8), 10)]);
        assert_eq!(
            (indexes(recent.range(6, 99, usize::MAX)), recent.bytes),
            (Some(vec![6, 7, 8]), 30)
        );
        recent.append([(entry(50), 10)]);
        assert_eq!(indexes(recent.range(50, 99, usize::MAX)), Some(vec![50]), "a gap begins anew");
        assert!(recent.range(8, 9, usize::MAX).is_none());
        recent.truncate_from(0);
        assert_eq!((recent.entries.len(), recent.bytes), (0, 0));
    }

    #[test]
    fn it_holds_no_more_than_its_limit() {
        let mut recent = Recent::default();
        let third = Limits::LOG_MEMORY_BYTES / 3;
        recent.append((0..5).map(|index| (entry(index), third)));
        assert_eq!(indexes(recent.range(2, 9, usize::MAX)), Some(vec![2, 3, 4]));
        assert!(recent.range(1, 9, usize::MAX).is_none());
        recent.append([(entry(5), Limits::LOG_MEMORY_BYTES + 1)]);
        assert_eq!(indexes(recent.range(5, 9, usize::MAX)), Some(vec![5]), "the newest is held");
    }
}
