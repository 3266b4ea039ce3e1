//! Sessions that are asked for after their workspace was made: through the API to the node and back.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Cluster, Stage, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn cluster(stage: &Arc<Stage>) -> Result<Cluster> {
    let mut cluster = Cluster::start(stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    let create = ["workspace", "create", "acme/web", "--memory", "64M", "--disk", "64M"];
    let more = ["--repo", "https://git.example/acme/web.git", "--session", "main=claude"];
    cluster.warren(&[&create[..], &more].concat())?;
    Ok(cluster)
}

fn find(cluster: &Cluster, address: &str) -> Result<Value> {
    let listed = cluster.json(&["session", "list", "acme/web"])?;
    let all = listed.as_array().context("a list")?;
    all.iter().find(|one| one["address"] == address).cloned().context("it is not listed")
}

#[test]
fn a_session_is_made_stopped_restarted_and_deleted_and_the_record_says_by_whom() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = cluster(&stage)?;
    let create = ["session", "create", "acme/web", "--agent", "claude", "--prompt", "do it"];
    let id = "0199a0b2-7f00-7000-8000-00000000abcd";
    let id = request_of_now(id);
    let made = cluster.json(&[&create[..], &["--request-id", &id]].concat())?;
    ensure!(made["address"] == "acme/web/claude" && made["branch"] == "warren/claude", "{made}");
    ensure!(made["asked"]["agent"] == "claude" && made["state"] == "running", "{made}");
    ensure!(made["asked"]["permissions"] == "bypass", "{made}");
    // the same request again makes no second one
    let again = cluster.json(&[&create[..], &["--request-id", &id]].concat())?;
    ensure!(again["address"] == "acme/web/claude", "{again}");
    let second = cluster.json(&create)?;
    ensure!(second["address"] == "acme/web/claude-2", "{second}");

    let stopped = cluster.json(&["session", "stop", "acme/web/claude"])?;
    ensure!(stopped["state"] == "stopped" && stopped["exit_code"].is_null(), "{stopped}");
    let wait = ["session", "wait", "acme/web/claude", "--until", "exited", "--timeout", "20s"];
    cluster.json(&wait)?;

    // what was asked survives the coordinator, and the node agent
    cluster.kill_coordinator()?;
    cluster.start_coordinator()?;
    cluster.wait_ready("n1")?;
    ensure!(find(&cluster, "acme/web/claude")?["state"] == "stopped");
    cluster.nodes[0].kill()?;
    cluster.nodes[0].start()?;
    cluster.wait_ready("n1")?;
    wait_until("the second is seen again", SOON, || {
        let second = find(&cluster, "acme/web/claude-2")?;
        ensure!(second["state"] == "running", "{second}");
        Ok(())
    })?;
    ensure!(find(&cluster, "acme/web/claude")?["state"] == "stopped");

    let restarted = cluster.json(&["session", "restart", "acme/web/claude"])?;
    ensure!(restarted["state"] == "running", "{restarted}");
    let run = |session: &Value| session["run"].as_str().and_then(|run| run.parse::<u64>().ok());
    ensure!(run(&restarted) > run(&made), "{restarted}");
    cluster.warren(&["session", "delete", "acme/web/claude"])?;
    ensure!(find(&cluster, "acme/web/claude").is_err(), "it is listed");
    cluster.refuses(&["session", "stop", "acme/web/claude"], 3, &["acme/web/claude"])?;

    let records = cluster.json(&["audit", "list"])?.to_string();
    for action in ["session.create", "session.stop", "session.restart", "session.delete"] {
        ensure!(records.contains(action), "no {action} in {records}");
    }
    ensure!(!records.contains("do it"), "a prompt is nobody else's");
    Ok(())
}

#[test]
fn sessions_of_a_stopped_workspace_come_up_with_it() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = cluster(&stage)?;
    cluster.warren(&["workspace", "stop", "acme/web"])?;
    let made = cluster.warren(&["session", "create", "acme/web/dev", "--", "npm", "run", "x y"])?;
    ensure!(made.stderr.contains("comes up with its workspace"), "{}", made.stderr);
    cluster.warren(&["session", "stop", "acme/web/main"])?;
    cluster.warren(&["workspace", "start", "acme/web"])?;
    wait_until("dev is up", SOON, || {
        let dev = find(&cluster, "acme/web/dev")?;
        ensure!(dev["state"] == "running" && dev["command"] == "npm run 'x y'", "{dev}");
        Ok(())
    })?;
    ensure!(find(&cluster, "acme/web/main")?["state"] == "stopped");
    cluster.refuses(&["session", "create", "acme/web/dev"], 4, &["acme/web/dev already exists"])?;
    let odd = ["session", "create", "acme/web/x", "--prompt", "y"];
    cluster.refuses(&odd, 2, &["--prompt is for agents"])?;
    Ok(())
}

/// Returns a request id of now with this one's end.
fn request_of_now(end: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = now.map_or(0, |since| since.as_millis());
    let hex = format!("{millis:012x}");
    format!("{}-{}-{}", &hex[..8], &hex[8..], &end[14..])
}
