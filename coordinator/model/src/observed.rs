//! A report on one workspace as it is kept.
//!
//! A coordinator holds one of every workspace there is, and nearly all of them are only looked at
//! when somebody asks: what the planner compares stands open, the whole is packed, a third of what
//! it takes with every step and session laid out.

use serde::{Deserialize, Serialize};
use warren_common::{
    Generation, Timestamp, WorkspaceId,
    measure::Kill,
    status::{
        CapsHeld, RunState, SessionObserved, StartupStep, Usage, VolumeUse, WorkspaceObserved,
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
    /// A [`Rest`].
    rest: Box<[u8]>,
}

/// What nobody compares.
#[derive(Serialize, Deserialize)]
struct Rest {
    since: Timestamp,
    pid: Option<u32>,
    steps: Vec<StartupStep>,
    sessions: Vec<SessionObserved>,
    usage: Usage,
    volume: Option<VolumeUse>,
    caps: Option<CapsHeld>,
    caps_reason: String,
    kills: Vec<Kill>,
}

impl Observed {
    /// Returns all that was said of this workspace.
    pub fn whole(&self, workspace: WorkspaceId) -> WorkspaceObserved {
        let rest: Rest = postcard::from_bytes(&self.rest).expect("it was packed here");
        let Rest { since, pid, steps, sessions, usage, volume, caps, caps_reason, kills } = rest;
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
            kills,
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
            kills,
        } = said;
        let rest = Rest { since, pid, steps, sessions, usage, volume, caps, caps_reason, kills };
        let rest = postcard::to_stdvec(&rest).expect("its types are plain and memory is the bound");
        let (reason, rest) = (reason.into_boxed_str(), rest.into_boxed_slice());
        Self { generation, run_serial, state, reason, rest }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use warren_common::{
        Bytes,
        status::{SessionState, StepState},
    };

    use super::*;

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
            agent: None,
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
            kills: Vec::new(),
        };
        let kept = Observed::from(said.clone());
        assert_eq!((kept.generation, kept.run_serial), (said.generation, said.run_serial));
        assert_eq!((&kept.state, &*kept.reason), (&said.state, said.reason.as_str()));
        assert_eq!(kept.whole(said.workspace), said);
        let other = WorkspaceObserved { since: Timestamp(6), ..said };
        assert_ne!(Observed::from(other), kept, "whatever differs is told");
    }
}
