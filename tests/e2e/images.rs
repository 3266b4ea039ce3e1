//! Three workspaces moved to another image and back, on a real engine: none while its agent works,
//! and a bad image stops at the first.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use warren_tests::{Lab, wait_until};

const NAMES: [&str; 3] = ["acme/api", "acme/docs", "acme/web"];
const SOON: Duration = Duration::from_secs(60);
/// An agent of one's own: it tells what it is told to.
const AGENT: &str = r#"mkfifo -m 600 ~/say 2>/dev/null; while read -r word < ~/say; do
printf '{"state":"%s"}' "$word" | /warren/inside hook custom; done"#;

#[test]
fn a_rollout_with_a_canary_interrupts_nobody_and_goes_back() -> Result<()> {
    let lab = Lab::new()?;
    for tag in ["agents:1", "agents:2"] {
        lab.engine.docker(&["tag", "warren-workspace:latest", tag])?;
    }
    for name in NAMES {
        let session = format!("main={}", AGENT.replace('\n', " "));
        lab.create(name, &["--image", "agents:1", "--session", &session])?;
        lab.shell(name, "echo kept > ~/kept")?;
    }
    let made_of = |name: &str| -> Result<(String, Value)> {
        let container = lab.container(name)?;
        let image = container["Config"]["Image"].as_str().context("an image")?.to_owned();
        Ok((image, container["State"]["Pid"].clone()))
    };
    let say = |name: &str, word: &str| -> Result<()> {
        lab.shell(name, &format!("timeout 20 sh -c 'echo {word} > ~/say'"))?;
        wait_until(&format!("{name} {word}"), SOON, || {
            let listed = lab.cluster.json(&["session", "list", name])?;
            ensure!(listed[0]["agent"]["state"] == word, "{listed}");
            Ok(())
        })
    };
    say("acme/docs", "working")?;
    let before = made_of("acme/docs")?;
    ensure!(before.0 == "agents:1", "{before:?}");

    let from = ["--from", "agents:1", "--yes"];
    let bad = ["image", "rollout", "missing:1", "--canary", "acme/web"];
    let refused = ["acme/web did not run well and goes back", "missing:1"];
    lab.cluster.refuses(&[&bad[..], &from].concat(), 1, &refused)?;
    lab.cluster.wait_phase("acme/web", "active")?;
    ensure!(made_of("acme/web")?.0 == "agents:1", "it is back");

    let rollout = ["image", "rollout", "agents:2", "--canary", "--watch", "3s"];
    let moves = thread::scope(|scope| -> Result<Value> {
        let moving = scope.spawn(|| lab.cluster.json(&[&rollout[..], &from].concat()));
        for name in ["acme/api", "acme/web"] {
            wait_until(&format!("{name} is moved"), SOON, || {
                let image = made_of(name)?.0;
                ensure!(image == "agents:2", "it is of {image}");
                Ok(())
            })?;
        }
        ensure!(made_of("acme/docs")? == before, "its agent was ended while it worked");
        say("acme/docs", "idle")?;
        moving.join().ok().context("it moves them")?
    })?;
    ensure!(
        moves == json!({"moved": ["acme/api", "acme/web", "acme/docs"], "left": {}}),
        "{moves}"
    );
    for name in NAMES {
        ensure!(
            made_of(name)?.0 == "agents:2" && lab.shell(name, "cat ~/kept")? == "kept\n",
            "{name}"
        );
    }
    lab.cluster.warren(&["image", "rollback", "agents:2", "--yes"])?;
    for name in NAMES {
        ensure!(
            made_of(name)?.0 == "agents:1" && lab.shell(name, "cat ~/kept")? == "kept\n",
            "{name}"
        );
    }
    Ok(())
}

/// A template of one session, with what a second version changes of it.
fn document(image: &str, setup: &str) -> String {
    format!(
        "[[parameter]]\nname = \"repo\"\ntype = \"string\"\n\n[workspace]\nrepo = \"{{{{repo}}}}\"\n\
         image = \"{image}\"\nmemory = \"256M\"\ndisk = \"1G\"\nsetup = \"\"\"\n{setup}\n\"\"\"\n\n\
         [[session]]\nname = \"main\"\n"
    )
}

#[test]
fn a_newer_version_of_a_template_reaches_what_runs_with_its_home() -> Result<()> {
    let lab = Lab::new()?;
    lab.engine.docker(&["tag", "warren-workspace:latest", "agents:2"])?;
    let push = |document: String| {
        let push = ["template", "push", "-", "--name", "made", "--activate"];
        lab.cluster.cli()?.args(push).input(document).run()?.success()
    };
    push(document("warren-workspace:latest", "echo first >> ~/setups"))?;
    let repo = format!("repo={}", lab.repository("hello"));
    let create = ["workspace", "create", "acme/web", "--template", "made", "--param", &repo];
    lab.cluster.warren(&create)?;
    lab.shell("acme/web", "echo kept > ~/kept")?;
    push(document("agents:2", "echo second >> ~/setups"))?;
    let update = ["workspace", "update", "acme/web", "--template", "latest"];
    let plan = lab.cluster.json(&[&update[..], &["--plan"]].concat())?;
    let whats: Vec<_> = plan["changes"].as_array().into_iter().flatten().collect();
    ensure!(whats.len() == 2 && whats[0]["what"] == "image", "{plan}");
    ensure!(whats[1]["what"] == "setup script" && plan["restarts"] == true, "{plan}");
    let before = lab.container("acme/web")?["State"]["Pid"].clone();
    ensure!(lab.shell("acme/web", "cat ~/setups")? == "first\n", "it was only planned");
    lab.cluster.warren(&[&update[..], &["--yes"]].concat())?;
    let container = lab.container("acme/web")?;
    ensure!(container["Config"]["Image"] == "agents:2", "{container}");
    ensure!(container["State"]["Pid"] != before, "it did not start again");
    let found = lab.shell("acme/web", "cat ~/kept ~/setups ~/hello/README.md")?;
    ensure!(found == "kept\nfirst\nsecond\nhello from the repository\n", "{found}");
    Ok(())
}

#[test]
fn an_image_that_was_built_here_runs_where_it_was_loaded() -> Result<()> {
    let lab = Lab::new()?;
    let folder = lab.stage.folder("own")?;
    let dockerfile =
        "FROM warren-workspace:latest\nUSER root\nRUN echo mine >/etc/mine\nUSER agent\n";
    std::fs::write(folder.join("Dockerfile"), dockerfile)?;
    let folder = folder.to_string_lossy().into_owned();
    let build = ["image", "build", &folder, "--tag", "mine:1", "--network", "none", "-o", "json"];
    let build = lab.cluster.cli()?.env("DOCKER_HOST", lab.engine.url()).args(build);
    let built = build.run()?.success()?.json()?;
    let id = lab.engine.docker(&["image", "inspect", "-f", "{{.Id}}", "mine:1"])?.stdout;
    ensure!(built["id"] == id.trim() && built["pushed"] == false, "{built}");
    lab.create("acme/web", &["--image", "mine:1"])?;
    let held = |list: &[&str]| -> Result<Value> {
        let images = lab.cluster.json(&[&["image", "list"], list].concat())?;
        let mut images = images.as_array().into_iter().flatten();
        let found = images.find(|one| one["image"] == "mine:1").context("it is listed")?;
        Ok(found["held"].clone())
    };
    wait_until("its node tells of it", SOON, || {
        let held = held(&[])?;
        ensure!(held["on"][0]["id"] == id.trim() && held["not_on"] == json!([]), "{held}");
        Ok(())
    })?;
    ensure!(held(&["--all"])?["on"][0]["id"] == id.trim(), "also among all of them");
    ensure!(lab.shell("acme/web", "cat /etc/mine")? == "mine\n");
    Ok(())
}
