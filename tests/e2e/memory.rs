//! A hard memory cap: the hog dies, its neighbour never stops.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use warren_tests::{Lab, wait_until};

/// Takes memory until it is stopped: tail keeps a line of endless length.
const HOG: &str = "tail /dev/zero; echo \"hog ended with $?\"";

#[test]
fn a_hog_over_its_cap_is_killed_and_its_neighbour_counts_on() -> Result<()> {
    let lab = Lab::new()?;
    let repo = lab.repository("hello");
    lab.create("beta/neighbour", &["--repo", &repo, "--session", "main=bash count.sh"])?;
    lab.create("acme/hog", &["--swap", "128M", "--session", "main"])?;
    let neighbour = lab.container("beta/neighbour")?["State"]["Pid"].clone();
    let before = lab.wait_count_past("beta/neighbour", 0)?;

    let hog = lab.try_shell("acme/hog", HOG)?;
    anyhow::ensure!(hog.stdout.contains("hog ended with 137"), "it was not killed: {hog:?}");
    wait_until("the kill is counted", Duration::from_secs(20), || {
        let kills = lab.cluster.workspace("acme/hog")?["usage"]["oom_kills"].as_u64();
        anyhow::ensure!(kills.is_some_and(|kills| kills > 0), "{kills:?} kills");
        Ok(())
    })?;

    // the hog's own workspace lives on, and the neighbour was never touched
    lab.shell("acme/hog", "true")?;
    lab.wait_count_past("beta/neighbour", before)?;
    anyhow::ensure!(
        lab.container("beta/neighbour")?["State"]["Pid"] == neighbour,
        "another process"
    );
    the_swap_share_is_explicit(&lab, "acme/hog", 128 << 20)?;
    the_swap_share_is_explicit(&lab, "beta/neighbour", 0)
}

/// Docker's own default would be swap twice the memory; the kernel holds what was asked for.
fn the_swap_share_is_explicit(lab: &Lab, address: &str, swap: u64) -> Result<()> {
    let memory = 256 << 20;
    let container = lab.container(address)?;
    let asked = container["HostConfig"]["MemorySwap"].as_u64().context("explicit")?;
    anyhow::ensure!(asked == memory + swap, "{address} may use {asked} of memory and swap");
    let pid = container["State"]["Pid"].as_u64().context("it runs")?;
    let held = kernel_swap_limit(pid, memory)?;
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
