//! What agents do, as it is printed.

use serde::Serialize;
use warren_common::{
    Timestamp,
    agent::{
        AgentState, AgentStatus, Attention, AttentionKey, Confidence, Exit, Source, StateName,
    },
};
use warren_proto::pb::inside::v1 as pb;

use super::{Moment, filled, meter::Meter};
use crate::render::time::{age, rfc3339_seconds};

/// Of a text from a workspace a table shows so many characters.
const TEXT: usize = 60;

/// What an agent does. What only some states have is null in the others.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Agent {
    /// `claude`, `codex`, `gemini`, `opencode`, `shell` or the name of a program.
    pub(crate) kind: String,
    /// One of the eight states.
    pub(crate) state: &'static str,
    /// What it was, where the state is `unknown`; the fields below are of that state then.
    pub(crate) last_state: Option<&'static str>,
    /// State and what it carries, in the words of lists.
    pub(crate) status: String,
    /// How much it needs a person: `waiting`, `error`, `crashed`, `finished`, `stalled`, `unknown`,
    /// `working`, `background`, `starting`, `idle` or `ended`.
    pub(crate) attention: &'static str,
    pub(crate) needs_me: bool,
    pub(crate) since: Moment,
    pub(crate) last_activity_at: Moment,
    /// `hook`, `registry`, `app-server`, `title`, `screen`, `process` or `tmux`.
    pub(crate) source: &'static str,
    /// The hook's event.
    pub(crate) event: Option<String>,
    /// `exact` or `derived`.
    pub(crate) confidence: &'static str,
    /// When the state was last told or confirmed.
    pub(crate) evidence_at: Moment,
    pub(crate) unseen: bool,
    pub(crate) stalled: bool,
    pub(crate) subagents: u32,
    /// What it runs with and has used, as far as it said.
    pub(crate) meter: Meter,
    /// `tool`, `thinking`, `compacting`, `retrying` or `subagent`.
    pub(crate) phase: Option<&'static str>,
    pub(crate) tool: Option<Tool>,
    pub(crate) wait: Option<Wait>,
    pub(crate) background: Option<Vec<String>>,
    pub(crate) error: Option<Failure>,
    pub(crate) exit: Option<Ended>,
    #[serde(skip)]
    seen: AgentStatus,
}

/// The tool that a working agent uses.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) summary: String,
    pub(crate) since: Moment,
}

/// What a waiting agent waits for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Wait {
    /// `permission`, `question`, `plan`, `elicitation` or `setup`.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
    pub(crate) options: Vec<String>,
    pub(crate) since: Moment,
}

/// Why a turn ended badly.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    /// `rate_limit`, `auth`, `overloaded`, `billing`, `invalid_request` or `other`.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
    pub(crate) retry_at: Option<Moment>,
}

/// How a process ended.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) oom: bool,
}

impl Agent {
    /// Reads the wire's; none where a coordinator of another version says what is not known here.
    pub(crate) fn read(status: pb::AgentStatus) -> Option<Self> {
        AgentStatus::try_from(status).ok().map(Self::from)
    }

    /// Returns which of the eight states it is in.
    pub(crate) const fn name(&self) -> StateName {
        self.seen.state.name()
    }

    /// Returns its place among those who need a person.
    pub(crate) fn key(&self) -> AttentionKey {
        AttentionKey::of(&self.seen)
    }

    /// Returns which stay in which state this is.
    pub(crate) const fn stay(&self) -> (StateName, Timestamp) {
        self.seen.stay()
    }

    /// Whether this is the same stay in the same state, with all that it carries.
    pub(crate) fn is_so(&self, other: &Self) -> bool {
        self.stay() == other.stay()
            && self.seen.state == other.seen.state
            && self.seen.flags == other.seen.flags
    }

    /// Returns for how long it has been so.
    pub(crate) fn lasts(&self, now: Timestamp) -> String {
        age(self.seen.stay().1, now)
    }

    /// Returns the state with its marks, for people.
    pub(crate) fn marked(&self) -> String {
        let mut text = self.status.clone();
        let derived = self.confidence == "derived" && self.name() != StateName::Unknown;
        for (mark, set) in
            [(" unseen", self.unseen), (" stalled", self.stalled), (" (derived)", derived)]
        {
            if set {
                text.push_str(mark);
            }
        }
        text
    }

    /// Returns what happened where it came to need a person: the event, and what it says.
    pub(crate) fn news(&self) -> Option<(&'static str, String)> {
        let event = match &self.seen.state {
            AgentState::Waiting(_) => "agent.waiting",
            AgentState::Error(_) => "agent.error",
            AgentState::Exited(exit) if exit.is_bad() => "agent.exited",
            _ => return None,
        };
        let detail = self.status.split_once(' ').map_or("", |(_, detail)| detail);
        Some((event, format!("{}: {detail}", self.kind)))
    }
}

impl From<AgentStatus> for Agent {
    fn from(status: AgentStatus) -> Self {
        let attention = Attention::of(&status);
        let told = match &status.state {
            AgentState::Unknown { last } => last.as_ref(),
            known => known,
        };
        let unknown = status.state.name() == StateName::Unknown;
        let mut view = Self {
            kind: status.kind.as_str().to_owned(),
            state: status.state.name().as_str(),
            last_state: unknown.then(|| told.name().as_str()),
            status: words(&status.state),
            attention: attention.as_str(),
            needs_me: attention.needs_person(),
            since: Moment(status.since),
            last_activity_at: Moment(status.last_activity),
            source: status.source.as_str(),
            event: match &status.source {
                Source::Hook(event) => filled(event),
                _ => None,
            },
            confidence: match status.confidence {
                Confidence::Exact => "exact",
                Confidence::Derived => "derived",
            },
            evidence_at: Moment(status.evidence),
            unseen: status.flags.unseen,
            stalled: status.flags.stalled,
            subagents: status.subagents,
            meter: Meter::from(&status.meter),
            phase: None,
            tool: None,
            wait: None,
            background: None,
            error: None,
            exit: None,
            seen: status.clone(),
        };
        view.carry(told);
        view
    }
}

impl Agent {
    /// Fills in what a state carries.
    fn carry(&mut self, state: &AgentState) {
        match state.clone() {
            AgentState::Starting | AgentState::Idle | AgentState::Unknown { .. } => {}
            AgentState::Working { phase, tool } => {
                self.phase = phase.map(|phase| phase.as_str());
                self.tool = tool.map(|tool| Tool {
                    name: tool.name,
                    summary: tool.summary,
                    since: Moment(tool.since),
                });
            }
            AgentState::Waiting(wait) => {
                self.wait = Some(Wait {
                    kind: wait.kind.as_str(),
                    text: wait.text,
                    options: wait.options,
                    since: Moment(wait.since),
                });
            }
            AgentState::Background { tasks } => self.background = Some(tasks),
            AgentState::Error(failure) => {
                self.error = Some(Failure {
                    kind: failure.kind.as_str(),
                    text: failure.text,
                    retry_at: failure.retry_at.map(Moment),
                });
            }
            AgentState::Exited(Exit { code, signal, oom }) => {
                self.exit = Some(Ended { code, signal, oom });
            }
        }
    }
}

/// Returns a state and what it carries, in one line.
fn words(state: &AgentState) -> String {
    let name = state.name().as_str();
    let detail = match state {
        AgentState::Starting | AgentState::Idle => String::new(),
        AgentState::Working { phase, tool: Some(tool) } => {
            let phase = phase.map_or("", |phase| phase.as_str());
            let tool = format!("{} {}", tool.name, short(&tool.summary));
            if phase == "subagent" { format!("subagent, {tool}") } else { tool }
        }
        AgentState::Working { phase, tool: None } => {
            phase.map_or_else(String::new, |phase| phase.as_str().to_owned())
        }
        AgentState::Waiting(wait) if wait.text.is_empty() => wait.kind.as_str().to_owned(),
        AgentState::Waiting(wait) => format!("{} {:?}", wait.kind.as_str(), short(&wait.text)),
        AgentState::Background { tasks } => short(&tasks.join(", ")),
        AgentState::Error(failure) => {
            let mut text = failure.kind.as_str().to_owned();
            if !failure.text.is_empty() {
                text.push_str(&format!(" {:?}", short(&failure.text)));
            }
            if let Some(at) = failure.retry_at {
                text.push_str(&format!(", retry at {}", rfc3339_seconds(at)));
            }
            text
        }
        AgentState::Exited(exit) => return ended(*exit),
        AgentState::Unknown { last } => return format!("{name} (was {})", last.name().as_str()),
    };
    match detail.trim() {
        "" => name.to_owned(),
        detail => format!("{name}: {detail}"),
    }
}

fn ended(exit: Exit) -> String {
    match exit {
        Exit { oom: true, .. } => "exited: oom".to_owned(),
        Exit { signal: Some(signal), .. } => format!("exited: signal {signal}"),
        Exit { code: Some(code), .. } => format!("exited {code}"),
        Exit { .. } => "exited".to_owned(),
    }
}

/// Returns a text in one line that is not long.
fn short(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= TEXT {
        return text;
    }
    text.chars().take(TEXT - 1).chain(['…']).collect()
}

/// What several agents come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RollUp {
    /// How much the one among them needs a person that needs one most; as an agent's `attention`.
    pub(crate) attention: &'static str,
    pub(crate) needs_me: bool,
    /// Since when that one does.
    pub(crate) since: Moment,
    /// How many there are.
    pub(crate) agents: usize,
}

impl RollUp {
    /// Returns what these come to; none where there are none.
    pub(crate) fn of<'a>(agents: impl Iterator<Item = &'a Agent>) -> Option<Self> {
        let keys: Vec<AttentionKey> = agents.map(Agent::key).collect();
        let AttentionKey { attention, since } = AttentionKey::roll_up(keys.iter().copied())?;
        Some(Self {
            attention: attention.as_str(),
            needs_me: attention.needs_person(),
            since: Moment(since.0),
            agents: keys.len(),
        })
    }

    /// Returns it for people.
    pub(crate) fn text(&self) -> String {
        match self.agents {
            0 | 1 => self.attention.to_owned(),
            agents => format!("{}, {} more", self.attention, agents - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use warren_common::agent::{self as agents, AgentKind, FailureKind, Flags, Phase, WaitKind};

    use super::*;

    fn status(state: AgentState) -> AgentStatus {
        AgentStatus {
            kind: AgentKind::Claude,
            state,
            since: Timestamp(1_767_323_045_000),
            last_activity: Timestamp(5),
            source: Source::Hook("Stop".to_owned()),
            confidence: Confidence::Exact,
            evidence: Timestamp(5),
            flags: Flags::default(),
            subagents: 0,
            meter: agents::Meter::default(),
        }
    }

    fn waiting(text: &str) -> AgentState {
        AgentState::Waiting(agents::Wait {
            kind: WaitKind::Permission,
            text: text.to_owned(),
            options: Vec::new(),
            since: Timestamp(5),
        })
    }

    fn shown(state: AgentState) -> String {
        Agent::from(status(state)).marked()
    }

    #[test]
    fn every_state_reads_as_a_sentence() {
        let failed = |text: &str, retry_at| {
            AgentState::Error(agents::Failure {
                kind: FailureKind::RateLimit,
                text: text.to_owned(),
                retry_at,
            })
        };
        let tool = agents::Tool {
            name: "Bash".to_owned(),
            summary: "cargo test".to_owned(),
            since: Timestamp(5),
        };
        let working = |phase, tool| AgentState::Working { phase, tool };
        let exit = |code, signal, oom| AgentState::Exited(Exit { code, signal, oom });
        let retry = Some(Timestamp(1_767_323_045_000));
        let background = AgentState::Background { tasks: vec!["npm run dev".to_owned()] };
        let unknown = AgentState::Unknown { last: Box::new(waiting("x")) };
        for (state, text) in [
            (AgentState::Starting, "starting"),
            (AgentState::Idle, "idle"),
            (working(None, None), "working"),
            (working(Some(Phase::Thinking), None), "working: thinking"),
            (working(Some(Phase::Tool), Some(tool.clone())), "working: Bash cargo test"),
            (working(Some(Phase::Subagent), Some(tool)), "working: subagent, Bash cargo test"),
            (waiting(""), "waiting: permission"),
            (waiting("npm\npublish"), "waiting: permission \"npm publish\""),
            (background, "background: npm run dev"),
            (AgentState::Background { tasks: Vec::new() }, "background"),
            (failed("", retry), "error: rate_limit, retry at 2026-01-02T03:04:05Z"),
            (failed("five hours", None), "error: rate_limit \"five hours\""),
            (exit(Some(0), None, false), "exited 0"),
            (exit(None, Some(9), false), "exited: signal 9"),
            (exit(None, Some(9), true), "exited: oom"),
            (exit(None, None, false), "exited"),
            (unknown, "unknown (was waiting)"),
        ] {
            assert_eq!(shown(state), text);
        }
        let long = shown(waiting(&"x".repeat(400)));
        assert_eq!(long.chars().count(), "waiting: permission \"\"".len() + TEXT);
    }

    #[test]
    fn marks_follow_the_state() {
        let flags = Flags { unseen: true, stalled: true };
        let marked = AgentStatus {
            flags,
            confidence: Confidence::Derived,
            ..status(AgentState::Working { phase: None, tool: None })
        };
        assert_eq!(Agent::from(marked.clone()).marked(), "working unseen stalled (derived)");
        let heard = Timestamp(5);
        let unheard = marked.unheard(heard, heard.plus(Duration::from_secs(60)));
        assert_eq!(Agent::from(unheard).marked(), "unknown (was working) unseen");
    }

    #[test]
    fn a_group_is_what_needs_a_person_most_in_it() {
        let agents = [AgentState::Idle, waiting(""), AgentState::Starting]
            .map(|state| Agent::from(status(state)));
        let text = |of: &[Agent]| RollUp::of(of.iter()).map(|all| all.text());
        assert_eq!(text(&agents).as_deref(), Some("waiting, 2 more"));
        assert_eq!(text(&agents[..1]).as_deref(), Some("idle"));
        assert_eq!(text(&[]), None);
    }

    #[test]
    fn only_what_needs_a_person_is_news() {
        let news = |state| Agent::from(status(state)).news();
        let waits = ("agent.waiting", "claude: permission \"npm publish\"".to_owned());
        assert_eq!(news(waiting("npm publish")), Some(waits));
        let exit = |code| AgentState::Exited(Exit { code: Some(code), ..Exit::default() });
        assert_eq!(news(exit(1)), Some(("agent.exited", "claude: 1".to_owned())));
        for state in
            [exit(0), AgentState::Idle, AgentState::Unknown { last: Box::new(waiting("")) }]
        {
            assert_eq!(news(state), None);
        }
    }
}
