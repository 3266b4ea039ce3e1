//! Other caps for what runs: applied in place, tried again where the engine refuses, kept over
//! restarts.

use std::fs;

use serde_json::{Value, json};
use warren_common::{
    Bytes, MilliCpus,
    spec::Run,
    status::{RunState, WorkspaceObserved},
};

use crate::world::{World, eventually, until, web};

/// What the fake engine holds of the one container.
fn held(world: &World) -> Value {
    let text = fs::read_to_string(world.fake_engine().join("engine.json")).expect("its record");
    let record: Value = serde_json::from_str(&text).expect("JSON");
    let containers = record["containers"].as_object().expect("containers");
    assert_eq!(containers.len(), 1, "{record}");
    containers.values().next().expect("one")["seen"].clone()
}

fn memory(world: &World) -> u64 {
    held(world)["caps"]["memory"].as_u64().expect("a cap")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_change_in_what_runs_and_the_run_stays_the_same() {
    let mut world = World::start().await;
    world.up().await;
    let before = held(&world);
    assert_eq!(memory(&world), Bytes::mib(128).0);
    let resources = |memory| {
        move |order: &mut warren_common::spec::WorkspaceOrder| {
            order.spec.resources.memory = Bytes::mib(memory);
            order.spec.resources.swap = Bytes::mib(64);
            order.spec.resources.cpus = Some(MilliCpus(250));
        }
    };
    world.change(resources(256)).await;
    eventually("the caps are set", || memory(&world) == Bytes::mib(256).0).await;
    let told = |mib| {
        move |seen: &WorkspaceObserved| seen.caps.is_some_and(|caps| caps.memory == Bytes::mib(mib))
    };
    let seen = world.coordinator.sees(web(), told(256)).await;
    let caps = seen.caps.expect("told");
    assert_eq!((caps.swap, caps.cpus), (Bytes::mib(64), Some(MilliCpus(250))));
    let after = held(&world);
    assert_eq!(after["caps"]["memory_and_swap"], Bytes::mib(320).0);
    assert_eq!(after["caps"]["cpus"], 250);
    assert_eq!((&after["id"], &after["state"]), (&before["id"], &before["state"]));

    // what the engine refuses is told and tried again; what runs goes on
    world.control(
        &json!({"fail": {"update": {"code": "ENGINE_FAILED", "message": "busy", "times": 1}}}),
    );
    world.change(resources(512)).await;
    let waiting =
        |seen: &WorkspaceObserved| seen.reason.contains("busy") && !seen.caps_reason.is_empty();
    let seen = world.coordinator.sees(web(), waiting).await;
    assert_eq!(seen.state, RunState::Running, "it runs with its old caps");
    assert!(told(256)(&seen) && seen.caps_reason.contains("busy"), "{seen:?}");
    eventually("it is tried again", || memory(&world) == Bytes::mib(512).0).await;
    world.coordinator.sees(web(), |seen| seen.reason == "it runs").await;
    let seen = world.coordinator.sees(web(), told(512)).await;
    assert_eq!(seen.caps_reason, "");

    // an agent that was away when they changed finds out by looking
    world.end().await;
    world.change(resources(200)).await;
    world.run().await;
    eventually("the caps are set", || memory(&world) == Bytes::mib(200).0).await;
    assert_eq!(held(&world)["id"], before["id"], "not made anew");

    // and a stopped one is left alone until it is made anew with them
    world.change(|order| order.run = Run::Stopped).await;
    world.coordinator.sees(web(), |seen| matches!(seen.state, RunState::Stopped { .. })).await;
    world.change(resources(300)).await;
    world.coordinator.sees(web(), told(300)).await;
    world
        .change(|order| (order.run, order.run_serial, order.permit) = (Run::Running, 2, None))
        .await;
    world.permit(2).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
    assert_eq!(memory(&world), Bytes::mib(300).0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_caps_are_not_held_is_told_whatever_is_in_the_way() {
    let world = World::start().await;
    world.up().await;
    let memory_cap = |mib| {
        move |order: &mut warren_common::spec::WorkspaceOrder| {
            order.spec.resources.memory = Bytes::mib(mib);
        }
    };
    let fail = |operation: &str, code: &str| {
        world.control(&json!({ "fail": { operation: { "code": code, "message": "busy" } } }));
    };
    let short = async |held: u64, why: &str| {
        let told = |seen: &WorkspaceObserved| seen.caps_reason.contains(why);
        let seen = world.coordinator.sees(web(), told).await;
        assert_eq!(seen.caps.map(|caps| caps.memory), Some(Bytes::mib(held)), "{seen:?}");
    };
    let held = async |mib| {
        let told =
            |seen: &WorkspaceObserved| seen.caps.is_some_and(|caps| caps.memory == Bytes::mib(mib));
        let seen = world.coordinator.sees(web(), told).await;
        assert_eq!(seen.caps_reason, "");
    };
    held(128).await;

    // the engine is away
    fail("list_of", "ENGINE_UNREACHABLE");
    world.change(memory_cap(256)).await;
    short(128, "does not answer").await;
    // and back in time: nothing stands in the way of what is held already
    world.change(memory_cap(128)).await;
    world.coordinator.sees(web(), |seen| seen.caps_reason.is_empty()).await;
    world.change(memory_cap(256)).await;
    world.control(&json!({}));
    held(256).await;

    // a step fails
    fail("create", "ENGINE_FAILED");
    world
        .change(|order| {
            memory_cap(300)(order);
            (order.run_serial, order.permit) = (2, None);
        })
        .await;
    short(256, "busy").await;
    world.control(&json!({}));
    held(300).await;

    // the order is refused
    world
        .change(|order| {
            memory_cap(400)(order);
            order.run_serial = 1;
        })
        .await;
    short(300, "older than what the node holds").await;
    world.change(|order| order.run_serial = 2).await;
    held(400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_that_an_agent_set_and_could_not_note_are_not_held_against_the_container() {
    let mut world = World::start().await;
    world.up().await;
    let before = held(&world);
    // the engine takes them, and the agent is gone before it hears so
    world.control(&json!({"slow_ms": {"answer_update": 600_000}}));
    let memory_cap = |mib| {
        move |order: &mut warren_common::spec::WorkspaceOrder| {
            order.spec.resources.memory = Bytes::mib(mib);
        }
    };
    world.change(memory_cap(256)).await;
    eventually("the engine has them", || memory(&world) == Bytes::mib(256).0).await;
    // meanwhile somebody thinks better of it: what runs is neither as ordered nor as noted
    world.change(memory_cap(128)).await;
    let revision = world.coordinator.state.spec.borrow().revision.0;
    until(&world.coordinator.state.applied, |applied| *applied == revision).await;
    world.end().await;
    world.control(&json!({}));
    world.coordinator.state.seen.send_replace(Default::default());
    world.run().await;
    eventually("it is as ordered", || memory(&world) == Bytes::mib(128).0).await;
    let seen = world.coordinator.sees(web(), |seen| seen.reason == "it runs").await;
    assert_eq!((seen.state, &held(&world)["id"]), (RunState::Running, &before["id"]));
    let ledger = || fs::read_to_string(world.state().join("ledger.json")).expect("the ledger");
    eventually("it is settled", || !ledger().contains("next")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_that_somebody_else_set_stop_the_container() {
    let mut world = World::start().await;
    world.up().await;
    world.end().await;
    let path = world.fake_engine().join("engine.json");
    let record = fs::read_to_string(&path).expect("its record");
    let (ours, theirs) = (Bytes::mib(128).0.to_string(), Bytes::mib(256).0.to_string());
    fs::write(&path, record.replace(&ours, &theirs)).expect("written");
    world.coordinator.state.seen.send_replace(Default::default());
    world.run().await;
    let drifted = |state: &RunState| matches!(state, RunState::Failed { code, .. } if code == "CONTAINER_DRIFTED");
    let seen = world.coordinator.sees(web(), |seen| drifted(&seen.state)).await;
    assert!(seen.reason.contains(&theirs), "{}", seen.reason);
}
