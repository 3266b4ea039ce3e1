//! A node that was taken out of its cluster: it ends what it runs, until it is a node again.

use std::{fs, path::PathBuf};

use warren_common::status::RunState;

use crate::world::{World, eventually, order, until, web};

/// A level in which something runs, as the kernel of version 2 tells of it.
fn inhabited(world: &World, workspace: &str) -> PathBuf {
    let level = world.fake_engine().join("cgroups/warren-n1").join(workspace);
    fs::create_dir_all(&level).expect("folder");
    fs::write(level.join("cgroup.events"), "populated 1\nfrozen 0\n").expect("written");
    fs::write(level.join("cgroup.kill"), "").expect("written");
    level
}

fn runs(world: &World) -> bool {
    let record = fs::read_to_string(world.fake_engine().join("engine.json"));
    record.expect("its record").contains("\"Running\"")
}

/// Takes the node out and waits until it runs nothing that its engine lists.
async fn remove(world: &World) {
    assert!(runs(world));
    let node = world.membership.as_ref().expect("joined").node;
    world.coordinator.remove(node);
    eventually("what is listed has stopped", || !runs(world)).await;
}

/// Permits the next run and sees that it goes on for longer than a removed node lets anything.
async fn runs_again(world: &World) {
    world.permit(2).await;
    let running = |run: u64, state: &RunState| run == 2 && *state == RunState::Running;
    world.coordinator.sees(web(), |seen| running(seen.run_serial, &seen.state)).await;
    let renewals = *world.coordinator.state.renewals.borrow();
    until(&world.coordinator.state.renewals, |now| *now >= renewals + 2).await;
    world.coordinator.sees(web(), |seen| running(seen.run_serial, &seen.state)).await;
    assert!(runs(world), "it was stopped again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_ends_what_its_engine_does_not_list_too() {
    let mut world = World::bare().await;
    world.join().await.expect("joined");
    let level = inhabited(&world, "0199a0b2-7f00-7000-8000-00000000000e");
    world.run().await;
    world.up().await;
    let asked = || fs::read_to_string(level.join("cgroup.kill")).expect("there");
    assert_eq!(asked(), "", "a node is not to be touched by a stranger's end");
    remove(&world).await;
    eventually("the kernel is asked to end it", || asked() == "1").await;
    // and again, for as long as it does not end, or where its engine does not answer
    world.control(&serde_json::json!({"fail": {"list": {"code": "ENGINE_UNREACHABLE"}}}));
    fs::write(level.join("cgroup.kill"), "").expect("written");
    eventually("it is asked again", || asked() == "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_waits_for_no_engine_that_hangs() {
    for hangs in ["list", "stop"] {
        let mut world = World::bare().await;
        world.join().await.expect("joined");
        let level = inhabited(&world, "0199a0b2-7f00-7000-8000-00000000000e");
        world.run().await;
        world.up().await;
        world.control(&serde_json::json!({ "slow_ms": { hangs: 600_000 } }));
        world.coordinator.remove(world.membership.as_ref().expect("joined").node);
        let asked = || fs::read_to_string(level.join("cgroup.kill")).expect("there");
        eventually("the kernel is asked to end it", || asked() == "1").await;
        assert!(runs(&world), "its engine answers: {hangs}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_that_is_let_in_again_runs_workspaces_again() {
    let world = World::start().await;
    world.up().await;
    remove(&world).await;
    world.coordinator.let_in_again();
    world.change(|order| (order.run_serial, order.permit) = (2, None)).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    runs_again(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_node_was_removed_joins_anew_and_runs_workspaces() {
    let mut world = World::start().await;
    world.up().await;
    remove(&world).await;
    world.end().await;
    let removed = world.membership.clone().expect("joined");
    // as an uninstall leaves it: homes stay, and here what the engine holds
    fs::remove_dir_all(world.state().join("identity")).expect("removed");
    for file in ["node.json", "ledger.json", "seat.json", "lease.json", "coordinators.json"] {
        let _ = fs::remove_file(world.state().join(file));
    }
    let joined = world.join().await.expect("joined anew");
    assert_ne!(joined.node, removed.node);
    world.coordinator.state.seen.send_replace(Default::default());
    world.coordinator.order(|spec| spec.workspaces = vec![order(2)]).await;
    world.run().await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    runs_again(&world).await;
}
