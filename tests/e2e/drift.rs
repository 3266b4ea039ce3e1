//! A container that somebody changed behind Warren's back is stopped for good, and says why.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use warren_tests::{Lab, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Folder of a workspace's own cgroup in one tree of version 1.
fn level(container: &Value, controller: &str) -> Result<PathBuf> {
    let parent = container["HostConfig"]["CgroupParent"].as_str().context("a parent")?;
    Ok(PathBuf::from("/sys/fs/cgroup").join(controller).join(parent.trim_start_matches('/')))
}

fn number(file: PathBuf) -> Result<u64> {
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().parse()?)
}

fn pid(container: &Value) -> Result<u64> {
    container["State"]["Pid"].as_u64().filter(|pid| *pid > 0).context("it runs")
}

#[test]
fn a_container_changed_behind_our_back_is_stopped_and_named_and_not_started_by_itself() -> Result<()>
{
    let lab = Lab::new()?;
    lab.create("acme/web", &["--session", "main"])?;
    lab.create("beta/b", &["--session", "main"])?;
    let neighbour = pid(&lab.container("beta/b")?)?;
    let id = lab.container("acme/web")?["Id"].as_str().context("an id")?.to_owned();
    lab.engine.docker(&["update", "--memory", "512M", "--memory-swap", "512M", &id])?;
    let seen = lab.cluster.wait_phase("acme/web", "failed")?;
    let reason = seen["reason"].as_str().unwrap_or_default();
    for word in ["drifted", "HostConfig.Memory ", "536870912", "268435456"] {
        anyhow::ensure!(reason.contains(word), "no {word:?} in: {reason}");
    }
    wait_until("it is stopped", SOON, || {
        let state = lab.container("acme/web")?["State"]["Status"].clone();
        anyhow::ensure!(state == "exited", "it is {state}");
        Ok(())
    })?;
    let events = lab.cluster.warren(&["cluster", "events"])?.stdout;
    let told = events.lines().any(|line| line.contains("acme/web") && line.contains("drifted"));
    anyhow::ensure!(told, "no event tells of it:\n{events}");
    let audit = lab.cluster.warren(&["audit", "list"])?.stdout;
    anyhow::ensure!(audit.contains("drifted"), "no record tells of it:\n{audit}");
    std::thread::sleep(Duration::from_secs(5));
    let still = lab.cluster.workspace("acme/web")?;
    anyhow::ensure!(still["phase"] == "failed" && still["run_serial"] == seen["run_serial"]);
    anyhow::ensure!(pid(&lab.container("beta/b")?)? == neighbour, "the neighbour was touched");
    // a person may: the next container is as planned
    lab.cluster.warren(&["workspace", "start", "acme/web"])?;
    anyhow::ensure!(lab.container("acme/web")?["HostConfig"]["Memory"] == 268_435_456);
    Ok(())
}

#[test]
fn each_workspace_has_a_cgroup_of_its_own_that_holds_its_caps_and_goes_with_it() -> Result<()> {
    let lab = Lab::new()?;
    lab.create("acme/web", &["--session", "main", "--cpu-weight", "512", "--pids", "300"])?;
    let container = lab.container("acme/web")?;
    let memory = level(&container, "memory")?;
    anyhow::ensure!(number(memory.join("memory.limit_in_bytes"))? == 256 << 20);
    let memsw = memory.join("memory.memsw.limit_in_bytes");
    anyhow::ensure!(!memsw.exists() || number(memsw)? == 256 << 20);
    anyhow::ensure!(number(level(&container, "pids")?.join("pids.max"))? == 300);
    anyhow::ensure!(number(level(&container, "cpu")?.join("cpu.shares"))? == 512);
    let freezer = level(&container, "freezer")?;
    let id = container["Id"].as_str().context("an id")?;
    anyhow::ensure!(freezer.join(id).is_dir(), "the container stands below it");
    // what is frozen there stands still
    let before = lab.shell("acme/web", "echo 1")?;
    anyhow::ensure!(before.trim() == "1");
    fs::write(freezer.join("freezer.state"), "FROZEN")?;
    let frozen = fs::read_to_string(freezer.join(id).join("freezer.state"))?;
    fs::write(freezer.join("freezer.state"), "THAWED")?;
    anyhow::ensure!(frozen.trim() == "FROZEN", "the container is {frozen}");
    lab.cluster.warren(&["workspace", "delete", "acme/web", "--yes"])?;
    wait_until("its cgroups are gone", SOON, || {
        for controller in ["memory", "pids", "cpu", "freezer", "devices", "blkio"] {
            let level = level(&container, controller)?;
            anyhow::ensure!(!level.exists(), "{} is left", level.display());
        }
        Ok(())
    })
}
