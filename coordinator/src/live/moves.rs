//! Whose sessions stood otherwise, in the order in which that was heard.
//!
//! Each workspace is held once, at its newest number. Readers remember a number and ask what came
//! after it; nothing is done for them meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use warren_common::WorkspaceId;

/// The newest move of each workspace.
#[derive(Debug, Default)]
pub(super) struct Moves {
    newest: u64,
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
        }
        self.newest
    }

    /// Returns those that moved after `from`, and the newest number.
    pub(super) fn since(&self, from: u64) -> (u64, BTreeSet<WorkspaceId>) {
        let after = self.order.range(from.saturating_add(1)..);
        (self.newest, after.map(|(_, workspace)| *workspace).collect())
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
        assert_eq!(moved, [workspace(1), workspace(2)].into());
        moves.note(&[workspace(1)]);
        moves.note(&[workspace(1)]);
        assert_eq!(moves.since(first).1, [workspace(1)].into());
        assert_eq!(moves.order.len(), 2);
        moves.keep(|one| one == workspace(2));
        assert_eq!(moves.since(0).1, [workspace(2)].into());
    }
}
