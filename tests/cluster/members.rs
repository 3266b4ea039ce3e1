//! Three coordinators: grown with the printed command, killed, replaced, taken out.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Cluster, Stage, wait_until};

const SOON: Duration = Duration::from_secs(60);

fn row(status: &Value, id: u64) -> Result<&Value> {
    let rows = status["replicas"].as_array().context("replicas")?;
    rows.iter().find(|row| row["id"] == id).with_context(|| format!("no {id} in {status}"))
}

fn ids(status: &Value) -> Result<Vec<u64>> {
    let rows = status["replicas"].as_array().context("replicas")?;
    Ok(rows.iter().filter_map(|row| row["id"].as_u64()).collect())
}

/// Waits until exactly these coordinators vote, answer and lack nothing.
pub(crate) fn settled(cluster: &Cluster, voters: &[u64]) -> Result<Value> {
    wait_until(&format!("{voters:?} vote and have the log"), SOON, || {
        let status = cluster.json(&["cluster", "status"])?;
        ensure!(ids(&status)? == voters, "there are {:?}", ids(&status)?);
        for id in voters {
            let row = row(&status, *id)?;
            ensure!(row["voter"] == true && row["lag_entries"] == 0, "{row}");
        }
        Ok(status)
    })
}

pub(crate) fn leader(cluster: &Cluster) -> Result<u64> {
    wait_until("somebody leads", SOON, || {
        let status = cluster.json(&["cluster", "status"])?;
        status["leader"].as_u64().context("nobody leads")
    })
}

fn create(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.warren(&["client", "create", name, "--timeout", "60s"]).map(drop)
}

/// Ensures that every coordinator's own copy of the keystore is the same.
pub(crate) fn same_keys(cluster: &Cluster, of: &[usize]) -> Result<()> {
    let name = "state/keys/person-authority.secret";
    let first = fs::read(cluster.coordinators[of[0]].folder().join(name))?;
    for other in of {
        let copy = fs::read(cluster.coordinators[*other].folder().join(name))?;
        ensure!(copy == first, "coordinator {} has other keys", other + 1);
    }
    Ok(())
}

#[test]
fn a_cluster_grows_to_three_with_the_printed_command_and_loses_any_one() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    create(&cluster, "before")?;
    for (name, id) in [("coordinator-2", 2), ("coordinator-3", 3)] {
        let joined = cluster.add_coordinator(name, None)?;
        let enrolled = format!("enrolled as coordinator {id}");
        for step in [&enrolled, "keystore copied", "log caught up", "has its vote"] {
            ensure!(joined.stdout.contains(step), "{step:?} is missing: {}", joined.stdout);
        }
    }
    settled(&cluster, &[1, 2, 3])?;
    same_keys(&cluster, &[0, 1, 2])?;
    let text = cluster.warren(&["cluster", "status"])?.stdout;
    ensure!(text.contains("3 voters, quorum 2, may lose 1"), "{text}");

    for lost in 0..3 {
        cluster.coordinators[lost].kill()?;
        create(&cluster, &format!("without-{}", lost + 1))?;
        let status = cluster.json(&["cluster", "status"])?;
        let row = row(&status, lost as u64 + 1)?;
        ensure!(row["trouble"].is_string(), "it is said to answer: {row}");
        nothing_is_handed_to(&cluster, lost as u64 + 1)?;
        cluster.coordinators[lost].start()?;
        settled(&cluster, &[1, 2, 3])?;
    }
    let listed = cluster.json(&["client", "list"])?;
    ensure!(listed.as_array().map(Vec::len) == Some(4), "{listed}");
    // joined before: said, and nothing happens
    let again = cluster.coordinators[1].join(&cluster.coordinator_token(&[])?)?;
    ensure!(again.stdout.contains("coordinator 2 already"), "{}", again.stdout);
    settled(&cluster, &[1, 2, 3]).map(drop)
}

/// A dead coordinator is not waited for: whoever leads goes on leading, and writes go on.
fn nothing_is_handed_to(cluster: &Cluster, dead: u64) -> Result<()> {
    wait_until("the leader knows that it is silent", SOON, || {
        let status = cluster.json(&["cluster", "status"])?;
        let contact = row(&status, dead)?["contact_ms"].as_u64();
        ensure!(contact.is_none_or(|ms| ms > 1500), "it answered {contact:?} ms ago");
        Ok(())
    })?;
    let leads = leader(cluster)?;
    let transfer = ["cluster", "transfer", &dead.to_string(), "--timeout", "2s"];
    cluster.refuses(&transfer, 5, &[&format!("coordinator {dead} does not answer")])?;
    ensure!(leader(cluster)? == leads, "another one leads");
    Ok(())
}

#[test]
fn leadership_is_handed_over_and_coordinators_are_taken_out() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::of_three(&stage)?;
    settled(&cluster, &[1, 2, 3])?;
    let first = leader(&cluster)?;
    let to = if first == 3 { 2 } else { 3 };
    let said = cluster.warren(&["cluster", "transfer", &to.to_string()])?;
    ensure!(said.stdout.contains(&format!("coordinator {to} leads")), "{}", said.stdout);
    ensure!(leader(&cluster)? == to, "another one leads");
    let next = cluster.json(&["cluster", "transfer"])?["leader"].as_u64().context("a leader")?;
    ensure!(next != to, "it kept it");
    cluster.refuses(&["cluster", "transfer", "9"], 3, &["there is no coordinator 9"])?;

    // every one of two that are left would be needed
    cluster.refuses(
        &["cluster", "remove", "2"],
        4,
        &["would leave 2 that vote", "the next failure would stop the cluster", "--force"],
    )?;
    settled(&cluster, &[1, 2, 3])?;
    cluster.refuses(&["cluster", "remove", "9"], 3, &["there is no coordinator 9"])?;
    // the one that leads goes: it hands over first
    let leading = leader(&cluster)?;
    let gone = usize::try_from(leading - 1)?;
    cluster.warren(&["cluster", "remove", &leading.to_string(), "--force"])?;
    let left: Vec<u64> = (1..=3).filter(|id| *id != leading).collect();
    settled(&cluster, &left)?;
    create(&cluster, "after")?;
    // it learns of it, ends, and says so when it is started again
    wait_until("the removed one ends", SOON, || {
        let ended = cluster.coordinators[gone].process()?.check();
        ensure!(ended.is_err(), "it still runs");
        Ok(())
    })?;
    let log = cluster.coordinators[gone].process()?.log();
    ensure!(log.contains("was removed from the cluster"), "{log}");
    cluster.warren(&["cluster", "remove", &leading.to_string()])?;

    // with one of two down the rest could decide nothing
    let down = usize::try_from(left[1] - 1)?;
    cluster.coordinators[down].kill()?;
    let kept = left[0].to_string();
    cluster.refuses(&["cluster", "remove", &kept, "--force", "--timeout", "5s"], 5, &[])?;
    cluster.coordinators[down].start()?;
    settled(&cluster, &left)?;
    cluster.warren(&["cluster", "remove", &left[1].to_string(), "--force"])?;
    settled(&cluster, &left[..1])?;
    cluster.refuses(&["cluster", "remove", &kept, "--force"], 4, &["the only one"])?;
    create(&cluster, "alone")
}

#[test]
fn a_coordinator_whose_disk_is_lost_is_replaced_and_never_comes_back_as_itself() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::of_three(&stage)?;
    settled(&cluster, &[1, 2, 3])?;
    cluster.coordinators[1].kill()?;
    let state = cluster.coordinators[1].folder().join("state");
    fs::remove_dir_all(state.join("log"))?;
    let refused = cluster.coordinators[1].program()?.run()?.with_code(1)?;
    for word in ["the log of coordinator 2 is gone", "warren cluster replace 2"] {
        ensure!(refused.stderr.contains(word), "{word:?} is missing: {}", refused.stderr);
    }
    create(&cluster, "meanwhile")?;
    let token = cluster.json(&["cluster", "replace", "2"])?;
    let token = token["token"].as_str().context("a token")?;
    // the coordinator does not run: the command enrols, and starting it does the rest
    let joined = cluster.coordinators[1].join(token)?;
    ensure!(joined.stdout.contains("enrolled as coordinator 4"), "{}", joined.stdout);
    cluster.coordinators[1].start()?;
    settled(&cluster, &[1, 3, 4])?;
    same_keys(&cluster, &[0, 1, 2])?;
    cluster.refuses(&["cluster", "replace", "2"], 4, &["coordinator 2 was removed"])?;

    // another disk is lost whole
    cluster.coordinators[2].kill()?;
    fs::remove_dir_all(cluster.coordinators[2].folder().join("state"))?;
    cluster.coordinators[2].start()?;
    cluster.coordinators[2].wait_socket()?;
    let token = cluster.coordinator_token(&["--replaces", "3"])?;
    let joined = cluster.coordinators[2].join(&token)?;
    ensure!(joined.stdout.contains("has its vote"), "{}", joined.stdout);
    settled(&cluster, &[1, 4, 5])?;
    create(&cluster, "after")
}

#[test]
fn tokens_and_machines_that_do_not_fit_are_refused() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    let blank = cluster.blank_coordinator("coordinator-2", None)?;
    let run = |blank: &warren_tests::Coordinator, token: &str, words: &[&str]| -> Result<()> {
        let output = blank.program()?.args(["join", token]).run()?.with_code(1)?;
        for word in words {
            ensure!(output.stderr.contains(word), "{word:?} is missing: {}", output.stderr);
        }
        Ok(())
    };
    run(&blank, "wrn1_x", &["cut or mistyped"])?;
    let node = cluster.json(&["node", "token"])?;
    run(&blank, node["token"].as_str().context("a token")?, &["lets a node in"])?;
    let token = cluster.coordinator_token(&[])?;
    blank.join(&token)?;
    // another machine with a spent token
    let third = cluster.blank_coordinator("coordinator-3", None)?;
    run(&third, &token, &["used before, for coordinator 2", "warren cluster token"])?;
    // a coordinator of one cluster does not become one of another
    let other = Cluster::start(&Arc::new(Stage::new()?), None)?;
    run(
        &blank,
        &other.coordinator_token(&[])?,
        &["this machine is coordinator 2 of cluster test"],
    )?;
    cluster.coordinators.push(blank);
    settled(&cluster, &[1, 2]).map(drop)
}

#[test]
fn a_joining_coordinator_is_killed_again_and_again_and_joins_once() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    for count in 0..20 {
        create(&cluster, &format!("c{count}"))?;
    }
    let mut blank = cluster.blank_coordinator("coordinator-2", None)?;
    let token = cluster.coordinator_token(&[])?;
    for round in 0..8_u64 {
        let mut command = blank.program()?.args(["join", &token]).into_command();
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut joining = command.spawn()?;
        // a different moment each round
        std::thread::park_timeout(Duration::from_millis(20 * round));
        // whatever the kill before left, its start did not end over it
        blank.process()?.check()?;
        blank.kill()?;
        joining.wait()?;
        blank.start()?;
        blank.wait_socket()?;
    }
    blank.join(&token)?;
    cluster.coordinators.push(blank);
    let status = settled(&cluster, &[1, 2])?;
    ensure!(ids(&status)? == [1, 2], "it joined more than once: {status}");
    Ok(())
}
