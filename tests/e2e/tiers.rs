//! Isolation tiers are what an engine offers, not what somebody says.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use warren_tests::{Lab, Stage, engine::Walls, wait_until};

const FIRST: u32 = 231_072;

/// Stands in for gVisor: says what it is, leaves a trace, and has runc do the work; or gVisor itself
/// where `WARREN_TEST_RUNSC` names it.
fn runsc(stage: &Stage) -> Result<PathBuf> {
    let (path, trace) = (stage.root().join("runsc"), stage.root().join("runsc.trace"));
    let real = std::env::var("WARREN_TEST_RUNSC").ok();
    let work = match &real {
        Some(real) => format!("{real} --platform=ptrace --fsgofer-host-uds"),
        None => "runc".to_owned(),
    };
    let version = real.unwrap_or_else(|| "echo runsc version stand-in; :".to_owned());
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ {version} --version; exit; }}\necho \"$@\" >>{}\n\
         exec {work} \"$@\"\n",
        trace.display()
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn create<'a>(address: &'a str, tier: &'a str) -> [&'a str; 9] {
    ["workspace", "create", address, "--memory", "256M", "--disk", "1G", "--isolation", tier]
}

#[test]
fn an_engine_without_walls_offers_none_and_says_so_and_a_client_may_have_a_node_of_its_own()
-> Result<()> {
    let lab = Lab::new()?;
    for (tier, why) in
        [("userns", "remap"), ("gvisor", "runsc"), ("dedicated", "warren.client=acme")]
    {
        let address = format!("acme/{tier}");
        let refused = [&create(&address, tier)[..], &["--no-queue"]].concat();
        lab.cluster.refuses(&refused, 4, &["no walls that strong"])?;
        lab.cluster.warren(&[&create(&address, tier)[..], &["--wait=none"]].concat())?;
        let explained = lab.cluster.warren(&["workspace", "explain", &address])?.stdout;
        ensure!(explained.contains(why), "{explained}");
    }
    let shown = lab.cluster.warren(&["node", "show", "n1"])?.stdout;
    ensure!(shown.contains("no gvisor: its engine has no runtime runsc"), "{shown}");
    lab.cluster.warren(&["node", "label", "n1", "warren.client=acme"])?;
    lab.cluster.wait_phase("acme/dedicated", "active")?;
    let theirs = ["workspace", "create", "beta/x", "--memory", "256M", "--no-queue"];
    lab.cluster.refuses(&theirs, 4, &["belongs to another client"]).map(drop)
}

#[test]
fn remapped_users_own_their_homes_and_pid_1_is_heard_and_gvisors_runtime_runs_what_asks_for_it()
-> Result<()> {
    let mut trace = PathBuf::new();
    let lab = Lab::with_walls(|stage| {
        trace = stage.root().join("runsc.trace");
        Ok(Walls { remap: Some(FIRST), runsc: Some(runsc(stage)?) })
    })?;
    let node = lab.cluster.json(&["node", "show", "n1"])?;
    let offered = |tier: &str| -> Result<bool> {
        let tiers = node["tiers"].as_array().context("tiers")?;
        Ok(tiers.iter().any(|one| one["tier"] == tier && one["offered"] == true))
    };
    ensure!(offered("userns")? && offered("gvisor")? && !offered("dedicated")?, "{node}");

    // steps and sessions are told by PID 1: the socket and the check of its peer work
    let made = [&create("acme/mapped", "userns")[..], &["--session", "main"]].concat();
    lab.cluster.warren(&made)?;
    lab.shell("acme/mapped", "echo mine > ~/file && mkdir -p ~/deep/er && touch /tmp/t")?;
    let container = lab.container("acme/mapped")?;
    let pid = container["State"]["Pid"].as_u64().context("it runs")?;
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map"))?;
    let words: Vec<&str> = map.split_whitespace().collect();
    ensure!(words == ["0", &FIRST.to_string(), "65536"], "its users are mapped as {map}");
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let uid = (FIRST + 1000).to_string();
    ensure!(status.lines().any(|line| line.starts_with("Uid:") && line.contains(&uid)), "{status}");
    ensure!(container["HostConfig"]["Runtime"] == "runc", "{}", container["HostConfig"]);
    ensure!(!trace.exists(), "another runtime was asked");

    lab.cluster.warren(&create("acme/walled", "gvisor"))?;
    let walled = lab.container("acme/walled")?;
    ensure!(walled["HostConfig"]["Runtime"] == "runsc", "{}", walled["HostConfig"]);
    let id = walled["Id"].as_str().context("an id")?;
    ensure!(fs::read_to_string(&trace)?.contains(id), "the runtime was not asked");
    lab.shell("acme/walled", "true")?;

    // a home outlives a restart with its owner
    lab.cluster.warren(&["workspace", "restart", "acme/mapped"])?;
    ensure!(lab.shell("acme/mapped", "cat ~/file; stat -c %u ~/deep/er")? == "mine\n1000\n");
    Ok(())
}

#[test]
fn remapping_that_is_switched_on_under_a_running_workspace_starts_no_second_container() -> Result<()>
{
    let mut lab = Lab::new()?;
    lab.cluster.warren(&create("acme/web", "container"))?;
    lab.shell("acme/web", "echo mine > ~/file")?;
    let pid = lab.container("acme/web")?["State"]["Pid"].as_u64().context("it runs")?;
    let node = Arc::clone(&lab.node);
    lab.engine.remap(&node, Some(FIRST))?;
    lab.engine.load_image()?;
    let alive = || PathBuf::from(format!("/proc/{pid}/root")).exists();
    wait_until("what still runs is named", Duration::from_secs(120), || {
        let shown = lab.cluster.json(&["workspace", "show", "acme/web"])?.to_string();
        let named = shown.contains("STILL_RUNS") && shown.contains("warren workspace stop");
        ensure!(named, "{shown}");
        Ok(())
    })?;
    ensure!(alive(), "what ran has ended");
    let made = lab.engine.docker(&["ps", "-aq"])?.stdout;
    ensure!(made.trim().is_empty(), "a second one was made: {made}");
    // switched back, the engine has it again
    lab.engine.remap(&node, None)?;
    lab.cluster.wait_phase("acme/web", "active")?;
    ensure!(lab.shell("acme/web", "cat ~/file; stat -c %u ~/file")? == "mine\n1000\n");
    // and where nobody switches back, stopping it ends what the engine does not list
    let pid = lab.container("acme/web")?["State"]["Pid"].as_u64().context("it runs")?;
    let alive = || PathBuf::from(format!("/proc/{pid}/root")).exists();
    lab.engine.remap(&node, Some(FIRST))?;
    lab.cluster.warren(&["workspace", "stop", "acme/web"])?;
    wait_until("it has ended", Duration::from_secs(60), || {
        ensure!(!alive(), "it still runs");
        lab.cluster.wait_phase("acme/web", "stopped")
    })?;
    lab.cluster.warren(&["workspace", "start", "acme/web"])?;
    lab.cluster.wait_phase("acme/web", "active")?;
    ensure!(lab.shell("acme/web", "cat ~/file; stat -c %u ~/file")? == "mine\n1000\n");
    Ok(())
}
