//! A workspace that does its worst within its caps brings no neighbour to a standstill.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use warren_tests::{Lab, bench::neighbours};

/// What a workspace's log takes of the host's disk, at most.
const LOGS: u64 = 32 << 20;

#[test]
fn a_hog_a_fork_bomb_and_floods_bring_no_neighbour_to_a_standstill() -> Result<()> {
    let lab = neighbours::lab()?;
    let pid = |lab: &Lab| -> Result<u64> {
        lab.container("acme/a")?["State"]["Pid"].as_u64().context("A runs")
    };
    let first = pid(&lab)?;
    let noises = neighbours::noises(&lab);
    // this fails where B stands still; how close to its quiet pace it stays is measured by `cargo
    // xtask bench neighbours`: that depends on what else the machine does
    neighbours::measure(&lab, &noises, (1, false), |paces| match paces.noise {
        // before others end for want of memory: the last few are kept
        "hog" => {
            let a = lab.cluster.workspace("acme/a")?;
            let kills = a["observed"]["kills"].as_array().context("kills")?;
            let named = kills.iter().any(|kill| kill["process"] == "tail");
            anyhow::ensure!(named, "the hog's end is told as {kills:?}");
            Ok(())
        }
        "log flood" => {
            let container = lab.container("acme/a")?;
            let beside = Path::new(container["HostnamePath"].as_str().context("a folder")?);
            let logs = fs::read_dir(beside.with_file_name("local-logs"))?.flatten();
            let taken: u64 = logs.filter_map(|one| Some(one.metadata().ok()?.len())).sum();
            anyhow::ensure!((1 << 14..=LOGS).contains(&taken), "its log takes {taken} bytes");
            Ok(())
        }
        _ => Ok(()),
    })?;
    // and A itself lives on, with its first process and its session
    anyhow::ensure!(pid(&lab)? == first, "A was started again");
    lab.shell("acme/a", "tmux has-session -t =main").map(drop)
}
