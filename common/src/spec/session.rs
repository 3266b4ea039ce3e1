//! One session as its node is to have it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Extras, InvalidSpec, SessionSpec, bounded, plain, validate_branch};
use crate::{Limits, SessionName};

/// The agents that Warren knows how to start, and to start again with their conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AgentProgram {
    /// Claude Code.
    Claude,
    /// Codex CLI.
    Codex,
    /// Gemini CLI.
    Gemini,
}

impl AgentProgram {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Claude, Self::Codex, Self::Gemini];

    /// Returns the word for people, which is the program's name too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
        }
    }

    /// Returns what has it act without asking.
    pub const fn bypass(self) -> &'static str {
        match self {
            Self::Claude => "--dangerously-skip-permissions",
            Self::Codex => "--dangerously-bypass-approvals-and-sandbox",
            Self::Gemini => "--yolo",
        }
    }
}

impl fmt::Display for AgentProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Whether an agent asks before it acts. Its workspace is its sandbox, so it need not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Permissions {
    /// It acts.
    #[default]
    Bypass,
    /// It asks, as it is set up to.
    Ask,
}

/// What is wanted of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionWish {
    /// It runs. One whose program ended by itself is not started again.
    #[default]
    Run,
    /// Nothing of it runs.
    Stop,
    /// It is no more. Its worktree stays.
    Delete,
}

/// What runs in a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionProgram {
    /// The agent; none for a command line.
    pub agent: Option<AgentProgram>,
    /// Whether the agent asks.
    pub permissions: Permissions,
    /// What follows the agent's name, in the shell's words; without an agent the whole command
    /// line, empty for a login shell.
    pub command: String,
    /// The branch of its own worktree; in the checkout without one.
    pub branch: Option<String>,
    /// Typed into the agent once, when it is first ready; empty for none.
    pub prompt: String,
}

/// One session as its node is to have it: with the same life and run it is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOrder {
    /// Its name.
    pub name: SessionName,
    /// Tells it from earlier ones of its name; zero for one of the workspace's spec.
    pub life: u64,
    /// Grows with each run that is asked for; zero for the one that the workspace's start makes.
    pub run: u64,
    /// The run that its conversation began with: an older conversation is not resumed.
    pub conversation: u64,
    /// What is wanted of it.
    pub wish: SessionWish,
    /// What runs in it.
    pub program: SessionProgram,
}

impl SessionProgram {
    /// Returns the program of a session of a workspace's spec: its command line and what stands beside
    /// it, where that is of this command line.
    pub fn of(spec: &SessionSpec, extras: &Extras) -> Self {
        let line = spec.command.as_deref().unwrap_or_default();
        let mut known = extras.sessions.iter().filter(|(name, _)| *name == spec.name);
        let known = known.find(|(_, program)| program.line() == line);
        known.map_or_else(|| Self::of_spec(spec), |(_, program)| program.clone())
    }

    /// Returns the whole command line, as whoever knows nothing of agents runs it.
    pub fn line(&self) -> String {
        let flag = self.agent.filter(|_| self.permissions == Permissions::Bypass);
        let words = self.agent.map(AgentProgram::as_str).into_iter();
        let words = words.chain(flag.map(AgentProgram::bypass));
        let words = words.chain(Some(self.command.as_str()).filter(|command| !command.is_empty()));
        words.collect::<Vec<_>>().join(" ")
    }

    /// Returns the command line of a session of a workspace's spec, and nothing that stands beside it:
    /// entries of the log are applied with this, by versions that know of nothing else, too.
    pub fn of_spec(spec: &SessionSpec) -> Self {
        Self { command: spec.command.clone().unwrap_or_default(), ..Self::default() }
    }

    /// Checks every field against its bound.
    ///
    /// # Errors
    /// Returns the first that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        if !self.command.is_empty() {
            plain("a session's command", &self.command, Limits::SESSION_COMMAND_BYTES)?;
        }
        if let Some(branch) = &self.branch {
            validate_branch(branch)?;
        }
        bounded("--prompt", self.prompt.len(), Limits::PROMPT_BYTES)?;
        if self.prompt.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(InvalidSpec::Control { field: "--prompt" });
        }
        match self.agent {
            None if !self.prompt.is_empty() => Err(InvalidSpec::NoAgent),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns how many bytes it takes in a document, roughly counted.
    pub fn bytes(&self) -> usize {
        // twice: an older workspace is told the whole command line too
        let branch = self.branch.as_ref().map_or(0, String::len);
        self.command.len() * 2 + self.prompt.len() + branch
    }

    /// Returns the whole command line as people read it; an agent's own flags left out.
    pub fn shown(&self) -> String {
        match (self.agent, self.command.as_str()) {
            (None, command) => command.to_owned(),
            (Some(agent), "") => agent.to_string(),
            (Some(agent), rest) => format!("{agent} {rest}"),
        }
    }
}

impl SessionOrder {
    /// Returns a session of a workspace's spec as it is before anybody asks otherwise.
    pub fn of_spec(spec: &SessionSpec) -> Self {
        let program = SessionProgram::of_spec(spec);
        let (name, wish) = (spec.name.clone(), SessionWish::Run);
        Self { name, life: 0, run: 0, conversation: 0, wish, program }
    }
}

/// Returns words as one line that a shell takes apart again.
pub fn shell_line(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    quoted.join(" ")
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_a_command_line_is_of_no_other() {
        let program = SessionProgram {
            agent: Some(AgentProgram::Claude),
            command: "--model m".to_owned(),
            branch: Some("fix".to_owned()),
            prompt: "go".to_owned(),
            ..SessionProgram::default()
        };
        let line = "claude --dangerously-skip-permissions --model m";
        assert_eq!(program.line(), line);
        let ask = SessionProgram { permissions: Permissions::Ask, ..program.clone() };
        assert_eq!(ask.line(), "claude --model m");
        let spec = |name: &str, command: &str| SessionSpec {
            name: name.parse().expect("a name"),
            command: Some(command.to_owned()),
        };
        let sessions = vec![("main".parse().expect("a name"), program.clone())];
        let extras = Extras { sessions, ..Extras::default() };
        assert_eq!(SessionProgram::of(&spec("main", line), &extras), program);
        for other in [spec("main", "bash"), spec("logs", line)] {
            assert_eq!(SessionProgram::of(&other, &extras), SessionProgram::of_spec(&other));
        }
    }

    #[test]
    fn a_prompt_at_the_limit_and_one_past_it_and_for_agents_alone() {
        let prompt = |bytes| SessionProgram {
            agent: Some(AgentProgram::Claude),
            prompt: "x".repeat(bytes),
            ..SessionProgram::default()
        };
        assert_eq!(prompt(Limits::PROMPT_BYTES).validate(), Ok(()));
        let long = prompt(Limits::PROMPT_BYTES + 1).validate();
        assert!(matches!(long, Err(InvalidSpec::TooLong { field: "--prompt", .. })));
        let odd = SessionProgram { prompt: "a\u{1b}[31m".to_owned(), ..prompt(0) };
        assert!(matches!(odd.validate(), Err(InvalidSpec::Control { .. })));
        let shell = SessionProgram { agent: None, ..prompt(1) };
        assert_eq!(shell.validate(), Err(InvalidSpec::NoAgent));
    }
}
