//! How often one node may make the log grow: a hostile or broken one must not fill it.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use tokio::time::Instant;
use warren_common::{Limits, NodeId};

use crate::sync::locked;

/// From one registration of a node to the next, and from one change of its facts to the next.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// When each node may register again.
#[derive(Default)]
pub(super) struct Pace(Mutex<BTreeMap<NodeId, Instant>>);

impl Pace {
    /// Takes the node's next turn and returns when it comes: at once, or [`PAUSE`] after the one
    /// before. Turns that are not used are lost.
    pub(super) fn turn(&self, node: NodeId, now: Instant) -> Instant {
        let mut turns = locked(&self.0);
        if turns.len() >= Limits::NODES {
            turns.retain(|_, next| *next > now);
        }
        // a turn that is to come is nobody's yet: a newer stream of the node takes its place
        let at = turns.get(&node).map_or(now, |next| (*next).max(now));
        let after = at + PAUSE;
        turns.insert(node, after.min(now + 2 * PAUSE));
        at.min(now + PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_node_has_a_turn_each_second_and_no_queue_of_them() {
        let pace = Pace::default();
        let (one, other) = (NodeId::new(Uuid::from_u128(1)), NodeId::new(Uuid::from_u128(2)));
        let start = Instant::now();
        assert_eq!(pace.turn(one, start), start);
        assert_eq!(pace.turn(other, start), start, "each node has its own");
        for _ in 0..100 {
            assert_eq!(pace.turn(one, start), start + PAUSE, "however often it asks");
        }
        assert_eq!(pace.turn(one, start + 3 * PAUSE), start + 3 * PAUSE);
    }
}
