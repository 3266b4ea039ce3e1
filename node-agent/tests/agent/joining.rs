//! Becoming a node, staying one, and being the only one.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use warren_common::Timestamp;
use warren_daemon::{Shutdown, clock, token::TokenRole};
use warren_node_agent::{
    agent::{Agent, AgentError},
    join::{self, JoinError},
};

use crate::{
    authority::Life,
    world::{World, eventually, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_and_a_second_try_make_one_node() {
    let mut world = World::bare().await;
    *world.coordinator.state.lost_answers.lock().expect("lock") = 1;
    let error = world.join().await.expect_err("the answer was lost");
    assert!(matches!(error, JoinError::Refused(_)), "{error}");
    let key = std::fs::read_to_string(world.state().join("identity/pending.pem")).expect("kept");
    let first = world.join().await.expect("the second try");
    assert_eq!(world.join().await.expect("a third"), first, "a node stays what it is");
    let identity = world.state().join("identity/identity.pem");
    let kept = std::fs::read_to_string(&identity).expect("installed");
    assert!(kept.contains(key.trim()), "the key of the first try");
    let mode = std::fs::metadata(&identity).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(world.state().join("coordinators.json").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_let_no_node_in_are_refused() {
    let mut world = World::bare().await;
    let later = Timestamp(clock::now().0 + 600_000);
    let person = world.coordinator.token(TokenRole::Person, later);
    let error = world.join_with(&person).await.expect_err("a person's");
    assert!(matches!(error, JoinError::Role(TokenRole::Person)), "{error}");
    let old = world.coordinator.token(TokenRole::Node, Timestamp(1));
    let error = world.join_with(&old).await.expect_err("expired");
    assert!(matches!(error, JoinError::Expired), "{error}");
    let error = world.join_with("wrn1_nonsense").await.expect_err("nonsense");
    assert!(matches!(error, JoinError::Token(_)), "{error}");
    // the token of one cluster at the coordinator of another: the pin does not match
    let other = World::bare().await;
    let mut foreign: warren_daemon::token::JoinToken =
        other.coordinator.token(TokenRole::Node, later).parse().expect("a token");
    foreign.addresses = vec![world.coordinator.address.to_string()];
    let foreign = foreign.to_text().expect("it fits").expose().clone();
    let error = world.join_with(&foreign).await.expect_err("another cluster");
    assert!(matches!(error, JoinError::Connect(_)), "{error}");
    // and a node of one cluster does not become one of another by accident
    world.join().await.expect("joined");
    let theirs = other.coordinator.token(TokenRole::Node, later);
    let error = world.join_with(&theirs).await.expect_err("a node elsewhere");
    assert!(matches!(error, JoinError::Elsewhere { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_renews_itself_at_a_third_of_its_life() {
    let mut world = World::bare().await;
    let day = Duration::from_secs(24 * 3600);
    *world.coordinator.state.life.lock().expect("lock") = Life { age: day * 31, length: day * 90 };
    world.join().await.expect("joined");
    let until_when = |world: &World| {
        let (_, identity) = join::membership(&world.state()).expect("readable").expect("a node");
        identity.credentials.peer().not_after
    };
    let before = until_when(&world);
    world.run().await;
    until(&world.coordinator.state.renewed, |renewed| *renewed == 1).await;
    eventually("a fresh one is installed", || until_when(&world) > before).await;
    world.end().await;
    let epoch = *world.coordinator.state.registered.borrow();
    world.run().await;
    until(&world.coordinator.state.registered, |now| *now > epoch).await;
    assert_eq!(*world.coordinator.state.renewed.borrow(), 1, "it is fresh");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_one_agent_and_it_has_joined() {
    let mut world = World::bare().await;
    let start = async |world: &World| Agent::start(world.config(), None, Shutdown::new()).await;
    assert!(matches!(start(&world).await.err(), Some(AgentError::NotJoined)));
    world.join().await.expect("joined");
    world.run().await;
    assert!(matches!(start(&world).await.err(), Some(AgentError::Taken(_))));
    assert!(world.state().join("addresses.json").exists());
    world.end().await;
    std::fs::write(world.state().join("ledger.json"), "garbage").expect("written");
    let error = start(&world).await.err().expect("a damaged ledger");
    assert!(error.to_string().contains("ledger.json"), "{error}");
}
