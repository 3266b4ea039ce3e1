//! Sessions as they are printed.

use std::cmp::Ordering;

use serde::Serialize;
use warren_common::{Timestamp, agent::StateName};
use warren_proto::pb::{admin::v1 as pb, node::v1 as node};

use super::{Moment, agent::Agent, event::Event, filled, measure::Kill, moment};
use crate::{
    follow::Watched,
    render::{
        Tabular,
        time::{age, rfc3339_seconds},
    },
};

/// One session as its workspace saw it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SessionSeen {
    pub(crate) name: String,
    pub(crate) command: Option<String>,
    pub(crate) state: &'static str,
    /// Set where it exited.
    pub(crate) exit_code: Option<i32>,
    pub(crate) started_at: Option<Moment>,
    pub(crate) active_at: Option<Moment>,
    pub(crate) viewers: u32,
    /// The last process of it that was killed for memory.
    pub(crate) killed: Option<Kill>,
    /// None before one was seen.
    pub(crate) agent: Option<Agent>,
}

/// One session of the cluster.
#[derive(Debug, Serialize)]
pub(crate) struct Session {
    pub(crate) address: String,
    pub(crate) client: String,
    pub(crate) workspace: String,
    pub(crate) node: Option<String>,
    /// What was seen at `observed_at`.
    #[serde(flatten)]
    pub(crate) seen: SessionSeen,
    pub(crate) observed_at: Option<Moment>,
    /// False where the node is silent: what was seen is the past.
    pub(crate) observed_live: bool,
}

impl From<node::SessionObserved> for SessionSeen {
    fn from(seen: node::SessionObserved) -> Self {
        Self {
            name: seen.name,
            command: filled(&seen.command),
            state: if seen.running { "running" } else { "exited" },
            exit_code: if seen.running { None } else { Some(seen.exit_code) },
            started_at: moment(seen.started_unix_ms),
            active_at: moment(seen.active_unix_ms),
            viewers: seen.viewers,
            killed: seen.killed.map(Kill::from),
            agent: seen.agent.and_then(Agent::read),
        }
    }
}

impl From<pb::Session> for Session {
    fn from(session: pb::Session) -> Self {
        let seen = SessionSeen::from(session.observed.unwrap_or_default());
        Self {
            address: format!("{}/{}/{}", session.client, session.workspace, seen.name),
            client: session.client,
            workspace: session.workspace,
            node: filled(&session.node),
            seen,
            observed_at: moment(session.observed_unix_ms),
            observed_live: session.observed_live,
        }
    }
}

impl SessionSeen {
    /// Returns what the agent in it does, or how the session stands where there is none.
    pub(crate) fn status(&self) -> String {
        let state = match (&self.agent, self.exit_code) {
            (Some(agent), _) => agent.marked(),
            (None, Some(code)) => format!("exited {code}"),
            (None, None) => self.state.to_owned(),
        };
        match &self.killed {
            Some(kill) => format!("{state}, oom: {}", kill.process),
            None => state,
        }
    }

    /// Returns which agent runs in it.
    pub(crate) fn kind(&self) -> String {
        self.agent.as_ref().map(|agent| agent.kind.clone()).unwrap_or_default()
    }

    /// Returns for how long its agent has been so.
    pub(crate) fn lasts(&self, now: Timestamp) -> String {
        self.agent.as_ref().map(|agent| agent.lasts(now)).unwrap_or_default()
    }

    /// Returns the state by which people wait for it: an ended session's agent has exited.
    pub(crate) fn reached(&self) -> Option<StateName> {
        let ended = self.exit_code.map(|_| StateName::Exited);
        ended.or(self.agent.as_ref().map(Agent::name))
    }
}

impl Session {
    fn status(&self) -> String {
        let state = self.seen.status();
        let unknown = self.seen.agent.as_ref().is_some_and(|one| one.name() == StateName::Unknown);
        match (self.observed_live, self.observed_at) {
            (false, Some(at)) if !unknown => format!(
                "last seen {state} at {} on {}",
                rfc3339_seconds(at.0),
                self.node.as_deref().unwrap_or("no node")
            ),
            _ => state,
        }
    }

    /// Orders who needs a person first, and of equals who has for longest; sessions without an agent
    /// come last.
    pub(crate) fn by_attention(&self, other: &Self) -> Ordering {
        let key = |one: &Self| one.seen.agent.as_ref().map(Agent::key);
        key(other).cmp(&key(self)).then_with(|| self.address.cmp(&other.address))
    }
}

impl Tabular for Session {
    const HEADER: &'static [&'static str] =
        &["SESSION", "AGENT", "STATUS", "FOR", "VIEWERS", "ACTIVE", "AGE", "COMMAND"];
    const FLEXIBLE: usize = 7;

    fn row(&self, now: Timestamp) -> Vec<String> {
        let ago = |at: Option<Moment>| at.map_or_else(String::new, |at| age(at.0, now));
        vec![
            self.address.clone(),
            self.seen.kind(),
            self.status(),
            self.seen.lasts(now),
            self.seen.viewers.to_string(),
            ago(self.seen.active_at),
            ago(self.seen.started_at),
            self.seen.command.clone().unwrap_or_default(),
        ]
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

impl Watched for Session {
    const KINDS: &'static [pb::EventKind] = &[];

    fn standing(&self) -> Vec<String> {
        let viewers = match self.seen.viewers {
            1 => "1 viewer".to_owned(),
            count => format!("{count} viewers"),
        };
        vec![
            self.seen.kind(),
            self.status(),
            viewers,
            self.seen.command.clone().unwrap_or_default(),
        ]
    }

    fn stands_as(&self, other: &Self) -> bool {
        let agents = match (&self.seen.agent, &other.seen.agent) {
            (Some(one), Some(other)) => one.is_so(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        agents && self.standing() == other.standing()
    }

    fn revision(&self) -> Option<u64> {
        None
    }

    fn keep(&mut self, _: &Self) {}

    fn of(_: Event) -> Option<Self> {
        None
    }
}
