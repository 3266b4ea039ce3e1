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
