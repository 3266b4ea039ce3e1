//! Daemons die and are replaced; containers keep their processes.

use std::fs;

use anyhow::Result;
use serde_json::Value;
use warren_tests::{Cluster, Lab, program::binary};

fn pid(lab: &Lab, address: &str) -> Result<Value> {
    Ok(lab.container(address)?["State"]["Pid"].clone())
}

#[test]
fn coordinator_and_node_agent_are_killed_and_replaced_and_containers_keep_their_pids() -> Result<()>
{
    let mut lab = Lab::new()?;
    let repo = lab.repository("hello");
    lab.create("acme/web", &["--repo", &repo, "--session", "main=bash count.sh"])?;
    lab.create("beta/api", &["--session", "main"])?;
    let pids = [pid(&lab, "acme/web")?, pid(&lab, "beta/api")?];
    let before = lab.wait_count_past("acme/web", 0)?;

    lab.cluster.kill_coordinator()?;
    lab.cluster.start_coordinator()?;
    lab.cluster.wait_ready("n1")?;
    anyhow::ensure!([pid(&lab, "acme/web")?, pid(&lab, "beta/api")?] == pids, "other processes");
    let between = lab.wait_count_past("acme/web", before)?;

    // a second build: the same program, another file, as an upgrade puts it there
    let second = lab.stage.root().join("warren-node-agent-2");
    fs::copy(binary("warren-node-agent")?, &second)?;
    lab.cluster.nodes[0].kill()?;
    lab.cluster.nodes[0].start_binary(second)?;
    lab.cluster.wait_ready("n1")?;
    lab.wait_count_past("acme/web", between)?;
    anyhow::ensure!([pid(&lab, "acme/web")?, pid(&lab, "beta/api")?] == pids, "other processes");

    // and both still obey
    lab.cluster.warren(&["workspace", "restart", "beta/api"])?;
    anyhow::ensure!(pid(&lab, "beta/api")? != pids[1], "restart made no new run");
    anyhow::ensure!(pid(&lab, "acme/web")? == pids[0], "the neighbour was touched");
    lab.cluster.warren(&["workspace", "delete", "beta/api", "--yes"])?;
    lab.cluster.refuses(&["workspace", "show", "beta/api"], 3, &["beta/api"])?;
    lab.cluster.warren(&["workspace", "stop", "acme/web"])?;
    anyhow::ensure!(pid(&lab, "acme/web")? == 0, "it still runs");
    lab.cluster.warren(&["workspace", "start", "acme/web"])?;
    anyhow::ensure!(
        lab.shell("acme/web", "cat ~/hello/README.md")?.contains("hello"),
        "the home is gone"
    );
    Ok(())
}

/// The lasting processes inside a workspace: pid, start time and name of each.
pub(crate) fn inside(cluster: &Cluster, address: &str) -> Result<Vec<String>> {
    let line = "for p in /proc/[0-9]*; do n=$(cat $p/comm 2>/dev/null) || continue; \
                case $n in inside|'tmux: server') echo ${p#/proc/} $(sed 's/.*) //' $p/stat | cut -d' ' -f20) $n;; \
                bash) tr '\\0' ' ' <$p/cmdline | grep -q count.sh \
                && echo ${p#/proc/} $(sed 's/.*) //' $p/stat | cut -d' ' -f20) count;; esac; done; true";
    let listed = cluster.try_shell(address, line)?.success()?.stdout;
    let pid = |line: &&str| line.split(' ').next().and_then(|pid| pid.parse::<u32>().ok());
    let mut found: Vec<&str> = listed.lines().collect();
    found.sort_by_key(pid);
    // what the counter itself starts comes and goes
    let mut counters = 0;
    found.retain(|line| {
        counters += usize::from(line.ends_with(" count"));
        !line.ends_with(" count") || counters == 1
    });
    let found: Vec<String> = found.into_iter().map(str::to_owned).collect();
    for name in ["inside", "tmux", "count"] {
        anyhow::ensure!(found.iter().any(|one| one.contains(name)), "no {name} in {found:?}");
    }
    Ok(found)
}

#[test]
fn docker_and_node_agent_are_killed_and_replaced_and_no_process_inside_notices() -> Result<()> {
    let mut lab = Lab::new()?;
    let repo = lab.repository("hello");
    lab.create("acme/web", &["--repo", &repo, "--session", "main=bash count.sh"])?;
    let (before, pid_of_one) = (inside(&lab.cluster, "acme/web")?, pid(&lab, "acme/web")?);
    let run = lab.cluster.workspace("acme/web")?["run_serial"].clone();
    let mut count = lab.wait_count_past("acme/web", 0)?;
    let node = std::sync::Arc::clone(&lab.node);
    let upgraded = |lab: &Lab, name: &str| -> Result<std::path::PathBuf> {
        let path = lab.stage.root().join(name);
        fs::copy(binary("warren-node-agent")?, &path)?;
        Ok(path)
    };
    for round in ["docker", "agent", "both"] {
        if round != "agent" {
            lab.engine.kill()?;
        }
        if round != "docker" {
            lab.cluster.nodes[0].kill()?;
            let next = upgraded(&lab, &format!("warren-node-agent-{round}"))?;
            // it comes up while there is no Docker to ask
            lab.cluster.nodes[0].start_binary(next)?;
        }
        if round != "agent" {
            lab.engine.restart(&node)?;
        }
        lab.cluster.wait_ready("n1")?;
        warren_tests::wait_until("it is seen to run", std::time::Duration::from_secs(90), || {
            let web = lab.cluster.workspace("acme/web")?;
            anyhow::ensure!(web["status"] == "running", "{round}: it is {web}");
            Ok(())
        })?;
        count = lab.wait_count_past("acme/web", count)?;
        let now = inside(&lab.cluster, "acme/web")?;
        anyhow::ensure!(now == before, "{round}: inside were {before:?}, now {now:?}");
        anyhow::ensure!(pid(&lab, "acme/web")? == pid_of_one, "{round}: another PID 1");
        let web = lab.cluster.workspace("acme/web")?;
        anyhow::ensure!(web["run_serial"] == run, "{round}: another run: {web}");
    }
    // what was not noticed can still be told to stop
    lab.cluster.warren(&["workspace", "restart", "acme/web"])?;
    anyhow::ensure!(pid(&lab, "acme/web")? != pid_of_one, "it does not obey");
    Ok(())
}
