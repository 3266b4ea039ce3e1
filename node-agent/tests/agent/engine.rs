//! An engine that hangs, pulls for ever, loses networks, or holds what nobody read back.

use serde_json::{Value, json};
use tokio::time::timeout;
use warren_common::{WorkspaceId, spec::WorkspaceOrder, status::RunState};
use warren_proto::pb::node::v1::NodeImages;

use crate::{
    coordinator::SOON,
    world::{World, order, web},
};

fn order_of(number: u8) -> WorkspaceOrder {
    let mut order = order(1);
    order.workspace = other(number);
    order.address = format!("acme/other{number}").parse().expect("an address");
    order
}

fn other(number: u8) -> WorkspaceId {
    format!("0199a0b2-7f00-7000-8000-0000000001{number:02x}").parse().expect("an id")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_hangs_holds_up_no_order() {
    let mut world = World::start().await;
    world.up().await;
    world.end().await;
    world.control(&json!({"slow_ms": {"workspaces": 600_000}}));
    world.run().await;
    world.change(|order| (order.run_serial, order.permit) = (2, None)).await;
    let ready = |state: &RunState| *state == RunState::Prepared;
    world.coordinator.sees(web(), |seen| seen.run_serial == 2 && ready(&seen.state)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_the_image_waits_for_no_pull() {
    let world = World::start().await;
    world.control(&json!({"missing_images": ["far"], "slow_ms": {"ensure_image": 600_000}}));
    let far = |number: u8| {
        let mut order = order_of(number);
        order.spec.image = "far".to_owned();
        order
    };
    world.coordinator.order(|spec| spec.workspaces = (0..4).map(far).collect()).await;
    for number in 0..4 {
        world.coordinator.sees(other(number), |seen| seen.state == RunState::Preparing).await;
    }
    world.coordinator.order(|spec| spec.workspaces.push(order(1))).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_images_that_an_engine_holds_are_told() {
    let mut world = World::start().await;
    world.end().await;
    world.control(&json!({"images": {"agents:1": "sha256:01", "agents:2": "sha256:02"}}));
    world.run().await;
    let mut told = world.coordinator.state.images.subscribe();
    let two = |told: &Option<NodeImages>| told.as_ref().is_some_and(|told| told.images.len() == 2);
    let told = timeout(SOON, told.wait_for(two)).await.expect("told soon").expect("open").clone();
    let images = told.expect("images").images;
    let named: Vec<_> = images.iter().map(|one| (one.name.as_str(), one.id.as_str())).collect();
    assert_eq!(named, [("agents:1", "sha256:01"), ("agents:2", "sha256:02")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_was_taken_away_is_made_again() {
    let world = World::start().await;
    world.coordinator.order(|spec| spec.workspaces = vec![order(1)]).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    world.control(&json!({"fail": {"keep_networks": {"code": "ENGINE_FAILED", "times": 1}}}));
    world.permit(1).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_agent_made_is_read_back_before_it_starts() {
    let mut world = World::start().await;
    world.coordinator.order(|spec| spec.workspaces = vec![order(1)]).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    world.end().await;
    let path = world.fake_engine().join("engine.json");
    let read = || -> Value {
        serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("a record")
    };
    let mut record = read();
    let containers = record["containers"].as_object_mut().expect("containers");
    containers.values_mut().for_each(|one| one["plan"]["memory"] = json!(1));
    std::fs::write(&path, record.to_string()).expect("written");
    world.run().await;
    world.permit(1).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
    let record = read();
    let containers = record["containers"].as_object().expect("containers");
    let caps: Vec<&Value> = containers.values().map(|one| &one["plan"]["memory"]).collect();
    assert_eq!(caps, [&json!(order(1).spec.resources.memory)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workspaces_that_filled_their_tmp_hold_up_themselves_alone() {
    let world = World::start().await;
    let homes = world.state().join("homes");
    std::fs::create_dir_all(&homes).expect("a folder");
    for number in 0..8 {
        std::fs::write(homes.join(format!("full-tmp-{}", other(number))), "").expect("written");
    }
    world.coordinator.order(|spec| spec.workspaces = (0..8).map(order_of).collect()).await;
    for number in 0..8 {
        let making = |seen: &warren_common::status::WorkspaceObserved| {
            seen.steps.iter().any(|step| step.name == "container")
        };
        world.coordinator.sees(other(number), making).await;
    }
    world.coordinator.order(|spec| spec.workspaces.push(order(1))).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
}
