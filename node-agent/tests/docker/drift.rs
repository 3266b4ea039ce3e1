//! What somebody changes on a container that runs, and what only its age explains.

use super::*;

#[tokio::test]
async fn what_is_changed_while_it_runs_is_found_and_what_an_older_version_made_is_not() {
    let Some(mut stage) = Stage::new("sleep 600").await else { return };
    let id = stage.start().await;
    // a version that made no cgroup per workspace put the container right below the node's
    let node = stage.ground.cgroup_parent.clone();
    let own = host::cgroup::level::workspace_parent(&node, stage.order.workspace);
    stage.ground.cgroup_parent = own;
    let found = async |stage: &Stage| -> Vec<String> {
        let drifts = stage.docker.check(&id, &stage.plan()).await.expect("read back");
        drifts.into_iter().map(|drift| drift.field).collect()
    };
    assert_eq!(found(&stage).await, Vec::<String>::new());
    stage.cli(&["update", "--pids-limit", "99", &id]);
    assert_eq!(found(&stage).await, ["HostConfig.PidsLimit", "kernel.pids.max"]);
    stage.cli(&["update", "--pids-limit", &stage.order.spec.resources.pids.to_string(), &id]);
    assert_eq!(found(&stage).await, Vec::<String>::new());
    stage.cli(&["network", "connect", "bridge", &id]);
    assert_eq!(found(&stage).await, ["Networks"]);
    stage.cli(&["network", "disconnect", "bridge", &id]);
    // behind the engine's back
    let layout = host::cgroup::Layout::read().expect("cgroups");
    let file = if layout.version == 2 { "memory.max" } else { "memory.limit_in_bytes" };
    let root = layout.root("memory").expect("a tree").join(node.trim_start_matches('/'));
    let (swap, more) = (root.join(&id).join("memory.memsw.limit_in_bytes"), "1073741824");
    let _ = fs::write(swap, more);
    fs::write(root.join(&id).join(file), more).expect("written");
    let found = found(&stage).await;
    assert!(found.contains(&format!("kernel.{file}")), "{found:?}");
    assert!(found.iter().all(|field| field.starts_with("kernel.memory")), "{found:?}");
    stage.ground.cgroup_parent = node;
    stage.clean().await;
}
