//! Who did what, with three real coordinators; and a byte that somebody changed on one of them.

use std::{fs, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Cluster, Stage};

fn records(cluster: &Cluster, arguments: &[&str]) -> Result<Vec<Value>> {
    let listed = cluster.json(&[&["audit", "list"], arguments].concat())?;
    Ok(listed.as_array().context("a list")?.clone())
}

fn verdict(listed: &Value, id: u64) -> Result<&Value> {
    let rows = listed.as_array().context("a list")?;
    rows.iter().find(|row| row["coordinator"] == id).with_context(|| format!("no {id}: {listed}"))
}

#[test]
fn who_did_what_is_told_and_a_changed_byte_is_found_and_named() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::of_three(&stage)?;
    cluster.warren(&["client", "create", "before"])?;
    let id = uuid::Uuid::now_v7().hyphenated().to_string();
    cluster.warren(&["client", "create", "acme", "--request-id", &id])?;

    // the id that a refused call prints stands in no record, the one that took effect in one
    let found = records(&cluster, &["--request-id", &id])?;
    ensure!(found.len() == 1, "{found:?}");
    let record = &found[0];
    let actor = record["actor"].as_str().context("an actor")?;
    ensure!(actor.starts_with("person/"), "{record}");
    ensure!(record["action"] == "client.create" && record["target"] == "acme", "{record}");
    let refused = ["client", "create", "acme", "-o", "json"];
    let refused = cluster.cli()?.args(refused).run()?.with_code(4)?;
    let refused: Value = serde_json::from_str(&refused.stderr)?;
    let printed = refused["error"]["request_id"].as_str().context("it is printed")?;
    ensure!(
        records(&cluster, &["--request-id", printed])?.is_empty(),
        "a refusal changed something"
    );

    let name = actor.trim_start_matches("person/");
    let mine = records(&cluster, &["--actor", name, "--action", "client", "--since", "10m"])?;
    let targets: Vec<&Value> = mine.iter().map(|row| &row["target"]).collect();
    ensure!(targets == ["before", "acme"], "newest last: {targets:?}");
    let newest = records(&cluster, &["--action", "client.create", "--limit", "1"])?;
    ensure!(newest.len() == 1 && newest[0]["target"] == "acme", "{newest:?}");
    ensure!(records(&cluster, &["--until", "2026-01-01"])?.is_empty(), "nothing is that old");

    let whole = cluster.json(&["audit", "verify"])?;
    let last = verdict(&whole, 1)?["last"].as_u64().context("a number")?;
    for coordinator in 1..=3 {
        let verdict = verdict(&whole, coordinator)?;
        ensure!(verdict["whole"] == true && verdict["last"] == last, "{verdict}");
    }

    // one byte of one record on one disk: ann becomes bnn
    let number = record["sequence"].as_u64().context("a number")?;
    let folder = cluster.coordinators[1].folder().join("state/audit");
    let (path, text) = segment_with(&folder, number)?;
    let was = format!("\"Person\":\"{name}\"");
    let at = text.find(&format!("{{\"sequence\":{number},")).context("the record")?;
    let at = at + text[at..].find(&was).context("its actor")? + was.len() - 2;
    let mut changed = text.clone().into_bytes();
    changed[at] ^= 1;
    fs::write(&path, &changed)?;
    let output = cluster.cli()?.args(["audit", "verify", "-o", "json"]).run()?.with_code(1)?;
    ensure!(output.stderr.contains("coordinator 2"), "{}", output.stderr);
    let found = output.json()?;
    let broken = &verdict(&found, 2)?["broken"];
    let file = path.file_name().context("a name")?.to_string_lossy();
    ensure!(broken["record"] == number && broken["segment"] == *file, "{broken}");
    for coordinator in [1, 3] {
        ensure!(verdict(&found, coordinator)?["whole"] == true, "{found}");
    }

    // the same on the spot while it is stopped; and mended, it is whole again
    cluster.coordinators[1].kill()?;
    let state = cluster.coordinators[1].folder().join("state");
    let state = state.to_string_lossy();
    let local = ["audit", "verify", "--local", "--state", &state, "-o", "json"];
    let output = cluster.cli()?.args(local).run()?.with_code(1)?;
    ensure!(output.json()?[0]["broken"]["record"] == number, "{}", output.stdout);
    // who does not answer is named, and is no break; nor is all well
    let output = cluster.cli()?.args(["audit", "verify", "-o", "json"]).run()?.with_code(1)?;
    let without = output.json()?;
    ensure!(verdict(&without, 2)?["trouble"].is_string(), "{without}");
    ensure!(output.stderr.contains("none broken"), "{}", output.stderr);
    ensure!(output.stderr.contains("next: bring coordinator 2 back"), "{}", output.stderr);
    fs::write(&path, &text)?;
    cluster.cli()?.args(local).run()?.success()?;
    Ok(())
}

/// Returns the file that holds a record, and what is in it.
fn segment_with(folder: &std::path::Path, number: u64) -> Result<(std::path::PathBuf, String)> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        if text.contains(&format!("{{\"sequence\":{number},")) {
            return Ok((path, text));
        }
    }
    anyhow::bail!("no file in {} has record {number}", folder.display())
}
