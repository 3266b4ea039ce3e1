//! Agents beside each other on one machine, and the end of one.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use warren_tests::{Lab, wait_until};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_second_agent_with_the_same_cgroups_does_not_start_until_the_first_one_has_ended() -> Result<()>
{
    let mut lab = Lab::new()?;
    lab.create("acme/web", &["--session", "main"])?;
    let pid = pid(&lab)?;
    // as an agent of another cluster would be, with a network and a state folder of its own
    let elsewhere = Arc::clone(&lab.internet);
    let mut second = lab.cluster.nodes[0].copy(&lab.stage, "second", Some(elsewhere))?;
    second.start()?;
    let said = wait_until("it has ended", SOON, || {
        let agent = second.agent.as_mut().context("it was started")?;
        Ok(agent.check().err().context("it runs")?.to_string())
    })?;
    let owner = lab.cluster.nodes[0].agent.as_ref().context("it runs")?.pid();
    for word in ["CGROUPS_TAKEN", "[engine] cgroup_parent", &format!("process {owner} ")] {
        ensure!(said.contains(word), "no {word:?} in: {said}");
    }
    // nor are its cgroups given back, which would end what the first one runs
    let refused = second.try_command(&["leave", "--kill"])?.with_code(1)?;
    ensure!(refused.stderr.contains("CGROUPS_TAKEN"), "{}", refused.stderr);
    ensure!(self::pid(&lab)? == pid, "the workspace was touched");
    // one that is killed keeps nobody out, and one that comes while it ends waits for it
    let first = lab.cluster.nodes.first_mut().context("a node")?;
    second.start()?;
    first.kill()?;
    wait_until("the second one has the cgroups", SOON, || {
        let agent = second.agent.as_mut().context("it was started")?;
        agent.check()?;
        ensure!(agent.log().contains("the node agent runs"), "it says {}", agent.log());
        Ok(())
    })
}

#[test]
fn a_machine_is_given_back_once_nothing_of_a_workspace_runs() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.create("acme/web", &["--session", "main"])?;
    let pid = pid(&lab)?;
    let alive = || Path::new(&format!("/proc/{pid}/root")).exists();
    let node = lab.cluster.nodes.first_mut().context("a node")?;
    node.kill()?;
    let refused = node.try_command(&["leave"])?.with_code(1)?;
    for word in ["processes of workspaces run in", lab.engine.cgroup(), "leave --kill"] {
        ensure!(refused.stderr.contains(word), "no {word:?} in: {}", refused.stderr);
    }
    ensure!(alive(), "it was ended without being asked to");
    let left = node.command(&["leave", "--kill"])?;
    ensure!(!alive(), "it runs on");
    let homes = node.folder().join("state/homes");
    ensure!(left.stdout.contains(&format!("homes: {}", homes.display())), "{}", left.stdout);
    let mut found = fs::read_dir(homes)?.flatten();
    ensure!(found.any(|home| home.path().join("home").is_dir()), "the home is gone");
    Ok(())
}

fn pid(lab: &Lab) -> Result<u64> {
    let container = lab.container("acme/web")?;
    container["State"]["Pid"].as_u64().filter(|pid| *pid > 0).context("it runs")
}
