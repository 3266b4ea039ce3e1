//! Sessions as they are printed.

use serde::Serialize;
use warren_common::Timestamp;
use warren_proto::pb::{admin::v1 as pb, node::v1 as node};

use super::{Moment, event::Event, filled, measure::Kill, moment};
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

impl Session {
    fn status(&self) -> String {
        let state = match self.seen.exit_code {
            Some(code) => format!("exited {code}"),
            None => self.seen.state.to_owned(),
        };
        let state = match &self.seen.killed {
            Some(kill) => format!("{state}, oom: {}", kill.process),
            None => state,
        };
        match (self.observed_live, self.observed_at) {
            (false, Some(at)) => format!(
                "last seen {state} at {} on {}",
                rfc3339_seconds(at.0),
                self.node.as_deref().unwrap_or("no node")
            ),
            _ => state,
        }
    }
}

impl Tabular for Session {
    const HEADER: &'static [&'static str] =
        &["SESSION", "STATUS", "VIEWERS", "ACTIVE", "AGE", "COMMAND"];
    const FLEXIBLE: usize = 5;

    fn row(&self, now: Timestamp) -> Vec<String> {
        let ago = |at: Option<Moment>| at.map_or_else(String::new, |at| age(at.0, now));
        vec![
            self.address.clone(),
            self.status(),
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
        vec![self.status(), viewers, self.seen.command.clone().unwrap_or_default()]
    }

    fn revision(&self) -> Option<u64> {
        None
    }

    fn keep(&mut self, _: &Self) {}

    fn of(_: Event) -> Option<Self> {
        None
    }
}
