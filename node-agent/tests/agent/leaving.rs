//! Giving the machine back.

use std::fs;

use warren_node_agent::leave::{Homes, LeaveError, leave};

use crate::world::{World, web};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_not_given_back_while_anything_of_a_workspace_runs() {
    let mut world = World::bare().await;
    world.join().await.expect("joined");
    let node = world.fake_engine().join("cgroups/warren-n1");
    let level = node.join(web().to_string());
    fs::create_dir_all(level.join("4f1c")).expect("folder");
    let events = |text: &str| fs::write(level.join("cgroup.events"), text).expect("written");
    events("populated 1\nfrozen 0\n");
    fs::write(level.join("4f1c/cgroup.procs"), "4711\n4712\n").expect("written");
    fs::write(level.join("cgroup.kill"), "").expect("written");
    let asked = || fs::read_to_string(level.join("cgroup.kill")).expect("there");
    let config = world.config();

    let refused = leave(&config, false).await.expect_err("two processes run");
    let told = refused.to_string();
    assert!(matches!(refused, LeaveError::Inhabited { count: 2, .. }), "{told}");
    assert!(told.contains(&level.display().to_string()) && told.contains("leave --kill"), "{told}");
    assert_eq!(asked(), "", "nobody asked for their end");
    // killed, and they do not end
    let refused = leave(&config, true).await.expect_err("they still run");
    assert!(matches!(refused, LeaveError::Inhabited { .. }), "{refused}");
    assert_eq!(asked(), "1");

    // nobody can say
    fs::remove_file(level.join("cgroup.events")).expect("removed");
    fs::create_dir(level.join("cgroup.events")).expect("in the way");
    let refused = leave(&config, false).await.expect_err("unknown");
    assert!(matches!(refused, LeaveError::Cgroups(_)), "{refused}");

    fs::remove_dir(level.join("cgroup.events")).expect("removed");
    events("populated 0\nfrozen 0\n");
    let homes = leave(&config, false).await.expect("nothing runs");
    assert_eq!(homes, Homes::Folder(world.state().join("homes")));
}
