//! How long a workspace's steps take while its neighbour does its worst within its caps, beside how
//! long they take while it is quiet.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Options, Row, is_noisy, round};
use crate::{Lab, Program, wait_until};

/// B does the same piece of work again and again, some milliseconds of counting and one small file,
/// and writes down when it began and how long it took, in microseconds.
const STEPS: &str = "exec perl -MTime::HiRes=time,sleep -e '\
    open my $log, q(>>), q(steps) or die; select $log; $| = 1; \
    while (1) { my $begun = time; my $sum = 0; $sum += $_ for 1 .. 60_000; \
    open my $file, q(>), q(piece) or die; print $file q(x) x 4096; close $file; \
    printf $log qq(%.0f %.0f\\n), $begun * 1e6, (time - $begun) * 1e6; sleep 0.005 }'";
/// One round of quiet and one of noise; the noise is left so long to begin and to fade.
const ROUND: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(2);
/// The pool of both homes.
const POOL: &str = "4G";
/// Steps in a round below which B stands still: it makes hundreds.
const LIVELY: usize = 25;
/// Loud beside quiet, at most.
const GOAL: f64 = 1.5;

/// The names of what A does.
const NOISES: [&str; 5] = ["hog", "fork bomb", "disk filler", "log flood", "connection flood"];

/// What A does, one after the other: takes memory beyond its cap, forks until it cannot while each of
/// its processes spins, fills its home and empties it, writes to its log without pause, and opens
/// connections as fast as it can.
pub fn noises(lab: &Lab) -> [(&'static str, String); 5] {
    let connect = format!(
        "import socket\nheld=[]\nwhile True:\n s=socket.socket()\n s.setblocking(False)\n\
         \x20s.connect_ex((\"{}\",80))\n held.append(s)\n del held[:-500]",
        lab.internet.address()
    );
    let [hog, forks, filler, log, connections] = NOISES;
    [
        (hog, "while :; do head -c 500M /dev/zero | tail -c 500M >/dev/null; done".to_owned()),
        (forks, "perl -e 'fork while 1'".to_owned()),
        (filler, "while :; do head -c 2G /dev/zero >~/big; rm -f ~/big; done".to_owned()),
        (log, "yes 'a line of the flood that goes on and on' >/proc/1/fd/1".to_owned()),
        (connections, format!("python3 -c '{connect}'")),
    ]
}

/// What one kind of noise did: B's 99th percentile of each round, in microseconds.
#[derive(Debug, Clone)]
pub struct Paces {
    /// What A did.
    pub noise: &'static str,
    /// While A was quiet.
    pub quiet: Vec<f64>,
    /// While it was not, pair by pair.
    pub loud: Vec<f64>,
    /// Whether the machine was busy with other things in any pair.
    pub noisy: bool,
}

impl Paces {
    fn row(self) -> Row {
        let (name, more) = (self.noise.to_owned(), Value::Null);
        Row { name, ours: self.loud, peer: self.quiet, noisy: self.noisy, more }
    }
}

/// Measures and returns the JSON line; `--quick` makes one pair of each.
///
/// # Errors
/// Fails where the installation cannot be built, or without such a row; a missed goal is no fault.
pub fn run(options: &Options) -> Result<Value> {
    options.check(&NOISES)?;
    let (lab, quick) = (lab()?, options.quick);
    let noises = noises(&lab).into_iter().filter(|(name, _)| options.takes(name));
    let noises: Vec<_> = noises.collect();
    let paces = measure(&lab, &noises, (if quick { 1 } else { 5 }, true), |_| Ok(()))?;
    let rows: Vec<Row> = paces.into_iter().map(Paces::row).collect();
    let worst = rows.iter().filter_map(Row::ratio).fold(0.0, f64::max);
    Ok(json!({
        "bench": "neighbours",
        "figure": "p99 of a step while the neighbour does its worst",
        "peer": "the same while it is quiet",
        "ratio": round(worst),
        "better": "lower",
        "goal": format!("<={GOAL}x"),
        "holds": worst <= GOAL,
        "quick": quick,
        "noisy": rows.iter().any(|row| row.noisy),
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    }))
}

/// Builds an installation with a workspace A that has a session, and B that makes its steps.
///
/// # Errors
/// As [`Lab::with_pool`].
pub fn lab() -> Result<Lab> {
    let lab = Lab::with_pool(POOL)?;
    lab.create("acme/a", &["--session", "main", "--pids", "256"])?;
    lab.create("beta/b", &["--session", &format!("main={STEPS}")])?;
    wait_until("B makes its steps", Duration::from_secs(30), || {
        lab.shell("beta/b", "test $(wc -l <~/steps) -gt 100").map(drop)
    })?;
    weigh(&lab)?;
    Ok(lab)
}

/// Makes so many pairs of a quiet and a loud round of each noise; `waits` for a quiet machine before
/// each. After each noise `look` may look at what it left.
///
/// # Errors
/// B makes no steps, A cannot be asked, or what `look` says.
pub fn measure(
    lab: &Lab,
    noises: &[(&'static str, String)],
    (pairs, waits): (usize, bool),
    mut look: impl FnMut(&Paces) -> Result<()>,
) -> Result<Vec<Paces>> {
    let mut all = Vec::new();
    for &(noise, ref line) in noises {
        let mut paces = Paces { noise, quiet: Vec::new(), loud: Vec::new(), noisy: false };
        for _ in 0..pairs {
            paces.noisy |= waits && is_noisy()?;
            paces.quiet.push(quiet(lab)?);
            paces.loud.push(loud(lab, line)?);
        }
        eprintln!("{noise}: p99 of a step {:?} us quiet, {:?} us loud", paces.quiet, paces.loud);
        look(&paces)?;
        all.push(paces);
    }
    Ok(all)
}

fn quiet(lab: &Lab) -> Result<f64> {
    let from = now()?;
    std::thread::sleep(ROUND);
    slowest(lab, from, now()?)
}

/// A's session makes the noise, as a person or an agent there would, until the host ends it: out of
/// memory, whatever waits for its end inside may be killed before it.
fn loud(lab: &Lab, noise: &str) -> Result<f64> {
    lab.shell("acme/a", &format!("rm -f ~/big; printf %s {} >~/noise", quoted(noise)))?;
    let alive = "test \"$(tmux display -p -t =main: '#{pane_dead}')\" = 0";
    lab.shell("acme/a", &format!("{alive} || tmux respawn-pane -t =main:"))?;
    // the shell may be killed, too, and takes nothing with it
    let line = "sh -c 'trap \"\" HUP; exec bash ~/noise'";
    lab.shell("acme/a", &format!("tmux send-keys -t =main: {} Enter", quoted(line)))?;
    std::thread::sleep(SETTLE);
    let took = quiet(lab);
    let lasted = !groups(lab)?.is_empty();
    wait_until("the noise ends", Duration::from_secs(30), || {
        let groups = groups(lab)?;
        for group in &groups {
            // one that ended meanwhile is fine
            Program::new("kill").args(["-KILL", "--", &format!("-{group}")]).run()?;
        }
        anyhow::ensure!(groups.is_empty(), "{groups:?} run");
        Ok(())
    })?;
    anyhow::ensure!(lasted, "the noise ended before it was measured");
    std::thread::sleep(SETTLE);
    took
}

/// Returns the process groups of what A's shell runs, as the host numbers them.
fn groups(lab: &Lab) -> Result<BTreeSet<u32>> {
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let first = lab.container("acme/a")?["State"]["Pid"].as_u64().context("it runs")?;
    let ours = space(&first.to_string())?;
    let mut groups = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !space(&name).is_ok_and(|space| space == ours) {
            continue;
        }
        // only this file: whoever is short of memory may hold what the others wait for
        let stat = fs::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let fields: Vec<&str> = fields.split_whitespace().skip(2).take(2).collect();
        // a shell's job has a group of its own in the shell's session
        if let [group, session] = fields[..]
            && group != session
        {
            groups.insert(group.parse()?);
        }
    }
    Ok(groups)
}

/// Returns how long the slowest of a hundred of B's steps took since `from`, in microseconds.
fn slowest(lab: &Lab, from: u128, upto: u128) -> Result<f64> {
    let text = fs::read_to_string(inside(lab, "beta/b", "/home/agent/steps")?)?;
    let step = |line: &str| -> Option<(u128, f64)> {
        let (begun, took) = line.split_once(' ')?;
        Some((begun.parse().ok()?, took.parse().ok()?))
    };
    let steps = text.lines().filter_map(step).filter(|(begun, _)| (from..upto).contains(begun));
    let mut took: Vec<f64> = steps.map(|(_, took)| took).collect();
    anyhow::ensure!(took.len() > LIVELY, "B made {} steps in {ROUND:?}", took.len());
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() * 99 / 100])
}

/// Returns where the host sees a file of a workspace: nothing in there is asked for it.
fn inside(lab: &Lab, address: &str, path: &str) -> Result<PathBuf> {
    let pid = lab.container(address)?["State"]["Pid"].as_u64().context("it runs")?;
    Ok(PathBuf::from(format!("/proc/{pid}/root{path}")))
}

fn now() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())
}

/// Gives the workspaces together the weight of eight other programs: what is measured is what they do
/// to each other, not what else is running, and the daemons are not starved.
fn weigh(lab: &Lab) -> Result<()> {
    let engine = lab.engine.cgroup().trim_start_matches('/').to_owned();
    let (one, two) = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct");
    let (root, file, weight) = match (Path::new(one).exists(), Path::new(two).exists()) {
        (true, _) => (one, "cpu.shares", "8192"),
        (_, true) => (two, "cpu.shares", "8192"),
        _ => ("/sys/fs/cgroup", "cpu.weight", "800"),
    };
    for group in [engine.clone(), format!("{engine}/warren")] {
        let file = Path::new(root).join(group).join(file);
        fs::write(&file, weight).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

fn quoted(line: &str) -> String {
    format!("'{}'", line.replace('\'', "'\\''"))
}
