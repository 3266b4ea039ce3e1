//! Agents of a fake container: what a test says they do.
//!
//! `warren-fake-agent SESSION STATE [WORD [TEXT]]` as a program of exec: `waiting permission "npm
//! publish"`, `working Bash "cargo test"`, `error rate_limit "five hours"`, `exited 1`. The agent of
//! the session is `claude`, and says so through a hook.

use std::collections::BTreeMap;

use warren_common::{
    Limits,
    agent::{
        AgentKind, AgentState, AgentStatus, Confidence, Exit, Failure, FailureKind, Flags, Meter,
        Phase, Source, Tool, Wait, WaitKind,
    },
};
use warren_proto::pb::inside::v1 as pb;

use super::now;

/// The hook that tells everything.
const HOOK: &str = "Fake";

/// The agents of one container, by session.
#[derive(Debug, Default)]
pub(super) struct Agents(BTreeMap<String, Agent>);

#[derive(Debug)]
struct Agent {
    status: AgentStatus,
    /// The oldest first.
    evidence: Vec<pb::AgentEvidence>,
}

impl Agents {
    /// Has the agent of a session do what the words say; returns whether they say anything.
    pub(super) fn play(&mut self, session: &str, words: &[&str]) -> bool {
        let Some(state) = state(words) else { return false };
        let at = now();
        let unseen =
            matches!(state, AgentState::Waiting(_) | AgentState::Error(_) | AgentState::Exited(_));
        let status = AgentStatus {
            kind: AgentKind::Claude,
            state,
            since: at,
            last_activity: at,
            source: Source::Hook(HOOK.to_owned()),
            confidence: Confidence::Exact,
            evidence: at,
            flags: Flags { unseen, stalled: false },
            subagents: 0,
            meter: Meter::default(),
        };
        let name = status.state.name().as_str();
        let mut evidence = self.0.remove(session).map(|before| before.evidence).unwrap_or_default();
        evidence.iter_mut().for_each(|before| before.decides = false);
        evidence.push(pb::AgentEvidence {
            at_unix_ms: at.0,
            source: pb::AgentSource::Hook.into(),
            said: format!("{HOOK} {}", words.join(" ")),
            verdict: format!("set {name}"),
            decides: true,
        });
        let over = evidence.len().saturating_sub(Limits::AGENT_EVIDENCE);
        evidence.drain(..over);
        self.0.insert(session.to_owned(), Agent { status, evidence });
        true
    }

    /// Returns what the agent of a session does.
    pub(super) fn status(&self, session: &str) -> Option<pb::AgentStatus> {
        self.0.get(session).map(|agent| agent.status.clone().into())
    }

    /// Returns why.
    pub(super) fn explain(&self, session: &str) -> pb::AgentExplanation {
        let evidence = self.0.get(session).map(|agent| agent.evidence.clone());
        pb::AgentExplanation {
            status: self.status(session),
            evidence: evidence.unwrap_or_default(),
        }
    }
}

fn state(words: &[&str]) -> Option<AgentState> {
    let since = now();
    let (name, rest) = words.split_first()?;
    let word = rest.first().copied();
    let text = rest.get(1..).unwrap_or_default().join(" ");
    Some(match *name {
        "starting" => AgentState::Starting,
        "working" => AgentState::Working {
            phase: word.map(|_| Phase::Tool),
            tool: word.map(|tool| Tool { name: tool.to_owned(), summary: text, since }),
        },
        "waiting" => AgentState::Waiting(Wait {
            kind: match word {
                Some("question") => WaitKind::Question,
                Some("plan") => WaitKind::Plan,
                Some("elicitation") => WaitKind::Elicitation,
                Some("setup") => WaitKind::Setup,
                Some(_) | None => WaitKind::Permission,
            },
            text,
            options: Vec::new(),
            since,
        }),
        "background" => {
            AgentState::Background { tasks: rest.iter().map(|task| (*task).to_owned()).collect() }
        }
        "idle" => AgentState::Idle,
        "error" => AgentState::Error(Failure {
            kind: word.map_or(FailureKind::Other, FailureKind::parse),
            text,
            retry_at: None,
        }),
        "exited" => AgentState::Exited(Exit {
            code: word.and_then(|code| code.parse().ok()),
            signal: None,
            oom: word == Some("oom"),
        }),
        _ => return None,
    })
}
