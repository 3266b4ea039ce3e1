//! From nothing to an agent's prompt, step by step, beside what a person does by hand today:
//! `docker run` of the same image, `git clone`, tmux, and the same agent in it.
//!
//! Each round makes a client, its token, a template and a workspace of it. When each step ended is
//! read where it is on record: the audit log for what coordinators decide, the workspace's own
//! report for what node and PID 1 do, and a watch on a third machine for the prompt.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use warren_common::Timestamp;
use warren_daemon::clock;

use super::{About, Row, by_hand, is_noisy_within, median, round, status};
use crate::{Daemon, Lab, Watching, mock_llm, repo, wait_until};

/// Rounds where nobody said how many.
const ROUNDS: usize = 5;
/// Ours to the person's own way, as a median of ratios.
const GOAL: f64 = 1.15;
/// From the request to the prompt, on a busy machine.
const SOON: Duration = Duration::from_secs(180);
/// How long all rounds together wait for a quiet machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// What the repository is given for.
pub(super) const TOKEN: &str = "token-of-a-benchmark";
pub(super) const IMAGE: &str = "warren-workspace:agents";
const REPOSITORY: &str = "web";
/// What stands on an agent's screen at its prompt.
pub(super) const PROMPT: &str = "? for shortcuts\\|❯";
/// What the coordinators decide, by the action on record.
const DECIDED: [(&str, &str); 5] = [
    ("workspace.create", "workspace asked for"),
    ("workspace.assign", "placed"),
    ("workspace.preparing", "preparing"),
    ("workspace.permit", "image, home and container there"),
    ("workspace.active", "container runs"),
];

/// Measures and returns the JSON line; `quick` makes one round.
///
/// # Errors
/// Fails where the installation cannot be built or a prompt does not come; a missed goal is no
/// fault.
pub fn run(quick: bool, rounds: Option<usize>) -> Result<Value> {
    let rounds = rounds.unwrap_or(if quick { 1 } else { ROUNDS });
    let stand = Stand::new()?;
    let (mut ours, mut peer) = (Steps::default(), Steps::default());
    let (mut noisy, mut patience) = (false, PATIENCE);
    // the first of each warms caches and is not counted
    for number in 0..=rounds {
        noisy |= is_noisy_within(&mut patience)?;
        let here = stand.ours(number)?;
        let there = by_hand::round(&stand.lab, number, &stand.url)?;
        let total = |steps: &[Step]| steps.last().map_or(0.0, |last| last.ends);
        let (here_ms, there_ms) = (total(&here), total(&there));
        let name = if number == 0 { "warm".to_owned() } else { format!("round {number}") };
        eprintln!("{name}: ours {here_ms:.0} ms to the prompt, by hand {there_ms:.0} ms");
        if number > 0 {
            ours.add(here);
            peer.add(there);
        }
    }
    ours.print("ours");
    peer.print("by hand");
    Ok(line(&ours, &peer, (quick, noisy)))
}

/// One step of a round.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) name: String,
    /// Milliseconds from the round's beginning to its end.
    pub(super) ends: f64,
    /// Milliseconds that it took by itself, where that is known.
    pub(super) took: Option<f64>,
}

/// The steps of all rounds, in the order in which they first came.
#[derive(Debug, Default)]
struct Steps {
    names: Vec<String>,
    ends: BTreeMap<String, Vec<f64>>,
    took: BTreeMap<String, Vec<f64>>,
    totals: Vec<f64>,
}

impl Steps {
    fn add(&mut self, round: Vec<Step>) {
        self.totals.extend(round.last().map(|last| last.ends));
        for step in round {
            if !self.names.contains(&step.name) {
                self.names.push(step.name.clone());
            }
            self.ends.entry(step.name.clone()).or_default().push(step.ends);
            if let Some(took) = step.took {
                self.took.entry(step.name).or_default().push(took);
            }
        }
    }

    fn rows(&self) -> Vec<Value> {
        let most = |figures: &[f64]| round(figures.iter().copied().fold(0.0, f64::max));
        let middle = |figures: &[f64]| round(median(figures.to_vec()));
        let row = |name: &String| {
            let (ends, took) = (self.ends.get(name), self.took.get(name));
            json!({
                "step": name,
                "took": took.map(|took| middle(took)),
                "took_worst": took.map(|took| most(took)),
                "ends": ends.map(|ends| middle(ends)),
                "ends_worst": ends.map(|ends| most(ends)),
            })
        };
        self.names.iter().map(row).collect()
    }

    fn print(&self, whose: &str) {
        eprintln!("{:<36}{:>9}{:>9}{:>9}{:>9}  (ms)", whose, "took", "worst", "ends", "worst");
        for row in self.rows() {
            let figure = |name: &str| {
                row[name].as_f64().map_or_else(|| "-".to_owned(), |figure| format!("{figure:.0}"))
            };
            eprintln!(
                "{:<36}{:>9}{:>9}{:>9}{:>9}",
                row["step"].as_str().unwrap_or_default(),
                figure("took"),
                figure("took_worst"),
                figure("ends"),
                figure("ends_worst"),
            );
        }
    }
}

fn line(ours: &Steps, peer: &Steps, (quick, noisy): (bool, bool)) -> Value {
    let row = Row {
        name: "from nothing to the prompt".to_owned(),
        ours: ours.totals.clone(),
        peer: peer.totals.clone(),
        noisy,
        more: json!({"ours": ours.rows(), "by_hand": peer.rows()}),
    };
    let about = About {
        bench: "home",
        figure: "ms from nothing to the agent's prompt, seen on another machine",
        peer: "docker run, git clone, tmux and the agent by hand in one script",
        goal: GOAL,
    };
    about.line(&row, quick)
}

/// The installation in which the rounds are made.
struct Stand {
    _model: Daemon,
    watch: Watching,
    template: String,
    url: String,
    lab: Lab,
}

impl Stand {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e/agents-image.tar");
        ensure!(image.exists(), "there is no image with agents: run ./deploy/test agents-image");
        eprintln!("the image with agents is loaded");
        lab.engine.docker(&["load", "-q", "-i", &image.to_string_lossy()])?;
        lab.engine.docker(&["network", "create", "bench"])?;
        let repositories = lab.stage.folder("repos")?;
        repo::make_locked(&repositories, REPOSITORY, ("x-access-token", TOKEN))?;
        let model = mock_llm::start(&lab.stage, &lab.internet)?;
        let watch = status::elsewhere(&lab)?;
        let (template, url) = (template(&lab)?, lab.repository(REPOSITORY));
        Ok(Self { _model: model, watch, template, url, lab })
    }

    /// Runs the command line with an input; returns when it ended, and how long it took.
    fn warren(&self, arguments: &[&str], input: &str) -> Result<(Timestamp, f64)> {
        let done = self.lab.cluster.cli()?.args(arguments).input(input).run()?.success()?;
        Ok((clock::now(), done.took.as_secs_f64() * 1e3))
    }

    /// From a client that is not there to the prompt in its workspace.
    fn ours(&self, number: usize) -> Result<Vec<Step>> {
        let (client, template) = (format!("home{number}"), format!("agent{number}"));
        let (address, repo) = (format!("{client}/web"), format!("repo={}", self.url));
        let create = ["workspace", "create", &address, "--template", &template, "--param", &repo];
        let params = ["--param", "token=repo-token", "--param", "vault=acme", "--wait", "none"];
        // both sides start the same
        let alike = ["--image", IMAGE, "--param", "permissions=ask"];
        let began = clock::now();
        let mut steps = Vec::new();
        for (name, arguments, input) in [
            ("client create", &["client", "create", &client][..], ""),
            ("secret set", &["secret", "set", &client, "repo-token", "@-"], TOKEN),
            ("template push", &["template", "push", "-", "--name", &template], &self.template),
            ("workspace create", &[&create[..], &params, &alike].concat(), ""),
        ] {
            let (at, took) = self.warren(arguments, input)?;
            steps.push(Step { name: name.to_owned(), ends: since(began, at), took: Some(took) });
        }
        let session = format!("{address}/main");
        let prompt = wait_until(&format!("{session} is at its prompt"), SOON, || {
            let (at, seen) = self.watch.newest(&session);
            ensure!(seen["agent"]["state"] == "idle", "it is {}", seen["agent"]);
            Ok(at)
        })?;
        self.holds_prompt(&address)?;
        steps.extend(self.recorded(&address, began)?);
        // those that were asked for stand first; what follows comes as it ended
        steps[4..].sort_by(|one, other| one.ends.total_cmp(&other.ends));
        let ends = since(began, prompt);
        steps.push(Step { name: "prompt seen elsewhere".to_owned(), ends, took: None });
        self.warren(&["workspace", "delete", &address, "--yes"], "")?;
        Ok(steps)
    }

    /// Fails where the agent that is said to be idle has no prompt on its screen.
    fn holds_prompt(&self, address: &str) -> Result<()> {
        wait_until("the prompt stands on the screen", SOON, || {
            let look = format!("tmux capture-pane -p -t main | grep -q '{PROMPT}'");
            self.lab.shell(address, &look).map(drop)
        })
    }

    /// What is on record of a workspace's start.
    fn recorded(&self, address: &str, began: Timestamp) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let audit = self.lab.cluster.json(&["audit", "list", "--target", address])?;
        let records = audit.as_array().context("records")?;
        for (action, name) in DECIDED {
            let record = records.iter().find(|record| record["action"] == action);
            let Some(at) = record.and_then(|record| record["at"].as_str()) else { continue };
            let ends = since(began, status::moment(at)?);
            steps.push(Step { name: name.to_owned(), ends, took: None });
        }
        let shown = self.lab.cluster.workspace(address)?;
        let seen = shown["observed"]["steps"].as_array().context("steps")?;
        for (place, step) in seen.iter().enumerate() {
            let name = step["name"].as_str().context("a name")?;
            let (Some(started), Some(took)) =
                (step["started_at"].as_str(), step["elapsed_ms"].as_u64())
            else {
                continue;
            };
            let (started, took) = (since(began, status::moment(started)?), took as f64);
            // the node's own come first; PID 1 is up where it begins
            let before = place.checked_sub(1).map(|before| seen[before]["name"].clone());
            if before.is_some_and(|before| before == "container") {
                let name = "PID 1 begins".to_owned();
                steps.push(Step { name, ends: started, took: None });
            }
            steps.push(Step { name: name.to_owned(), ends: started + took, took: Some(took) });
        }
        for service in shown["observed"]["services"].as_array().into_iter().flatten() {
            let up = service["state"] == "running";
            let (Some(name), Some(at)) = (service["name"].as_str(), service["since"].as_str())
            else {
                continue;
            };
            if up {
                let (name, ends) = (format!("{name} up"), since(began, status::moment(at)?));
                steps.push(Step { name, ends, took: None });
            }
        }
        Ok(steps)
    }
}

/// The template that is shipped, with its agent sent to the stand-in for its model.
fn template(lab: &Lab) -> Result<String> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/templates/agent");
    let text = std::fs::read_to_string(shipped.join("template.toml"))?;
    let (plain, sent) = ("[workspace]\n", environment(lab));
    ensure!(text.contains(plain), "the shipped template has no line {plain}");
    let sent = format!("echo export {sent} >>~/.profile");
    Ok(text.replace(plain, &format!("{plain}setup = \"{sent}\"\n")))
}

/// What sends Claude Code to the stand-in.
pub(super) fn environment(lab: &Lab) -> String {
    format!(
        "ANTHROPIC_BASE_URL=http://{}:{} ANTHROPIC_AUTH_TOKEN=scripted \
         CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
        lab.internet.address(),
        mock_llm::PORT,
    )
}

/// Milliseconds between two moments.
pub(super) fn since(began: Timestamp, at: Timestamp) -> f64 {
    at.since(began).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_not_every_round_had_counts_where_it_was() {
        let step = |name: &str, ends: f64, took| Step { name: name.to_owned(), ends, took };
        let mut steps = Steps::default();
        steps.add(vec![step("clone", 30.0, Some(10.0)), step("prompt", 90.0, None)]);
        steps.add(vec![step("clone", 50.0, Some(20.0)), step("prompt", 70.0, None)]);
        steps.add(vec![step("image", 5.0, Some(5.0)), step("prompt", 80.0, None)]);
        let rows = steps.rows();
        assert_eq!(steps.totals, [90.0, 70.0, 80.0]);
        assert_eq!(rows[0]["step"], "clone");
        assert_eq!((&rows[0]["took"], &rows[0]["took_worst"]), (&json!(15.0), &json!(20.0)));
        assert_eq!((&rows[1]["ends"], &rows[1]["ends_worst"]), (&json!(80.0), &json!(90.0)));
        assert_eq!((&rows[1]["took"], &rows[2]["step"]), (&Value::Null, &json!("image")));
        let line =
            line(&steps, &Steps { totals: vec![45.0; 3], ..Steps::default() }, (true, false));
        assert_eq!((&line["value"], &line["ratio"]), (&json!(80.0), &json!(1.78)));
    }
}
