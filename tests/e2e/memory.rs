//! A hard memory cap: the hog dies, its neighbour never stops.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use warren_tests::{Lab, Stage, swap::Swap, wait_until};

/// Takes memory until it is stopped: tail keeps a line of endless length.
const HOG: &str = "tail /dev/zero; echo \"hog ended with $?\"";

/// Memory cap of both workspaces, and the swap share of the hog alone.
const CAP: u64 = 256 << 20;
const SHARE: u64 = 128 << 20;

#[test]
fn a_hog_over_its_cap_is_killed_and_its_neighbour_counts_on() -> Result<()> {
    let stage = std::sync::Arc::new(Stage::new()?);
    let _swap = Swap::ensure(&stage, 1 << 30)?;
    let lab = Lab::new()?;
    let repo = lab.repository("hello");
    lab.create("beta/neighbour", &["--repo", &repo, "--session", "main=bash count.sh"])?;
    lab.create("acme/hog", &["--swap", "128M", "--session", "main"])?;
    let neighbour = lab.container("beta/neighbour")?["State"]["Pid"].clone();
    let before = lab.wait_count_past("beta/neighbour", 0)?;

    let hog = lab.try_shell("acme/hog", HOG)?;
    anyhow::ensure!(hog.stdout.contains("hog ended with 137"), "it was not killed: {hog:?}");
    wait_until("the kill is counted", Duration::from_secs(20), || {
        let kills = lab.cluster.workspace("acme/hog")?["observed"]["usage"]["oom_kills"].as_u64();
        anyhow::ensure!(kills.is_some_and(|kills| kills > 0), "{kills:?} kills");
        Ok(())
    })?;
    the_kill_has_a_name(&lab)?;
    in_a_session_it_has_that_too(&lab)?;
    panes_go_before_tmux(&lab)?;

    // the hog's own workspace lives on, and the neighbour was never touched
    lab.shell("acme/hog", "true")?;
    lab.wait_count_past("beta/neighbour", before)?;
    anyhow::ensure!(
        lab.container("beta/neighbour")?["State"]["Pid"] == neighbour,
        "another process"
    );
    the_swap_share_is_explicit(&lab, "acme/hog", SHARE)?;
    the_swap_share_is_explicit(&lab, "beta/neighbour", 0)?;
    the_swap_share_holds_what_it_should(&lab)
}

/// The victim is named by the kernel and told everywhere.
fn the_kill_has_a_name(lab: &Lab) -> Result<()> {
    let kill = lab.cluster.workspace("acme/hog")?["observed"]["kills"][0].clone();
    anyhow::ensure!(kill["process"] == "tail", "{kill}");
    anyhow::ensure!(kill["source"] == "kernel log" && kill["session"].is_null(), "{kill}");
    let id = lab.container("acme/hog")?["Id"].as_str().context("an id")?.to_owned();
    anyhow::ensure!(kill["cgroup"].as_str().is_some_and(|path| path.ends_with(&id)), "{kill}");
    let list = lab.cluster.warren(&["workspace", "list"])?.stdout;
    anyhow::ensure!(list.contains("oom 1x, last: tail "), "the list does not tell:\n{list}");
    let show = lab.cluster.warren(&["workspace", "show", "acme/hog"])?.stdout;
    anyhow::ensure!(show.contains("oom 1x, last: tail "), "the page does not tell:\n{show}");
    let top = lab.cluster.json(&["workspace", "top", "acme/hog", "--once"])?;
    let row = &top["workspaces"][0];
    anyhow::ensure!(row["oom_kills"] == 1 && row["memory_cap_bytes"] == CAP, "{row}");
    Ok(())
}

/// Killed in a session, and slowly enough to be seen before: command line and session are known.
fn in_a_session_it_has_that_too(lab: &Lab) -> Result<()> {
    const SLOW: &str = "perl -e 'my @all; while (1) { push @all, \"x\" x 4_000_000; \
                        select undef, undef, undef, 0.1 }' greedy-one";
    let send = format!("tmux send-keys -t =main: {:?} Enter", SLOW);
    lab.shell("acme/hog", &send)?;
    let kill = wait_until("the second kill is told", Duration::from_secs(60), || {
        let kill = lab.cluster.workspace("acme/hog")?["observed"]["kills"][0].clone();
        anyhow::ensure!(kill["process"] == "perl", "the last one is {kill}");
        Ok(kill)
    })?;
    let command = kill["command"].as_str().unwrap_or_default();
    anyhow::ensure!(command.starts_with("perl -e ") && command.ends_with("greedy-one"), "{kill}");
    anyhow::ensure!(kill["session"] == "main", "{kill}");
    let sessions = lab.cluster.warren(&["session", "list", "acme/hog"])?.stdout;
    anyhow::ensure!(sessions.contains(", oom: perl"), "the list does not tell:\n{sessions}");
    Ok(())
}

/// However a pane was opened, the kernel takes it before tmux and PID 1.
fn panes_go_before_tmux(lab: &Lab) -> Result<()> {
    const OPEN: &str = "open() { tmux \"$1\" -d -t =main: -P -F '#{pane_pid}' \"${@:2}\"; }
        open new-window 'exec sleep 1000'; open split-window 'exec sleep 1000'
        open new-window; open new-window sleep 1000";
    let panes = lab.shell("acme/hog", OPEN)?;
    let pids: Vec<&str> = panes.split_whitespace().collect();
    anyhow::ensure!(pids.len() == 4, "{panes}");
    let score = |pid: &str| -> Result<i32> {
        Ok(lab.shell("acme/hog", &format!("cat /proc/{pid}/oom_score_adj"))?.trim().parse()?)
    };
    let server = lab.shell("acme/hog", "tmux display-message -p -t =main: '#{pid}'")?;
    let kept = score("1")?;
    anyhow::ensure!(score(server.trim())? == kept, "tmux is not kept");
    for pid in pids {
        wait_until("the pane is marked", Duration::from_secs(10), || {
            let score = score(pid)?;
            anyhow::ensure!(score > kept, "pane {pid} has {score}, PID 1 has {kept}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What is above the cap and below cap and share lives on in swap; without a share it dies.
fn the_swap_share_holds_what_it_should(lab: &Lab) -> Result<()> {
    let held = (CAP + SHARE / 2) >> 20;
    let hold = format!("head -c {held}M /dev/zero | tail -c {held}M | wc -c");
    let expected = (CAP + SHARE / 2).to_string();
    let with_share = lab.try_shell("acme/hog", &hold)?;
    anyhow::ensure!(
        with_share.stdout.trim() == expected,
        "the share did not hold it: {with_share:?}"
    );
    let without = lab.try_shell("beta/neighbour", &hold)?;
    anyhow::ensure!(without.stdout.trim() != expected, "it was held without a share: {without:?}");
    lab.shell("beta/neighbour", "true").map(drop)
}

/// Docker's own default would be swap twice the memory; the kernel holds what was asked for.
fn the_swap_share_is_explicit(lab: &Lab, address: &str, swap: u64) -> Result<()> {
    let container = lab.container(address)?;
    let asked = container["HostConfig"]["MemorySwap"].as_u64().context("explicit")?;
    anyhow::ensure!(asked == CAP + swap, "{address} may use {asked} of memory and swap");
    let pid = container["State"]["Pid"].as_u64().context("it runs")?;
    let held = kernel_swap_limit(pid, CAP)?;
    anyhow::ensure!(held == swap, "the kernel lets {address} use {held} of swap, not {swap}");
    Ok(())
}

/// Reads the swap share that the kernel enforces, on cgroup v1 (memory + swap) and v2 (swap).
fn kernel_swap_limit(pid: u64, memory: u64) -> Result<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let controller =
        |line: &&str| line.split(':').nth(1).is_some_and(|names| names.contains("memory"));
    if let Some(line) = groups.lines().find(controller) {
        let path = line.splitn(3, ':').nth(2).context("a path")?;
        let file = format!("/sys/fs/cgroup/memory{path}/memory.memsw.limit_in_bytes");
        let both: u64 = fs::read_to_string(&file).with_context(|| file.clone())?.trim().parse()?;
        return Ok(both - memory);
    }
    let path = groups.lines().find_map(|line| line.strip_prefix("0::")).context("a cgroup")?;
    let file = format!("/sys/fs/cgroup{path}/memory.swap.max");
    Ok(fs::read_to_string(&file).with_context(|| file.clone())?.trim().parse()?)
}
