//! What a source may say of an agent, with the time it speaks of.

use serde::{Deserialize, Serialize};

use super::state::{Source, WaitKind, name, summaries, summary, text};
use crate::{Limits, Timestamp};

/// What one source said of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The moment it speaks of: the source's own stamp where it has one, else when it was seen.
    pub at: Timestamp,
    /// What was said.
    pub report: Report,
}

impl Observation {
    /// Returns an observation received at `received`. A stamp ahead of that is cut to it: it comes
    /// from a workspace, and one of the year 3000 would outdo everything that follows.
    pub fn new(told: Timestamp, received: Timestamp, report: Report) -> Self {
        Self { at: told.min(received), report }
    }

    /// Returns who said it.
    pub fn source(&self) -> Source {
        match &self.report {
            Report::Hook(hook) => Source::Hook(hook.event.clone()),
            Report::Registry(_) => Source::Registry,
            Report::AppServer(_) => Source::AppServer,
            Report::Title(_) => Source::Title,
            Report::Screen(_) => Source::Screen,
            Report::Process(_) => Source::Process,
            Report::Tmux(_) => Source::Tmux,
        }
    }

    /// Returns the same with every text cleaned and cut, and every list cut.
    #[must_use]
    pub fn bounded(self) -> Self {
        let report = match self.report {
            Report::Hook(hook) => Report::Hook(Box::new(hook.bounded())),
            Report::Registry(registry) => Report::Registry(registry.bounded()),
            Report::Title(title) => Report::Title(summary(&title)),
            Report::Screen(screen) => Report::Screen(screen.bounded()),
            Report::AppServer(status) => Report::AppServer(status.bounded()),
            kept @ (Report::Process(_) | Report::Tmux(_)) => kept,
        };
        Self { at: self.at, report }
    }
}

/// What was said, by source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// A hook of the agent fired.
    Hook(Box<Hook>),
    /// Claude Code's registry of sessions; its stamp is `statusUpdatedAt`.
    Registry(Registry),
    /// Codex's control socket; its stamp is `emittedAtMs`.
    AppServer(AppServer),
    /// The window's title, told at every look.
    Title(String),
    /// The text on the screen, told at every look.
    Screen(Screen),
    /// The process tree.
    Process(Process),
    /// tmux.
    Tmux(Tmux),
}

/// A hook's event by its machine-readable fields. A field that an event does not have is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The event's own name, such as `PreToolUse`. A person's own agent says the state it is in:
    /// `working`, `waiting`, `idle` or `error`.
    pub event: String,
    /// What the event is about: the `source` of a start, the `reason` of an end, the type of a
    /// notification, the `error` of a failure.
    pub about: String,
    /// Name of the tool.
    pub tool: String,
    /// What the tool was given, or the text of a failure or question.
    pub text: String,
    /// What the tool asks a person.
    pub ask: Option<Ask>,
    /// Background tasks at a turn's end.
    pub tasks: Vec<String>,
    /// Scheduled wake-ups at a turn's end.
    pub wakeups: Vec<String>,
    /// Id of the subagent.
    pub subagent: String,
    /// When trying again can help.
    pub retry_at: Option<Timestamp>,
    /// Whether it comes from a thread of Codex that no person sees: its `transcript_path` is null.
    pub helper: bool,
}

impl Hook {
    fn bounded(self) -> Self {
        Self {
            event: name(&self.event),
            about: name(&self.about),
            tool: name(&self.tool),
            text: text(&self.text),
            ask: self.ask.map(Ask::bounded),
            tasks: summaries(&self.tasks, Limits::AGENT_TASKS),
            wakeups: summaries(&self.wakeups, Limits::AGENT_TASKS),
            subagent: name(&self.subagent),
            retry_at: self.retry_at,
            helper: self.helper,
        }
    }
}

/// What a tool asks a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Which kind of answer is needed.
    pub kind: WaitKind,
    /// The question.
    pub text: String,
    /// The answers it offers.
    pub options: Vec<String>,
}

impl Ask {
    fn bounded(self) -> Self {
        Self {
            kind: self.kind,
            text: text(&self.text),
            options: summaries(&self.options, Limits::AGENT_OPTIONS),
        }
    }
}

/// One record of Claude Code's registry of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// Its `status`.
    pub status: RegistryStatus,
    /// Its `waitingFor`.
    pub waiting_for: String,
    /// Whether its process lives and began when the record says. Records outlive their process, and
    /// process ids repeat.
    pub live: bool,
}

impl Registry {
    fn bounded(self) -> Self {
        Self { waiting_for: summary(&self.waiting_for), ..self }
    }
}

/// The `status` of a record of Claude Code's registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegistryStatus {
    /// A turn runs.
    Busy,
    /// At the prompt.
    Idle,
    /// Blocked on a person.
    Waiting,
    /// The turn is over; something of its own runs on.
    Shell,
}

/// The status of a thread of Codex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppServer {
    /// No turn runs.
    Idle,
    /// A turn runs.
    Active,
    /// A turn runs and needs leave.
    WaitingOnApproval,
    /// A turn runs and needs an answer.
    WaitingOnUserInput,
    /// The thread failed.
    SystemError {
        /// Codex's own word for the error, or the API's status; empty where it is not known.
        about: String,
        /// What it says of it.
        text: String,
    },
    /// The thread is not in memory.
    NotLoaded,
    /// Any status of a thread that no person sees: `ephemeral` is set.
    Ephemeral,
}

impl AppServer {
    fn bounded(self) -> Self {
        match self {
            Self::SystemError { about, text: said } => {
                Self::SystemError { about: name(&about), text: text(&said) }
            }
            kept => kept,
        }
    }
}

/// What a rule found in the text on the screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Screen {
    /// A question.
    Asks(Ask),
    /// The agent tries the model's API again; the line that says so.
    Retrying(String),
    /// Nothing; the last lines.
    Lines(String),
    /// The agent is at its prompt.
    Prompt,
    /// The agent is at its prompt, and its last turn failed; the line that says so.
    Failed(String),
}

impl Screen {
    fn bounded(self) -> Self {
        match self {
            Self::Asks(ask) => Self::Asks(ask.bounded()),
            Self::Retrying(line) => Self::Retrying(summary(&line)),
            Self::Lines(lines) => Self::Lines(text(&lines)),
            Self::Prompt => Self::Prompt,
            Self::Failed(line) => Self::Failed(text(&line)),
        }
    }
}

/// What the process tree tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Process {
    /// The agent's process is there; the stamp is when it began.
    Up {
        /// Its process id.
        pid: u32,
        /// Field 22 of its `stat`, which tells it from another with the same id.
        start: u64,
    },
    /// How much processor the tree used since the last look, per mille of one.
    Cpu {
        /// The share.
        per_mille: u32,
    },
    /// Whether the program in the foreground reads what a person types.
    ReadsInput {
        /// It does.
        reads: bool,
    },
    /// The kernel killed the agent's own process for memory.
    OutOfMemory,
}

/// What tmux tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tmux {
    /// The terminal wrote something; the stamp is when.
    Output,
    /// The pane's program ended.
    Dead {
        /// `pane_dead_status`.
        code: Option<i32>,
        /// `pane_dead_signal`.
        signal: Option<i32>,
    },
    /// The pane is not there any more.
    Gone,
}
