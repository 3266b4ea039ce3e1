//! What browsers show, from their workspaces to people: in lists, watches, pictures and events.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use warren_common::Limits;
use warren_tests::{Cluster, Stage};

use crate::{
    played::{self, cluster},
    watching::Watching,
};

const SHOP: &str = "acme/web/7-100";
const DOCS: &str = "acme/api/8-100";

/// Has a browser in a workspace do something.
fn play(cluster: &Cluster, workspace: &str, words: &[&str]) -> Result<()> {
    played::play(cluster, workspace, &["warren-fake-browser"], words)
}

/// Waits until a watch told that a browser is so, and returns it.
fn until(watching: &Watching, address: &str, status: &str) -> Result<Value> {
    played::until(watching, (address, "/status"), status)
}

#[test]
fn what_browsers_show_is_listed_watched_and_pictured() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = cluster(&stage)?;
    let watching = Watching::start(&cluster, &["browser", "list", "--watch", "-o", "json"])?;
    let events = Watching::start(&cluster, &["cluster", "events", "--watch", "-o", "json"])?;
    events.until("workspace.created", "acme/web")?;
    let shop = "https://shop.example/cart?token=abc";
    play(&cluster, "acme/web", &["7", "running", shop, "Your cart"])?;
    play(&cluster, "acme/api", &["8", "running", "https://docs.example/", "Docs"])?;
    until(&watching, DOCS, "running")?;
    let seen = until(&watching, SHOP, "running")?;
    let page = &seen["pages"][0];
    ensure!(page["url"] == "https://shop.example/cart?token=***", "{page}");
    ensure!(page["title"] == "Your cart" && seen["session"] == "main", "{seen}");
    ensure!(!seen.to_string().contains("abc"), "{seen}");

    let listed = cluster.json(&["browser", "list"])?;
    ensure!(listed[0]["address"] == DOCS && listed[1]["address"] == SHOP, "{listed}");
    let shown = cluster.json(&["workspace", "show", "acme/web"])?;
    ensure!(shown["observed"]["browsers"][0]["id"] == "7-100", "{shown}");

    play(&cluster, "acme/web", &["7", "hung"])?;
    until(&watching, SHOP, "hung")?;
    events.until("browser.hung", SHOP)?;
    let listed = cluster.json(&["browser", "list", "--state", "hung", "--client", "acme"])?;
    ensure!(listed[0]["address"] == SHOP && listed.as_array().map(Vec::len) == Some(1), "{listed}");
    let first = cluster.warren(&["browser", "list", "-o", "name"])?.stdout;
    ensure!(first.starts_with(SHOP), "{first}");

    play(&cluster, "acme/web", &["7", "crashed", "11"])?;
    let crashed = until(&watching, SHOP, "crashed: signal 11")?;
    ensure!(crashed["exit"]["signal"] == 11 && crashed["needs_me"] == true, "{crashed}");
    events.until("browser.crashed", SHOP)?;
    play(&cluster, "acme/web", &["7", "gone"])?;
    watching.until("gone", SHOP)?;

    // a picture of a fake one is its address, which is no picture
    let refused = cluster.cli()?.args(["browser", "shot", "acme/api", "-"]).run()?.with_code(1)?;
    ensure!(refused.stderr.contains("no picture"), "{}", refused.stderr);
    let missing = cluster.cli()?.args(["browser", "shot", "acme/web", "-"]).run()?.with_code(3)?;
    ensure!(missing.stderr.contains("no browser in acme/web"), "{}", missing.stderr);

    let since = Instant::now();
    cluster.nodes[0].agent.as_ref().context("it runs")?.signal(Signal::STOP)?;
    let lost = until(&watching, DOCS, "unknown (was running)")?;
    ensure!(
        since.elapsed() < Limits::AGENT_UNHEARD * 2 && lost["observed_live"] == false,
        "{lost}"
    );
    cluster.nodes[0].agent.as_ref().context("it runs")?.signal(Signal::CONT)?;
    until(&watching, DOCS, "running")?;
    Ok(())
}
