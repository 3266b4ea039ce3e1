//! A node that was taken out of its cluster: it ends what it runs.

use std::{fs, path::PathBuf};

use crate::world::{World, eventually};

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
