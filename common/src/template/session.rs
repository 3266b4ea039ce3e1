//! The sessions of a template: a command line, or an agent as `warren session create` takes it.

use std::{fmt::Display, str::FromStr};

use serde::Deserialize;

use super::{
    InvalidTemplate,
    fill::{Style, Values, names, put, words},
};
use crate::{
    SessionName,
    spec::{AgentProgram, SessionProgram, shell_line},
};

/// What stands for no agent.
const COMMAND: &str = "command";

/// One session of a template.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Its name.
    pub name: SessionName,
    /// Its command line, a shell without it; values are quoted for the shell. An agent has none.
    pub command: Option<String>,
    /// What runs in it: `claude`, `codex`, `gemini`, or `command`, as without it.
    pub agent: Option<String>,
    /// What follows the agent's name, a word each; of a command the whole line. A list alone is a
    /// word for each of its items.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Whether the agent acts without asking: `bypass`, as without it, or `ask`.
    pub permissions: Option<String>,
    /// The branch of its own worktree; in the checkout without it.
    pub branch: Option<String>,
    /// Typed into the agent once, when it is first ready.
    pub prompt: Option<String>,
}

impl Session {
    /// Returns a session with a command line and nothing else.
    #[cfg(test)]
    pub(super) fn with_command(name: &str, command: &str) -> Self {
        Self { command: Some(command.to_owned()), ..Self::named(name.parse().expect("a name")) }
    }

    fn named(name: SessionName) -> Self {
        let (command, agent, arguments) = (None, None, Vec::new());
        Self { name, command, agent, arguments, permissions: None, branch: None, prompt: None }
    }

    /// Checks what does not depend on parameters.
    pub(super) fn check(&self) -> Result<(), InvalidTemplate> {
        let Self { command, agent, arguments, permissions, prompt, .. } = self;
        match agent.as_deref() {
            _ if command.is_some() && (agent.is_some() || !arguments.is_empty()) => self.refuse(
                "has a command, and agent or arguments beside it: arguments follow its name",
            ),
            None | Some(COMMAND) if prompt.is_some() || permissions.is_some() => {
                self.refuse("has prompt or permissions, which are for agents")
            }
            _ => Ok(()),
        }
    }

    /// Returns the same without what parameters say.
    pub(super) fn fixed(&self) -> Self {
        let fixed =
            |text: &Option<String>| text.clone().filter(|text| names(text).next().is_none());
        // what an agent may have is looked at with the agent
        let (agent, prompt) = match (fixed(&self.agent), fixed(&self.prompt)) {
            (None, Some(prompt)) => (Some(AgentProgram::Claude.to_string()), Some(prompt)),
            other => other,
        };
        Self {
            agent,
            prompt,
            permissions: fixed(&self.permissions),
            branch: fixed(&self.branch),
            ..Self::named(self.name.clone())
        }
    }

    /// Every text that may name parameters, with where it stands.
    pub(super) fn texts(&self) -> impl Iterator<Item = (String, Option<&str>)> {
        let field = |what: &str| format!("{what} of session {}", self.name);
        let fields = [
            ("command", &self.command),
            ("agent", &self.agent),
            ("permissions", &self.permissions),
            ("branch", &self.branch),
            ("prompt", &self.prompt),
        ];
        let fields = fields.map(|(what, text)| (field(what), text.as_deref()));
        let arguments = self.arguments.iter();
        let arguments = arguments.map(|text| (field("arguments"), Some(text.as_str())));
        fields.into_iter().chain(arguments.collect::<Vec<_>>())
    }

    /// Puts values in.
    pub(super) fn fill(&self, values: &Values<'_>) -> Result<SessionProgram, InvalidTemplate> {
        let plain = |text: &Option<String>| put(text.as_deref(), values, Style::Plain);
        let agent = match plain(&self.agent)?.as_deref() {
            None | Some(COMMAND) => None,
            Some(word) => {
                let known = AgentProgram::ALL.into_iter().find(|agent| agent.as_str() == word);
                let Some(known) = known else {
                    return self.refuse("takes the agent claude, codex, gemini or command");
                };
                Some(known)
            }
        };
        let permissions = self.read("permissions", plain(&self.permissions)?)?;
        let command = match self.arguments.is_empty() {
            true => put(self.command.as_deref(), values, Style::Shell)?.unwrap_or_default(),
            false => {
                let words = self.arguments.iter().map(|text| words(text, values));
                shell_line(&words.collect::<Result<Vec<_>, _>>()?.concat())
            }
        };
        let prompt = plain(&self.prompt)?.unwrap_or_default();
        let prompt = prompt.trim_matches('\n').to_owned();
        if agent.is_none() && !prompt.is_empty() {
            return self.refuse("has a prompt, and a command is no agent to type it into");
        }
        Ok(SessionProgram {
            agent,
            permissions: permissions.filter(|_| agent.is_some()).unwrap_or_default(),
            command,
            branch: plain(&self.branch)?,
            prompt,
        })
    }

    fn read<T>(&self, what: &str, text: Option<String>) -> Result<Option<T>, InvalidTemplate>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(text) = text else { return Ok(None) };
        text.parse().map(Some).or_else(|why| self.refuse(&format!("has {what}, which {why}")))
    }

    fn refuse<T>(&self, why: &str) -> Result<T, InvalidTemplate> {
        Err(InvalidTemplate::Session { name: self.name.clone(), why: why.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::named("main".parse().expect("a name"))
    }

    fn filled(session: &Session) -> Result<SessionProgram, InvalidTemplate> {
        session.check()?;
        session.fill(&Values::new())
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn an_agent_is_what_session_create_makes_of_the_same_words() {
        let session = Session {
            agent: text("codex"),
            arguments: vec!["--model".to_owned(), "a b".to_owned()],
            branch: text("fix"),
            prompt: text("go\n"),
            ..session()
        };
        let program = filled(&session).expect("a program");
        let line = "codex --dangerously-bypass-approvals-and-sandbox --model 'a b'";
        assert_eq!((program.line().as_str(), program.prompt.as_str()), (line, "go"));
        assert_eq!(program.branch.as_deref(), Some("fix"));
        let asks = Session { permissions: text("ask"), ..session };
        assert_eq!(filled(&asks).expect("a program").line(), "codex --model 'a b'");
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_the_session_that_has_it() {
        let why = |session: Session| filled(&session).expect_err("refused").to_string();
        let both = Session { command: text("claude"), agent: text("claude"), ..session() };
        assert!(why(both).starts_with("session main has a command, and agent"));
        let nobody = Session { command: text("make"), prompt: text("go"), ..session() };
        assert!(why(nobody).ends_with("which are for agents"));
        let unknown = Session { agent: text("cursor"), ..session() };
        assert!(why(unknown).contains("claude, codex, gemini or command"));
        let odd = Session { agent: text("claude"), permissions: text("no"), ..session() };
        assert_eq!(why(odd), "session main has permissions, which takes bypass or ask");
    }

    #[test]
    fn words_of_no_agent_are_its_command_line() {
        let arguments = vec!["tail".to_owned(), "-f".to_owned(), "a log".to_owned()];
        let session = Session { agent: text("command"), arguments, ..session() };
        assert_eq!(filled(&session).expect("a program").line(), "tail -f 'a log'");
    }
}
