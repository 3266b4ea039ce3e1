//! Templates on real processes: pushed, filled, switched, and there after the leader is lost.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use uuid::Uuid;
use warren_tests::{Cluster, Stage};

/// The templates that come with Warren.
fn shipped(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/templates").join(name);
    folder.to_string_lossy().into_owned()
}

fn json(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    cluster.warren(&[arguments, &["-o", "json"]].concat())?.json()
}

fn create(cluster: &Cluster, address: &str, more: &[&str]) -> Result<()> {
    cluster.warren(&[&["workspace", "create", address], more].concat()).map(drop)
}

/// Parameters that do not fit are refused by name, before anything is made.
fn refuses(cluster: &Cluster) -> Result<()> {
    for (parameters, word) in [
        (&["--param", "memory=1"][..], "parameter repo is not given"),
        (&["--param", "repo=https://h/r", "--param", "memory=lots"], "takes a whole number"),
        (&["--param", "repo=https://h/r", "--param", "colour=red"], "it takes repo, branch,"),
        (&["--param", "repo=file:///etc"], "file"),
    ] {
        let arguments = [&["workspace", "create", "acme/no", "--template", "plain"], parameters];
        let output = cluster.cli()?.args(arguments.concat()).run()?;
        ensure!(output.code == 2, "{parameters:?} ended with {}: {}", output.code, output.stderr);
        ensure!(output.stderr.contains(word), "{parameters:?} says {}", output.stderr);
    }
    Ok(())
}

/// The same request takes effect once, also where another version is active by then.
fn repeats(cluster: &Cluster) -> Result<()> {
    let id = Uuid::now_v7().to_string();
    let again = [
        "--template",
        "plain",
        "--param",
        "repo=https://h/r.git",
        "--disk",
        "1G",
        "--request-id",
        &id,
    ];
    create(cluster, "acme/twice", &again)?;
    cluster.warren(&["template", "activate", "plain", "1"])?;
    create(cluster, "acme/twice", &again)?;
    let made = json(cluster, &["workspace", "show", "acme/twice"])?;
    ensure!(made["spec"]["template"] == "plain@2", "{made}");
    cluster.warren(&["workspace", "delete", "acme/twice", "--yes"])?;
    cluster.warren(&["template", "activate", "plain", "2"])?;
    Ok(())
}

#[test]
fn a_template_is_pushed_filled_and_switched_and_outlives_its_leader() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::of_three_with_node(&stage)?;

    // what comes with Warren is good as it is
    let pushed = json(&cluster, &["template", "push", &shipped("plain"), "-m", "as it came"])?;
    ensure!(pushed["active"] == 1 && pushed["versions"][0]["message"] == "as it came", "{pushed}");
    let again = json(&cluster, &["template", "push", &shipped("plain")])?;
    ensure!(again["versions"].as_array().map(Vec::len) == Some(1), "{again}");

    let more = [
        "--template",
        "plain",
        "--param",
        "repo=https://h/r.git",
        "--param",
        "packages=left pad, b;c",
        "--param",
        "command=claude --continue",
        "--param",
        "memory=1",
        "--disk",
        "1G",
    ];
    create(&cluster, "acme/web", &more)?;
    let made = json(&cluster, &["workspace", "show", "acme/web"])?;
    let spec = &made["spec"];
    ensure!(spec["template"] == "plain@1", "{spec}");
    ensure!(spec["sessions"][0]["command"] == "claude --continue", "{spec}");
    ensure!(spec["labels"]["template"] == "plain", "{spec}");
    ensure!(spec["resources"]["memory_bytes"] == 1 << 30, "{spec}");
    ensure!(spec["setup_bytes"].as_u64().is_some_and(|bytes| bytes > 50), "{spec}");

    refuses(&cluster)?;

    // another version, made active, and back
    let folder = cluster.folder().join("plain");
    fs::create_dir_all(&folder)?;
    let text = fs::read_to_string(Path::new(&shipped("plain")).join("template.toml"))?;
    fs::write(folder.join("template.toml"), text.replace("default = 2", "default = 1"))?;
    let from = folder.to_string_lossy().into_owned();
    let second = json(&cluster, &["template", "push", &from, "-m", "smaller"])?;
    ensure!(second["active"] == 1, "nobody asked for it: {second}");
    let diff = cluster.warren(&["template", "diff", "plain"])?.stdout;
    ensure!(diff.contains("-default = 2\n+default = 1\n"), "{diff}");
    cluster.warren(&["template", "activate", "plain", "2"])?;

    repeats(&cluster)?;

    cluster.kill_coordinator()?;
    let small = ["--template", "plain", "--param", "repo=https://h/r.git", "--disk", "1G"];
    create(&cluster, "acme/api", &small)?;
    let made = json(&cluster, &["workspace", "show", "acme/api"])?;
    ensure!(made["spec"]["template"] == "plain@2", "{made}");
    ensure!(made["spec"]["resources"]["memory_bytes"] == 1 << 30, "{made}");
    let back = json(&cluster, &["template", "rollback", "plain"])?;
    ensure!(back["active"] == 1 && back["before"].is_null(), "{back}");
    cluster.cli()?.args(["template", "rollback", "plain"]).run()?.with_code(4)?;
    create(&cluster, "acme/old", &[&small[..], &["--wait", "none"]].concat())?;
    let made = json(&cluster, &["workspace", "show", "acme/old"])?;
    ensure!(made["spec"]["template"] == "plain@1", "{made}");

    let listed = json(&cluster, &["template", "list"])?;
    let names: Vec<_> =
        listed.as_array().context("a list")?.iter().map(|one| &one["name"]).collect();
    ensure!(names == ["base", "plain"], "{names:?}");
    cluster.warren(&["template", "delete", "plain"])?;
    let shown = json(&cluster, &["workspace", "show", "acme/web"])?;
    ensure!(shown["spec"]["template"] == "plain@1", "made from it, it stays: {shown}");
    Ok(())
}
