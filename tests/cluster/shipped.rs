//! The templates that come with Warren as they stand, and what only templates say of sessions and
//! rules.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use warren_tests::{Cluster, Stage, program::binary, terminal::Terminal, wait_until};

/// Of a default installation.
const SMALL: [&str; 4] = ["--memory", "256M", "--disk", "1G"];
const REPO: &str = "repo=https://h/r.git";
const SOON: Duration = Duration::from_secs(30);

fn cluster(stage: &Arc<Stage>) -> Result<Cluster> {
    let mut cluster = Cluster::start(stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    for name in ["plain", "agent"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/templates").join(name);
        cluster.warren(&["template", "push", &folder.to_string_lossy()])?;
    }
    Ok(cluster)
}

fn create(cluster: &Cluster, address: &str, more: &[&str]) -> Result<Value> {
    cluster.warren(&[&["workspace", "create", address], &SMALL[..], more].concat())?;
    cluster.workspace(address)
}

#[test]
fn what_is_shipped_makes_a_workspace_and_says_what_builds_an_image_that_is_missing() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = cluster(&stage)?;
    let token = stage.root().join("token.txt");
    fs::write(&token, "tok")?;
    let token = format!("token=@{}", token.display());
    let three = ["--template", "agent", "--param", REPO, "--param", "vault=acme"];
    let made = create(&cluster, "acme/web", &[&three[..], &["--param", &token]].concat())?;
    let spec = &made["spec"];
    ensure!(spec["image"] == "warren-workspace:full", "{spec}");
    let line = "claude --dangerously-skip-permissions";
    ensure!(spec["sessions"][0]["command"] == line, "{spec}");
    let used = ["--param", "token=web-token", "--param", "agent=codex"];
    let used = [&used[..], &["--param", "permissions=ask", "--image", "agents:1"]].concat();
    let made = create(&cluster, "acme/asks", &[&three[..], &used].concat())?;
    ensure!(made["spec"]["sessions"][0]["command"] == "codex", "{made}");
    ensure!(made["spec"]["image"] == "agents:1", "{made}");
    let plain = create(&cluster, "acme/plain", &["--template", "plain", "--param", REPO])?;
    ensure!(plain["spec"]["image"] == "warren-workspace:latest", "{plain}");

    // on a node that nobody prepared
    let control = cluster.nodes[0].folder().join("state/fake-engine/control.json");
    let missing = json!({"missing_images": ["warren-workspace:full"]});
    fs::write(&control, missing.to_string())?;
    let more = ["--param", "token=web-token"];
    let more = [&["workspace", "create", "acme/new"], &SMALL[..], &three[..], &more].concat();
    let words = ["warren-workspace:full is not on this node", "warren image build --flavour full"];
    cluster.refuses(&more, 1, &words)?;
    let shown = cluster.workspace("acme/new")?;
    let reason = shown["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("warren image build --flavour full on the node"), "{reason}");
    Ok(())
}

#[test]
fn who_sits_at_a_terminal_is_asked_for_what_a_template_needs() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = cluster(&stage)?;
    let arguments = [&["workspace", "create", "acme/web", "--template", "agent"], &SMALL[..]];
    let warren = binary("warren")?;
    let line = format!("{} {}", warren.display(), arguments.concat().join(" "));
    let mut person = Terminal::start(cluster.around()?, &line)?;
    person.wait_for("repo (https URL of the git repository", SOON)?;
    person.type_bytes(b"\nhttps://h/r.git\n")?;
    person.wait_for("token", SOON)?;
    person.type_bytes(b"hidden-from-the-screen\n")?;
    person.wait_for("acme/web is running", SOON)?;
    ensure!(person.wait(SOON)? == 0, "{}", person.screen());
    let screen = person.screen();
    ensure!(!screen.contains("hidden-from-the-screen"), "{screen}");
    ensure!(!screen.contains("permissions"), "what has a default is asked for: {screen}");
    let made = cluster.workspace("acme/web")?;
    ensure!(made["spec"]["repo"] == "https://h/r.git", "{made}");
    let names = cluster.json(&["secret", "list", "acme"])?;
    ensure!(names[0]["name"] == "web-token", "{names}");
    Ok(())
}

const OWN: &str = r#"
[[parameter]]
name = "task"
type = "string"
optional = true

[workspace]
repo = "https://h/r.git"
memory = "256M"
disk = "1G"

[[session]]
name = "main"
command = "make watch"

[[session]]
name = "review"
agent = "codex"
arguments = ["--model", "a b"]
branch = "review"
prompt = "{{task}}"
"#;

fn push(cluster: &Cluster, document: &str) -> Result<()> {
    let push = ["template", "push", "-", "--name", "own", "--activate"];
    cluster.cli()?.args(push).input(document).run()?.success().map(drop)
}

#[test]
fn a_template_says_of_sessions_and_rules_what_options_say() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = cluster(&stage)?;
    push(&cluster, OWN)?;
    cluster.warren(&["workspace", "create", "acme/web", "--template", "own"])?;
    let made = cluster.workspace("acme/web")?;
    let line = "codex --dangerously-bypass-approvals-and-sandbox --model 'a b'";
    ensure!(made["spec"]["sessions"][1]["command"] == line, "{made}");
    let taken = ["session", "create", "acme/web/two", "--agent", "claude", "--branch", "review"];
    cluster.refuses(&taken, 4, &["session acme/web/review works on branch review"])?;
    // one of the spec that is asked for anew is told with all that it is
    cluster.warren(&["session", "restart", "acme/web/review"])?;
    wait_until("the session is told of", SOON, || {
        let all = cluster.json(&["session", "list", "acme/web"])?;
        let review = all.as_array().into_iter().flatten();
        let review = review.clone().find(|one| one["address"] == "acme/web/review");
        let review = review.with_context(|| format!("no review in {all}"))?;
        let asked = &review["asked"];
        ensure!(asked["agent"] == "codex" && asked["branch"] == "review", "{review}");
        Ok(())
    })?;

    // rules: the node must be one that they allow, and no run begins
    let ruled = |rules: &str| push(&cluster, &OWN.replace("disk =", &format!("{rules}\ndisk =")));
    let update = ["workspace", "update", "acme/web", "--template", "latest"];
    ruled("require_labels = { region = \"eu\" }")?;
    let words = ["nothing moves by an update", "no label region=eu"];
    cluster.refuses(&[&update[..], &["--plan"]].concat(), 4, &words)?;
    cluster.refuses(&[&update[..], &["--yes"]].concat(), 4, &words)?;
    ruled("pin = \"n1\"\nfailover = \"manual\"")?;
    let plan = cluster.json(&[&update[..], &["--plan"]].concat())?;
    let whats: Vec<&Value> =
        plan["changes"].as_array().context("changes")?.iter().map(|one| &one["what"]).collect();
    ensure!(whats == ["pin", "failover"] && plan["restarts"] == false, "{plan}");
    let serial = cluster.workspace("acme/web")?["run_serial"].clone();
    cluster.warren(&[&update[..], &["--yes"]].concat())?;
    let now = cluster.workspace("acme/web")?;
    ensure!(now["spec"]["failover"] == "manual" && now["run_serial"] == serial, "{now}");
    ruled("isolation = \"gvisor\"")?;
    let made = ["workspace", "create", "acme/walled", "--template", "own", "--no-queue"];
    cluster.refuses(&made, 4, &["has no walls that strong"])?;
    let weaker = [&made[..], &["--isolation", "container"]].concat();
    cluster.refuses(&weaker, 4, &["has no walls that strong"])?;
    let nowhere = OWN.replace("disk =", "pin = \"n9\"\ndisk =");
    push(&cluster, &nowhere)?;
    cluster.refuses(&made, 2, &["pins to node \"n9\""])?;
    let odd = OWN.replace("disk =", "isolation = \"strong\"\ndisk =");
    let dry = ["template", "push", "-", "--name", "own", "--dry-run"];
    let refused = cluster.cli()?.args(dry).input(odd).run()?;
    ensure!(refused.stderr.contains("container, userns, gvisor or dedicated"), "{refused:?}");
    Ok(())
}
