//! Coordinators: tokens, ids that are given once, replacement, removal.

use warren_common::{Limits, ReplicaId};
use warren_model::{ClusterState, Command, EventKind, Outcome, RefusalCode, command::JoinReplica};

use crate::make::{World, coordinator_token, join_replica, person, remove_replica, set_replica};

fn world() -> World {
    let mut world = World::new();
    world.must(set_replica(1, 1));
    world
}

fn join(world: &mut World, n: u8, replaces: Option<u64>) -> ReplicaId {
    world.must(coordinator_token(n, world.now, replaces));
    match world.must(Command::JoinReplica(join_replica(n, 10 + n))).outcome {
        Outcome::Replica(replica) => replica,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_id_is_given_once_whatever_becomes_of_it() {
    let mut world = world();
    assert_eq!(join(&mut world, 1, None), ReplicaId(2));
    assert_eq!(join(&mut world, 2, None), ReplicaId(3));
    world.must(remove_replica(3));
    assert!(world.state.was_removed(ReplicaId(3)));
    assert!(!world.state.was_removed(ReplicaId(4)), "nobody had it yet");
    assert_eq!(join(&mut world, 3, None), ReplicaId(4), "3 never returns");
    let back = world.refused(set_replica(3, 9));
    assert_eq!(back.message, "coordinator 3 was removed, and its id never returns");
    let spent = world.refused(Command::JoinReplica(join_replica(2, 12)));
    assert_eq!(spent.code, RefusalCode::WrongState, "nor does a retry of its own join bring it");
}

#[test]
fn a_state_of_before_knows_the_highest_id_by_its_rows() {
    let mut world = world();
    world.must(set_replica(5, 5));
    world.state.last_replica = 0;
    assert_eq!(world.state.highest_replica(), ReplicaId(5));
    assert_eq!(join(&mut world, 1, None), ReplicaId(6));
    assert_eq!(ClusterState::default().highest_replica(), ReplicaId(0));
    assert!(!ClusterState::default().was_removed(ReplicaId(1)), "a fresh log condemns nobody");
}

#[test]
fn a_coordinators_token_is_good_once_and_for_its_key() {
    let mut world = world();
    world.must(coordinator_token(1, world.now, None));
    let good = join_replica(1, 7);
    let wrong = JoinReplica { secret_hash: [9; 32], ..good.clone() };
    assert_eq!(world.refused(Command::JoinReplica(wrong)).code, RefusalCode::TokenInvalid);
    let mut late = world.clone();
    late.wait(900_001);
    assert_eq!(
        late.refused(Command::JoinReplica(good.clone())).message,
        "the join token has expired; mint a new one with `warren cluster token`"
    );
    let copied = JoinReplica { raft_address: "10.0.0.1:7401".to_owned(), ..good.clone() };
    assert_eq!(world.refused(Command::JoinReplica(copied)).code, RefusalCode::NameTaken);
    let joined = Outcome::Replica(ReplicaId(2));
    assert_eq!(world.must(Command::JoinReplica(good.clone())).outcome, joined);
    let revision = world.state.revision;
    assert_eq!(world.must(Command::JoinReplica(good.clone())).outcome, joined, "a retry");
    assert_eq!(world.state.revision, revision, "nothing happened");
    let thief = JoinReplica { key_hash: [8; 32], ..good };
    let refusal = world.refused(Command::JoinReplica(thief));
    assert_eq!(refusal.message, "the join token was used before, for coordinator 2");
    let kept = u64::try_from(Limits::TOKEN_AGE.as_millis()).expect("fits") * 2;
    world.wait(kept + 1);
    world.must(coordinator_token(2, world.now, None));
    assert_eq!(world.state.coordinator_tokens.len(), 1, "the old one is swept");
}

#[test]
fn a_replacement_may_take_the_addresses_of_the_old_one_and_is_remembered() {
    let mut world = world();
    let old = join(&mut world, 1, None);
    let unknown = coordinator_token(9, world.now, Some(7));
    assert_eq!(world.refused(unknown).message, "there is no coordinator 7");
    world.must(coordinator_token(2, world.now, Some(old.0)));
    let same_machine = Command::JoinReplica(join_replica(2, 11));
    assert_eq!(world.must(same_machine).outcome, Outcome::Replica(ReplicaId(3)));
    assert_eq!(world.state.replacing.get(&ReplicaId(3)), Some(&old));
    world.must(remove_replica(old.0));
    assert!(world.state.replacing.is_empty());
    let gone = coordinator_token(3, world.now, Some(old.0));
    assert_eq!(world.refused(gone).code, RefusalCode::WrongState);
}

#[test]
fn a_removal_is_recorded_once_and_the_last_one_stays() {
    let mut world = world();
    join(&mut world, 1, None);
    let envelope = world.envelope(person(), remove_replica(2));
    let effect = world.apply(&envelope);
    let record = effect.audit.expect("one record");
    assert_eq!(
        (record.action.as_str(), record.object.address.as_str()),
        ("coordinator.remove", "coordinator 2")
    );
    assert_eq!(effect.events[0].kind, EventKind::ReplicaRemoved(ReplicaId(2)));
    let revision = world.state.revision;
    world.must(remove_replica(2));
    assert_eq!(world.state.revision, revision, "it is gone already");
    assert_eq!(world.refused(remove_replica(3)).code, RefusalCode::NotFound);
    assert_eq!(
        world.refused(remove_replica(1)).message,
        "coordinator 1 is the only one of the cluster"
    );
}

#[test]
fn there_is_an_end_to_coordinators() {
    let mut world = world();
    for n in 2..=9 {
        world.must(set_replica(n, u8::try_from(n).expect("few")));
    }
    world.must(coordinator_token(1, world.now, None));
    let refusal = world.refused(Command::JoinReplica(join_replica(1, 99)));
    assert_eq!(refusal.code, RefusalCode::LimitReached);
    assert_eq!(world.refused(set_replica(10, 10)).code, RefusalCode::LimitReached);
}
