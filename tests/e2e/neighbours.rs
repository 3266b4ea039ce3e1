//! A workspace that does its worst within its caps does not slow its neighbour down.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use warren_tests::{Lab, wait_until};

/// B does the same piece of work again and again, some milliseconds of counting and one small file,
/// and writes down when it began and how long it took, in microseconds.
const STEPS: &str = "exec perl -MTime::HiRes=time,sleep -e '\
    open my $log, q(>>), q(steps) or die; select $log; $| = 1; \
    while (1) { my $begun = time; my $sum = 0; $sum += $_ for 1 .. 60_000; \
    open my $file, q(>), q(piece) or die; print $file q(x) x 4096; close $file; \
    printf $log qq(%.0f %.0f\\n), $begun * 1e6, (time - $begun) * 1e6; sleep 0.005 }'";
/// One round of quiet and one of noise; the noise is left so long to begin and to end.
const ROUND: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(2);
/// Rounds of each: the machine that tests has neighbours of its own, so the middle one counts.
const ROUNDS: usize = 3;

/// Without walls B waits a hundred times as long. How close to its quiet pace it stays is printed and
/// not judged: that depends on what else the machine does.
const GROSS: u64 = 10;

/// What A does, one after the other: takes memory beyond its cap, forks until it cannot while each
/// of its processes spins, and writes to its log without pause.
const NOISE: [(&str, &str); 3] = [
    ("hog", "while :; do head -c 500M /dev/zero | tail -c 500M >/dev/null; done"),
    ("fork bomb", "perl -e 'fork while 1'"),
    ("log flood", "yes 'a line of the flood that goes on and on' >/proc/1/fd/1"),
];

fn now() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())
}

/// Returns how long the slowest of a hundred of B's steps took since `from`, in microseconds.
fn slowest(lab: &Lab, from: u128, upto: u128) -> Result<u64> {
    let text = lab.shell("beta/b", "cat ~/steps")?;
    let step = |line: &str| -> Option<(u128, u64)> {
        let (begun, took) = line.split_once(' ')?;
        Some((begun.parse().ok()?, took.parse().ok()?))
    };
    let steps = text.lines().filter_map(step).filter(|(begun, _)| (from..upto).contains(begun));
    let mut took: Vec<u64> = steps.map(|(_, took)| took).collect();
    anyhow::ensure!(took.len() > 100, "B made {} steps", took.len());
    took.sort_unstable();
    Ok(took[took.len() * 99 / 100])
}

fn round(lab: &Lab) -> Result<u64> {
    let from = now()?;
    std::thread::sleep(ROUND);
    slowest(lab, from, now()?)
}

fn loud_round(lab: &Lab, noise: &str) -> Result<u64> {
    let lasts = (ROUND + SETTLE * 2).as_secs();
    let line = format!("timeout -s KILL {lasts} bash -c {}", quoted(noise));
    std::thread::scope(|scope| {
        let loud = scope.spawn(|| lab.try_shell("acme/a", &line));
        std::thread::sleep(SETTLE);
        let took = round(lab);
        let ended = loud.join().map_err(|_| anyhow::anyhow!("the noise broke"))?;
        ended.context("the noise")?;
        std::thread::sleep(SETTLE);
        took
    })
}

/// Puts everything else on the machine behind the workspaces: what is measured is what they do to
/// each other, not what else is running.
fn weigh(lab: &Lab) -> Result<()> {
    let engine = lab.engine.cgroup().trim_start_matches('/').to_owned();
    let (one, two) = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct");
    let (root, file, most) = match (Path::new(one).exists(), Path::new(two).exists()) {
        (true, _) => (one, "cpu.shares", "262144"),
        (_, true) => (two, "cpu.shares", "262144"),
        _ => ("/sys/fs/cgroup", "cpu.weight", "10000"),
    };
    for group in [engine.clone(), format!("{engine}/warren")] {
        let file = Path::new(root).join(group).join(file);
        fs::write(&file, most).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

fn quoted(line: &str) -> String {
    format!("'{}'", line.replace('\'', "'\\''"))
}

fn middle(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of[of.len() / 2]
}

#[test]
fn a_hog_a_fork_bomb_and_a_log_flood_leave_the_neighbours_steps_as_they_were() -> Result<()> {
    let lab = Lab::new()?;
    lab.create("acme/a", &["--session", "main", "--pids", "256"])?;
    lab.create("beta/b", &["--session", &format!("main={STEPS}")])?;
    wait_until("B makes its steps", Duration::from_secs(30), || {
        lab.shell("beta/b", "test $(wc -l <~/steps) -gt 100").map(drop)
    })?;
    weigh(&lab)?;
    let (mut told, mut slow) = (Vec::new(), Vec::new());
    for (name, noise) in NOISE {
        let (mut quiet, mut loud) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            quiet.push(round(&lab)?);
            loud.push(loud_round(&lab, noise)?);
        }
        let (quiet, loud) = (middle(quiet), middle(loud));
        slow.extend((loud > quiet * GROSS).then_some(name));
        told.push(format!("{name}: p99 of a step {quiet} us quiet, {loud} us loud"));
        eprintln!("{}", told[told.len() - 1]);
        if name == "hog" {
            // before others end for want of memory: the last few are kept
            let a = lab.cluster.workspace("acme/a")?;
            let kills = a["observed"]["kills"].as_array().context("kills")?;
            let named = kills.iter().any(|kill| kill["process"] == "tail");
            anyhow::ensure!(named, "the hog's end is told as {kills:?}");
        }
    }
    anyhow::ensure!(slow.is_empty(), "B is held up: {slow:?} of {told:?}");
    // and A itself lives on, with its session
    lab.shell("acme/a", "tmux has-session -t =main").map(drop)
}
