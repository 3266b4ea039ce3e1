//! Real coding agents in a real workspace, driven through the command line against a stand-in for
//! their models: is what is said of them what they do?
//!
//! `cast` knows the agents, `story` what is done and what must be said then, `stand` the workspace
//! they stand in, `table` what came of it. A few of them play at one time, as people use them. Each
//! step prints a line with what was expected and what was seen; a wrong one ends nothing, so that one
//! run shows all of them. `cargo xtask agents` prepares what it takes and runs this, and
//! `deploy/test` the core of it.

mod cast;
mod stand;
mod story;
mod table;

use std::{thread, time::Instant};

use anyhow::{Context as _, Result, ensure};

use cast::{Agent, called};
use stand::Stand;
use story::{Act, STORIES, Story};
use table::Table;

pub use table::{Count, Tally};

/// Agents that play at one time.
const AT_ONCE: usize = 3;

/// What is played.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Those with this in their name.
    pub only: String,
    /// The core stories of the agents as they come, and nothing more.
    pub core: bool,
}

impl Choice {
    /// Reads the arguments of a command line: `[--core] [NAME]`.
    ///
    /// # Errors
    /// Fails where they say something else.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut choice = Self::default();
        for argument in arguments {
            match argument.as_str() {
                "--core" => choice.core = true,
                name if !name.starts_with('-') && choice.only.is_empty() => choice.only = argument,
                _ => anyhow::bail!("{argument}? usage: warren-agents [--core] [NAME]"),
            }
        }
        Ok(choice)
    }

    fn has(&self, story: &Story, agent: &Agent) -> bool {
        story.is_for(agent) && (story.core || !self.core)
    }
}

/// Plays the stories with every agent that is chosen.
///
/// # Errors
/// Fails where the installation cannot be built, and where nobody has such a name.
pub fn run(choice: &Choice) -> Result<Tally> {
    let began = Instant::now();
    let cast = called(&choice.only, choice.core);
    ensure!(!cast.is_empty(), "no agent has {:?} in its name", choice.only);
    let stand = Stand::new(&cast)?;
    println!("the workspace runs after {:.0} s", began.elapsed().as_secs_f64());
    let table = Table::default();
    for act in [Act::First, Act::Back, Act::Last, Act::Stopped] {
        let plays =
            |agent: &&&Agent| STORIES.iter().any(|one| one.act == act && choice.has(one, agent));
        let players: Vec<&Agent> = cast.iter().filter(plays).copied().collect();
        if act == Act::Back && !players.is_empty() {
            stand.kill()?;
        }
        for some in players.chunks(AT_ONCE) {
            thread::scope(|scope| {
                for agent in some {
                    scope.spawn(|| play(&stand, (choice, act), agent, &table));
                }
            });
        }
    }
    println!("{}after {:.0} s", table.shown(), began.elapsed().as_secs_f64());
    Ok(table.tally())
}

/// Plays an agent's stories of one part; what cannot be done ends them, and is wrong.
fn play(stand: &Stand, (choice, act): (&Choice, Act), agent: &Agent, table: &Table) {
    let mut at = "is at its prompt";
    let mut all = || {
        if matches!(act, Act::First | Act::Back) {
            stand.wait_ready(agent)?;
        }
        for story in STORIES.iter().filter(|one| one.act == act && choice.has(one, agent)) {
            at = story.name;
            let began = Instant::now();
            for step in story.steps {
                let seen = stand.play(agent, step).with_context(|| format!("{step:?}"))?;
                if let Some(seen) = seen {
                    table.add(agent, story.name, &seen);
                }
            }
            table.took(agent, story.name, began.elapsed());
        }
        anyhow::Ok(())
    };
    if let Err(error) = all() {
        table.broke_off(agent, at, &error);
    }
}

#[cfg(test)]
mod tests {
    use super::{cast::CAST, *};

    #[test]
    fn a_choice_is_read_and_nothing_else() {
        let read = |words: &str| Choice::read(words.split_whitespace().map(str::to_owned));
        let choice = |only: &str, core| Choice { only: only.to_owned(), core };
        assert_eq!(read("").expect("read"), choice("", false));
        assert_eq!(read("codex --core").expect("read"), choice("codex", true));
        assert!(read("--cores").is_err() && read("codex gemini").is_err());
        assert!(run(&choice("nobody", false)).is_err());
    }

    #[test]
    fn every_story_has_somebody_to_play_it_and_the_core_has_each_agent() {
        for story in &STORIES {
            assert!(CAST.iter().any(|agent| story.is_for(agent)), "{}", story.name);
        }
        let core = Choice { core: true, ..Choice::default() };
        for agent in called("", true) {
            let played = STORIES.iter().filter(|story| core.has(story, agent));
            let names: Vec<&str> = played.map(|story| story.name).collect();
            for name in
                ["first prompt", "permission", "thinking, Esc", "conversation", "quit", "stop"]
            {
                assert!(names.contains(&name), "{}: {names:?}", agent.name);
            }
            assert!(names.contains(&"401") || names.contains(&"refused, screen"));
        }
        assert_eq!(called("", true).len(), 3);
    }
}
