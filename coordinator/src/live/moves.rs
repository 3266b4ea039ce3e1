//! Whose sessions stood otherwise, in the order in which that was heard.
//!
//! Each workspace is held once, at its newest number, and only so many of them. Readers remember a
//! number and ask what came after it; nothing is done for them meanwhile. One that asks so late
//! that some of it was let go of has to look at everything.

use std::collections::{BTreeMap, BTreeSet};

use warren_common::WorkspaceId;

/// More are not kept: readers are rarely more than a moment behind.
const KEPT: usize = 16 * 1024;

/// The newest moves, one of each workspace.
#[derive(Debug, Default)]
pub(super) struct Moves {
    newest: u64,
    /// The newest that was let go of because there were too many.
    floor: u64,
    at: BTreeMap<WorkspaceId, u64>,
    order: BTreeMap<u64, WorkspaceId>,
}

impl Moves {
    /// Notes that the sessions of these stand otherwise; returns the newest number.
    pub(super) fn note(&mut self, workspaces: &[WorkspaceId]) -> u64 {
        for workspace in workspaces {
            self.newest += 1;
            if let Some(before) = self.at.insert(*workspace, self.newest) {
                self.order.remove(&before);
            }
            self.order.insert(self.newest, *workspace);
            if self.order.len() > KEPT
                && let Some((number, workspace)) = self.order.pop_first()
            {
                self.at.remove(&workspace);
                self.floor = number;
            }
        }
        self.newest
    }

    /// Returns the newest number and those that moved after `from`; none where not all of them are
    /// known any more.
    pub(super) fn since(&self, from: u64) -> (u64, Option<BTreeSet<WorkspaceId>>) {
        let after = self.order.range(from.saturating_add(1)..);
        let moved = (from >= self.floor).then(|| after.map(|(_, workspace)| *workspace).collect());
        (self.newest, moved)
    }

    /// Lets go of all that are not to be kept.
    pub(super) fn keep(&mut self, kept: impl Fn(WorkspaceId) -> bool) {
        self.at.retain(|workspace, _| kept(*workspace));
        let at = &self.at;
        self.order.retain(|_, workspace| at.contains_key(workspace));
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn workspace(n: u128) -> WorkspaceId {
        WorkspaceId::new(Uuid::from_u128(n))
    }

    #[test]
    fn a_reader_is_told_each_once_however_often_it_moved() {
        let mut moves = Moves::default();
        moves.note(&[workspace(1), workspace(2)]);
        let (first, moved) = moves.since(0);
        assert_eq!(moved, Some([workspace(1), workspace(2)].into()));
        moves.note(&[workspace(1)]);
        moves.note(&[workspace(1)]);
        assert_eq!(moves.since(first).1, Some([workspace(1)].into()));
        assert_eq!(moves.order.len(), 2);
        moves.keep(|one| one == workspace(2));
        assert_eq!(moves.since(0).1, Some([workspace(2)].into()));
    }

    #[test]
    fn a_reader_that_is_too_late_is_told_that_it_is() {
        let (mut moves, kept) = (Moves::default(), KEPT as u128);
        let all: Vec<WorkspaceId> = (0..kept).map(workspace).collect();
        let early = moves.note(&all[..1]);
        moves.note(&all[1..]);
        assert_eq!(moves.since(0).1.map(|moved| moved.len()), Some(KEPT));
        moves.note(&[workspace(kept)]);
        assert_eq!(moves.since(0).1, None, "the first one is not known any more");
        assert_eq!(moves.since(early).1.map(|moved| moved.len()), Some(KEPT));
        moves.note(&[workspace(kept)]);
        assert_eq!((moves.order.len(), moves.at.len()), (KEPT, KEPT));
    }
}
