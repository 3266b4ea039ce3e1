//! Viewers come and go; the session does not notice.

use std::time::Duration;

use anyhow::{Context as _, Result};
use warren_tests::{Lab, terminal::Terminal, wait_until};

const SOON: Duration = Duration::from_secs(20);

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
