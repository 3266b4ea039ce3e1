//! Faults as they happen to people, each made for real: `warren doctor` must find it, give it its
//! code and level, and say what to do.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use warren_tests::{Cluster, Stage, wait_until};

use crate::doctoring::{SOON, doctor};

/// What is looked for: a code, a level, and words of the message or of what it is about.
type Sought<'a> = (&'a str, &'a str, &'a str);

fn fits(one: &Value, (code, level, words): Sought<'_>) -> bool {
    let says = |field: &str| one[field].as_str().is_some_and(|text| text.contains(words));
    one["code"] == code && one["level"] == level && (says("message") || says("subject"))
}

/// Sees that the fault is not there, makes it, and waits until the doctor finds it with a remedy.
fn seed(
    cluster: &mut Cluster,
    arguments: &[&str],
    sought: Sought<'_>,
    make: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    let (_, before) = doctor(cluster, arguments)?;
    ensure!(!before.iter().any(|one| fits(one, sought)), "{sought:?} before it was made");
    make(cluster)?;
    find(cluster, arguments, sought)
}

/// Waits until the doctor finds a fault with a remedy.
fn find(cluster: &Cluster, arguments: &[&str], sought: Sought<'_>) -> Result<()> {
    wait_until(&format!("{sought:?} is found"), SOON, || {
        let (_, findings) = doctor(cluster, arguments)?;
        let found = findings.iter().find(|one| fits(one, sought));
        let found = found.with_context(|| {
            let faults = findings.iter().filter(|one| one["level"] != "ok");
            let told =
                faults.map(|one| format!("\n{} {} {}", one["level"], one["code"], one["message"]));
            format!("not among these:{}", told.collect::<String>())
        })?;
        let fix = found["fix"].as_str().unwrap_or_default();
        ensure!(!fix.is_empty(), "it does not say what to do: {found}");
        Ok(())
    })
}

fn create(cluster: &Cluster, address: &str) -> Result<()> {
    let caps = ["--memory", "256M", "--disk", "1G", "--wait", "none"];
    cluster.warren(&[&["workspace", "create", address][..], &caps].concat()).map(drop)
}

#[test]
fn what_is_wrong_with_workspaces_and_their_node_is_found() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    seed(&mut cluster, &[], ("WORKSPACE_QUEUED", "warning", "acme/early"), |cluster| {
        cluster.warren(&["client", "create", "acme"])?;
        create(cluster, "acme/early")
    })?;
    cluster.add_fake_node("n1", None)?;
    cluster.wait_phase("acme/early", "active")?;
    let control = cluster.nodes[0].folder().join("state/fake-engine/control.json");
    seed(&mut cluster, &[], ("WORKSPACE_FAILED", "error", "acme/web"), |cluster| {
        let failing = json!({"fail": {"create": {"code": "ENGINE_REFUSED", "message": "told to"}}});
        fs::create_dir_all(control.parent().context("a folder")?)?;
        fs::write(&control, failing.to_string())?;
        create(cluster, "acme/web")
    })?;
    let config = cluster.nodes[0].folder().join("node-agent.toml").to_string_lossy().into_owned();
    let local = ["--local", "--coordinator-config", "/nowhere.toml", "--node-config", &config];
    let state = cluster.nodes[0].folder().join("state");
    seed(&mut cluster, &local, ("NODE_STATE", "error", "others may use it"), |_| {
        Ok(fs::set_permissions(&state, fs::Permissions::from_mode(0o755))?)
    })?;
    seed(&mut cluster, &local, ("NODE_CONFIG", "error", "nothing"), |_| {
        let text = fs::read_to_string(&config)?;
        Ok(fs::write(&config, format!("nothing = 1\n{text}"))?)
    })?;
    seed(&mut cluster, &local, ("NODE_METRICS", "error", ""), |cluster| cluster.nodes[0].kill())?;
    find(&cluster, &[], ("NODE_REPORTS", "warning", "n1"))?;
    find(&cluster, &[], ("NODE_SCHEDULABLE", "error", ""))
}

#[test]
fn what_is_wrong_with_the_coordinators_is_found() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    seed(&mut cluster, &[], ("VOTERS_ODD", "warning", "2"), |cluster| {
        cluster.add_coordinator("coordinator-2", None).map(drop)
    })?;
    cluster.add_coordinator("coordinator-3", None)?;
    let key = cluster.folder().join("config/contexts/test/identity.pem");
    seed(&mut cluster, &[], ("CONTEXT_FILES", "error", "identity.pem"), |_| {
        Ok(fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?)
    })?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let quick = ["--timeout", "5s"];
    seed(&mut cluster, &quick, ("LAST_CONTACT", "error", "coordinator 3"), |cluster| {
        cluster.coordinators[2].process()?.signal(Signal::STOP)
    })?;
    seed(
        &mut cluster,
        &quick,
        ("COORDINATOR_ANSWERS", "error", "Connection refused"),
        |cluster| cluster.coordinators[1].kill(),
    )?;
    find(&cluster, &quick, ("QUORUM", "error", ""))?;
    cluster.coordinators[2].process()?.signal(Signal::CONT)
}

#[test]
fn what_is_wrong_on_a_coordinators_machine_is_found() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    let config = cluster.folder().join("coordinator.toml").to_string_lossy().into_owned();
    let local = ["--local", "--coordinator-config", &config, "--node-config", "/nowhere.toml"];
    let keys = cluster.folder().join("state/keys");
    seed(&mut cluster, &local, ("COORDINATOR_STATE", "error", "others may use it"), |_| {
        Ok(fs::set_permissions(&keys, fs::Permissions::from_mode(0o755))?)
    })?;
    let audit = cluster.folder().join("state/audit");
    seed(&mut cluster, &[], ("AUDIT_HEAD", "error", ""), |_| cut_last_segment(&audit))?;
    seed(&mut cluster, &local, ("COORDINATOR_METRICS", "error", ""), Cluster::kill_coordinator)?;
    let api = cluster.api_address()?;
    let _other = TcpListener::bind(&api).context("its port is free now")?;
    seed(&mut cluster, &local, ("COORDINATOR_CONFIG", "error", "nothing"), |cluster| {
        cluster.configure("[nothing]\n")
    })?;
    find(&cluster, &[], ("COORDINATOR_ANSWERS", "error", ""))
}

/// Takes the last bytes of the newest file of records away.
fn cut_last_segment(audit: &Path) -> Result<()> {
    let mut files: Vec<_> =
        fs::read_dir(audit)?.map(|one| Ok(one?.path())).collect::<Result<_>>()?;
    files.sort();
    let newest = files.last().context("a file of records")?;
    let length = fs::metadata(newest)?.len();
    ensure!(length > 20, "there is something to take away");
    Ok(fs::OpenOptions::new().write(true).open(newest)?.set_len(length - 20)?)
}
