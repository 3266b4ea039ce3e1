//! Sessions as they are printed.

use std::cmp::Ordering;

use serde::Serialize;
use warren_common::{Timestamp, agent::StateName};
use warren_proto::pb::{admin::v1 as pb, node::v1 as node};

use super::{Moment, agent::Agent, digits, event::Event, filled, measure::Kill, moment};
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
    /// The run that was begun last; zero for the one that the workspace's start makes.
    #[serde(serialize_with = "digits")]
    pub(crate) run: u64,
    /// What is checked out where it works.
    pub(crate) branch: Option<String>,
    /// Its own, where it has one.
    pub(crate) worktree: Option<String>,
    /// The agent's own id of it.
    pub(crate) conversation: Option<String>,
    /// It went on with that conversation when it was last run.
    pub(crate) resumed: bool,
    /// Why it is not as it was asked for.
    pub(crate) problem: Option<String>,
}

/// What was asked of a session since its workspace was made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Asked {
    pub(crate) stopped: bool,
    #[serde(serialize_with = "digits")]
    pub(crate) run: u64,
    pub(crate) agent: Option<String>,
    /// bypass or ask; none without an agent.
    pub(crate) permissions: Option<&'static str>,
    pub(crate) branch: Option<String>,
    pub(crate) created_by: Option<String>,
    pub(crate) created_at: Option<Moment>,
    pub(crate) revision: u64,
    /// It comes up with its workspace, which does not run.
    pub(crate) waits: bool,
}

/// One session of the cluster.
#[derive(Debug, Clone, Serialize)]
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
    /// None for one that is as its workspace's spec has it, or that was made inside.
    pub(crate) asked: Option<Asked>,
}

impl From<node::SessionObserved> for SessionSeen {
    fn from(seen: node::SessionObserved) -> Self {
        Self {
            name: seen.name,
            command: filled(&seen.command),
            state: match (seen.running, seen.problem.is_empty()) {
                (true, _) => "running",
                (false, true) => "exited",
                (false, false) => "failed",
            },
            exit_code: if seen.running { None } else { Some(seen.exit_code) },
            started_at: moment(seen.started_unix_ms),
            active_at: moment(seen.active_unix_ms),
            viewers: seen.viewers,
            killed: seen.killed.map(Kill::from),
            agent: seen.agent.and_then(Agent::read),
            run: seen.run,
            branch: filled(&seen.branch),
            worktree: filled(&seen.worktree),
            conversation: filled(&seen.conversation),
            resumed: seen.resumed,
            problem: filled(&seen.problem),
        }
    }
}

impl From<pb::Session> for Session {
    fn from(session: pb::Session) -> Self {
        let mut seen = SessionSeen::from(session.observed.unwrap_or_default());
        let asked = session.asked.map(Asked::from);
        if let Some(asked) = &asked {
            seen.amend(asked);
        }
        Self {
            address: format!("{}/{}/{}", session.client, session.workspace, seen.name),
            client: session.client,
            workspace: session.workspace,
            node: filled(&session.node),
            seen,
            observed_at: moment(session.observed_unix_ms),
            observed_live: session.observed_live,
            asked,
        }
    }
}

impl From<pb::SessionAsked> for Asked {
    fn from(asked: pb::SessionAsked) -> Self {
        let agent = filled(&asked.agent);
        let permissions = if asked.asks { "ask" } else { "bypass" };
        Self {
            stopped: asked.stopped,
            run: asked.run,
            permissions: agent.as_ref().map(|_| permissions),
            agent,
            branch: filled(&asked.branch),
            created_by: filled(&asked.created_by),
            created_at: moment(asked.created_unix_ms),
            revision: asked.revision,
            waits: asked.waits,
        }
    }
}

impl SessionSeen {
    /// Says how it stands between what was asked and what was seen.
    fn amend(&mut self, asked: &Asked) {
        let unseen = self.started_at.is_none();
        self.state = match (asked.stopped, self.state) {
            (true, "running") => "stopping",
            (true, _) if self.problem.is_none() => "stopped",
            (false, _) if unseen => "starting",
            (_, state) => state,
        };
        if unseen || self.state == "stopped" {
            self.exit_code = None;
        }
        if self.branch.is_none() {
            self.branch.clone_from(&asked.branch);
        }
        if self.state == "stopped" {
            self.agent = None;
        }
    }

    /// Returns what the agent in it does, or how the session stands where there is none.
    pub(crate) fn status(&self) -> String {
        let plain = !["running", "exited", "failed"].contains(&self.state);
        let state = match (&self.agent, self.exit_code) {
            _ if plain => self.state.to_owned(),
            (None, _) if self.state == "failed" => self.state.to_owned(),
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
        let over = self.exit_code.is_some() && self.state != "failed" || self.state == "stopped";
        let ended = over.then_some(StateName::Exited);
        ended.or(self.agent.as_ref().map(Agent::name))
    }
}

impl Session {
    /// Returns the run that was asked for.
    pub(crate) fn asked_run(&self) -> u64 {
        self.asked.as_ref().map_or(0, |asked| asked.run)
    }

    /// Whether it comes up with its workspace, which does not run.
    pub(crate) fn waits(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.waits)
    }

    /// Returns it for people, a fact a line.
    pub(crate) fn text(&self) -> String {
        let seen = &self.seen;
        let asked = self.asked.as_ref();
        let made = asked.and_then(|asked| {
            let at = rfc3339_seconds(asked.created_at?.0);
            Some(format!("{at} by {}", asked.created_by.as_deref().unwrap_or("nobody")))
        });
        let conversation = seen.conversation.clone().map(|id| match seen.resumed {
            true => format!("{id} (resumed)"),
            false => id,
        });
        let facts = [
            ("status", Some(self.status())),
            ("problem", seen.problem.clone()),
            ("model", seen.agent.as_ref().and_then(|agent| agent.meter.model())),
            ("used", seen.agent.as_ref().and_then(|agent| agent.meter.usage())),
            ("command", seen.command.clone()),
            ("permissions", asked.and_then(|asked| asked.permissions).map(str::to_owned)),
            ("branch", seen.branch.clone()),
            ("worktree", seen.worktree.clone()),
            ("conversation", conversation),
            ("created", made),
            ("node", self.node.clone()),
        ];
        let mut text = format!("{}\n", self.address);
        for (name, fact) in facts {
            if let Some(fact) = fact {
                text.push_str(&format!("  {name:<13} {fact}\n"));
            }
        }
        text
    }

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
        &["SESSION", "AGENT", "STATUS", "FOR", "BRANCH", "VIEWERS", "ACTIVE", "AGE", "COMMAND"];
    const FLEXIBLE: usize = 8;

    fn row(&self, now: Timestamp) -> Vec<String> {
        let ago = |at: Option<Moment>| at.map_or_else(String::new, |at| age(at.0, now));
        vec![
            self.address.clone(),
            self.seen.kind(),
            self.status(),
            self.seen.lasts(now),
            self.seen.branch.clone().unwrap_or_default(),
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
