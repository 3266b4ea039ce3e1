//! Sessions on branches of their own in real containers: what they commit, what they survive, and
//! what a stop leaves.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Lab, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// Keeps a conversation as Claude Code does, commits, leaves a child in a session of its own, and
/// keeps what is typed.
const CLAUDE: &str = r#"#!/bin/bash
echo "$*" >> ~/argv-$WARREN_SESSION
while [ $# -gt 0 ]; do case $1 in --session-id|--resume) id=$2; shift ;; esac; shift; done
mkdir -p ~/.claude/projects/x
echo '{}' >> ~/.claude/projects/x/$id.jsonl
git commit -q --allow-empty -m "by $WARREN_SESSION"
setsid -f sleep 4321
printf '{"hook_event_name":"SessionStart","source":"startup","session_id":"%s","cwd":"%s"}' \
    "$id" "$PWD" | /warren/inside hook claude
while IFS= read -r line; do echo "$line" >> ~/typed-$WARREN_SESSION; done
"#;

fn find(lab: &Lab, session: &str) -> Result<Value> {
    lab.cluster.json(&["session", "show", &format!("acme/web/{session}")])
}

/// Waits until a session's agent is ready, and returns the session.
fn ready(lab: &Lab, session: &str) -> Result<Value> {
    let mut seen = Value::Null;
    wait_until(&format!("{session} is ready"), SOON, || {
        seen = find(lab, session)?;
        ensure!(seen["agent"]["state"] == "idle" && seen["state"] == "running", "{seen}");
        Ok(())
    })?;
    Ok(seen)
}

#[test]
fn two_agents_commit_apart_come_back_with_their_conversations_and_stop_with_all_they_started()
-> Result<()> {
    let lab = Lab::new()?;
    let repo = lab.repository("hello");
    let who = ["--git-name", "Ada", "--git-email", "ada@example.org"];
    let create = ["--repo", &repo, "--session", "main"];
    lab.create("acme/web", &[&create[..], &who].concat())?;
    let install = format!(
        "mkdir -p ~/bin; cat > ~/bin/claude <<'END'\n{CLAUDE}END\nchmod +x ~/bin/claude; \
         echo 'export PATH=$HOME/bin:$PATH' > ~/.bash_profile"
    );
    lab.shell("acme/web", &install)?;

    let prompt = ["--prompt", "fix 'it'\nthen stop"];
    let one = ["session", "create", "acme/web/one", "--agent", "claude"];
    lab.cluster.warren(&[&one[..], &prompt].concat())?;
    let two = ["session", "create", "acme/web/two", "--agent", "claude", "--branch", "topic"];
    lab.cluster.warren(&two)?;
    let (first, second) = (ready(&lab, "one")?, ready(&lab, "two")?);
    ensure!(first["branch"] == "warren/one" && second["branch"] == "topic", "{first} {second}");
    ensure!(first["worktree"] != second["worktree"] && first["resumed"] == false, "{first}");
    let typed = || lab.shell("acme/web", "cat ~/typed-one 2>/dev/null || true");
    wait_until("the prompt", SOON, || {
        let typed = typed()?;
        ensure!(typed == "fix 'it'\nthen stop\n", "{typed:?}");
        Ok(())
    })?;
    let log = "cd ~/hello && git log --format=%s -1 warren/one && git log --format=%s -1 topic";
    ensure!(lab.shell("acme/web", log)? == "by one\nby two\n");

    // the container is killed under them, with a lock left behind
    let id = lab.container("acme/web")?["Id"].as_str().context("an id")?.to_owned();
    lab.shell("acme/web", "touch -d '1 hour ago' ~/hello/.git/index.lock")?;
    lab.engine.docker(&["kill", &id])?;
    wait_until("another container runs", SOON, || {
        let now = lab.container("acme/web")?;
        ensure!(now["Id"] != id.as_str() && now["State"]["Running"] == true, "{}", now["State"]);
        Ok(())
    })?;
    for before in [&first, &second] {
        let name = before["name"].as_str().context("a name")?;
        let after = ready(&lab, name)?;
        ensure!(after["conversation"] == before["conversation"], "{before} {after}");
        ensure!(after["resumed"] == true && after["branch"] == before["branch"], "{after}");
    }
    let conversation = first["conversation"].as_str().context("an id")?;
    let argv = lab.shell("acme/web", "cat ~/argv-one")?;
    let lines: Vec<&str> = argv.lines().collect();
    let flag = "--dangerously-skip-permissions";
    let expected =
        [format!("--session-id {conversation} {flag}"), format!("--resume {conversation} {flag}")];
    ensure!(lines == expected, "{argv}");
    ensure!(lab.shell("acme/web", "ls ~/hello/.git")?.lines().all(|name| name != "index.lock"));
    ensure!(typed()? == "fix 'it'\nthen stop\n", "typed once");

    // a stop leaves nothing of it, and all of the other
    lab.cluster.warren(&["session", "stop", "acme/web/one"])?;
    let marked = "grep -lzx WARREN_SESSION=NAME /proc/[0-9]*/environ 2>/dev/null | wc -l";
    let left = |name: &str| lab.shell("acme/web", &marked.replace("NAME", name));
    ensure!(left("one")?.trim() == "0", "it left processes");
    ensure!(left("two")?.trim() != "0", "the other was touched");
    ensure!(find(&lab, "one")?["state"] == "stopped");

    // a worktree goes when nothing in it can be lost
    let worktree = second["worktree"].as_str().context("a path")?;
    lab.shell("acme/web", &format!("echo x > {worktree}/new"))?;
    let delete = ["session", "delete", "acme/web/two", "--worktree"];
    lab.cluster.refuses(&delete, 4, &["untracked", "--force"])?;
    lab.cluster.warren(&[&delete[..], &["--force"]].concat())?;
    let there = lab.shell("acme/web", &format!("ls -d {worktree} 2>/dev/null || echo gone"))?;
    ensure!(there == "gone\n", "{there}");
    Ok(())
}
