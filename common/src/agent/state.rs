//! What an agent may be, as lists show it and coordinators keep it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{failure::Failure, meter::Meter};
use crate::{Limits, Timestamp, status::clean};

/// Which agent runs in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentKind {
    /// Claude Code.
    Claude,
    /// Codex CLI.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// OpenCode; seen as any program so far.
    OpenCode,
    /// A shell.
    Shell,
    /// Any other program, by its name of at most [`Limits::AGENT_NAME_BYTES`]; never by one of the
    /// words for the kinds above.
    Other(String),
}

impl AgentKind {
    /// Returns the kind of this word; a program's where it is none of the known ones.
    pub fn named(word: &str) -> Self {
        match word {
            "claude" => Self::Claude,
            "codex" => Self::Codex,
            "gemini" => Self::Gemini,
            "opencode" => Self::OpenCode,
            "shell" => Self::Shell,
            program => Self::Other(name(program)),
        }
    }

    /// Returns the word for people.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::OpenCode => "opencode",
            Self::Shell => "shell",
            Self::Other(program) => program,
        }
    }

    /// Returns whether it tells of itself, so that silence means something.
    pub const fn tells(&self) -> bool {
        matches!(self, Self::Claude | Self::Codex | Self::Gemini)
    }
}

/// The eight states, without what each carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StateName {
    /// The process is wanted or up; nothing was heard of it.
    Starting,
    /// A turn is running.
    Working,
    /// Blocked on a person.
    Waiting,
    /// The turn is over; something of the agent's own will wake it.
    Background,
    /// At the prompt; will not move by itself.
    Idle,
    /// The turn ended by an error that the agent does not retry by itself.
    Error,
    /// The process is gone.
    Exited,
    /// Who watches it is out of reach.
    Unknown,
}

impl StateName {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Working,
        Self::Waiting,
        Self::Background,
        Self::Idle,
        Self::Error,
        Self::Exited,
        Self::Unknown,
    ];

    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Working => "working",
            Self::Waiting => "waiting",
            Self::Background => "background",
            Self::Idle => "idle",
            Self::Error => "error",
            Self::Exited => "exited",
            Self::Unknown => "unknown",
        }
    }
}

/// One of the eight states with what it carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentState {
    /// See [`StateName::Starting`].
    Starting,
    /// See [`StateName::Working`].
    Working {
        /// What the turn is at, where it is known.
        phase: Option<Phase>,
        /// The tool that was begun last and is still open.
        tool: Option<Tool>,
    },
    /// See [`StateName::Waiting`].
    Waiting(Wait),
    /// See [`StateName::Background`].
    Background {
        /// What will wake it, at most [`Limits::AGENT_TASKS`]; empty where only that there is
        /// something is known.
        tasks: Vec<String>,
    },
    /// See [`StateName::Idle`].
    Idle,
    /// See [`StateName::Error`].
    Error(Failure),
    /// See [`StateName::Exited`].
    Exited(Exit),
    /// See [`StateName::Unknown`].
    Unknown {
        /// What it was when it was last heard of; never unknown itself.
        last: Box<Self>,
    },
}

impl AgentState {
    /// Returns which of the eight it is.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Starting => StateName::Starting,
            Self::Working { .. } => StateName::Working,
            Self::Waiting(_) => StateName::Waiting,
            Self::Background { .. } => StateName::Background,
            Self::Idle => StateName::Idle,
            Self::Error(_) => StateName::Error,
            Self::Exited(_) => StateName::Exited,
            Self::Unknown { .. } => StateName::Unknown,
        }
    }

    fn bounded(self) -> Self {
        match self {
            Self::Working { phase, tool } => Self::Working { phase, tool: tool.map(Tool::bounded) },
            Self::Waiting(wait) => Self::Waiting(Wait {
                text: text(&wait.text),
                options: summaries(&wait.options, Limits::AGENT_OPTIONS),
                ..wait
            }),
            Self::Background { tasks } => {
                Self::Background { tasks: summaries(&tasks, Limits::AGENT_TASKS) }
            }
            Self::Error(failure) => Self::Error(Failure { text: text(&failure.text), ..failure }),
            Self::Unknown { last } => Self::Unknown { last: Box::new(last.bounded()) },
            plain @ (Self::Starting | Self::Idle | Self::Exited(_)) => plain,
        }
    }
}

/// What a running turn is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// A tool runs.
    Tool,
    /// The model is asked.
    Thinking,
    /// The conversation is being shortened.
    Compacting,
    /// The model's API failed and is tried again.
    Retrying,
    /// A subagent works.
    Subagent,
}

impl Phase {
    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Thinking => "thinking",
            Self::Compacting => "compacting",
            Self::Retrying => "retrying",
            Self::Subagent => "subagent",
        }
    }
}

/// A tool that an agent uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name, at most [`Limits::AGENT_NAME_BYTES`].
    pub name: String,
    /// What it was given, at most [`Limits::AGENT_SUMMARY_BYTES`].
    pub summary: String,
    /// When it began.
    pub since: Timestamp,
}

impl Tool {
    fn bounded(self) -> Self {
        Self { name: name(&self.name), summary: summary(&self.summary), since: self.since }
    }
}

/// What an agent waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Which kind of answer it needs.
    pub kind: WaitKind,
    /// The question, at most [`Limits::AGENT_TEXT_BYTES`].
    pub text: String,
    /// The answers it offers, at most [`Limits::AGENT_OPTIONS`] of at most
    /// [`Limits::AGENT_SUMMARY_BYTES`].
    pub options: Vec<String>,
    /// When it began to wait.
    pub since: Timestamp,
}

/// Which kind of answer an agent needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitKind {
    /// Leave to use a tool.
    Permission,
    /// An answer to a question.
    Question,
    /// A word on a plan.
    Plan,
    /// What a tool's server asked for.
    Elicitation,
    /// A dialog of its first start: login, theme, trust.
    Setup,
}

impl WaitKind {
    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permission => "permission",
            Self::Question => "question",
            Self::Plan => "plan",
            Self::Elicitation => "elicitation",
            Self::Setup => "setup",
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code, where it is known and no signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed it for memory.
    pub oom: bool,
}

impl Exit {
    /// Returns whether something went wrong; an end of which nothing is known is a good one.
    pub const fn is_bad(self) -> bool {
        self.oom || self.signal.is_some() || matches!(self.code, Some(code) if code != 0)
    }
}

/// Who said what a status stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A hook of the agent, by the event's name.
    Hook(String),
    /// Claude Code's registry of sessions.
    Registry,
    /// Codex's control socket.
    AppServer,
    /// The title of the window.
    Title,
    /// The text on the screen.
    Screen,
    /// The process tree.
    Process,
    /// tmux.
    Tmux,
}

impl Source {
    /// Returns the word for people.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Hook(_) => "hook",
            Self::Registry => "registry",
            Self::AppServer => "app-server",
            Self::Title => "title",
            Self::Screen => "screen",
            Self::Process => "process",
            Self::Tmux => "tmux",
        }
    }

    /// Returns who is believed where two speak of the same moment: the higher.
    pub const fn rank(&self) -> u8 {
        match self {
            Self::Hook(_) => 4,
            Self::Registry | Self::AppServer => 3,
            Self::Title => 2,
            Self::Screen => 1,
            Self::Process | Self::Tmux => 0,
        }
    }

    /// Returns how sure a state is that stands on it.
    pub const fn confidence(&self) -> Confidence {
        match self {
            Self::Hook(_) | Self::Registry | Self::AppServer | Self::Tmux => Confidence::Exact,
            Self::Title | Self::Screen | Self::Process => Confidence::Derived,
        }
    }
}

/// How sure a status is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confidence {
    /// Somebody who knows said so.
    Exact,
    /// Read from what is seen from outside.
    Derived,
}

/// What is marked on a status beside its state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// It finished, waits, failed or ended since a person last looked.
    pub unseen: bool,
    /// It works, and nothing moved for [`Limits::AGENT_STALL`].
    pub stalled: bool,
}

/// The status of one agent at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Which agent it is.
    pub kind: AgentKind,
    /// What it does.
    pub state: AgentState,
    /// When it came into that state.
    pub since: Timestamp,
    /// When anything last moved: a hook, its registry, its terminal, its processor time.
    pub last_activity: Timestamp,
    /// Who told the state.
    pub source: Source,
    /// How sure it is.
    pub confidence: Confidence,
    /// When the state was last told or confirmed.
    pub evidence: Timestamp,
    /// What is marked on it.
    pub flags: Flags,
    /// Subagents at work.
    pub subagents: u32,
    /// What it runs with, and what it has used.
    pub meter: Meter,
}

impl AgentStatus {
    /// Returns the same with every text cleaned and cut, and every list cut: what comes from a
    /// workspace is not believed to be so.
    #[must_use]
    pub fn bounded(self) -> Self {
        let source = match self.source {
            Source::Hook(event) => Source::Hook(name(&event)),
            other => other,
        };
        Self {
            kind: AgentKind::named(self.kind.as_str()),
            state: self.state.bounded(),
            source,
            meter: self.meter.bounded(),
            ..self
        }
    }

    /// Returns the same of an agent that nobody has heard of since `heard`: unknown, once that is
    /// [`Limits::AGENT_UNHEARD`] ago.
    #[must_use]
    pub fn unheard(self, heard: Timestamp, now: Timestamp) -> Self {
        let known = !matches!(self.state, AgentState::Unknown { .. });
        if !known || now.since(heard) < Limits::AGENT_UNHEARD {
            return self;
        }
        Self {
            state: AgentState::Unknown { last: Box::new(self.state) },
            since: heard.plus(Limits::AGENT_UNHEARD),
            confidence: Confidence::Derived,
            flags: Flags { stalled: false, ..self.flags },
            ..self
        }
    }

    /// Returns how old the evidence is.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.evidence)
    }
}

/// Returns a name of one line, at most [`Limits::AGENT_NAME_BYTES`].
pub(super) fn name(text: &str) -> String {
    line(text, Limits::AGENT_NAME_BYTES)
}

/// Returns a summary of one line, at most [`Limits::AGENT_SUMMARY_BYTES`].
pub(super) fn summary(text: &str) -> String {
    line(text, Limits::AGENT_SUMMARY_BYTES)
}

/// Returns a text, at most [`Limits::AGENT_TEXT_BYTES`].
pub(super) fn text(text: &str) -> String {
    clean(text, Limits::AGENT_TEXT_BYTES)
}

/// Returns the first of them as summaries.
pub(super) fn summaries(texts: &[String], limit: usize) -> Vec<String> {
    texts.iter().take(limit).map(|text| summary(text)).collect()
}

fn line(text: &str, limit: usize) -> String {
    clean(text, limit).replace(['\n', '\t'], " ")
}
