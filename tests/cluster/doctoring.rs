//! `warren doctor` on real processes: all is well, one coordinator is down, none can decide.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Cluster, Output, Stage, wait_until};

pub(crate) const SOON: Duration = Duration::from_secs(60);
/// What this machine is, and not the cluster: how full its disk is, how its kernel was booted.
const OF_THE_HOST: [&str; 2] = ["DISK_FREE", "NODE_PREFLIGHT"];

pub(crate) fn doctor(cluster: &Cluster, arguments: &[&str]) -> Result<(Output, Vec<Value>)> {
    let arguments = [&["doctor", "-o", "json"], arguments].concat();
    let output = cluster.cli()?.args(arguments).run()?;
    let findings = output.json()?["findings"].as_array().context("findings")?.clone();
    Ok((output, findings))
}

/// Returns those that are not ok.
fn faults(findings: &[Value]) -> Vec<&Value> {
    let ours = |one: &&Value| !OF_THE_HOST.iter().any(|code| one["code"] == *code);
    findings.iter().filter(|one| one["level"] != "ok").filter(ours).collect()
}

fn found<'a>(findings: &'a [Value], code: &str, level: &str) -> Result<&'a Value> {
    let found = findings.iter().find(|one| one["code"] == code && one["level"] == level);
    found.with_context(|| format!("no {level} {code} in {findings:?}"))
}

#[test]
fn all_is_well_then_one_coordinator_is_down_then_nothing_can_be_decided() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::of_three(&stage)?;
    cluster.add_fake_node("n1", None)?;
    let (_, findings) = doctor(&cluster, &[])?;
    found(&findings, "BACKUP", "warning")?;
    let passphrase = cluster.folder().join("passphrase");
    fs::write(&passphrase, "correct horse battery staple")?;
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600))?;
    let file = cluster.folder().join("backup.warren").to_string_lossy().into_owned();
    let passphrase = passphrase.to_string_lossy().into_owned();
    cluster.warren(&["cluster", "backup", &file, "--passphrase-file", &passphrase])?;

    wait_until("all is well", SOON, || {
        let (output, findings) = doctor(&cluster, &[])?;
        ensure!(faults(&findings).is_empty(), "{:?}", faults(&findings));
        ensure!(output.json()?["cluster"] == "test", "{}", output.stdout);
        let answers = found(&findings, "COORDINATOR_ANSWERS", "ok")?;
        ensure!(answers["message"] == "3 of 3 answer", "{answers}");
        Ok(())
    })?;

    cluster.coordinators[2].kill()?;
    let (output, findings) = doctor(&cluster, &[])?;
    output.with_code(1)?;
    let silent = found(&findings, "COORDINATOR_ANSWERS", "error")?;
    ensure!(silent["subject"] == "coordinator 3", "{silent}");
    let fix = silent["fix"].as_str().context("a fix")?;
    for word in ["systemctl start warren-coordinator", "warren cluster replace 3"] {
        ensure!(fix.contains(word), "{silent}");
    }
    found(&findings, "QUORUM", "warning")?;
    let keys = found(&findings, "KEYSTORE", "not-looked")?;
    ensure!(keys["message"].as_str().is_some_and(|why| why.contains("coordinator 3")), "{keys}");
    found(&findings, "KEYSTORE", "ok")?;
    found(&findings, "NODE_REPORTS", "ok")?;

    cluster.coordinators[1].kill()?;
    wait_until("it is seen that nothing can be decided", SOON, || {
        let (output, findings) = doctor(&cluster, &["--timeout", "5s"])?;
        output.with_code(1)?;
        let quorum = found(&findings, "QUORUM", "error")?;
        ensure!(quorum["fix"].as_str().is_some_and(|fix| fix.contains("recover")), "{quorum}");
        // what the one that answers keeps was looked at; what takes a majority was not
        found(&findings, "STORAGE", "ok")?;
        for code in ["NODE_REPORTS", "WORKSPACE_FAILED", "REPLICATION_LAG", "BACKUP"] {
            found(&findings, code, "not-looked")?;
        }
        Ok(())
    })
}

#[test]
fn a_machine_is_looked_at_on_the_spot() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    let config = cluster.folder().join("coordinator.toml").to_string_lossy().into_owned();
    let none = cluster.folder().join("none.toml").to_string_lossy().into_owned();
    let local = ["--local", "--coordinator-config", &config, "--node-config", &none];
    let (_, findings) = doctor(&cluster, &local)?;
    for code in ["CONFIG", "STATE", "PORTS", "METRICS"] {
        found(&findings, &format!("COORDINATOR_{code}"), "ok")?;
    }
    let ports = found(&findings, "COORDINATOR_PORTS", "ok")?;
    let api = cluster.api_address()?;
    ensure!(ports["message"].as_str().is_some_and(|all| all.contains(&api)), "{ports}");

    let key = cluster.folder().join("state/keys/person-authority.secret");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    cluster.configure("[nothing]\n")?;
    cluster.kill_coordinator()?;
    let (output, findings) = doctor(&cluster, &local)?;
    output.with_code(1)?;
    let open = found(&findings, "COORDINATOR_STATE", "error")?;
    ensure!(open["fix"] == format!("chmod 600 {}", key.display()), "{open}");
    let config = found(&findings, "COORDINATOR_CONFIG", "error")?;
    ensure!(config["message"].as_str().is_some_and(|why| why.contains("nothing")), "{config}");
    for code in ["PORTS", "METRICS"] {
        found(&findings, &format!("COORDINATOR_{code}"), "error")?;
    }
    Ok(())
}
