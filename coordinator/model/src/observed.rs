//! A report on one workspace as it is kept.
//!
//! A coordinator holds one of every workspace there is, and nearly all of them are only looked at
//! when somebody asks: what the planner compares stands open, the whole is packed, a third of what
//! it takes with every step and session laid out.

use serde::{Deserialize, Serialize};
use warren_common::{
    Generation, Timestamp, WorkspaceId,
    browser::BrowserStatus,
    measure::Kill,
    status::{
        CapsHeld, RunState, ServiceObserved, SessionObserved, StartupStep, Usage, VolumeUse,
        WorkspaceObserved,
    },
};

/// What a node said of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The generation the node acts on.
    pub generation: Generation,
    /// The run the node acts on.
    pub run_serial: u64,
    /// Where it stands.
    pub state: RunState,
    /// Why, for people.
    pub reason: Box<str>,
    /// The sessions, the browsers and a [`Rest`], one after the other: what is listed, and compared
    /// with every report, is unpacked without the rest.
    packed: Box<[u8]>,
    /// Where in it the browsers begin, and the rest.
    parts: [u32; 2],
}

/// What nobody compares.
#[derive(Serialize, Deserialize)]
struct Rest {
    since: Timestamp,
    pid: Option<u32>,
    steps: Vec<StartupStep>,
    usage: Usage,
    volume: Option<VolumeUse>,
    caps: Option<CapsHeld>,
    caps_reason: String,
    services: Vec<ServiceObserved>,
    kills: Vec<Kill>,
}

impl Observed {
    /// Returns the sessions of this workspace, as they were told.
    pub fn sessions(&self) -> Vec<SessionObserved> {
        postcard::from_bytes(self.parts().0).expect("it was packed here")
    }

    /// Returns whether the sessions of both stand alike to people: what only says that something
    /// still moves aside.
    pub fn sessions_alike(&self, other: &Self) -> bool {
        let standing = |one: &Self| -> Vec<SessionObserved> {
            one.sessions().into_iter().map(SessionObserved::standing).collect()
        };
        self.parts().0 == other.parts().0 || standing(self) == standing(other)
    }

    /// Returns the browsers of this workspace, as they were told.
    pub fn browsers(&self) -> Vec<BrowserStatus> {
        postcard::from_bytes(self.parts().1).expect("it was packed here")
    }

    /// Returns whether the browsers of both stand alike to people, as [`Self::sessions_alike`].
    pub fn browsers_alike(&self, other: &Self) -> bool {
        let standing = |one: &Self| -> Vec<BrowserStatus> {
            one.browsers().into_iter().map(BrowserStatus::standing).collect()
        };
        self.parts().1 == other.parts().1 || standing(self) == standing(other)
    }

    /// The packed sessions, browsers and the rest.
    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let [sessions, browsers] = self.parts.map(|end| end as usize);
        let (head, rest) = self.packed.split_at(browsers);
        let (sessions, browsers) = head.split_at(sessions);
        (sessions, browsers, rest)
    }

    /// Returns all that was said of this workspace.
    pub fn whole(&self, workspace: WorkspaceId) -> WorkspaceObserved {
        let rest: Rest = postcard::from_bytes(self.parts().2).expect("it was packed here");
        let Rest { since, pid, steps, usage, volume, caps, caps_reason, kills, services } = rest;
        let (sessions, browsers) = (self.sessions(), self.browsers());
        WorkspaceObserved {
            workspace,
            generation: self.generation,
            run_serial: self.run_serial,
            state: self.state.clone(),
            reason: self.reason.to_string(),
            since,
            pid,
            steps,
            sessions,
            usage,
            volume,
            caps,
            caps_reason,
            services,
            kills,
            browsers,
        }
    }
}

impl From<WorkspaceObserved> for Observed {
    fn from(said: WorkspaceObserved) -> Self {
        let WorkspaceObserved {
            workspace: _,
            generation,
            run_serial,
            state,
            reason,
            since,
            pid,
            steps,
            sessions,
            usage,
            volume,
            caps,
            caps_reason,
            services,
            kills,
            browsers,
        } = said;
        let rest = Rest { since, pid, steps, usage, volume, caps, caps_reason, kills, services };
        let (mut packed, mut parts) = (pack(Vec::new(), &sessions), [0, 0]);
        parts[0] = end(&packed);
        packed = pack(packed, &browsers);
        parts[1] = end(&packed);
        let packed = pack(packed, &rest).into_boxed_slice();
        let reason = reason.into_boxed_str();
        Self { generation, run_serial, state, reason, packed, parts }
    }
}

/// Adds a part to those that are packed.
fn pack(before: Vec<u8>, part: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(part, before).expect("its types are plain and memory is the bound")
}

fn end(packed: &[u8]) -> u32 {
    u32::try_from(packed.len()).expect("a report has at most some MiB")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use warren_common::{
        Bytes,
        agent::{
            AgentKind, AgentState, AgentStatus, Confidence, Flags, Meter, Phase, Source, Tool,
        },
        status::{SessionState, StepState},
    };

    use super::*;

    fn agent() -> AgentStatus {
        AgentStatus {
            kind: AgentKind::Claude,
            state: AgentState::Working {
                phase: Some(Phase::Tool),
                tool: Some(Tool {
                    name: "Bash".to_owned(),
                    summary: "cargo test --workspace".to_owned(),
                    since: Timestamp(1_790_000_000_000),
                }),
            },
            since: Timestamp(1_790_000_000_000),
            last_activity: Timestamp(1_790_000_003_000),
            source: Source::Hook("PreToolUse".to_owned()),
            confidence: Confidence::Exact,
            evidence: Timestamp(1_790_000_000_000),
            flags: Flags::default(),
            subagents: 0,
            meter: Meter::default(),
        }
    }

    fn of_sessions(sessions: Vec<SessionObserved>) -> Observed {
        Observed::from(WorkspaceObserved {
            workspace: WorkspaceId::new(Uuid::from_u128(7)),
            generation: Generation::new(2, 3),
            run_serial: 4,
            state: RunState::Running,
            reason: String::new(),
            since: Timestamp(5),
            pid: None,
            steps: Vec::new(),
            sessions,
            usage: Usage::default(),
            volume: None,
            caps: None,
            caps_reason: String::new(),
            services: Vec::new(),
            kills: Vec::new(),
            browsers: Vec::new(),
        })
    }

    fn session(agent: Option<AgentStatus>) -> SessionObserved {
        SessionObserved {
            name: "main".parse().expect("a name"),
            command: "claude".to_owned(),
            state: SessionState::Running,
            started: Timestamp(1),
            active: Timestamp(2),
            viewers: 0,
            panes: Vec::new(),
            killed: None,
            agent: agent.map(Box::new),
            run: None,
        }
    }

    #[test]
    fn an_agent_takes_little() {
        let without = of_sessions(vec![session(None)]).parts().0.len();
        let with = of_sessions(vec![session(Some(agent()))]).parts().0.len();
        assert!(with - without < 100, "{} bytes", with - without);
    }

    #[test]
    fn what_still_moves_is_no_news() {
        let before = of_sessions(vec![session(Some(agent()))]);
        let mut moved = session(Some(AgentStatus {
            last_activity: Timestamp(1_790_000_009_000),
            evidence: Timestamp(1_790_000_009_000),
            ..agent()
        }));
        moved.active = Timestamp(9);
        assert!(before.sessions_alike(&of_sessions(vec![moved])));
        let mut left = session(Some(agent()));
        left.viewers = 1;
        let idle = session(Some(AgentStatus { state: AgentState::Idle, ..agent() }));
        for other in [vec![left], vec![idle], vec![session(None)], Vec::new()] {
            assert!(!before.sessions_alike(&of_sessions(other.clone())), "{other:?}");
        }
    }

    #[test]
    fn what_was_packed_comes_out_as_it_went_in() {
        let step = StartupStep {
            name: "clone".to_owned(),
            title: "git clone acme/web".to_owned(),
            state: StepState::Failed { message: "no such host".to_owned() },
            started: Timestamp(1_790_000_000_000),
            elapsed_ms: 4_000,
            output: "fatal: ä\n".to_owned(),
        };
        let session = SessionObserved {
            name: "main".parse().expect("a name"),
            command: "claude".to_owned(),
            state: SessionState::Exited { code: 137 },
            started: Timestamp(1),
            active: Timestamp(2),
            viewers: 1,
            panes: Vec::new(),
            killed: None,
            agent: Some(Box::new(agent())),
            run: None,
        };
        let said = WorkspaceObserved {
            workspace: WorkspaceId::new(Uuid::from_u128(7)),
            generation: Generation::new(2, 3),
            run_serial: 4,
            state: RunState::Stopped { exit_code: Some(1), oom: true },
            reason: "it was killed".to_owned(),
            since: Timestamp(5),
            pid: Some(4242),
            steps: vec![step; 8],
            sessions: vec![session],
            usage: Usage { memory: Bytes::mib(64), ..Usage::default() },
            volume: None,
            caps: None,
            caps_reason: String::new(),
            services: Vec::new(),
            kills: Vec::new(),
            browsers: Vec::new(),
        };
        let kept = Observed::from(said.clone());
        assert_eq!((kept.generation, kept.run_serial), (said.generation, said.run_serial));
        assert_eq!((&kept.state, &*kept.reason), (&said.state, said.reason.as_str()));
        assert_eq!(kept.whole(said.workspace), said);
        let other = WorkspaceObserved { since: Timestamp(6), ..said };
        assert_ne!(Observed::from(other), kept, "whatever differs is told");
    }
}
