//! The ring and its readers over a model that lives in memory.

mod bounds;
mod folding;
mod following;
mod sessions;

use std::{sync::Arc, time::Instant};

use uuid::Uuid;
use warren_common::{
    BootId, Bytes, ClientId, ClusterId, Generation, MilliCpus, NodeId, ReplicaId, RequestId,
    Revision, Timestamp, TokenId, WorkspaceId,
    spec::{Failover, Labels, PlacementRules, Resources, WorkspaceSpec},
    status::{NodeFacts, RunState, Usage, WorkspaceObserved},
};
use warren_model::{
    ClusterState, Command, Envelope, Principal,
    command::{
        Assign, CreateClient, CreateWorkspace, DeleteClient, InitCluster, IssueToken, JoinNode,
        RegisterNode, UpdateClient,
    },
};

use super::{Gathered, Ring, ring::Bounds};

const START: Timestamp = Timestamp(1_800_000_000_000);
const INCARNATION: u32 = 7;

fn id(kind: u8, n: u8) -> Uuid {
    Uuid::from_u128(u128::from(kind) << 64 | u128::from(n))
}

fn client(n: u8) -> ClientId {
    ClientId::new(id(1, n))
}

pub(crate) fn workspace(n: u8) -> WorkspaceId {
    WorkspaceId::new(id(2, n))
}

pub(crate) fn node(n: u8) -> NodeId {
    NodeId::new(id(3, n))
}

/// A workspace that runs, with nothing in it.
pub(crate) fn observed(n: u8) -> WorkspaceObserved {
    WorkspaceObserved {
        workspace: workspace(n),
        generation: Generation::default(),
        run_serial: 1,
        state: RunState::Running,
        reason: String::new(),
        since: Timestamp(1),
        pid: None,
        steps: Vec::new(),
        sessions: Vec::new(),
        usage: Usage::default(),
        volume: None,
        caps: None,
        caps_reason: String::new(),
        services: Vec::new(),
        kills: Vec::new(),
        browsers: Vec::new(),
    }
}

fn boot(n: u8) -> BootId {
    BootId::new(id(5, n))
}

fn facts(gib: u64) -> NodeFacts {
    NodeFacts {
        hostname: "host".to_owned(),
        boot: boot(1),
        allocatable_memory: Bytes::gib(gib),
        swap: Bytes(0),
        cpus: MilliCpus(8000),
        disk: Bytes::gib(1000),
        version: "0.1.0".to_owned(),
        engine: "28.0".to_owned(),
        kernel: "6.12".to_owned(),
        cgroup: 2,
        labels: Labels::new(),
        findings: Vec::new(),
    }
}

fn create_client(n: u8) -> Command {
    let name = format!("c{n}").parse().expect("a name");
    Command::CreateClient(CreateClient { client: client(n), name, labels: Labels::new() })
}

fn delete_client(n: u8) -> Command {
    Command::DeleteClient(DeleteClient { client: client(n) })
}

fn label_client(n: u8, value: u8) -> Command {
    let set_labels = [("team".to_owned(), value.to_string())].into();
    let remove_labels = Default::default();
    Command::UpdateClient(UpdateClient { client: client(n), set_labels, remove_labels })
}

fn create_workspace(of: u8, n: u8, setup: Option<String>) -> Command {
    let spec = WorkspaceSpec {
        template: "base".to_owned(),
        image: "warren-workspace:latest".to_owned(),
        repo: None,
        branch: None,
        setup,
        git_identity: None,
        sessions: Vec::new(),
        resources: Resources::with_memory(Bytes::gib(1)),
        placement: PlacementRules::default(),
        failover: Failover::Auto,
        labels: Labels::new(),
    };
    Command::CreateWorkspace(Box::new(CreateWorkspace {
        workspace: workspace(n),
        client: client(of),
        name: format!("w{n}").parse().expect("a name"),
        spec,
        no_queue: false,
    }))
}

fn issue(n: u8, at: Timestamp) -> Command {
    Command::IssueToken(IssueToken {
        token: TokenId::new(id(4, n)),
        secret_hash: [n; 32],
        node_name: None,
        expires: Timestamp(at.0 + 900_000),
    })
}

fn join(n: u8) -> Command {
    Command::JoinNode(JoinNode {
        token: TokenId::new(id(4, n)),
        secret_hash: [n; 32],
        key_hash: [n; 32],
        node: node(n),
        name: format!("n{n}").parse().expect("a name"),
        facts: facts(4),
    })
}

/// A state and the ring of its events, as a replica keeps them.
pub(crate) struct World {
    pub(crate) state: ClusterState,
    ring: Arc<Ring>,
    pub(crate) now: Timestamp,
    arrived: Instant,
    requests: u64,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        let ring = Arc::new(Ring::bounded(0, Revision(0), bounds));
        let state = ClusterState::default();
        let mut world = Self { state, ring, now: START, arrived: Instant::now(), requests: 0 };
        let cluster = ClusterId::new(id(9, 9));
        let init = InitCluster { cluster, name: "burrow".to_owned(), incarnation: INCARNATION };
        world.must(vec![Command::InitCluster(init)]);
        world
    }

    /// One node with a workspace of each of two clients on it.
    pub(crate) fn with_placed() -> Self {
        let mut world = Self::new(Bounds::default());
        let at = world.now;
        world.must(vec![create_client(1), create_client(2), issue(1, at), join(1)]);
        let register = RegisterNode { node: node(1), facts: facts(4) };
        world.must(vec![Command::RegisterNode(register)]);
        world.must(vec![create_workspace(1, 1, None), create_workspace(2, 2, None)]);
        let assign = |n| {
            let (workspace, node, reason) = (workspace(n), node(1), String::new());
            let previous = world.state.workspaces[&workspace].generation;
            Command::Assign(Assign { workspace, node, previous, reason })
        };
        let both = vec![assign(1), assign(2)];
        world.must(both);
        world
    }

    /// Applies commands as one batch; how many the state allowed.
    fn apply(&mut self, commands: Vec<Command>) -> usize {
        let mut gathered = Gathered::default();
        let mut allowed = 0;
        for command in commands {
            self.requests += 1;
            self.now = Timestamp(self.now.0 + 1);
            let principal = match command {
                Command::Assign(_)
                | Command::Advance(_)
                | Command::Forget(_)
                | Command::RegisterNode(_) => Principal::Coordinator(ReplicaId(1)),
                _ => Principal::Person("ada".to_owned()),
            };
            let request = RequestId::new(Uuid::from_u128(
                u128::from(self.now.0) << 80 | 0x7 << 76 | 0b10 << 62 | u128::from(self.requests),
            ));
            let before = Gathered::before(&self.state, &command);
            let envelope =
                Envelope { request, principal, at: self.now, if_revision: None, command };
            let effect = self.state.apply(&envelope);
            allowed += usize::from(effect.result.is_ok());
            gathered.take(&self.state, before.as_ref(), effect.events);
        }
        let place = (INCARNATION, self.state.revision);
        self.ring.append(place, gathered.into_records(), self.arrived);
        allowed
    }

    fn must(&mut self, commands: Vec<Command>) {
        let count = commands.len();
        assert_eq!(self.apply(commands), count, "the state allows them");
    }
}
