//! What is kept, in which order, and what is said of what is not.

use std::time::Duration;

use warren_common::{Limits, Revision};

use super::{INCARNATION, World, client, create_client, create_workspace, delete_client};
use crate::watch::{Gap, Record, ring::Bounds};

fn few(events: usize) -> Bounds {
    Bounds { events, ..Bounds::default() }
}

/// Everything that is kept after a revision, with its place.
fn after(world: &World, revision: u64) -> Result<Vec<(u64, u32)>, Gap> {
    let mut cursor = world.ring.seek(0, Revision(revision))?;
    let mut places = Vec::new();
    loop {
        let batch = world.ring.read(&cursor)?;
        places.extend(batch.records.iter().map(|one| (one.event.revision.0, one.index)));
        cursor = batch.upto;
        if !batch.more {
            return Ok(places);
        }
    }
}

#[test]
fn events_stand_in_the_order_of_their_effect_with_their_place_in_the_revision() {
    let mut world = World::new(Bounds::default());
    // one batch of two commands, one of which is refused, then one with two events
    assert_eq!(world.apply(vec![create_client(1), create_client(1)]), 1);
    world.must(vec![create_workspace(1, 1, None)]);
    assert_eq!(after(&world, 0), Ok(vec![(1, 0), (2, 0), (3, 0), (3, 1)]));
    assert_eq!(after(&world, 2), Ok(vec![(3, 0), (3, 1)]), "after a revision, not with it");
    assert_eq!(after(&world, 3), Ok(vec![]));
    assert_eq!(after(&world, 4), Err(Gap::Ahead { head: Revision(3) }));
    let newest = world.ring.newest();
    assert_eq!((newest.revision, newest.incarnation), (Revision(3), INCARNATION));
    let other = world.ring.seek(INCARNATION - 1, Revision(3));
    assert_eq!(other, Err(Gap::OtherIncarnation { incarnation: INCARNATION }));
}

#[test]
fn the_oldest_go_first_and_whole_revisions_at_a_time() {
    let mut world = World::new(few(4));
    world.must(vec![create_client(1)]);
    for n in 1..=40 {
        world.must(vec![create_workspace(1, n, None)]);
        let kept = after(&world, world.ring.oldest().revision.0).expect("what is kept is told");
        assert!(kept.len() <= 4 && kept.len() >= 2, "{kept:?}");
        assert_eq!(kept.first().map(|place| place.1), Some(0), "no revision is cut: {kept:?}");
        assert_eq!(kept.last().map(|place| place.0), Some(world.state.revision.0));
    }
    let start = world.ring.oldest().revision;
    assert_eq!(after(&world, start.0 - 1), Err(Gap::TooOld { start }));
    // an odd bound falls within a revision of two events: its first half goes with the other
    let mut world = World::new(few(3));
    world.must(vec![create_client(1), create_workspace(1, 1, None), create_workspace(1, 2, None)]);
    assert_eq!(after(&world, 3), Ok(vec![(4, 0), (4, 1)]));
    assert_eq!(after(&world, 2), Err(Gap::TooOld { start: Revision(3) }));
}

#[test]
fn bytes_are_bounded_too() {
    let setup = || Some("x".repeat(Limits::SETUP_BYTES));
    let mut world = World::new(Bounds { bytes: 5 * Limits::SETUP_BYTES, ..Bounds::default() });
    world.must(vec![create_client(1)]);
    for n in 1..=10 {
        world.must(vec![create_workspace(1, n, setup())]);
    }
    let kept = after(&world, world.ring.oldest().revision.0).expect("what is kept is told");
    assert_eq!(kept, [(11, 0), (11, 1), (12, 0), (12, 1)], "two large ones of two events each");
    // one that is larger than everything allowed is not kept, and nothing else is said of it
    let mut world = World::new(Bounds { bytes: Limits::SETUP_BYTES, ..Bounds::default() });
    world.must(vec![create_client(1), create_workspace(1, 1, setup())]);
    assert_eq!(world.ring.oldest(), world.ring.newest());
}

#[test]
fn what_is_old_goes_when_something_new_comes() {
    let mut world = World::new(Bounds { age: Duration::from_secs(60), ..Bounds::default() });
    world.must(vec![create_client(1)]);
    world.arrived += Duration::from_secs(61);
    assert_eq!(after(&world, 0), Ok(vec![(1, 0), (2, 0)]), "a quiet cluster keeps what it has");
    world.must(vec![create_client(2)]);
    assert_eq!(world.ring.oldest().revision, Revision(2));
    assert_eq!(after(&world, 2), Ok(vec![(3, 0)]));
    // events that come with a clock that jumps back are kept
    world.arrived -= Duration::from_secs(30);
    world.must(vec![create_client(3)]);
    assert_eq!(after(&world, 2), Ok(vec![(3, 0), (4, 0)]));
}

#[test]
fn a_long_history_comes_in_batches_that_cut_no_revision() {
    let mut world = World::new(Bounds::default());
    world.must(vec![create_client(1)]);
    let commands = (1..=250).map(|n| create_workspace(1, n, None)).collect();
    world.must(commands);
    world.must(vec![create_client(2), delete_client(2)]);
    let mut cursor = world.ring.oldest();
    let mut told = Vec::new();
    let mut batches = 0;
    loop {
        let batch = world.ring.read(&cursor).expect("kept");
        assert!(batch.records.len() <= Limits::WATCH_BATCH + 1);
        assert_eq!(batch.records.last().map(|one| one.event.revision), Some(batch.upto.revision));
        told.extend(batch.records.iter().map(|one| (one.event.revision.0, one.index)));
        cursor = batch.upto;
        batches += 1;
        if !batch.more {
            break;
        }
    }
    assert!(batches >= 2, "{batches}");
    assert_eq!(Ok(told), after(&world, 0), "each once, in order");
    let deleted = world.ring.seek(0, Revision(cursor.revision.0 - 1)).expect("kept");
    let deleted = world.ring.read(&deleted).expect("kept").records;
    assert_eq!(deleted[0].client(), Some(client(2)), "what is gone is still named");
}

#[test]
fn a_whole_state_taken_over_ends_what_was_kept() {
    let mut world = World::new(Bounds::default());
    world.must(vec![create_client(1)]);
    let reader = world.ring.newest();
    world.ring.replace(INCARNATION, Revision(50));
    assert_eq!(world.ring.read(&reader).err(), Some(Gap::Replaced { start: Revision(50) }));
    assert_eq!(after(&world, 49), Err(Gap::TooOld { start: Revision(50) }));
    assert_eq!(after(&world, 50), Ok(vec![]));
    // a restore raises the incarnation: its revisions are others'
    let none: Vec<Record> = Vec::new();
    let reader = world.ring.newest();
    world.ring.append((INCARNATION + 1, Revision(50)), none, world.arrived);
    let restored = Gap::OtherIncarnation { incarnation: INCARNATION + 1 };
    assert_eq!(world.ring.read(&reader).err(), Some(restored));
    assert_eq!(world.ring.seek(INCARNATION, Revision(50)), Err(restored));
}
