//! Other images for workspaces: the plan, the canary, who is waited for, and the way back.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use warren_tests::{Cluster, Program, Stage, program::binary, wait_until};

const NAMES: [&str; 3] = ["acme/api", "acme/docs", "acme/web"];

/// Three workspaces of one image on two nodes, with a session each.
fn cluster(stage: &Arc<Stage>) -> Result<Cluster> {
    let mut cluster = Cluster::start(stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.add_fake_node("n2", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    for (name, node) in NAMES.into_iter().zip(["n1", "n1", "n2"]) {
        let create = ["workspace", "create", name, "--memory", "64M", "--disk", "64M"];
        let rest = ["--pin", node, "--image", "agents:1", "--session", "main=claude"];
        cluster.warren(&[&create[..], &rest].concat())?;
    }
    Ok(cluster)
}

fn play(cluster: &Cluster, workspace: &str, words: &[&str]) -> Result<()> {
    let exec = ["workspace", "exec", workspace, "--", "warren-fake-agent", "main"];
    cluster.warren(&[&exec[..], words].concat())?;
    let state = words.first().context("a state")?;
    wait_until(&format!("{workspace} {state}"), Duration::from_secs(30), || {
        let listed = cluster.json(&["session", "list", workspace])?;
        ensure!(listed[0]["agent"]["state"] == *state, "{listed}");
        Ok(())
    })
}

/// The image and the run of a workspace.
fn made_of(cluster: &Cluster, workspace: &str) -> Result<(String, u64)> {
    let shown = cluster.workspace(workspace)?;
    let image = shown["spec"]["image"].as_str().context("an image")?;
    Ok((image.to_owned(), shown["run_serial"].as_u64().context("a run")?))
}

#[test]
fn one_is_updated_with_its_plan_shown_and_goes_back_once() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = cluster(&stage)?;
    let update = ["workspace", "update", "acme/web", "--image", "agents:2"];
    let plan = cluster.json(&[&update[..], &["--dry-run"]].concat())?;
    ensure!(plan["restarts"] == true && plan["ends"][0] == "main (running)", "{plan}");
    ensure!(made_of(&cluster, "acme/web")? == ("agents:1".to_owned(), 1), "it was only planned");
    cluster.refuses(&update, 2, &["nobody to ask", "--yes"])?;

    play(&cluster, "acme/web", &["working", "Bash", "cargo test"])?;
    let idle = [&update[..], &["--when-idle", "--yes"]].concat();
    cluster.refuses(&idle, 4, &["acme/web is busy", "claude in session main works"])?;
    ensure!(made_of(&cluster, "acme/web")?.1 == 1, "its agent was ended");
    play(&cluster, "acme/web", &["waiting", "permission", "npm publish"])?;
    cluster.refuses(&idle, 4, &["claude in session main waits for a person"])?;
    play(&cluster, "acme/web", &["idle"])?;
    let done = cluster.warren(&idle)?;
    ensure!(done.stderr.contains("acme/web: image agents:1 to agents:2"), "{}", done.stderr);
    ensure!(made_of(&cluster, "acme/web")? == ("agents:2".to_owned(), 2));
    // asked again: everything is so
    cluster.warren(&idle)?;
    ensure!(made_of(&cluster, "acme/web")?.1 == 2);
    let back = ["workspace", "update", "acme/web", "--rollback", "--yes"];
    cluster.warren(&back)?;
    ensure!(made_of(&cluster, "acme/web")? == ("agents:1".to_owned(), 3));
    cluster.refuses(&back, 4, &["had no other image before agents:1"])?;
    let told = cluster.json(&["audit", "list", "--action", "workspace.update"])?;
    let details: Vec<_> =
        told.as_array().context("a list")?.iter().map(|one| &one["detail"]).collect();
    ensure!(
        details.len() == 2 && details.contains(&&"image agents:1 to agents:2".into()),
        "{told}"
    );
    Ok(())
}

#[test]
fn a_rollout_that_an_error_ends_says_what_was_moved() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = cluster(&stage)?;
    // those of n1 are moved first
    cluster.nodes[1].kill()?;
    let rollout = ["image", "rollout", "agents:2", "--from", "agents:1", "--yes", "--now"];
    let rollout = [&rollout[..], &["-o", "json", "--timeout", "10s"]].concat();
    let out = cluster.refuses(&rollout, 6, &["acme/web", "--rollback"])?;
    let moves: serde_json::Value = serde_json::from_str(&out.stdout)?;
    ensure!(moves["moved"] == serde_json::json!(["acme/api", "acme/docs"]), "{moves}");
    let why = moves["left"]["acme/web"].as_str().context("it is left")?;
    ensure!(why.contains("not up"), "{why}");
    Ok(())
}

#[test]
fn a_rollout_waits_for_who_works_and_goes_on_where_it_ended() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = cluster(&stage)?;
    play(&cluster, "acme/api", &["working", "Bash", "cargo test"])?;
    let rollout = ["image", "rollout", "agents:2", "--from", "agents:1", "--yes"];
    let canary = ["--canary", "acme/web", "--watch", "2s", "-o", "json", "--timeout", "8s"];
    let out =
        cluster.refuses(&[&rollout[..], &canary].concat(), 6, &["claude in session main works"])?;
    let moves: serde_json::Value = serde_json::from_str(&out.stdout)?;
    ensure!(moves["moved"] == serde_json::json!(["acme/web", "acme/docs"]), "{moves}");
    ensure!(made_of(&cluster, "acme/api")? == ("agents:1".to_owned(), 1), "its agent was ended");
    let images = cluster.json(&["image", "list"])?;
    ensure!(
        images[0]["image"] == "agents:1" && images[0]["before_of"][1] == "acme/web",
        "{images}"
    );
    ensure!(images[1]["running"] == 2 && images[1]["nodes"][1] == "n2", "{images}");

    // the same command goes on, and moves the last one once its agent rests
    let more = thread::scope(|scope| -> Result<_> {
        let rest = scope.spawn(|| cluster.warren(&rollout));
        thread::sleep(Duration::from_secs(3));
        ensure!(made_of(&cluster, "acme/api")?.1 == 1, "its agent was ended");
        play(&cluster, "acme/api", &["idle"])?;
        rest.join().ok().context("it moves")?
    })?;
    ensure!(more.stdout.contains("1 moved, 0 left"), "{}", more.stdout);
    let back = cluster.json(&["image", "rollback", "agents:2", "--yes"])?;
    ensure!(back["moved"] == serde_json::json!(NAMES), "{back}");
    for name in NAMES {
        ensure!(made_of(&cluster, name)? == ("agents:1".to_owned(), 3), "{name}");
    }
    Ok(())
}

const FIRST: &str = r#"
[[parameter]]
name = "team"
type = "string"

[[parameter]]
name = "note"
type = "string"
optional = true

[[parameter]]
name = "token"
type = "secret"

[workspace]
image = "agents:1"
memory = "64M"
disk = "64M"
git_token = "{{token}}"

[workspace.labels]
team = "{{team}}"
note = "{{note}}"

[[session]]
name = "main"
command = "claude"
"#;

fn push(cluster: &Cluster, document: &str) -> Result<()> {
    let push = ["template", "push", "-", "--name", "agent", "--activate"];
    cluster.cli()?.args(push).input(document).run()?.success().map(drop)
}

fn whats(plan: &serde_json::Value, list: &str) -> Vec<String> {
    let all = plan[list].as_array().into_iter().flatten();
    all.filter_map(|change| Some(change["what"].as_str()?.to_owned())).collect()
}

#[test]
fn a_workspace_follows_its_template_with_what_it_was_made_with_and_what_people_changed()
-> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = cluster(&stage)?;
    push(&cluster, FIRST)?;
    let secret = ["secret", "set", "acme", "web-token", "@-"];
    cluster.cli()?.args(secret).input("tok").run()?.success()?;
    let create = ["workspace", "create", "acme/new", "--template", "agent", "--pin", "n2"];
    let params = ["--param", "team=web", "--param", "note=x", "--param", "token=web-token"];
    cluster.warren(&[&create[..], &params].concat())?;
    cluster.warren(&["workspace", "resize", "acme/new", "--memory", "96M"])?;

    // a second version: more disk, no note any more, a session more; memory as it was
    let second = FIRST.replace("disk = \"64M\"", "disk = \"80M\"");
    let second =
        second.replace("name = \"note\"", "name = \"memo\"").replace("{{note}}", "{{memo}}");
    push(&cluster, &format!("{second}\n[[session]]\nname = \"tests\"\ncommand = \"make\"\n"))?;
    let update = ["workspace", "update", "acme/new", "--template", "latest"];
    let plan = cluster.json(&[&update[..], &["--plan"]].concat())?;
    ensure!(plan["from"] == "agent@1" && plan["to"] == "agent@2", "{plan}");
    let changes = ["session tests", "disk", "label note"];
    ensure!(whats(&plan, "changes") == changes, "{plan}");
    ensure!(whats(&plan, "kept") == ["memory", "reserve", "pin"], "{plan}");
    ensure!(plan["dropped"][0] == "note" && plan["restarts"] == true, "{plan}");
    ensure!(plan["ends"][0].as_str().is_some_and(|end| end.starts_with("main")), "{plan}");
    ensure!(cluster.workspace("acme/new")?["spec"]["template"] == "agent@1", "only planned");
    cluster.refuses(&update, 2, &["nobody to ask", "--yes"])?;

    // one record, one run; asked again with its id it is answered, whatever is active by then
    let id = uuid::Uuid::now_v7().to_string();
    let done = [&update[..], &["--yes", "--request-id", &id]].concat();
    let said = cluster.warren(&done)?.stderr;
    ensure!(said.contains("memory stays 96 MiB; the template: 64 MiB"), "{said}");
    push(&cluster, &second)?;
    cluster.warren(&done)?;
    let shown = cluster.workspace("acme/new")?;
    ensure!(shown["spec"]["template"] == "agent@2" && shown["run_serial"] == 2, "{shown}");
    ensure!(shown["spec"]["labels"]["team"] == "web", "{shown}");
    ensure!(shown["spec"]["labels"]["note"].is_null(), "{shown}");
    let audit =
        cluster.json(&["audit", "list", "--action", "workspace.update", "--target", "acme/new"])?;
    ensure!(audit.as_array().map(Vec::len) == Some(1), "{audit}");
    ensure!(!audit.to_string().contains("tok\""), "{audit}");

    // what it was made with outlives the coordinator; one that was not made so needs all of it
    cluster.kill_coordinator()?;
    cluster.start_coordinator()?;
    cluster.wait_socket()?;
    let third = ["workspace", "update", "acme/new", "--template", "agent@3", "--yes"];
    wait_until("the third version", Duration::from_secs(30), || cluster.warren(&third).map(drop))?;
    let shown = cluster.workspace("acme/new")?;
    ensure!(shown["spec"]["template"] == "agent@3", "{shown}");
    ensure!(shown["spec"]["sessions"].as_array().map(Vec::len) == Some(1), "{shown}");
    let old = ["workspace", "update", "acme/web", "--template", "agent", "--yes"];
    cluster.refuses(&old, 2, &["parameter team is not given"])?;
    cluster.refuses(&[&old[..4], &["latest", "--yes"]].concat(), 2, &["built in"])?;
    let wrong = ["--param", "team=web", "--param", "token=nothing"];
    cluster.refuses(&[&old[..], &wrong].concat(), 2, &["names no secret"])?;
    let whole = ["--param", "team=web", "--param", "token=web-token"];
    cluster.warren(&[&old[..], &whole].concat())?;
    ensure!(cluster.workspace("acme/web")?["spec"]["template"] == "agent@3");
    Ok(())
}

#[test]
fn a_build_in_a_folder_where_nothing_runs_says_so_before_it_asks_docker() -> Result<()> {
    let stage = Stage::new()?;
    let folder = stage.root().join("noexec");
    std::fs::create_dir_all(&folder)?;
    let script = format!(
        "mount -t tmpfs -o noexec,size=1m tmpfs {0} && \
         TMPDIR={0} DOCKER_HOST=unix:///nowhere {1} image build --flavour base",
        folder.display(),
        binary("warren")?.display()
    );
    let unshare = Program::new("unshare").args(["--mount", "sh", "-c", &script]);
    let built = unshare.run()?;
    ensure!(built.code != 0, "it built");
    for words in ["nothing may run there", "noexec", "set TMPDIR"] {
        ensure!(built.stderr.contains(words), "{}", built.stderr);
    }
    Ok(())
}
