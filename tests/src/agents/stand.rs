//! The workspace that the agents stand in: what is typed there, and what is seen of it.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    cast::{self, Agent, Kind},
    story::{PROMPT, Step},
    table::{Seen, is_labelled, shown, state},
};
use crate::{Daemon, Lab, mock_llm, watching::Watching};

/// The workspace they live in.
const ADDRESS: &str = "acme/agents";
/// What hands their calls on to the stand-in: one of them speaks plain HTTP to the loopback alone.
const RELAY: &str = "const net = require('net');
net.createServer((near) => {
  const far = net.connect(PORT, 'HOST');
  for (const one of [near, far]) one.on('error', () => { near.destroy(); far.destroy(); });
  near.pipe(far).pipe(near);
}).listen(PORT, '127.0.0.1');";
/// Tells the processes of a session, and those with its name in their command line.
const LEFT: &str = "for p in /proc/[0-9]*; do
  grep -qzx WARREN_SESSION=newcomer $p/environ && continue
  if grep -qzx 'WARREN_SESSION=NAME' $p/environ || tr '\\0' ' ' <$p/cmdline | grep -q 'NAME'; then
    tr '\\0' ' ' <$p/cmdline; echo
  fi
done 2>/dev/null; :";
/// Until a screen shows what was typed, or an agent is ready for more.
const SOON: Duration = Duration::from_secs(60);
/// Until what an agent does is said of it.
const SAID: Duration = Duration::from_secs(12);
/// Until a dialog that is asked for stands on the screen.
const SHOWN: Duration = Duration::from_secs(5);
/// From what a person sees or types to the next key.
const MOMENT: Duration = Duration::from_secs(1);
/// Between two looks: each is a program that starts, and several agents are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The installation with the workspace in it.
pub(super) struct Stand {
    /// What happens, as everybody may watch it.
    events: Watching,
    /// What is said of sessions, all of it.
    sessions: Watching,
    model: Daemon,
    lab: Lab,
}

impl Stand {
    /// Builds it, with a session for each of the cast.
    ///
    /// # Errors
    /// Fails where it cannot be built, or has no image with agents.
    pub(super) fn new(cast: &[&Agent]) -> Result<Self> {
        let lab = Lab::new()?;
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e/agents-image.tar");
        ensure!(image.exists(), "there is no image with agents: run ./deploy/test agents-image");
        lab.engine.docker(&["load", "-q", "-i", &image.to_string_lossy()])?;
        let model = mock_llm::start(&lab.stage, &lab.internet)?;
        let events =
            Watching::start(&lab.cluster, &["cluster", "events", "--watch", "-o", "json"])?;
        let sessions =
            Watching::start(&lab.cluster, &["session", "list", "--watch", "-o", "json"])?;
        let stand = Self { events, sessions, model, lab };
        stand.create(cast)?;
        Ok(stand)
    }

    fn create(&self, cast: &[&Agent]) -> Result<()> {
        let relay = RELAY.replace("HOST", self.lab.internet.address());
        let setup = self.lab.stage.root().join("setup.sh");
        std::fs::write(&setup, cast::setup(&relay))?;
        let setup = format!("@{}", setup.display());
        let repository = self.lab.repository("hello");
        let mut sessions = vec!["model=node ~/relay.js".to_owned()];
        let of_template = cast.iter().filter(|agent| agent.asked().is_none());
        sessions.extend(of_template.map(|agent| format!("{}={}", agent.name, agent.command)));
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
        self.lab.cluster.warren(&arguments)?;
        let file = self.lab.stage.root().join("prompt.txt");
        std::fs::write(&file, PROMPT)?;
        let prompt = format!("@{}", file.display());
        for agent in cast {
            let Some((name, words)) = agent.asked() else { continue };
            let session = address(agent);
            let mut create = vec!["session", "create", &session, "--agent", name];
            create.extend(["--permissions", "ask", "--prompt", &prompt, "--"]);
            self.lab.cluster.warren(&[create, words].concat())?;
        }
        Ok(())
    }

    /// Kills the container, and waits until another one runs.
    pub(super) fn kill(&self) -> Result<()> {
        let id = self.lab.container(ADDRESS)?["Id"].as_str().context("an id")?.to_owned();
        let began = Instant::now();
        self.lab.engine.docker(&["kill", &id])?;
        self.lab.cluster.warren(&["workspace", "start", ADDRESS])?;
        wait("another container runs", SOON, || {
            let now = self.lab.container(ADDRESS)?;
            let other = now["Id"] != id.as_str() && now["State"]["Running"] == true;
            ensure!(other, "{}", now["State"]);
            Ok(())
        })?;
        println!("the container was killed; another one after {} ms", began.elapsed().as_millis());
        Ok(())
    }

    pub(super) fn wait_ready(&self, agent: &Agent) -> Result<()> {
        wait(&format!("{} is at its prompt", agent.name), SOON, || {
            let screen = self.screen(agent)?;
            let ready = agent.ready.iter().any(|mark| screen.contains(mark));
            ensure!(ready, "the screen shows:\n{screen}");
            // one that shows its prompt may not take keys yet
            if agent.tells_of_its_start() {
                let seen = self.seen(agent)?;
                ensure!(state(&seen) == "idle", "it is {}", shown(&seen));
            }
            Ok(())
        })
    }

    /// Does a step; what was expected and what was seen, where it is one that expects something.
    pub(super) fn play(&self, agent: &Agent, step: &Step) -> Result<Option<Seen>> {
        match *step {
            Step::Say(text) => self.say(agent, text)?,
            Step::Quit => self.say(agent, agent.quit)?,
            Step::Allow => self.keys(agent, agent.allow)?,
            Step::Keys(keys) => self.keys(agent, keys)?,
            Step::Expect(wanted) => return self.expect(agent, wanted, SAID).map(Some),
            Step::Until(wanted) => return self.expect(agent, wanted, SOON).map(Some),
            Step::Heard(said) => {
                let met = self
                    .met(agent, "heard", || self.asked_for(agent, said).map(|_| said.to_owned()));
                return Ok(Some(met));
            }
            Step::Recalls(said, earlier) => {
                return Ok(Some(self.met(agent, "recalls", || self.recalls(agent, said, earlier))));
            }
            Step::Told(source) => {
                return Ok(Some(self.met(agent, source, || self.told(agent, source))));
            }
            Step::Metered => {
                return Ok(Some(self.met(agent, "metered", || self.metered(agent))));
            }
            Step::Resumed => return Ok(Some(self.met(agent, "resumed", || self.resumed(agent)))),
            Step::Killed(program) => {
                return Ok(Some(self.met(agent, "oom", || self.killed(agent, program))));
            }
            Step::Was(state) => {
                return Ok(Some(self.met(agent, state, || self.was(agent, state))));
            }
            Step::Restart => self.restart(agent)?,
            Step::Stop => {
                self.lab.cluster.warren(&["session", "stop", &address(agent)])?;
                // at once: whoever was told that it is stopped may rely on it
                let left = self.left(agent)?;
                return Ok(Some(self.met(agent, "nothing left", || {
                    ensure!(left.is_empty(), "{left}");
                    Ok("stopped".to_owned())
                })));
            }
        }
        Ok(None)
    }

    fn expect(&self, agent: &Agent, wanted: &str, within: Duration) -> Result<Seen> {
        let began = Instant::now();
        let met = wait(wanted, within, || {
            let seen = self.seen(agent)?;
            ensure!(state(&seen) == wanted, "{}", shown(&seen));
            Ok(seen)
        });
        let (seen, met) = match met {
            Ok(seen) => (seen, true),
            Err(_) => (self.seen(agent)?, false),
        };
        let labelled = is_labelled(agent, &seen);
        let right = met && labelled;
        if right && wanted.starts_with("waiting") {
            self.wait_dialog(agent);
        }
        Ok(Seen {
            wanted: wanted.to_owned(),
            state: state(&seen),
            shown: shown(&seen),
            right,
            labelled,
            derived: seen["confidence"] == "derived",
            took: began.elapsed(),
            evidence: if right { String::new() } else { self.evidence(agent) },
        })
    }

    /// Holds something to be so, soon.
    fn met(&self, agent: &Agent, wanted: &str, look: impl FnMut() -> Result<String>) -> Seen {
        let began = Instant::now();
        let met = wait(wanted, SOON, look);
        let right = met.is_ok();
        let shown = met.unwrap_or_else(|error| format!("{error:#}"));
        Seen {
            wanted: wanted.to_owned(),
            state: if right { wanted.to_owned() } else { format!("not {wanted}") },
            shown,
            right,
            labelled: true,
            derived: false,
            took: began.elapsed(),
            evidence: if right { String::new() } else { self.evidence(agent) },
        }
    }

    /// A request of this agent for the one prompt held the other.
    fn recalls(&self, agent: &Agent, said: &str, earlier: &str) -> Result<String> {
        let line = self.asked_for(agent, said)?;
        let (_, before) = line.split_once("before it ").context("what was before")?;
        ensure!(before.contains(earlier), "before it was {before}");
        Ok("the turn before".to_owned())
    }

    /// Returns the last request of this agent for the word, as the model noted it.
    fn asked_for(&self, agent: &Agent, said: &str) -> Result<String> {
        let (said, from) = (format!("Say({said:?})"), format!("{}: ", agent.kind.api()));
        let log = self.model.log();
        let mut asked = log.lines().filter(|line| line.starts_with(&from) && line.contains(&said));
        let line = asked.next_back().with_context(|| format!("nobody asked for {said}"))?;
        Ok(line.to_owned())
    }

    fn told(&self, agent: &Agent, source: &str) -> Result<String> {
        let address = format!("{ADDRESS}/{}", agent.name);
        let why = self.lab.cluster.warren(&["session", "explain", &address])?.stdout;
        ensure!(why.contains(source), "nothing of {source} in:\n{why}");
        Ok(source.to_owned())
    }

    /// What it runs with is told, and what its conversation takes, as far as each says so.
    fn metered(&self, agent: &Agent) -> Result<String> {
        let meter = &self.seen(agent)?["meter"];
        let number = |name: &str| meter[name].as_u64().is_some_and(|number| number > 0);
        ensure!(meter["model"].is_string() && number("context_tokens"), "{meter}");
        let window =
            number("context_window") && number("input_tokens") && meter["mode"].is_string();
        ensure!(window || agent.kind == Kind::Gemini, "{meter}");
        let costs = meter["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0);
        ensure!(costs || agent.kind != Kind::Claude, "{meter}");
        Ok(meter["model"].as_str().unwrap_or_default().to_owned())
    }

    fn resumed(&self, agent: &Agent) -> Result<String> {
        let session = self.lab.cluster.json(&["session", "show", &address(agent)])?;
        ensure!(session["resumed"] == true, "resumed: {}", session["resumed"]);
        let id = session["conversation"].as_str().context("a conversation")?;
        Ok(id.to_owned())
    }

    /// Its session was said to be so.
    fn was(&self, agent: &Agent, wanted: &str) -> Result<String> {
        let (told, address) = (self.sessions.objects(), address(agent));
        let mut states = told.iter().filter(|(_, of, _)| *of == address);
        let said = states.find(|(_, _, session)| state(&session["agent"]) == wanted);
        let (_, _, session) = said.context("it was not said")?;
        ensure!(is_labelled(agent, &session["agent"]), "{}", shown(&session["agent"]));
        Ok(shown(&session["agent"]))
    }

    /// Starts an agent that has ended again.
    fn restart(&self, agent: &Agent) -> Result<()> {
        self.lab.cluster.warren(&["session", "restart", &address(agent)])?;
        self.wait_ready(agent)
    }

    /// Returns the command lines of what is left of an agent: what carries its session's name, and
    /// what is called as it, the newcomer aside. The name is written so that a look is not seen.
    fn left(&self, agent: &Agent) -> Result<String> {
        let (first, rest) = agent.name.split_at(1);
        self.lab.shell(ADDRESS, &LEFT.replace("NAME", &format!("[{first}]{rest}")))
    }

    /// The kernel's kill is told with its victim's name and session.
    fn killed(&self, agent: &Agent, program: &str) -> Result<String> {
        let workspace = self.lab.cluster.workspace(ADDRESS)?;
        let kill = &workspace["observed"]["kills"][0];
        ensure!(kill["process"] == program && kill["session"] == agent.name, "{kill}");
        let list = self.lab.cluster.warren(&["session", "list", ADDRESS])?.stdout;
        ensure!(victims(&list).contains(&program), "no {program} that was killed in:\n{list}");
        let session = address(agent);
        let events = self.events.details("session.oom", &session);
        // its command line follows
        let is_it = |told: &String| {
            told.strip_prefix(program).is_some_and(|rest| rest.is_empty() || rest.starts_with(": "))
        };
        ensure!(events.iter().any(is_it), "events of {session}: {events:?}");
        Ok(format!("{program} ({})", agent.name))
    }

    /// Types a prompt, and sends it once it stands there.
    fn say(&self, agent: &Agent, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-t", agent.name, "-l", text])?;
        let end: String =
            text.chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect();
        wait("the prompt is typed", SOON, || {
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
        let there = wait("the dialog is there", SHOWN, || {
            let screen = self.screen(agent)?;
            let there = agent.dialog.iter().any(|mark| screen.contains(mark));
            ensure!(there, "the screen shows:\n{screen}");
            Ok(())
        });
        if let Err(error) = there {
            println!("{}: {error:#}", agent.name);
        }
    }

    /// Returns what is said of an agent and why, and what its screen shows.
    pub(super) fn evidence(&self, agent: &Agent) -> String {
        let why = self.lab.cluster.warren(&["session", "explain", &address(agent)]);
        let why = why.map_or_else(|error| format!("{error:#}"), |told| told.stdout);
        let screen = self.screen(agent).unwrap_or_else(|error| format!("{error:#}"));
        format!("{why}\n{}", screen.trim_end())
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

/// Returns what the kernel killed for memory, as a list of sessions shows it.
fn victims(list: &str) -> Vec<&str> {
    // columns stand two blanks apart
    list.lines()
        .filter_map(|line| line.split_once(", oom: ")?.1.split("  ").next())
        .map(str::trim_end)
        .collect()
}

fn address(agent: &Agent) -> String {
    format!("{ADDRESS}/{}", agent.name)
}

/// Looks until something is so.
fn wait<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        let found = look();
        if found.is_ok() || began.elapsed() > within {
            return found.with_context(|| format!("{what}: not within {within:?}"));
        }
        sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_victim_is_read_whole() {
        let list = "NAME    STATE                      SINCE\n\
                    claude  idle, oom: python3.11      3 s\n\
                    codex   working, oom: tmux: server  3 s\n\
                    gemini  idle                       3 s";
        assert_eq!(victims(list), ["python3.11", "tmux: server"]);
    }
}
