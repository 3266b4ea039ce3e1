//! Small builders: everything a test does not care about has an ordinary value.

use uuid::Uuid;
use warren_common::{
    BootId, Bytes, ClientId, ClusterId, Generation, MilliCpus, NodeEpoch, NodeId, ReplicaId,
    RequestId, Timestamp, TokenId, WorkspaceId,
    spec::{Failover, Labels, NodeSpec, PlacementRules, Resources, WorkspaceSpec},
    status::{NodeFacts, RunState, Usage, WorkspaceObserved},
};
use warren_model::{
    Applied, ClusterState, Command, Effect, Envelope, LiveView, Principal, Refusal, Report,
    command::{
        CreateClient, CreateWorkspace, InitCluster, IssueCoordinatorToken, IssueToken, JoinNode,
        JoinReplica, RegisterNode, RemoveReplica, RunRequest, SetReplica, SetRun, Touched,
    },
    node_spec,
    state::Workspace,
};

/// When every test begins.
pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);

pub(crate) fn client(n: u8) -> ClientId {
    ClientId::new(id(1, n))
}

pub(crate) fn workspace(n: u8) -> WorkspaceId {
    WorkspaceId::new(id(2, n))
}

pub(crate) fn node(n: u8) -> NodeId {
    NodeId::new(id(3, n))
}

pub(crate) fn token(n: u8) -> TokenId {
    TokenId::new(id(4, n))
}

pub(crate) fn boot(n: u8) -> BootId {
    BootId::new(id(5, n))
}

fn id(kind: u8, n: u8) -> Uuid {
    Uuid::from_u128(u128::from(kind) << 64 | u128::from(n))
}

/// A request id of version 7 minted at `at`.
pub(crate) fn request(at: Timestamp, n: u64) -> RequestId {
    RequestId::new(Uuid::from_u128(
        u128::from(at.0) << 80 | 0x7 << 76 | 0b10 << 62 | u128::from(n & 0x3fff_ffff),
    ))
}

pub(crate) fn person() -> Principal {
    Principal::Person("ada".to_owned())
}

pub(crate) fn coordinator() -> Principal {
    Principal::Coordinator(ReplicaId(1))
}

pub(crate) fn facts(memory: Bytes, boot_number: u8) -> NodeFacts {
    NodeFacts {
        hostname: "host".to_owned(),
        boot: boot(boot_number),
        allocatable_memory: memory,
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

pub(crate) fn spec(memory: Bytes) -> WorkspaceSpec {
    WorkspaceSpec {
        template: "base".to_owned(),
        image: "warren-workspace:latest".to_owned(),
        repo: None,
        branch: None,
        setup: None,
        git_identity: None,
        sessions: Vec::new(),
        resources: Resources::with_memory(memory),
        placement: PlacementRules::default(),
        failover: Failover::Auto,
        labels: Labels::new(),
    }
}

pub(crate) fn create_client(n: u8, name: &str) -> Command {
    let name = name.parse().expect("a name");
    Command::CreateClient(CreateClient { client: client(n), name, labels: Labels::new() })
}

pub(crate) fn create_workspace(n: u8, name: &str, spec: WorkspaceSpec) -> Command {
    Command::CreateWorkspace(Box::new(CreateWorkspace {
        workspace: workspace(n),
        client: client(1),
        name: name.parse().expect("a name"),
        spec,
        no_queue: false,
    }))
}

pub(crate) fn set_run(n: u8, run: RunRequest) -> Command {
    Command::SetRun(SetRun { workspace: workspace(n), run })
}

pub(crate) fn issue(n: u8, at: Timestamp) -> Command {
    let expires = Timestamp(at.0 + 900_000);
    let (token, secret_hash) = (token(n), [n; 32]);
    Command::IssueToken(IssueToken { token, secret_hash, node_name: None, expires })
}

pub(crate) fn join(n: u8, facts: NodeFacts) -> JoinNode {
    JoinNode {
        token: token(n),
        secret_hash: [n; 32],
        key_hash: [n; 32],
        node: node(n),
        name: format!("n{n}").parse().expect("a name"),
        facts,
    }
}

pub(crate) fn coordinator_token(n: u8, at: Timestamp, replaces: Option<u64>) -> Command {
    Command::IssueCoordinatorToken(IssueCoordinatorToken {
        token: coordinator_token_id(n),
        secret_hash: [n; 32],
        expires: Timestamp(at.0 + 900_000),
        replaces: replaces.map(ReplicaId),
    })
}

pub(crate) fn coordinator_token_id(n: u8) -> TokenId {
    TokenId::new(id(6, n))
}

pub(crate) fn join_replica(n: u8, host: u8) -> JoinReplica {
    JoinReplica {
        token: coordinator_token_id(n),
        secret_hash: [n; 32],
        key_hash: [n; 32],
        api_address: format!("10.0.0.{host}:7400"),
        raft_address: format!("10.0.0.{host}:7401"),
    }
}

pub(crate) fn remove_replica(n: u64) -> Command {
    Command::RemoveReplica(RemoveReplica { replica: ReplicaId(n) })
}

pub(crate) fn set_replica(n: u64, host: u8) -> Command {
    Command::SetReplica(SetReplica {
        replica: ReplicaId(n),
        api_address: format!("10.0.0.{host}:7400"),
        raft_address: format!("10.0.0.{host}:7401"),
    })
}

/// A cluster, its live view and a clock; people ask through it, the planner's commands run through
/// it, and every step is checked against the invariants.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) state: ClusterState,
    pub(crate) live: LiveView,
    pub(crate) now: Timestamp,
    requests: u64,
    reports: u64,
}

/// Panics where a node is told something else after a command that is not said to touch it.
pub(crate) fn documents_follow(before: &ClusterState, after: &ClusterState, command: &Command) {
    let named = command.workspace().and_then(|id| before.workspaces.get(&id));
    let mut touched = Touched::none(before);
    touched.take(command, named.map(AsRef::as_ref), after);
    for node in before.nodes.keys().chain(after.nodes.keys()) {
        let [old, new] = [before, after].map(|state| node_spec(state, *node, 1));
        let old = NodeSpec { revision: new.revision, ..old };
        assert!(old == new || touched.holds(*node), "{node} is told {new:?} after {command:?}");
    }
}

impl World {
    /// An initialised cluster with client `acme` and no nodes.
    pub(crate) fn new() -> Self {
        let live = LiveView::new(START);
        let mut world =
            Self { state: ClusterState::default(), live, now: START, requests: 0, reports: 0 };
        let cluster = ClusterId::new(Uuid::from_u128(9));
        let init = InitCluster { cluster, name: "burrow".to_owned(), incarnation: 7 };
        world.must(Command::InitCluster(init));
        world.must(create_client(1, "acme"));
        world
    }

    /// The same with nodes `n1`, `n2`, … of these sizes, registered and ready.
    pub(crate) fn with_nodes(memory: &[Bytes]) -> Self {
        let mut world = Self::new();
        for (index, memory) in memory.iter().enumerate() {
            world.add_node(u8::try_from(index + 1).expect("few nodes"), facts(*memory, 1));
        }
        world
    }

    pub(crate) fn add_node(&mut self, n: u8, facts: NodeFacts) {
        self.must(issue(n, self.now));
        self.must(Command::JoinNode(join(n, facts.clone())));
        self.register(n, facts);
    }

    /// Registers and tells an empty inventory.
    pub(crate) fn register(&mut self, n: u8, facts: NodeFacts) {
        self.must(Command::RegisterNode(RegisterNode { node: node(n), facts }));
        self.report(n, true, Vec::new());
    }

    pub(crate) fn report(&mut self, n: u8, full: bool, workspaces: Vec<WorkspaceObserved>) {
        self.reports += 1;
        let epoch = self.state.nodes.get(&node(n)).map_or(NodeEpoch(0), |node| node.epoch);
        let (sequence, received) = (self.reports, self.now);
        let report = Report { epoch, sequence, received, full, workspaces };
        assert!(self.live.report(node(n), report), "a report of the present is taken");
    }

    pub(crate) fn wait(&mut self, millis: u64) {
        self.now = Timestamp(self.now.0 + millis);
    }

    pub(crate) fn envelope(&mut self, principal: Principal, command: Command) -> Envelope {
        self.requests += 1;
        let request = request(self.now, self.requests);
        Envelope { request, principal, at: self.now, if_revision: None, command }
    }

    /// Applies, checking every invariant.
    pub(crate) fn apply(&mut self, envelope: &Envelope) -> Effect {
        let before = self.state.clone();
        let effect = self.state.apply(envelope);
        warren_model::invariants::check(&self.state).expect("every invariant");
        warren_model::invariants::check_step(&before, &self.state).expect("every step");
        documents_follow(&before, &self.state, &envelope.command);
        effect
    }

    pub(crate) fn ask(&mut self, command: Command) -> Result<Applied, Refusal> {
        let derived = matches!(
            command,
            Command::Assign(_)
                | Command::Advance(_)
                | Command::Forget(_)
                | Command::RegisterNode(_)
                | Command::UpdateNodeFacts(_)
                | Command::BeginIncarnation(_)
                | Command::AdoptNode(_)
                | Command::AdoptWorkspace(_)
                | Command::AccountNode(_)
        );
        let principal = if derived { coordinator() } else { person() };
        let envelope = self.envelope(principal, command);
        self.apply(&envelope).result
    }

    pub(crate) fn must(&mut self, command: Command) -> Applied {
        self.ask(command).expect("it is allowed")
    }

    /// Refused: the sentence.
    pub(crate) fn refused(&mut self, command: Command) -> Refusal {
        self.ask(command).expect_err("it is not allowed")
    }

    /// Plans and applies until nothing is left to do.
    pub(crate) fn settle(&mut self) -> warren_model::PlanReport {
        for _ in 0..20 {
            let plan = warren_model::plan(&self.state, &self.live, self.now);
            if plan.commands.is_empty() {
                return plan.report;
            }
            for command in plan.commands {
                self.must(command);
            }
        }
        panic!("the planner does not come to rest");
    }

    pub(crate) fn workspace(&self, n: u8) -> &Workspace {
        self.state.workspaces.get(&workspace(n)).expect("it is there")
    }
}

pub(crate) fn observed(n: u8, run_serial: u64, state: RunState) -> WorkspaceObserved {
    WorkspaceObserved {
        workspace: workspace(n),
        generation: Generation::new(7, 1),
        run_serial,
        state,
        reason: String::new(),
        since: START,
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
