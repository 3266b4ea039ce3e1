//! A cluster that is lost and comes back: from a backup on a fresh machine, with everything that
//! runs running on.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use warren_tests::{Cluster, Daemon, Program, Stage, program::binary, wait_until};

const SOON: Duration = Duration::from_secs(60);

fn create(cluster: &Cluster, address: &str) -> Result<()> {
    let size = ["--memory", "64M", "--disk", "64M"];
    cluster.warren(&[&["workspace", "create", address], &size[..]].concat()).map(drop)
}

/// Every container of every node, as the fake engine keeps it: id, state with pid, start.
fn containers(cluster: &Cluster) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for node in &cluster.nodes {
        let text = fs::read_to_string(node.folder().join("state/fake-engine/engine.json"))?;
        let record: Value = serde_json::from_str(&text)?;
        for (id, container) in record["containers"].as_object().context("containers")? {
            all.insert(format!("{}/{id}", node.name()), container["seen"].clone());
        }
    }
    Ok(all)
}

fn untouched(cluster: &Cluster, before: &BTreeMap<String, Value>) -> Result<()> {
    let now = containers(cluster)?;
    for (id, container) in before {
        anyhow::ensure!(
            now.get(id) == Some(container),
            "{id} was touched: {container} is {:?}",
            now.get(id)
        );
    }
    Ok(())
}

/// Incarnation and counter.
fn generation(workspace: &Value) -> Result<(u64, u64)> {
    let text = workspace["generation"].as_str().context("a generation")?;
    let (incarnation, counter) = text.split_once('.').context("two parts")?;
    Ok((incarnation.parse()?, counter.parse()?))
}

fn back_up(cluster: &Cluster, folder: &Path) -> Result<(String, String)> {
    let (file, passphrase) = (folder.join("test.warren"), folder.join("passphrase"));
    fs::write(&passphrase, "correct horse battery staple")?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&passphrase, private)?;
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let (file, passphrase) = (shown(&file), shown(&passphrase));
    cluster.warren(&["cluster", "backup", &file, "--passphrase-file", &passphrase])?;
    Ok((file, passphrase))
}

fn wait_recovered(cluster: &Cluster) -> Result<()> {
    wait_until("the recovery is over", SOON, || {
        let status = cluster.json(&["cluster", "status"])?;
        anyhow::ensure!(status["recovery"].is_null(), "it is {}", status["recovery"]);
        Ok(())
    })
}

#[test]
fn a_lost_coordinator_is_restored_elsewhere_and_everything_runs_on() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    for address in ["acme/web", "acme/gone", "acme/stopped"] {
        create(&cluster, address)?;
    }
    let (file, passphrase) = back_up(&cluster, stage.root())?;

    // what the backup does not know
    cluster.warren(&["workspace", "restart", "acme/web"])?;
    cluster.warren(&["workspace", "delete", "acme/gone", "--yes"])?;
    cluster.warren(&["workspace", "stop", "acme/stopped"])?;
    cluster.add_fake_node("n2", None)?;
    cluster.warren(&["client", "create", "beta"])?;
    for address in ["beta/late", "beta/later"] {
        create(&cluster, address)?;
    }
    let known = |cluster: &Cluster| -> Result<Vec<Value>> {
        ["acme/web", "acme/stopped", "beta/late", "beta/later"]
            .into_iter()
            .map(|address| {
                let one = cluster.workspace(address)?;
                let fields = ["id", "address", "generation", "run_serial", "node", "phase", "spec"];
                Ok(fields.iter().map(|field| (*field, one[field].clone())).collect())
            })
            .collect()
    };
    cluster.wait_phase("acme/stopped", "stopped")?;
    let (before, ran) = (known(&cluster)?, containers(&cluster)?);
    let nodes: Vec<&Value> = before.iter().map(|one| &one["node"]).collect();
    anyhow::ensure!(nodes.contains(&&Value::from("n2")), "n2 holds nothing: {nodes:?}");
    let incarnation = cluster.json(&["cluster", "status"])?["incarnation"].as_u64();

    let old_address = cluster.api_address()?;
    let lost = cluster.lose_coordinator()?;
    cluster.start_coordinator()?;
    let socket = cluster.wait_socket()?;
    let restore =
        ["cluster", "restore", &file, "--passphrase-file", &passphrase, "--socket", &socket];
    let told = cluster.json(&restore)?;
    anyhow::ensure!(told["incarnation"].as_u64() > incarnation, "{told}");
    anyhow::ensure!(told["replica"] == 2, "an id that never was: {told}");
    let status = cluster.json(&["cluster", "status"])?;
    anyhow::ensure!(status["recovery"]["awaited_nodes"][0] == "n1", "{status}");
    let list = cluster.warren(&["workspace", "list"])?;
    anyhow::ensure!(list.stderr.contains("recovers: waiting for node n1"), "{}", list.stderr);
    // it is another machine: each node is told where
    let address = cluster.api_address()?;
    anyhow::ensure!(address != old_address, "the test proves less");
    for node in &cluster.nodes {
        node.command(&["coordinators", "set", &address])?;
    }
    for node in ["n1", "n2"] {
        cluster.wait_ready(node)?;
    }
    untouched(&cluster, &ran)?;
    wait_recovered(&cluster)?;
    let after = wait_until("all is known again", SOON, || {
        let after = known(&cluster)?;
        anyhow::ensure!(after == before, "{before:#?} is {after:#?}");
        Ok(after)
    })?;
    untouched(&cluster, &ran)?;
    let gone = cluster.workspace("acme/gone")?;
    anyhow::ensure!(gone["phase"] == "failed", "what was deleted does not run again: {gone}");
    create(&cluster, "beta/new")?;
    let highest = after.iter().map(generation).collect::<Result<Vec<_>>>()?.into_iter().max();
    let new = Some(generation(&cluster.workspace("beta/new")?)?);
    anyhow::ensure!(new > highest, "{new:?} is not above {highest:?}");
    // the same again changes nothing, and another cluster's folder is not overwritten
    anyhow::ensure!(cluster.json(&restore)?["result"] == "unchanged");

    old_one_returns(&mut cluster, &stage, (&lost, &old_address))?;
    untouched(&cluster, &ran)
}

/// The lost machine comes back with its old state: no node listens to it.
fn old_one_returns(
    cluster: &mut Cluster,
    stage: &Stage,
    (lost, old_address): (&Path, &str),
) -> Result<()> {
    let config = format!(
        "[listen]\napi = \"{old_address}\"\nraft = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n\
         [paths]\nstate = \"{}\"\nsocket = \"{}\"\n",
        lost.join("state").display(),
        lost.join("c.sock").display(),
    );
    let file = lost.join("coordinator.toml");
    fs::write(&file, config)?;
    let program = Program::new(binary("warren-coordinator")?);
    let program = program.args(["--config".as_ref(), file.as_os_str()]);
    let folder = stage.folder("old")?;
    let _old = Daemon::start("old", &folder, program)?;
    let both = [cluster.api_address()?, old_address.to_owned()];
    cluster.nodes[0].kill()?;
    // only the old one is known, until it is seen that it is refused
    cluster.nodes[0].command(&["coordinators", "set", &both[1]])?;
    cluster.nodes[0].start()?;
    wait_until("the old coordinator is refused", SOON, || {
        let agent = cluster.nodes[0].agent.as_ref().context("it runs")?;
        let refused = agent.log().contains("newer incarnation of this cluster");
        anyhow::ensure!(refused, "it is not: {}", agent.log());
        Ok(())
    })?;
    cluster.nodes[0].command(&["coordinators", "set", &both[0], &both[1]])?;
    cluster.wait_ready("n1")
}

#[test]
fn a_restore_killed_at_any_step_is_finished_by_the_next_and_by_no_other() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.warren(&["client", "create", "acme"])?;
    let (file, passphrase) = back_up(&cluster, stage.root())?;
    let other = format!("{file}.other");
    cluster.warren(&["cluster", "backup", &other, "--passphrase-file", &passphrase])?;
    cluster.lose_coordinator()?;
    let restore = |file: &str, socket: &str| {
        ["cluster", "restore", file, "--passphrase-file", &passphrase, "--socket", socket]
            .map(str::to_owned)
    };
    let steps = ["restoring.json", "keys", "log", "checkpoints", "cluster.json", "identity"];
    for step in steps {
        cluster.start_coordinator()?;
        let socket = cluster.wait_socket()?;
        let program = cluster.cli()?.args(restore(&file, &socket));
        let asking = thread::spawn(move || program.run());
        let marker = cluster.folder().join("state").join(step);
        let finished = || asking.is_finished();
        wait_until(&format!("{step} is there"), SOON, || {
            let seen = marker.exists() || finished();
            anyhow::ensure!(seen, "not yet");
            Ok(())
        })?;
        cluster.kill_coordinator()?;
        // cut off or just done: either may be
        asking.join().map_err(|_| anyhow::anyhow!("the caller panicked"))??;

        cluster.start_coordinator()?;
        let socket = cluster.wait_socket()?;
        let began = cluster.folder().join("state/restoring.json").exists();
        if began {
            let refused = cluster.cli()?.args(restore(&other, &socket)).run()?.with_code(4)?;
            anyhow::ensure!(refused.stderr.contains("another backup"), "{}", refused.stderr);
            let init = ["cluster", "init", "--name", "test", "--socket", &socket];
            cluster.refuses(&init, 4, &["a restore was begun"])?;
        }
        cluster.cli()?.args(restore(&file, &socket)).run()?.success()?;
        let status = cluster.json(&["cluster", "status"])?;
        anyhow::ensure!(status["clients"] == 1, "after {step}: {status}");
        anyhow::ensure!(status["replicas"].as_array().map(Vec::len) == Some(1), "{status}");
        let refused = cluster.cli()?.args(restore(&other, &socket)).run()?.with_code(4)?;
        anyhow::ensure!(refused.stderr.contains("belongs to cluster test"), "{}", refused.stderr);
        cluster.kill_coordinator()?;
        cluster.wipe_coordinator()?;
    }
    Ok(())
}
