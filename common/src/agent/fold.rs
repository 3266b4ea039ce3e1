//! Folding observations, in the order of their stamps, into what an agent does.
//!
//! One function per source. A source that knows less of a moment (a registry's `idle` after an
//! error, a title after a hook) confirms what a better one said and replaces it only where the two
//! cannot both be true. Rules that need no observation but the passing of time are in
//! [`super::arbiter`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    failure::Failure,
    meaning,
    observation::{AppServer, Observation, Process, Report, Screen, Tmux},
    program::Program,
    state::{AgentKind, AgentState, Exit, Phase, Source, StateName, Tool, Wait, WaitKind},
};
use crate::{Limits, Timestamp};

mod hook;
mod registry;

/// What an observation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It set the state, or what the state carries.
    Set(StateName),
    /// It agreed with the state.
    Confirmed,
    /// It says nothing of the state, but something was learned.
    Noted,
    /// It was not believed.
    Ignored(Why),
}

/// Why an observation was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It speaks of a moment before all that is still kept.
    Late,
    /// It comes from a thread that no person sees.
    Helper,
    /// Its process is not there, or is another one.
    NotLive,
    /// It means nothing for this kind of agent.
    Meaningless,
    /// The agent's process is gone.
    Exited,
    /// It was looked up so soon after a better source spoke that it may show what was before.
    TooSoon,
    /// The screen may only turn work into waiting, a start into rest, and rest into an error where nothing
    /// else tells of one.
    NoPromotion,
    /// The end of a subagent that never began.
    Unpaired,
}

impl Why {
    /// Returns the words for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Late => "came too late",
            Self::Helper => "from a helper thread",
            Self::NotLive => "its process is gone or another one",
            Self::Meaningless => "means nothing for this agent",
            Self::Exited => "the agent's process is gone",
            Self::TooSoon => "too soon after a better source",
            Self::NoPromotion => "the screen does not know better here",
            Self::Unpaired => "ends a subagent that never began",
        }
    }
}

/// What the observations so far come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fold {
    /// Which state; never unknown.
    stage: StateName,
    pub(super) since: Timestamp,
    pub(super) source: Source,
    pub(super) evidence: Timestamp,
    pub(super) last_activity: Timestamp,
    phase: Option<Phase>,
    /// Tools begun and not ended, the newest last.
    open: Vec<Tool>,
    wait: Option<Wait>,
    /// The tool for which a person was asked, answered or not.
    asked: Option<Tool>,
    /// Whether Claude Code's registry said last that a prompt for leave stands there.
    prompts: bool,
    failure: Option<Failure>,
    /// How the process ended, once it did.
    gone: Option<Exit>,
    /// Whether the kernel killed the process for memory.
    oom: bool,
    tasks: Vec<String>,
    wakeups: Vec<String>,
    pub(super) subagents: BTreeSet<String>,
    /// The state that a compaction began in.
    compacted_from: Option<StateName>,
    /// When the process began, its id and its start.
    up: Option<(Timestamp, u32, u64)>,
    /// When somebody who knows last spoke.
    last_exact: Option<Timestamp>,
    title: String,
    pub(super) lines: String,
    /// Whether a turn ever ran in this process.
    worked: bool,
    pub(super) program: Program,
}

impl Fold {
    pub(super) fn new(created: Timestamp) -> Self {
        Self {
            stage: StateName::Starting,
            since: created,
            source: Source::Process,
            evidence: created,
            last_activity: created,
            phase: None,
            open: Vec::new(),
            wait: None,
            asked: None,
            prompts: false,
            failure: None,
            gone: None,
            oom: false,
            tasks: Vec::new(),
            wakeups: Vec::new(),
            subagents: BTreeSet::new(),
            compacted_from: None,
            up: None,
            last_exact: None,
            title: String::new(),
            lines: String::new(),
            worked: false,
            program: Program::default(),
        }
    }

    /// Takes in the next observation.
    pub(super) fn apply(&mut self, kind: &AgentKind, seen: &Observation) -> Verdict {
        match &seen.report {
            Report::Process(process) => self.process(seen, *process),
            Report::Tmux(tmux) => self.tmux(seen, *tmux),
            Report::Hook(hook) => self.hook(kind, seen, hook),
            Report::AppServer(status) => self.app_server(seen, status),
            _ if self.stage == StateName::Exited => Verdict::Ignored(Why::Exited),
            Report::Registry(registry) => self.registry(seen, registry),
            Report::Title(title) => self.title(kind, seen, title),
            Report::Screen(screen) => self.screen(kind, seen, screen),
        }
    }

    /// Returns the state with what it carries.
    pub(super) fn state(&self) -> AgentState {
        match self.stage {
            // never entered
            StateName::Starting | StateName::Unknown => AgentState::Starting,
            StateName::Working => {
                AgentState::Working { phase: self.phase, tool: self.open.last().cloned() }
            }
            StateName::Waiting => AgentState::Waiting(self.wait.clone().unwrap_or_else(|| Wait {
                kind: WaitKind::Question,
                text: String::new(),
                options: Vec::new(),
                since: self.since,
            })),
            StateName::Background => {
                let tasks = self.tasks.iter().chain(&self.wakeups);
                AgentState::Background { tasks: tasks.take(Limits::AGENT_TASKS).cloned().collect() }
            }
            StateName::Idle => AgentState::Idle,
            StateName::Error => {
                AgentState::Error(self.failure.clone().unwrap_or_else(Failure::unnamed))
            }
            StateName::Exited => AgentState::Exited(self.gone.unwrap_or_default()),
        }
    }

    /// Returns when the process began.
    pub(super) fn up(&self) -> Option<Timestamp> {
        self.up.map(|(at, _, _)| at)
    }

    /// Returns whether a tool is open.
    pub(super) const fn in_tool(&self) -> bool {
        !self.open.is_empty()
    }

    /// Returns whether a turn ever ran.
    pub(super) const fn worked(&self) -> bool {
        self.worked || self.program.worked()
    }

    fn app_server(&mut self, seen: &Observation, status: &AppServer) -> Verdict {
        if *status == AppServer::Ephemeral {
            return Verdict::Ignored(Why::Helper);
        }
        self.spoke(seen.at);
        match status {
            AppServer::Ephemeral | AppServer::NotLoaded => Verdict::Noted,
            AppServer::Idle => self.at_prompt(seen),
            AppServer::Active => self.busy(seen),
            AppServer::WaitingOnApproval => self.blocked(seen, WaitKind::Permission, ""),
            AppServer::WaitingOnUserInput => self.blocked(seen, WaitKind::Question, ""),
            AppServer::SystemError { .. } if self.stage == StateName::Exited => Verdict::Noted,
            AppServer::SystemError { about, text } => {
                self.fail(seen, meaning::thread_failure(about, text))
            }
        }
    }

    fn title(&mut self, kind: &AgentKind, seen: &Observation, title: &str) -> Verdict {
        if self.title != title {
            title.clone_into(&mut self.title);
            self.moved(seen.at);
        }
        let Some(shown) = meaning::title(kind, title) else {
            return Verdict::Ignored(Why::Meaningless);
        };
        if self.too_soon(seen.at) {
            return Verdict::Ignored(Why::TooSoon);
        }
        match shown {
            StateName::Working => self.busy(seen),
            StateName::Waiting => self.blocked(seen, WaitKind::Permission, ""),
            // before Codex sets its title there stands another one, as plain as its own
            _ if *kind == AgentKind::Codex && self.stage == StateName::Starting => Verdict::Noted,
            _ => self.at_prompt(seen),
        }
    }

    fn screen(&mut self, kind: &AgentKind, seen: &Observation, screen: &Screen) -> Verdict {
        if !matches!(screen, Screen::Lines(_)) && self.too_soon(seen.at) {
            return Verdict::Ignored(Why::TooSoon);
        }
        match screen {
            Screen::Lines(lines) => {
                lines.clone_into(&mut self.lines);
                if self.phase == Some(Phase::Retrying) {
                    self.phase = Some(self.phase_now());
                }
                Verdict::Noted
            }
            Screen::Retrying(_) if self.stage == StateName::Working => {
                self.phase = Some(Phase::Retrying);
                Verdict::Noted
            }
            Screen::Retrying(_) => Verdict::Ignored(Why::NoPromotion),
            Screen::Prompt if self.stage == StateName::Starting => self.rest(seen),
            Screen::Prompt if self.stage == StateName::Idle => self.confirm(seen),
            Screen::Failed(line) if self.may_have_failed(kind) => {
                self.fail(seen, meaning::failure(line))
            }
            Screen::Failed(_) if self.stage == StateName::Error => self.confirm(seen),
            Screen::Prompt | Screen::Failed(_) => Verdict::Ignored(Why::NoPromotion),
            Screen::Asks(ask) => {
                let wait = Wait {
                    kind: ask.kind,
                    text: ask.text.clone(),
                    options: ask.options.clone(),
                    since: seen.at,
                };
                if !kind.tells() && !self.program.told {
                    self.program.promote(wait);
                    return Verdict::Set(StateName::Waiting);
                }
                match self.stage {
                    // a title says that something is asked, and not what
                    StateName::Waiting if self.source == Source::Title => {
                        self.wait = Some(Wait { since: self.since, ..wait });
                        self.confirm(seen)
                    }
                    StateName::Waiting => self.confirm(seen),
                    StateName::Working | StateName::Starting => self.ask(seen, wait),
                    _ => Verdict::Ignored(Why::NoPromotion),
                }
            }
        }
    }

    /// Whether nothing but the screen tells how the last turn ended.
    fn may_have_failed(&self, kind: &AgentKind) -> bool {
        match (kind, self.stage) {
            // it goes on with a conversation
            (AgentKind::Codex, StateName::Starting) => true,
            // a title says that the turn is over
            (AgentKind::Codex, StateName::Idle) => self.source == Source::Title,
            // its daemon did not say why
            (AgentKind::Codex, StateName::Error) => {
                self.failure.as_ref().is_some_and(Failure::is_unnamed)
            }
            // and so does a hook, of a turn that failed as of any other
            (AgentKind::Gemini, StateName::Idle) => self.worked,
            _ => false,
        }
    }

    fn process(&mut self, seen: &Observation, process: Process) -> Verdict {
        match process {
            Process::Up { pid, start } => return self.came_up(seen, pid, start),
            Process::Cpu { per_mille } => {
                if per_mille >= Limits::AGENT_MOVES_PER_MILLE {
                    self.moved(seen.at);
                }
                if per_mille > Limits::AGENT_BUSY_PER_MILLE {
                    self.program.was_busy(seen.at);
                }
            }
            Process::ReadsInput { reads } => self.program.reads(seen.at, reads),
            Process::OutOfMemory => {
                self.oom = true;
                if let Some(exit) = &mut self.gone {
                    exit.oom = true;
                }
            }
        }
        Verdict::Noted
    }

    fn came_up(&mut self, seen: &Observation, pid: u32, start: u64) -> Verdict {
        let known = self.up.map(|(_, pid, start)| (pid, start));
        if known == Some((pid, start)) {
            return Verdict::Noted;
        }
        let another = known.is_some() || self.stage == StateName::Exited;
        if another {
            let last_activity = self.last_activity.max(seen.at);
            *self = Self { last_activity, ..Self::new(seen.at) };
        }
        self.up = Some((seen.at, pid, start));
        if self.stage == StateName::Starting {
            return self.enter(StateName::Starting, seen);
        }
        Verdict::Noted
    }

    fn tmux(&mut self, seen: &Observation, tmux: Tmux) -> Verdict {
        let exit = match tmux {
            Tmux::Output => {
                self.moved(seen.at);
                self.program.wrote(seen.at);
                return Verdict::Noted;
            }
            Tmux::Dead { code, signal } => Exit { code, signal, oom: self.oom },
            Tmux::Gone => Exit { oom: self.oom, ..self.gone.unwrap_or_default() },
        };
        if self.gone == Some(exit) {
            return if self.stage == StateName::Exited {
                self.confirm(seen)
            } else {
                Verdict::Noted
            };
        }
        self.gone = Some(exit);
        self.clear_turn();
        self.subagents.clear();
        self.enter(StateName::Exited, seen)
    }

    /// A turn runs, says a source that knows no more.
    fn busy(&mut self, seen: &Observation) -> Verdict {
        if self.stage == StateName::Working {
            return self.confirm(seen);
        }
        let phase = self.in_tool().then_some(Phase::Tool);
        self.work(seen, phase)
    }

    /// No turn runs, says a source that knows no more.
    fn at_prompt(&mut self, seen: &Observation) -> Verdict {
        match self.stage {
            StateName::Idle | StateName::Error | StateName::Exited => self.confirm(seen),
            StateName::Background if !self.wakeups.is_empty() => {
                self.tasks.clear();
                self.confirm(seen)
            }
            _ => self.rest(seen),
        }
    }

    /// It waits for a person, says a source that does not know the question.
    fn blocked(&mut self, seen: &Observation, kind: WaitKind, text: &str) -> Verdict {
        if self.stage == StateName::Waiting {
            return self.confirm(seen);
        }
        let text = self.open.last().map_or_else(|| text.to_owned(), told);
        self.ask(seen, Wait { kind, text, options: Vec::new(), since: seen.at })
    }

    fn work(&mut self, seen: &Observation, phase: Option<Phase>) -> Verdict {
        self.wait = None;
        self.failure = None;
        self.phase = phase;
        self.worked = true;
        self.enter(StateName::Working, seen)
    }

    fn ask(&mut self, seen: &Observation, wait: Wait) -> Verdict {
        self.failure = None;
        self.wait = Some(wait);
        self.enter(StateName::Waiting, seen)
    }

    fn fail(&mut self, seen: &Observation, failure: Failure) -> Verdict {
        self.clear_turn();
        self.failure = Some(failure);
        self.enter(StateName::Error, seen)
    }

    /// The turn is over and nothing of it is left.
    fn rest(&mut self, seen: &Observation) -> Verdict {
        self.clear_turn();
        self.tasks.clear();
        self.wakeups.clear();
        self.subagents.clear();
        // a turn of Codex outlives the program that began it
        let stage = if self.gone.is_some() { StateName::Exited } else { StateName::Idle };
        self.enter(stage, seen)
    }

    fn clear_turn(&mut self) {
        self.phase = None;
        self.open.clear();
        self.wait = None;
        self.asked = None;
        self.failure = None;
        self.compacted_from = None;
    }

    fn enter(&mut self, stage: StateName, seen: &Observation) -> Verdict {
        if self.stage != stage {
            self.since = seen.at;
        }
        self.stage = stage;
        self.source = seen.source();
        self.evidence = seen.at;
        Verdict::Set(stage)
    }

    const fn confirm(&mut self, seen: &Observation) -> Verdict {
        self.evidence = seen.at;
        Verdict::Confirmed
    }

    fn moved(&mut self, at: Timestamp) {
        self.last_activity = self.last_activity.max(at);
    }

    fn spoke(&mut self, at: Timestamp) {
        self.moved(at);
        self.last_exact = Some(at);
    }

    /// What is looked up from time to time may still show what was before.
    pub(super) fn too_soon(&self, at: Timestamp) -> bool {
        self.last_exact.is_some_and(|told| at.since(told) < Limits::AGENT_LOOK)
    }

    fn phase_now(&self) -> Phase {
        match (self.subagents.is_empty(), self.open.is_empty()) {
            (false, _) => Phase::Subagent,
            (true, false) => Phase::Tool,
            (true, true) => Phase::Thinking,
        }
    }
}

/// Returns what a person reads of a tool: `Bash: cargo test`.
fn told(tool: &Tool) -> String {
    if tool.summary.is_empty() {
        return tool.name.clone();
    }
    format!("{}: {}", tool.name, tool.summary)
}
