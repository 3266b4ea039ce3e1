//! A container that somebody changed behind Warren's back is stopped for good, and says why.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use warren_tests::{Lab, wait_until};

const SOON: Duration = Duration::from_secs(30);
/// The agent's looks at workspaces.
const LOOKS: &str = "warren_node_rounds_total";
/// Those in which it compared a container with what it was made as.
const READINGS: &str = "warren_engine_call_seconds_count{operation=\"check\"}";

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

/// Lets the engine tell of a change that changes nothing, and waits until the agent has counted one
/// more of this series for it.
fn look_again(lab: &Lab, (id, memory): (&str, &str), series: &str) -> Result<()> {
    let node = lab.cluster.nodes.first().context("a node")?;
    let before = node.counted(series)?;
    lab.engine.docker(&["update", "--memory", memory, "--memory-swap", memory, id])?;
    wait_until("the agent has looked again", SOON, || {
        let now = node.counted(series)?;
        anyhow::ensure!(now > before, "{series} is {now} as before");
        Ok(())
    })
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
    for _ in 0..2 {
        look_again(&lab, (&id, "512M"), LOOKS)?;
        let still = lab.cluster.workspace("acme/web")?;
        anyhow::ensure!(still["phase"] == "failed" && still["run_serial"] == seen["run_serial"]);
        let container = lab.container("acme/web")?;
        let stays = container["Id"] == *id && container["State"]["Status"] == "exited";
        anyhow::ensure!(stays, "it was started again: {}", container["State"]);
    }
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
    let frozen = wait_until("the container is frozen", SOON, || {
        let state = fs::read_to_string(freezer.join(id).join("freezer.state"))?;
        anyhow::ensure!(state.trim() == "FROZEN", "it is {state}");
        Ok(())
    });
    fs::write(freezer.join("freezer.state"), "THAWED")?;
    frozen?;
    lab.cluster.warren(&["workspace", "delete", "acme/web", "--yes"])?;
    wait_until("its cgroups are gone", SOON, || {
        for controller in ["memory", "pids", "cpu", "freezer", "devices", "blkio"] {
            let level = level(&container, controller)?;
            anyhow::ensure!(!level.exists(), "{} is left", level.display());
        }
        Ok(())
    })
}

#[test]
fn a_cap_taken_off_in_the_kernel_itself_is_found_within_the_minute() -> Result<()> {
    let lab = Lab::new()?;
    lab.create("acme/web", &["--session", "main"])?;
    let container = lab.container("acme/web")?;
    let id = container["Id"].as_str().context("an id")?;
    fs::write(level(&container, "pids")?.join(id).join("pids.max"), "max")?;
    let found = wait_until("it is found", Duration::from_secs(90), || {
        let seen = lab.cluster.workspace("acme/web")?;
        anyhow::ensure!(seen["phase"] == "failed", "it is {}", seen["phase"]);
        Ok(seen)
    })?;
    let reason = found["reason"].as_str().unwrap_or_default();
    anyhow::ensure!(reason.contains("kernel.pids.max is \"max\""), "{reason}");
    Ok(())
}

#[test]
fn what_was_made_on_other_ground_is_adopted_as_it_runs_and_still_guarded() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.create("acme/web", &["--session", "main"])?;
    let container = lab.container("acme/web")?;
    let before = pid(&container)?;
    // as after an upgrade: the agent would make the container otherwise today
    let node = lab.cluster.nodes.first_mut().context("a node")?;
    let config = node.folder().join("node-agent.toml");
    let text = fs::read_to_string(&config)?;
    let parent = text.lines().find(|line| line.starts_with("cgroup_parent")).context("a parent")?;
    fs::write(&config, text.replace(parent, &parent.replace("/warren\"", "/other\"")))?;
    node.kill()?;
    node.start()?;
    lab.cluster.wait_ready("n1")?;
    let node = lab.cluster.nodes.first().context("a node")?;
    wait_until("it is read back", SOON, || {
        anyhow::ensure!(node.counted(READINGS)? > 0, "not yet");
        Ok(())
    })?;
    let id = container["Id"].as_str().context("an id")?;
    look_again(&lab, (id, "256M"), READINGS)?;
    let log = node.agent.as_ref().context("it runs")?.log();
    anyhow::ensure!(!log.contains("it differs"), "it is held against it: {log}");
    let seen = lab.cluster.workspace("acme/web")?;
    anyhow::ensure!(seen["status"] == "running", "it is {}", seen["status"]);
    anyhow::ensure!(pid(&lab.container("acme/web")?)? == before, "it was started anew");
    lab.engine.docker(&["update", "--pids-limit", "-1", id])?;
    let seen = lab.cluster.wait_phase("acme/web", "failed")?;
    let reason = seen["reason"].as_str().unwrap_or_default();
    anyhow::ensure!(reason.contains("HostConfig.PidsLimit"), "{reason}");
    Ok(())
}
