//! Secrets: nothing starts without them, and what runs follows its order.

use std::{fs, path::PathBuf};

use warren_common::{
    spec::{NodeSpec, Run, WorkspaceOrder},
    status::{RunState, WorkspaceObserved},
};

use crate::world::{World, eventually, order, web};

fn folder(world: &World) -> PathBuf {
    let name = world.membership.as_ref().expect("joined").name.clone();
    world.config().runtime_of(&name).join("secrets").join(web().to_string())
}

fn token(world: &World) -> Option<String> {
    fs::read_to_string(folder(world).join("token")).ok()
}

/// What the coordinator gives, and the mark that the document names.
async fn give(world: &World, mark: u64, value: &str) {
    *world.coordinator.state.secret.lock().expect("lock") = (mark, value.to_owned());
    let mark = |spec: &mut NodeSpec| {
        spec.secrets.insert(web(), mark);
    };
    world.coordinator.order(mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_container_starts_before_its_secrets_are_there() {
    let world = World::start().await;
    let coordinator = &world.coordinator;
    coordinator
        .order(|spec| {
            spec.workspaces = vec![order(1)];
            spec.secrets.insert(web(), 7);
        })
        .await;
    let unavailable = |seen: &WorkspaceObserved| matches!(&seen.state, RunState::Failed { code, retry: true } if code == "SECRETS_UNAVAILABLE");
    let seen = coordinator.sees(web(), unavailable).await;
    assert!(seen.reason.contains("not to be had"), "{}", seen.reason);
    *coordinator.state.secret.lock().expect("lock") = (7, "first".to_owned());
    coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    assert_eq!(token(&world).as_deref(), Some("first"));
    world.permit(1).await;
    coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_follows_its_order_and_what_is_stopped_has_nothing() {
    let world = World::start().await;
    world.up().await;
    let coordinator = &world.coordinator;
    give(&world, 7, "first").await;
    eventually("it has the first", || token(&world).as_deref() == Some("first")).await;
    give(&world, 8, "second").await;
    eventually("it has the second", || token(&world).as_deref() == Some("second")).await;
    // not to be had: it keeps what it has, and says why it is not the newest
    give(&world, 9, "").await;
    coordinator
        .sees(web(), |seen| {
            seen.state == RunState::Running && seen.reason.contains("not to be had")
        })
        .await;
    assert_eq!(token(&world).as_deref(), Some("second"));
    give(&world, 10, "third").await;
    eventually("it has the third", || token(&world).as_deref() == Some("third")).await;
    coordinator.order(|spec| spec.secrets.clear()).await;
    eventually("it has none", || token(&world).is_none() && folder(&world).is_dir()).await;
    give(&world, 11, "fourth").await;
    eventually("it has the fourth", || token(&world).as_deref() == Some("fourth")).await;
    // nothing of it stands in the ledger
    let ledger = fs::read_to_string(world.state().join("ledger.json")).expect("a ledger");
    assert!(ledger.contains("\"secrets\"") && !ledger.contains("fourth"), "{ledger}");
    world.change(|order| order.run = Run::Stopped).await;
    coordinator.sees(web(), |seen| matches!(seen.state, RunState::Stopped { .. })).await;
    eventually("nothing is left of it", || !folder(&world).exists()).await;
}

/// Another workspace of the node.
fn another(number: u8) -> WorkspaceOrder {
    let id = format!("0199a0b2-7f00-7000-8000-0000000001{number:02}");
    let address = format!("acme/w{number}").parse().expect("an address");
    WorkspaceOrder { workspace: id.parse().expect("an id"), address, ..order(1) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_secrets_holds_up_nobody_else() {
    let world = World::start().await;
    let coordinator = &world.coordinator;
    coordinator.state.silent.send_replace(true);
    *coordinator.state.secret.lock().expect("lock") = (7, "first".to_owned());
    // more than there are steps at once
    let waiting: Vec<_> = (1..=6).map(another).collect();
    let ids: Vec<_> = waiting.iter().map(|order| order.workspace).collect();
    coordinator
        .order(|spec| {
            spec.workspaces.extend(waiting.iter().cloned());
            spec.secrets.extend(ids.iter().map(|id| (*id, 7)));
        })
        .await;
    for id in &ids {
        coordinator.sees(*id, |seen| seen.state == RunState::Preparing).await;
    }
    let without = another(9);
    let id = without.workspace;
    coordinator.order(|spec| spec.workspaces.push(without)).await;
    coordinator.sees(id, |seen| seen.state == RunState::Prepared).await;
    coordinator.state.silent.send_replace(false);
    for id in ids {
        coordinator.sees(id, |seen| seen.state == RunState::Prepared).await;
    }
}
