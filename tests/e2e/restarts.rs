//! Daemons die and are replaced; containers keep their processes.

use std::fs;

use anyhow::Result;
use serde_json::Value;
use warren_tests::{Lab, program::binary};

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
