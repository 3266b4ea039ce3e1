//! A node that falls silent: told in time, everywhere, and never as if it still ran.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use warren_daemon::identity::{ClientTls, Folder, connect};
use warren_proto::pb::admin::v1::{
    NodeLiveness, WatchRequest, watch_response::Kind, watch_service_client::WatchServiceClient,
};
use warren_tests::{Cluster, Stage, wait_until};

/// What may pass between a deadline and its being told.
const LATE: Duration = Duration::from_secs(3);
/// From the last sign of life to the moment at which a test can know that it was the last.
const EARLY: Duration = Duration::from_secs(3);

/// Watches through the API itself and sends each standing of a node as it comes: nothing is asked
/// again.
fn standings(cluster: &Cluster) -> Result<mpsc::Receiver<(NodeLiveness, Instant)>> {
    let identity = Folder::open(cluster.folder().join("config/contexts/test"))?.load()?;
    let identity = identity.context("an identity")?;
    let addresses = [cluster.api_address()?];
    let (tell, told) = mpsc::channel();
    thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let tls = ClientTls::new(&identity.credentials, &identity.trust_pem)?;
            let channel = connect(&Arc::new(tls), &addresses).await?;
            let request = WatchRequest { standings: true, ..WatchRequest::default() };
            let mut stream = WatchServiceClient::new(channel).watch(request).await?.into_inner();
            while let Some(answer) = stream.message().await? {
                if let Some(Kind::Standings(standings)) = answer.kind {
                    for node in standings.nodes {
                        tell.send((node.liveness(), Instant::now()))?;
                    }
                }
            }
            Ok(())
        })
    });
    Ok(told)
}

/// Waits for the next standing and checks when it came, counted from `since`.
fn next(
    told: &mpsc::Receiver<(NodeLiveness, Instant)>,
    expected: NodeLiveness,
    (since, after): (Instant, Duration),
) -> Result<()> {
    let (liveness, at) = told.recv_timeout(after + Duration::from_secs(30))?;
    ensure!(liveness == expected, "it is told as {liveness:?}");
    let took = at.saturating_duration_since(since);
    ensure!(took + EARLY >= after && took <= after + LATE, "{expected:?} came after {took:?}");
    Ok(())
}

#[test]
fn a_silent_node_is_suspect_then_unreachable_in_time_in_lists_and_unasked_in_watches() -> Result<()>
{
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    let create = ["workspace", "create", "acme/web", "--memory", "64M", "--disk", "64M"];
    cluster.warren(&[&create[..], &["--session", "main"]].concat())?;
    cluster.wait_phase("acme/web", "active")?;
    wait_until("the lease is known", Duration::from_secs(30), || {
        let shown = cluster.warren(&["workspace", "show", "acme/web"])?.stdout;
        ensure!(shown.contains("confirmed") && shown.contains("until"), "{shown}");
        let node = cluster.json(&["node", "show", "n1"])?;
        ensure!(node["liveness"] == "ready", "{node}");
        Ok(())
    })?;
    let told = standings(&cluster)?;
    let (first, _) = told.recv_timeout(Duration::from_secs(30))?;
    ensure!(first == NodeLiveness::Ready, "a watch begins with what is: {first:?}");

    // stopped, not killed: its connections stay open and say nothing
    let since = Instant::now();
    cluster.nodes[0].agent.as_ref().context("it runs")?.signal(Signal::STOP)?;
    next(&told, NodeLiveness::Suspect, (since, Duration::from_secs(12)))?;
    ensure!(cluster.json(&["node", "show", "n1"])?["liveness"] == "suspect");
    last_seen(&cluster)?;
    next(&told, NodeLiveness::Unreachable, (since, Duration::from_secs(30)))?;
    let listed = cluster.warren(&["node", "list"])?.stdout;
    ensure!(listed.contains("unreachable") && listed.contains("not heard from for"), "{listed}");
    last_seen(&cluster)?;

    let window = Duration::from_secs(120).saturating_sub(since.elapsed());
    wait_until("the lease has expired", window + Duration::from_secs(10), || {
        let shown = cluster.warren(&["workspace", "show", "acme/web"])?.stdout;
        let says = "(nothing is frozen: no fence yet)";
        ensure!(shown.contains("expired at ") && shown.contains(says), "{shown}");
        Ok(())
    })?;
    ensure!(since.elapsed() + EARLY >= Duration::from_secs(120), "it expired early");

    cluster.nodes[0].agent.as_ref().context("it runs")?.signal(Signal::CONT)?;
    let back = Instant::now();
    wait_until("the watch tells that it is back", Duration::from_secs(30), || {
        let (liveness, _) = told.recv_timeout(Duration::from_secs(5))?;
        ensure!(liveness == NodeLiveness::Ready, "it is {liveness:?}");
        Ok(())
    })?;
    ensure!(back.elapsed() <= Duration::from_secs(30), "it took {:?}", back.elapsed());
    let web = cluster.workspace("acme/web")?;
    ensure!(web["status"] == "running" && web["silent_since"].is_null(), "{web}");
    Ok(())
}

/// What a silent node's workspaces are called, in text and JSON, in every list.
fn last_seen(cluster: &Cluster) -> Result<()> {
    for verb in [&["workspace", "list"][..], &["workspace", "show", "acme/web"]] {
        let text = cluster.warren(verb)?.stdout;
        ensure!(text.contains("last seen running at ") && text.contains(" on n1"), "{text}");
    }
    let web = cluster.workspace("acme/web")?;
    ensure!(web["observed_live"] == false && web["silent_since"].is_string(), "{web}");
    ensure!(web["status"].as_str().is_some_and(|text| text.starts_with("last seen")), "{web}");
    let sessions = cluster.json(&["session", "list", "acme/web"])?;
    ensure!(sessions[0]["observed_live"] == false, "{sessions}");
    Ok(())
}
