//! Real coding agents in a real workspace, driven through the command line against a stand-in for
//! their models: is what is said of them what they do?
//!
//! `cast` knows the agents, `story` what is done and what must be said then. Each step prints a
//! line with what was expected and what was seen; a wrong one ends nothing, so that one run shows
//! all of them. `cargo xtask agents` prepares what it takes and runs this.

mod cast;
mod story;

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Daemon, Lab, mock_llm, wait_until};
use cast::{Agent, called};
use story::{STORIES, Step};

/// The workspace they live in.
const ADDRESS: &str = "acme/agents";
/// What hands their calls on to the stand-in: one of them speaks plain HTTP to the loopback alone.
const RELAY: &str = "const net = require('net');
net.createServer((near) => {
  const far = net.connect(PORT, 'HOST');
  for (const one of [near, far]) one.on('error', () => { near.destroy(); far.destroy(); });
  near.pipe(far).pipe(near);
}).listen(PORT, '127.0.0.1');
";
/// Until a screen shows what was typed, or an agent is ready for more.
const SOON: Duration = Duration::from_secs(60);
/// Until what an agent does is said of it.
const SAID: Duration = Duration::from_secs(12);

/// Until a dialog that is asked for stands on the screen.
const SHOWN: Duration = Duration::from_secs(5);

/// From what a person sees or types to the next key.
const MOMENT: Duration = Duration::from_secs(1);

/// What came of the steps.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Said as it was.
    pub right: usize,
    /// Said otherwise.
    pub wrong: usize,
}

/// What came of all of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Of agents whose hooks are heard.
    pub hooks: Count,
    /// Of those whose hooks are cut off: what is seen from outside.
    pub bare: Count,
}

impl Tally {
    /// Holds where something was said and all of it was right; without hooks, where most of it was.
    ///
    /// # Errors
    /// Fails otherwise.
    pub fn hold(self) -> Result<()> {
        let Self { hooks, bare } = self;
        ensure!(hooks.wrong == 0, "{} of what was said was wrong", hooks.wrong);
        ensure!(hooks.right + bare.right > 0, "nothing was said at all");
        ensure!(bare.wrong <= bare.right / 2, "without hooks {} were wrong", bare.wrong);
        Ok(())
    }

    fn of(&mut self, agent: &Agent) -> &mut Count {
        if agent.hooks { &mut self.hooks } else { &mut self.bare }
    }
}

/// Plays every story with every agent, or with those whose name holds `only`.
///
/// # Errors
/// Fails where the installation cannot be built, and where nobody has such a name.
pub fn run(only: &str) -> Result<Tally> {
    let cast = called(only);
    ensure!(!cast.is_empty(), "no agent has {only:?} in its name");
    let lab = Lab::new()?;
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e/agents-image.tar");
    ensure!(image.exists(), "there is no image with agents: run ./deploy/test agents-image");
    lab.engine.docker(&["load", "-q", "-i", &image.to_string_lossy()])?;
    let model = mock_llm::start(&lab.stage, &lab.internet)?;
    let stand = Stand { _model: model, lab, cast };
    stand.create()?;
    let mut tally = Tally::default();
    println!("{:<13}{:<17}{:<21}{:<32}{:>6}", "agent", "story", "expected", "seen", "ms");
    for agent in &stand.cast {
        if let Err(error) = stand.play_all(agent, &mut tally) {
            tally.of(agent).wrong += 1;
            println!("{:<13}breaks off: {error:#}", agent.name);
        }
    }
    println!("with hooks {} right, {} wrong", tally.hooks.right, tally.hooks.wrong);
    println!("without hooks {} right, {} wrong", tally.bare.right, tally.bare.wrong);
    Ok(tally)
}

struct Stand {
    _model: Daemon,
    lab: Lab,
    cast: Vec<&'static Agent>,
}

impl Stand {
    fn create(&self) -> Result<()> {
        let port = mock_llm::PORT.to_string();
        let relay = RELAY.replace("HOST", self.lab.internet.address()).replace("PORT", &port);
        let setup = self.lab.stage.root().join("setup.sh");
        std::fs::write(&setup, format!("cat >~/relay.js <<'END'\n{relay}END\n"))?;
        let setup = format!("@{}", setup.display());
        let repository = self.lab.repository("hello");
        let mut sessions = vec!["model=node ~/relay.js".to_owned()];
        sessions
            .extend(self.cast.iter().map(|agent| format!("{}={}", agent.name, agent.command())));
        let mut arguments = vec![
            "workspace",
            "create",
            ADDRESS,
            "--image",
            "warren-workspace:agents",
            "--memory",
            "6G",
            "--disk",
            "6G",
            "--repo",
            &repository,
            "--setup",
            &setup,
        ];
        arguments.extend(sessions.iter().flat_map(|session| ["--session", session.as_str()]));
        self.lab.cluster.warren(&arguments).map(drop)
    }

    fn play_all(&self, agent: &Agent, tally: &mut Tally) -> Result<()> {
        self.wait_ready(agent)?;
        for story in STORIES.iter().filter(|story| story.is_for(agent)) {
            for step in story.steps {
                self.play(agent, (story.name, step), tally)?;
            }
        }
        Ok(())
    }

    fn wait_ready(&self, agent: &Agent) -> Result<()> {
        wait_until(&format!("{} is at its prompt", agent.name), SOON, || {
            let screen = self.screen(agent)?;
            let ready = agent.ready.iter().any(|mark| screen.contains(mark));
            ensure!(ready, "the screen shows:\n{screen}");
            Ok(())
        })
    }

    fn play(&self, agent: &Agent, (name, step): (&str, &Step), tally: &mut Tally) -> Result<()> {
        match step {
            Step::Say(text) => self.say(agent, text),
            Step::Quit => self.say(agent, agent.quit),
            Step::Allow => self.keys(agent, agent.allow),
            Step::Keys(keys) => self.keys(agent, keys),
            Step::Expect(wanted) | Step::Until(wanted) => {
                let began = Instant::now();
                let within = if matches!(step, Step::Until(_)) { SOON } else { SAID };
                let met = wait_until(wanted, within, || {
                    let seen = self.seen(agent)?;
                    ensure!(state(&seen) == *wanted, "{}", shown(&seen));
                    Ok(shown(&seen))
                });
                let (seen, right) = match met {
                    Ok(seen) => (seen, true),
                    Err(_) => (shown(&self.seen(agent)?), false),
                };
                // who is not heard cannot have said it
                let right = right && (agent.hooks || !seen.contains("(hook"));
                let count = tally.of(agent);
                *(if right { &mut count.right } else { &mut count.wrong }) += 1;
                println!(
                    "{:<13}{name:<17}{wanted:<21}{:<32}{:>6}",
                    agent.name,
                    if right { seen } else { format!("WRONG: {seen}") },
                    began.elapsed().as_millis()
                );
                if right && wanted.starts_with("waiting") {
                    self.wait_dialog(agent);
                }
                if !right {
                    println!("{}", self.evidence(agent)?);
                }
                Ok(())
            }
        }
    }

    /// Types a prompt, and sends it once it stands there.
    fn say(&self, agent: &Agent, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-t", agent.name, "-l", text])?;
        let end: String =
            text.chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect();
        wait_until("the prompt is typed", SOON, || {
            let screen = self.screen(agent)?;
            ensure!(screen.contains(&end), "the screen shows:\n{screen}");
            Ok(())
        })?;
        self.keys(agent, &["Enter"])
    }

    /// Presses keys as a person does, who needs a moment: agents disregard what comes at once with a
    /// text or a dialog.
    fn keys(&self, agent: &Agent, keys: &[&str]) -> Result<()> {
        sleep(MOMENT);
        self.tmux(&[&["send-keys", "-t", agent.name], keys].concat()).map(drop)
    }

    /// Waits until keys reach a dialog. One that nobody knows by its looks is answered all the same.
    fn wait_dialog(&self, agent: &Agent) {
        let shown = wait_until("the dialog is there", SHOWN, || {
            let screen = self.screen(agent)?;
            let there = agent.dialog.iter().any(|mark| screen.contains(mark));
            ensure!(there, "the screen shows:\n{screen}");
            Ok(())
        });
        if let Err(error) = shown {
            println!("{error:#}");
        }
    }

    /// Returns what is said of an agent and why, and what its screen shows.
    fn evidence(&self, agent: &Agent) -> Result<String> {
        let session = format!("{ADDRESS}/{}", agent.name);
        let why = self.lab.cluster.warren(&["session", "explain", &session])?.stdout;
        Ok(format!("{why}\n{}", self.screen(agent)?.trim_end()))
    }

    fn screen(&self, agent: &Agent) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-J", "-t", agent.name])
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let exec = ["workspace", "exec", ADDRESS, "--", "tmux"];
        Ok(self.lab.cluster.warren(&[&exec[..], arguments].concat())?.stdout)
    }

    /// Returns what is said of an agent; null where nothing is.
    fn seen(&self, agent: &Agent) -> Result<Value> {
        let list = self.lab.cluster.json(&["session", "list", ADDRESS])?;
        let sessions =
            list.as_array().or_else(|| list.as_object()?.values().find_map(Value::as_array));
        let session = sessions.into_iter().flatten().find(|session| session["name"] == agent.name);
        Ok(session.with_context(|| format!("no session {}", agent.name))?["agent"].clone())
    }
}

/// Returns the state that an agent is said to be in, with what it waits for or why it failed:
/// `waiting question`, `error auth`.
fn state(agent: &Value) -> String {
    let state = agent["state"].as_str().unwrap_or("nothing");
    let of = match state {
        "waiting" => &agent["wait"]["kind"],
        "error" => &agent["error"]["kind"],
        _ => &Value::Null,
    };
    of.as_str().map_or_else(|| state.to_owned(), |kind| format!("{state} {kind}"))
}

/// Returns the state, who said so, and that it is derived where it is.
fn shown(agent: &Value) -> String {
    let source = agent["source"].as_str().unwrap_or_default();
    let derived = if agent["confidence"] == "derived" { ", derived" } else { "" };
    let by = if source.is_empty() { String::new() } else { format!(" ({source}{derived})") };
    format!("{}{by}", state(agent))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{cast::CAST, *};

    #[test]
    fn a_state_is_seen_with_what_is_waited_for_and_who_said_so() {
        let idle = json!({"state": "idle", "wait": null, "source": "hook"});
        assert_eq!(shown(&idle), "idle (hook)");
        let guess = json!({"state": "error", "error": {"kind": "auth"}, "source": "title",
            "confidence": "derived"});
        assert_eq!(shown(&guess), "error auth (title, derived)");
        let waiting = json!({"state": "waiting", "wait": {"kind": "permission"}});
        assert_eq!(state(&waiting), "waiting permission");
        assert_eq!(shown(&Value::Null), "nothing");
    }

    #[test]
    fn a_run_that_says_nothing_is_no_success() {
        assert!(run("nobody").is_err());
        let count = |right, wrong| Count { right, wrong };
        let hold = |hooks, bare| Tally { hooks, bare }.hold();
        assert!(hold(count(3, 0), count(0, 0)).is_ok() && hold(count(3, 0), count(6, 3)).is_ok());
        assert!(hold(count(0, 0), count(0, 0)).is_err() && hold(count(3, 1), count(6, 0)).is_err());
        assert!(hold(count(3, 0), count(6, 4)).is_err());
    }

    #[test]
    fn every_story_has_somebody_to_play_it() {
        for story in &STORIES {
            assert!(CAST.iter().any(|agent| story.is_for(agent)), "{}", story.name);
        }
    }
}
