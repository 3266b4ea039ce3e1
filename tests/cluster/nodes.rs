//! What operators do with nodes, and two agents with one identity.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use warren_tests::{Cluster, Daemon, Node, Stage, wait_until};

const SOON: Duration = Duration::from_secs(60);
/// From the answer to `node remove` to the end of every stream of the node.
const CUT: Duration = Duration::from_secs(2);
/// Looking at a log costs something too.
const LOOK: Duration = Duration::from_millis(20);

fn create(cluster: &Cluster, address: &str) -> Result<()> {
    let create = ["workspace", "create", address, "--memory", "64M", "--disk", "64M"];
    cluster.warren(&create).map(drop)
}

/// Lets a copy stand on another machine, or in another boot, as the fake engine tells it.
fn elsewhere(copy: &Node, what: &str, id: &str) -> Result<()> {
    Ok(fs::write(copy.folder().join("state/fake-engine").join(what), id)?)
}

fn log(node: &Node) -> String {
    node.agent.as_ref().map(Daemon::log).unwrap_or_default()
}

/// Whether an engine holds a workspace of this name.
fn holds(folder: &Path, address: &str) -> bool {
    let engine = folder.join("state/fake-engine");
    let files = fs::read_dir(engine).into_iter().flatten().flatten();
    let name = address.replace('/', "-");
    let named = |text: String| text.contains(&name);
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).any(named)
}

fn finding(cluster: &Cluster, code: &str) -> Result<bool> {
    let node = cluster.json(&["node", "show", "n1"])?;
    let findings = node["findings"].as_array().context("findings")?;
    Ok(findings.iter().any(|finding| finding["code"] == code))
}

#[test]
fn of_two_agents_with_a_copied_state_folder_the_older_stops_acting() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    create(&cluster, "acme/before")?;
    let original = cluster.nodes[0].folder().to_owned();
    let mut copy = cluster.nodes[0].copy(&stage, "copy", None)?;
    let epoch = cluster.json(&["node", "show", "n1"])?["epoch"].as_u64().context("an epoch")?;
    copy.start()?;
    wait_until("the older one stops acting", SOON, || {
        let log = cluster.nodes[0].agent.as_ref().context("it runs")?.log();
        ensure!(log.contains("this agent stops acting"), "it says {log}");
        Ok(())
    })?;
    wait_until("it is shown", SOON, || {
        ensure!(finding(&cluster, "IDENTITY_CONFLICT")?, "no finding");
        Ok(())
    })?;
    let shown = cluster.warren(&["node", "show", "n1"])?.stdout;
    ensure!(shown.contains("warren node rejoin n1"), "{shown}");
    let after = cluster.json(&["node", "show", "n1"])?["epoch"].as_u64().context("an epoch")?;
    ensure!(after > epoch, "{after} after {epoch}");

    // what is ordered now is done by the one that acts, and by no other
    create(&cluster, "acme/after")?;
    ensure!(holds(copy.folder(), "acme/after"), "the newer one did not act");
    ensure!(!holds(&original, "acme/after"), "the older one acted");
    ensure!(holds(&original, "acme/before"), "the probe is blind");
    let stopped = cluster.warren(&["workspace", "stop", "acme/before"])?;
    ensure!(stopped.code == 0);

    // and the other way round, once somebody says so
    copy.kill()?;
    cluster.warren(&["node", "rejoin", "n1"])?;
    cluster.wait_ready("n1")?;
    ensure!(!finding(&cluster, "IDENTITY_CONFLICT")?, "it was settled");
    create(&cluster, "acme/again")?;
    ensure!(holds(&original, "acme/again"), "the older one acts again");
    Ok(())
}

#[test]
fn a_copy_on_another_machine_or_in_another_boot_is_refused_and_the_node_goes_on() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    create(&cluster, "acme/web")?;
    let original = cluster.nodes[0].folder().to_owned();
    let mut moved = cluster.nodes[0].copy(&stage, "moved", None)?;
    elsewhere(&moved, "machine", "another machine")?;
    moved.start()?;
    wait_until("the copy is refused", SOON, || {
        ensure!(log(&moved).contains("on another machine"), "it says {}", log(&moved));
        Ok(())
    })?;
    ensure!(finding(&cluster, "IDENTITY_CONFLICT")?, "no finding");
    moved.kill()?;

    // a clone has the machine's id too, and another boot
    let mut clone = cluster.nodes[0].copy(&stage, "clone", None)?;
    elsewhere(&clone, "boot", "0199a0b2-7f00-4000-8000-0000000000aa")?;
    clone.start()?;
    wait_until("the clone is refused", SOON, || {
        ensure!(log(&clone).contains("another boot is heard"), "it says {}", log(&clone));
        Ok(())
    })?;
    let log = cluster.nodes[0].agent.as_ref().context("it runs")?.log();
    ensure!(!log.contains("stops acting"), "the node was disturbed: {log}");
    create(&cluster, "acme/later")?;
    ensure!(holds(&original, "acme/later"), "the node does not act");
    Ok(())
}

#[test]
fn a_node_is_cordoned_labelled_and_removed_and_what_was_asked_twice_happens_once() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    create(&cluster, "acme/web")?;
    cluster.warren(&["node", "cordon", "n1"])?;
    let create_more = ["workspace", "create", "acme/more", "--memory", "64M", "--no-queue"];
    cluster.refuses(&create_more, 4, &["cordoned"])?;
    cluster.warren(&["node", "uncordon", "n1"])?;
    cluster.warren(&["node", "label", "n1", "disk=nvme", "zone=a"])?;
    let labelled = cluster.json(&["node", "label", "n1", "zone-"])?;
    ensure!(labelled["facts"]["labels"]["disk"] == "nvme", "{labelled}");
    ensure!(labelled["operator_labels"] == serde_json::json!(["disk"]), "{labelled}");
    // a restart of the agent takes no label away
    cluster.nodes[0].kill()?;
    cluster.nodes[0].start()?;
    cluster.wait_ready("n1")?;
    let shown = cluster.json(&["node", "show", "n1"])?;
    ensure!(shown["facts"]["labels"]["disk"] == "nvme", "{shown}");

    let still = ["still has 1 workspace: acme/web", "--lost"];
    cluster.refuses(&["node", "remove", "n1", "--yes"], 4, &still)?;
    let id = uuid::Uuid::now_v7().to_string();
    let remove = ["node", "remove", "n1", "--yes", "--lost", "acme/web", "--request-id", &id];
    let removed = cluster.json(&remove)?;
    let asked = Instant::now();
    let cut = wait_until("the node is cut off", SOON, || {
        let log = cluster.nodes[0].agent.as_ref().context("it runs")?.log();
        ensure!(log.contains("was revoked: the node was removed"), "it says {log}");
        Ok(Instant::now())
    })?;
    let took = cut.saturating_duration_since(asked);
    ensure!(took <= CUT + LOOK, "its streams went on for {took:?}");
    eprintln!("a removed node is cut off {took:?} after the answer");
    ensure!(removed["availability"] == "retired", "{removed}");
    wait_until("it stops what it ran", SOON, || {
        let log = cluster.nodes[0].agent.as_ref().context("it runs")?.log();
        ensure!(log.contains("stopped: the node was removed"), "it says {log}");
        Ok(())
    })?;
    let again = cluster.json(&remove)?;
    ensure!(again["availability"] == "retired", "a retry is answered alike: {again}");
    ensure!(cluster.json(&["node", "list"])?.as_array().is_some_and(Vec::is_empty));
    ensure!(cluster.json(&["node", "list", "--removed"])?[0]["name"] == "n1");
    let web = cluster.workspace("acme/web")?;
    ensure!(web["phase"] == "stopped" && web["node"].is_null(), "{web}");
    ensure!(web["reason"].as_str().is_some_and(|why| why.contains("NODE_REMOVED")), "{web}");

    // its name is free again, its certificate is not good any more
    cluster.nodes[0].kill()?;
    cluster.nodes[0].start()?;
    fs::rename(cluster.nodes[0].folder(), stage.root().join("gone"))?;
    cluster.nodes.clear();
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["workspace", "start", "acme/web"])?;
    cluster.wait_phase("acme/web", "active").map(drop)
}
