//! Why an agent's status is what it is, as it is printed.

use serde::Serialize;
use warren_common::{Limits, Timestamp, status::clean};
use warren_proto::pb::inside::v1 as pb;

use super::{Moment, agent::Agent, fields};
use crate::render::{
    table,
    time::{age, rfc3339},
};

/// A status with what it stands on.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    /// The session.
    pub(crate) address: String,
    /// None where no agent was seen in it.
    pub(crate) agent: Option<Agent>,
    /// The oldest first.
    pub(crate) evidence: Vec<Evidence>,
}

/// One thing that a source said.
#[derive(Debug, Serialize)]
pub(crate) struct Evidence {
    /// The moment it speaks of.
    pub(crate) at: Moment,
    /// As an agent's `source`.
    pub(crate) source: &'static str,
    pub(crate) said: String,
    /// What came of it.
    pub(crate) verdict: String,
    /// The state stands on it.
    pub(crate) decides: bool,
}

impl Explained {
    /// Reads what the session of this address was explained with.
    pub(crate) fn new(address: String, said: pb::AgentExplanation) -> Self {
        let evidence = said.evidence.into_iter().map(Evidence::from).collect();
        Self { address, agent: said.status.and_then(Agent::read), evidence }
    }

    /// Returns the page for people.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        let mut rows = vec![("session", self.address.clone())];
        match &self.agent {
            None => rows.push(("status", "no agent was seen in it".to_owned())),
            Some(agent) => {
                let source = match &agent.event {
                    Some(event) => format!("{} {event}", agent.source),
                    None => agent.source.to_owned(),
                };
                let told = age(agent.evidence_at.0, now);
                rows.extend([
                    ("agent", agent.kind.clone()),
                    ("status", agent.marked()),
                    ("for", agent.lasts(now)),
                    ("told by", format!("{source}, {told} ago ({})", agent.confidence)),
                    ("last moved", format!("{} ago", age(agent.last_activity_at.0, now))),
                ]);
                if agent.subagents > 0 {
                    rows.push(("subagents", agent.subagents.to_string()));
                }
            }
        }
        let mut text = fields(&rows);
        if !self.evidence.is_empty() {
            let header = ["  TIME", "SOURCE", "SAID", "VERDICT"];
            let row = |one: &Evidence| {
                let mark = if one.decides { "*" } else { " " };
                let at = format!("{mark} {}", rfc3339(one.at.0));
                vec![at, one.source.to_owned(), one.said.clone(), one.verdict.clone()]
            };
            let rows = self.evidence.iter().map(row).collect();
            text.push_str(&format!("\n{}", table::lay_out(&header, rows, 2, None)));
        }
        text
    }
}

impl From<pb::AgentEvidence> for Evidence {
    fn from(evidence: pb::AgentEvidence) -> Self {
        Self {
            at: Moment(Timestamp(evidence.at_unix_ms)),
            source: match evidence.source() {
                pb::AgentSource::Unspecified => "unknown",
                pb::AgentSource::Hook => "hook",
                pb::AgentSource::Registry => "registry",
                pb::AgentSource::AppServer => "app-server",
                pb::AgentSource::Title => "title",
                pb::AgentSource::Screen => "screen",
                pb::AgentSource::Process => "process",
                pb::AgentSource::Tmux => "tmux",
            },
            said: clean(&evidence.said, Limits::AGENT_TEXT_BYTES),
            verdict: clean(&evidence.verdict, Limits::AGENT_TEXT_BYTES),
            decides: evidence.decides,
        }
    }
}
