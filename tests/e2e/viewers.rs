//! Viewers come and go; the session does not notice.

use std::{
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_daemon::clock;
use warren_tests::{
    Lab, Opened, Watching,
    alone::{MINUTE, goes_on},
    program::binary,
    terminal::Terminal,
    wait_until,
};

const SOON: Duration = Duration::from_secs(20);

/// Goes on for ever, and writes down when, and who it is.
const PAGE: &str = r#"#!/bin/bash
while :; do echo "$(date +%s%3N) $$" >> ~/moved-page; sleep 0.5; done
"#;
/// An agent at work, with a program in a session of its own beside it, as browsers are.
const AGENT: &str = r#"#!/bin/bash
setsid -f ~/bin/page
for event in SessionStart UserPromptSubmit; do
    printf '{"hook_event_name":"%s","source":"startup","session_id":"s","cwd":"%s"}' $event "$PWD" \
        | /warren/inside hook claude
done
while :; do echo "$(date +%s%3N) $$" >> ~/moved-agent; echo "step $((n += 1))"; sleep 0.5; done
"#;

fn tmux_clients(lab: &Lab) -> Result<usize> {
    let clients = lab.shell("acme/web", "pgrep -fc 'tmux.*attach' || true")?;
    // the probing shell's own command line holds the words too
    Ok(clients.trim().parse::<usize>().context("a number")?.saturating_sub(1))
}

#[test]
fn a_viewer_is_killed_and_the_program_in_tmux_goes_on() -> Result<()> {
    let lab = Lab::new()?;
    let repo = lab.repository("hello");
    let made = lab.create("acme/web", &["--repo", &repo, "--session", "main=bash count.sh"])?;
    anyhow::ensure!(made.stderr.contains("git clone"), "no clone in {}", made.stderr);
    let session = "acme/web/main";
    let warren = warren_tests::program::binary("warren")?;
    let attach = format!("{} session attach {session}", warren.display());

    // attached over a real PTY: the program's output arrives
    let viewer = Terminal::start(lab.cluster.around()?, &attach)?;
    viewer.wait_for("tick", SOON)?;
    let before = lab.wait_count_past("acme/web", 0)?;
    anyhow::ensure!(tmux_clients(&lab)? == 1, "one viewer is one tmux client");

    // killed like a dying laptop: the counter goes on and no tmux client is left
    viewer.kill_program()?;
    drop(viewer);
    wait_until("no orphan tmux client is left", SOON, || {
        let clients = tmux_clients(&lab)?;
        anyhow::ensure!(clients == 0, "{clients} are left");
        Ok(())
    })?;
    let after = lab.wait_count_past("acme/web", before)?;

    // a second viewer finds it further on, and leaves on purpose
    let mut viewer = Terminal::start(lab.cluster.around()?, &attach)?;
    viewer.wait_for(&format!("tick {after}"), SOON).or_else(|_| viewer.wait_for("tick", SOON))?;
    viewer.type_bytes(b"\x1dd")?;
    anyhow::ensure!(viewer.wait(SOON)? == 0, "detaching is no fault");
    anyhow::ensure!(viewer.screen().contains("detached"), "it says so: {}", viewer.screen());
    lab.wait_count_past("acme/web", after)?;

    a_terminal_is_a_real_one(&lab, &attach)?;
    what_runs_there_tells_pid_1(&lab)
}

/// The reporter runs as the workspace's user and PID 1 takes its message: nothing is left behind.
fn what_runs_there_tells_pid_1(lab: &Lab) -> Result<()> {
    let tell = "WARREN_SESSION=main /warren/inside hook custom '{\"state\":\"idle\"}'";
    let script = format!("{tell} && test -S /run/warren/status.sock && ls -A /run/warren");
    let left = lab.shell("acme/web", &script)?;
    anyhow::ensure!(left.contains("status.sock") && !left.contains("spool"), "it is {left}");
    Ok(())
}

/// Size, UTF-8 and keys pass through a viewer's terminal unharmed.
fn a_terminal_is_a_real_one(lab: &Lab, attach: &str) -> Result<()> {
    lab.create("beta/shell", &["--session", "main"])?;
    let attach = attach.replace("acme/web/main", "beta/shell/main");
    let mut viewer = Terminal::start(lab.cluster.around()?, &attach)?;
    viewer.wait_for("$", SOON)?;
    viewer.type_bytes("printf '%s|%s\\n' 'grüße ✓' \"$(tput cols)\"\r".as_bytes())?;
    viewer.wait_for("grüße ✓|120", SOON)?;
    viewer.type_bytes(b"exit 7\r")?;
    wait_until("the session's end is seen", SOON, || {
        let sessions = lab.cluster.json(&["session", "list", "beta/shell"])?;
        anyhow::ensure!(sessions.to_string().contains('7'), "it is {sessions}");
        Ok(())
    })
}

#[test]
fn all_viewers_are_killed_for_a_minute_and_an_agent_and_what_it_started_go_on() -> Result<()> {
    let lab = Lab::new()?;
    let (repo, server) =
        (lab.repository("hello"), "server=busybox httpd -f -p 127.0.0.1:8080 -h /home/agent");
    lab.create("acme/web", &["--repo", &repo, "--session", server])?;
    let install = format!(
        "mkdir -p ~/bin; cat > ~/bin/claude <<'END'\n{AGENT}END\ncat > ~/bin/page <<'END'\n{PAGE}END\n\
         chmod +x ~/bin/*; echo 'export PATH=$HOME/bin:$PATH' > ~/.bash_profile"
    );
    lab.shell("acme/web", &install)?;
    lab.cluster.warren(&["session", "create", "acme/web/agent", "--agent", "claude"])?;
    let at_work = || -> Result<Value> {
        let session = lab.cluster.json(&["session", "show", "acme/web/agent"])?;
        ensure!(session["agent"]["state"] == "working", "{session}");
        Ok(session)
    };
    wait_until("the agent works", SOON, || at_work().map(drop))?;

    let viewers = Viewers::attach(&lab)?;
    let before = wait_until("both terminals look", SOON, || {
        let session = at_work()?;
        ensure!(session["viewers"] == 2, "{session}");
        Ok(session)
    })?;
    viewers.kill()?;
    let (gone, since) = (clock::now(), Instant::now());
    wait_until("nobody looks", SOON, || {
        let session = at_work()?;
        ensure!(session["viewers"] == 0, "{session}");
        Ok(())
    })?;
    thread::sleep(MINUTE.saturating_sub(since.elapsed()));

    for name in ["agent", "page"] {
        let record = lab.shell("acme/web", &format!("cat ~/moved-{name}"))?;
        let pids = goes_on(&record, gone).context(name)?;
        ensure!(pids.iter().all(|pid| *pid == pids[0]), "the {name} is another one: {pids:?}");
    }
    let after = at_work()?;
    ensure!(after["agent"]["since"] == before["agent"]["since"], "{before} {after}");
    ensure!(after["run"] == before["run"] && after["state"] == "running", "{before} {after}");
    Ok(())
}

/// Everybody who looks at the agent and its workspace.
struct Viewers {
    terminals: [Terminal; 2],
    loads: Child,
    opened: Opened,
    watching: [Watching; 2],
}

impl Viewers {
    /// Two terminals, one of which only looks, a page that is loaded again and again through the
    /// tunnel, and watches of sessions and events; each has shown something.
    fn attach(lab: &Lab) -> Result<Self> {
        let warren = binary("warren")?;
        let attach = format!("{} session attach acme/web/agent", warren.display());
        let terminals = [
            Terminal::start(lab.cluster.around()?, &attach)?,
            Terminal::start(lab.cluster.around()?, &format!("{attach} --read-only"))?,
        ];
        for terminal in &terminals {
            terminal.wait_for("step", SOON)?;
        }
        let opened = Opened::new(lab, "acme/web", &["8080"])?;
        let load = format!("while curl -sf {}moved-page; do sleep 0.2; done", opened.url);
        let mut looks = lab.node.program("bash").args(["-c", &load]).into_command();
        let pages = lab.stage.root().join("pages");
        looks.stdin(Stdio::null()).stdout(std::fs::File::create(&pages)?).stderr(Stdio::null());
        let loads = looks.spawn()?;
        wait_until("the page", SOON, || {
            ensure!(std::fs::metadata(&pages)?.len() > 0, "nothing yet");
            Ok(())
        })?;
        let watch = |words: &[&str]| {
            Watching::start(&lab.cluster, &[words, &["--watch", "-o", "json"]].concat())
        };
        let watching = [watch(&["session", "list"])?, watch(&["cluster", "events"])?];
        watching[0].until("listed", "acme/web/agent")?;
        Ok(Self { terminals, loads, opened, watching })
    }

    /// Kills them all with SIGKILL.
    fn kill(self) -> Result<()> {
        let Self { terminals, mut loads, opened, watching } = self;
        for terminal in &terminals {
            terminal.kill_program()?;
        }
        loads.kill()?;
        loads.wait()?;
        drop((opened, watching));
        Ok(())
    }
}
