//! Bad repositories, a missing image, a full disk, a Docker that is down: each a clear error.

use std::fs;

use anyhow::Result;
use warren_tests::{Lab, Program, host::Host};

#[test]
fn a_bad_repository_is_told_apart_and_the_workspace_lives() -> Result<()> {
    let lab = Lab::new()?;
    for (name, repo, words) in [
        ("private", "private", ["password", "next:"]),
        ("missing", "no-such", ["not found", "next:"]),
    ] {
        let address = format!("acme/{name}");
        let url = lab.repository(repo);
        let create =
            ["workspace", "create", &address, "--memory", "256M", "--disk", "1G", "--repo", &url];
        lab.cluster.refuses(&create, 1, &words)?;
        lab.shell(&address, "true")?;
    }
    // a server that takes the request and never answers: a minute of silence ends it
    let url = lab.repository("hang");
    let create =
        ["workspace", "create", "acme/hang", "--memory", "256M", "--disk", "1G", "--repo", &url];
    lab.cluster.refuses(&create, 1, &["git clone", "next:"])?;
    lab.shell("acme/hang", "true")?;

    an_image_that_is_nowhere(&lab)
}

fn an_image_that_is_nowhere(lab: &Lab) -> Result<()> {
    let create = [
        "workspace",
        "create",
        "acme/image",
        "--memory",
        "256M",
        "--disk",
        "1G",
        "--image",
        "no-such:1",
    ];
    lab.cluster.refuses(&create, 1, &["no-such:1", "next:"])?;
    let explained = lab.cluster.workspace("acme/image")?;
    anyhow::ensure!(
        explained["reason"].as_str().is_some_and(|reason| reason.contains("image")),
        "{explained}"
    );
    lab.cluster.warren(&["workspace", "delete", "acme/image", "--yes"])?;
    Ok(())
}

#[test]
fn docker_down_is_said_and_containers_run_on() -> Result<()> {
    let mut lab = Lab::new()?;
    let repo = lab.repository("hello");
    lab.create("acme/web", &["--repo", &repo, "--session", "main=bash count.sh"])?;
    let before = lab.wait_count_past("acme/web", 0)?;
    lab.engine.kill()?;
    warren_tests::wait_until("the node says so", std::time::Duration::from_secs(90), || {
        let node = lab.cluster.json(&["node", "show", "n1"])?;
        anyhow::ensure!(node.to_string().contains("E1001"), "it is {node}");
        Ok(())
    })?;
    lab.wait_count_past("acme/web", before)?;
    let node: std::sync::Arc<Host> = std::sync::Arc::clone(&lab.node);
    lab.engine.restart(&node)?;
    lab.create("beta/later", &[])?;
    full_disk(&lab)
}

/// The folder of homes on a device without space: refused with what is full, and no half a home.
fn full_disk(lab: &Lab) -> Result<()> {
    let homes = lab.cluster.nodes[0].folder().join("state/homes");
    fs::create_dir_all(&homes)?;
    let size = "size=64k,nr_inodes=4";
    Program::new("mount")
        .args(["-t", "tmpfs", "-o", size, "tmpfs"])
        .args([&homes])
        .run()?
        .success()?;
    let create = [
        "workspace",
        "create",
        "acme/full",
        "--memory",
        "256M",
        "--disk",
        "64M",
        "--timeout",
        "30s",
    ];
    let refused = lab.cluster.cli()?.args(create).run()?;
    Program::new("umount").args([&homes]).run()?.success()?;
    anyhow::ensure!(refused.code != 0, "a home was made on a full disk");
    anyhow::ensure!(
        refused.stderr.contains("full") || refused.stderr.contains("space"),
        "{}",
        refused.stderr
    );
    Ok(())
}
