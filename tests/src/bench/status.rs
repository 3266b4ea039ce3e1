//! From what an agent tells inside its workspace to a watch on another machine, and what the telling
//! takes: of PID 1's memory, and of the node agent's processor time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use warren_common::Timestamp;

use super::{footprint::memory, is_noisy, median, round, system::cpu_micros};
use crate::{Lab, Watching, program::binary, wait_until};

/// Milliseconds from the hook to the line that a watch prints, of 99 in 100.
const GOAL_MS: f64 = 500.0;
/// PID 1's memory, MiB.
const GOAL_MIB: f64 = 10.0;
/// The node agent's share of a core while nobody does anything.
const GOAL_CORE_PERCENT: f64 = 1.0;
const SESSIONS: usize = 3;
const MIB: f64 = 1024.0 * 1024.0;
/// An agent of one's own: at rest until it may begin, then a turn each four seconds or so.
const AGENT: &str = r#"say() { printf '{"state":"%s"}' "$1" | /warren/inside hook custom; }; say idle; while :; do while [ ! -e ~/go ]; do sleep 1; done; sleep $((RANDOM % 3)).$RANDOM; say working; sleep 1.$RANDOM; say idle; done"#;

/// Measures and returns the JSON line; `quick` is small and short.
///
/// # Errors
/// Fails where the installation cannot be built or an agent is not heard; a missed goal is no fault.
pub fn run(quick: bool) -> Result<Value> {
    let (count, spell) =
        if quick { (2, Duration::from_secs(8)) } else { (20, Duration::from_secs(60)) };
    let lab = Lab::new()?;
    let addresses: Vec<String> = (1..=count).map(|number| format!("acme/w{number:02}")).collect();
    for address in &addresses {
        let sessions = (1..=SESSIONS).map(|number| format!("s{number}={AGENT}"));
        let sessions: Vec<String> =
            sessions.flat_map(|one| ["--session".to_owned(), one]).collect();
        let sessions: Vec<&str> = sessions.iter().map(String::as_str).collect();
        let caps = ["--memory", "192M", "--reserve", "64M", "--disk", "100M"];
        lab.cluster.warren(&[&["workspace", "create", address][..], &caps, &sessions].concat())?;
        eprintln!("{address} runs");
    }
    let watch = elsewhere(&lab)?;
    wait_until("every agent is at rest", Duration::from_secs(60), || {
        let resting = latest(&watch).into_values().filter(|state| state == "idle").count();
        ensure!(resting == count * SESSIONS, "{resting} of {}", count * SESSIONS);
        Ok(())
    })?;
    let noisy = is_noisy()?;
    let idle = core_percent(&lab, spell)?;
    let from = watch.objects().len();
    for address in &addresses {
        lab.shell(address, "touch ~/go")?;
    }
    let busy = core_percent(&lab, spell)?;
    let took = delays(&watch, from)?;
    ensure!(took.len() >= count, "{} events in {} s are too few", took.len(), spell.as_secs());
    let mut memories = Vec::new();
    for address in &addresses {
        let pid = lab.container(address)?["State"]["Pid"].as_u64().context("it runs")?;
        memories.push(memory(u32::try_from(pid)?, "Pss")? / MIB);
    }
    Ok(line(&Figures { count, idle, busy, took, memories, noisy, quick }))
}

/// What was measured.
struct Figures {
    count: usize,
    idle: f64,
    busy: f64,
    /// Milliseconds, the least first.
    took: Vec<f64>,
    memories: Vec<f64>,
    noisy: bool,
    quick: bool,
}

fn line(figures: &Figures) -> Value {
    let Figures { count, idle, busy, took, memories, noisy, quick } = figures;
    let (middle, late) = (percentile(took, 50), percentile(took, 99));
    let most = memories.iter().copied().fold(0.0, f64::max);
    eprintln!(
        "{} events: p50 {middle:.0} ms, p99 {late:.0} ms; PID 1 {most:.1} MiB at most; node agent \
         {idle:.2} % of a core at rest, {busy:.2} % while agents turn",
        took.len(),
    );
    let (heard, small, light) = (late < GOAL_MS, most <= GOAL_MIB, *idle <= GOAL_CORE_PERCENT);
    json!({
        "bench": "status",
        "figure": "ms from an agent's hook to a watch on another machine, p99",
        "value": round(late),
        "peer": null,
        "peer_value": null,
        "ratio": null,
        "better": "lower",
        "goal": "p99 <500 ms; PID 1 <=10 MiB; node agent <=1 % of a core at rest",
        "holds": heard && small && light,
        "quick": quick,
        "noisy": noisy,
        "rows": [
            {"row": "hook to watch, ms", "p50": round(middle), "p99": round(late),
             "most": round(percentile(took, 100)), "events": took.len(), "holds": heard},
            {"row": format!("PID 1 of {count} workspaces with {SESSIONS} sessions, MiB"),
             "median": round(median(memories.clone())), "most": round(most), "holds": small},
            {"row": "node agent, % of a core", "at_rest": round(*idle),
             "while_agents_turn": round(*busy), "holds": light},
        ],
    })
}

/// Watches all sessions from a machine that is neither the node nor the coordinator's.
pub(super) fn elsewhere(lab: &Lab) -> Result<Watching> {
    let config = lab.cluster.folder().join("config");
    let program = lab.internet.program(binary("warren")?).env("WARREN_CONFIG_DIR", config);
    Watching::of(program.args(["session", "list", "--watch", "-o", "json"]))
}

/// The newest state of each session.
fn latest(watch: &Watching) -> BTreeMap<String, String> {
    let told = watch.objects().into_iter();
    told.filter_map(|(_, address, object)| {
        Some((address, object["agent"]["state"].as_str()?.to_owned()))
    })
    .collect()
}

/// Returns the share of a core that the node agent takes meanwhile.
fn core_percent(lab: &Lab, spell: Duration) -> Result<f64> {
    let agent = lab.cluster.nodes[0].agent.as_ref().context("it runs")?.pid();
    let (before, began) = (cpu_micros(&[agent])?, Instant::now());
    std::thread::park_timeout(spell);
    Ok((cpu_micros(&[agent])? - before) / began.elapsed().as_micros() as f64 * 100.0)
}

/// Returns how long after each turn its line was read, the least first.
fn delays(watch: &Watching, from: usize) -> Result<Vec<f64>> {
    let (mut since, mut took) = (BTreeMap::new(), Vec::new());
    for (at, (read, address, object)) in watch.objects().into_iter().enumerate() {
        let Some(turned) = object["agent"]["since"].as_str() else { continue };
        let new = since.insert(address, turned.to_owned()).is_none_or(|before| before != turned);
        if new && at >= from {
            took.push(read.since(moment(turned)?).as_secs_f64() * 1e3);
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// Reads a moment as the command line prints it.
pub(super) fn moment(text: &str) -> Result<Timestamp> {
    let at: jiff::Timestamp = text.parse().with_context(|| format!("{text:?} is no time"))?;
    Ok(Timestamp(u64::try_from(at.as_millisecond())?))
}

/// Returns the figure that so many of a hundred do not exceed; the figures are in their order.
fn percentile(figures: &[f64], of_100: usize) -> f64 {
    let place = (figures.len() * of_100).div_ceil(100).max(1) - 1;
    figures.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_the_ninety_ninth_is_the_99th_percentile() {
        let figures: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([50, 99, 100].map(|of| percentile(&figures, of)), [50.0, 99.0, 100.0]);
        assert_eq!(percentile(&[7.0], 99), 7.0);
        let text = "2026-01-02T03:04:05.678Z";
        assert_eq!(moment(text).expect("a time"), Timestamp(1_767_323_045_678));
    }
}
