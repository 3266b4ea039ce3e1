//! One of each command version 0.1 knows, in an order in which they are all allowed, so that the
//! state behind them has every noun.

use uuid::Uuid;
use warren_common::{
    BootId, Bytes, ClientId, ClusterId, Generation, MilliCpus, NodeId, ReplicaId, RequestId,
    Revision, Timestamp, TokenId, WorkspaceId,
    spec::{
        Failover, GitIdentity, IsolationTier, Labels, PlacementRules, Resources, SessionSpec,
        WorkspaceSpec,
    },
    status::{Finding, FindingLevel, NodeFacts},
};
use warren_model::{
    Command, Envelope, Principal,
    command::{
        Advance, Assign, Availability, CreateClient, CreateWorkspace, DeleteClient, Forget,
        InitCluster, IssueToken, JoinNode, RegisterNode, RevokeCertificate, RunRequest,
        SetNodeAvailability, SetReplica, SetRun, Step, UpdateNodeFacts,
    },
};

const START: u64 = 1_800_000_000_000;

fn uuid(kind: u8, n: u8) -> Uuid {
    Uuid::from_u128(u128::from(kind) << 64 | u128::from(n))
}

pub(super) fn client(n: u8) -> ClientId {
    ClientId::new(uuid(1, n))
}

pub(super) fn workspace(n: u8) -> WorkspaceId {
    WorkspaceId::new(uuid(2, n))
}

pub(super) fn node(n: u8) -> NodeId {
    NodeId::new(uuid(3, n))
}

pub(super) fn token(n: u8) -> TokenId {
    TokenId::new(uuid(4, n))
}

pub(super) fn boot() -> BootId {
    BootId::new(uuid(5, 1))
}

pub(super) fn facts(kernel: &str) -> NodeFacts {
    NodeFacts {
        hostname: "vps1".to_owned(),
        boot: boot(),
        allocatable_memory: Bytes::gib(16),
        swap: Bytes::gib(8),
        cpus: MilliCpus(4000),
        disk: Bytes::gib(200),
        version: "0.1.0".to_owned(),
        engine: "28.0".to_owned(),
        kernel: kernel.to_owned(),
        cgroup: 2,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        findings: vec![Finding {
            code: "W1003".to_owned(),
            level: FindingLevel::Warning,
            message: "live-restore is off".to_owned(),
            fix: "set it in daemon.json".to_owned(),
        }],
    }
}

pub(super) fn spec() -> WorkspaceSpec {
    let session = |name: &str, command: Option<&str>| SessionSpec {
        name: name.parse().expect("a name"),
        command: command.map(str::to_owned),
    };
    WorkspaceSpec {
        template: "base".to_owned(),
        image: "warren-workspace:latest".to_owned(),
        repo: Some("https://git.example/acme/web.git".parse().expect("a URL")),
        branch: Some("main".to_owned()),
        setup: Some("npm ci\n".to_owned()),
        git_identity: Some(GitIdentity {
            name: "Ada".to_owned(),
            email: "ada@example.org".to_owned(),
        }),
        sessions: vec![session("main", Some("claude")), session("shell", None)],
        resources: Resources {
            swap: Bytes::gib(1),
            cpus: Some(MilliCpus(1500)),
            ..Resources::with_memory(Bytes::gib(4))
        },
        placement: PlacementRules {
            pin: Some(node(1)),
            required_labels: [("zone".to_owned(), "a".to_owned())].into(),
            tier: IsolationTier::Container,
        },
        failover: Failover::Manual,
        labels: [("team".to_owned(), "blue".to_owned())].into(),
    }
}

fn create_client(n: u8, name: &str, labels: Labels) -> Command {
    let name = name.parse().expect("a name");
    Command::CreateClient(CreateClient { client: client(n), name, labels })
}

pub(super) fn create_workspace(n: u8, name: &str) -> Command {
    Command::CreateWorkspace(Box::new(CreateWorkspace {
        workspace: workspace(n),
        client: client(1),
        name: name.parse().expect("a name"),
        spec: spec(),
        no_queue: n == 1,
    }))
}

fn issue(n: u8, node_name: Option<&str>) -> Command {
    Command::IssueToken(IssueToken {
        token: token(n),
        secret_hash: [n; 32],
        node_name: node_name.map(|name| name.parse().expect("a name")),
        expires: Timestamp(START + 900_000),
    })
}

fn assign(n: u8) -> Command {
    Command::Assign(Assign {
        workspace: workspace(n),
        node: node(1),
        previous: Generation(0),
        reason: "placed on n1 (16.0 GiB free, 0 workspaces of acme)".to_owned(),
    })
}

fn advance(n: u8, run_serial: u64, step: Step) -> Command {
    let generation = Generation::new(7, 1);
    Command::Advance(Advance { workspace: workspace(n), generation, run_serial, step })
}

fn set_run(n: u8, run: RunRequest) -> Command {
    Command::SetRun(SetRun { workspace: workspace(n), run })
}

fn coordinator() -> Principal {
    Principal::Coordinator(ReplicaId(1))
}

fn ada() -> Principal {
    Principal::Person("ada".to_owned())
}

type Named = (&'static str, Principal, Command);

/// Returns what makes cluster, clients and node, with the names under which the entries are kept.
fn founding() -> Vec<Named> {
    let n1 = || Principal::Node(node(1));
    let labels: Labels = [("plan".to_owned(), "gold".to_owned())].into();
    let (cluster, name) = (ClusterId::new(uuid(9, 9)), "burrow".to_owned());
    let join = JoinNode {
        token: token(1),
        secret_hash: [1; 32],
        key_hash: [8; 32],
        node: node(1),
        name: "n1".parse().expect("a name"),
        facts: facts("6.12"),
    };
    let replica = SetReplica {
        replica: ReplicaId(1),
        api_address: "vps1.example:7400".to_owned(),
        raft_address: "vps1.example:7401".to_owned(),
    };
    let node = node(1);
    vec![
        (
            "init-cluster",
            coordinator(),
            Command::InitCluster(InitCluster { cluster, name, incarnation: 7 }),
        ),
        ("set-replica", coordinator(), Command::SetReplica(replica)),
        ("create-client", ada(), create_client(1, "acme", labels)),
        ("create-client-2", ada(), create_client(2, "gone", Labels::new())),
        ("delete-client", ada(), Command::DeleteClient(DeleteClient { client: client(2) })),
        ("issue-token", ada(), issue(1, Some("n1"))),
        ("issue-token-2", ada(), issue(2, None)),
        ("join-node", n1(), Command::JoinNode(join)),
        ("register-node", n1(), Command::RegisterNode(RegisterNode { node, facts: facts("6.12") })),
        (
            "update-node-facts",
            n1(),
            Command::UpdateNodeFacts(UpdateNodeFacts { node, facts: facts("6.13") }),
        ),
    ]
}

/// Returns the life of three workspaces, and what is done to a node and a certificate.
fn living() -> Vec<Named> {
    let revoke = RevokeCertificate {
        serial: vec![0xab, 0xcd],
        subject: "person eve".to_owned(),
        expires: Timestamp(START + 7_776_000_000),
    };
    let (node, availability) = (node(1), Availability::Cordoned);
    let (code, reason) = ("IMAGE_MISSING".to_owned(), "no such image; pull it".to_owned());
    let ended = Step::Ended { reason: "exit code 1".to_owned() };
    vec![
        ("create-workspace", ada(), create_workspace(1, "web")),
        ("create-workspace-2", ada(), create_workspace(2, "api")),
        ("create-workspace-3", ada(), create_workspace(3, "old")),
        ("assign", coordinator(), assign(1)),
        ("assign-2", coordinator(), assign(2)),
        ("assign-3", coordinator(), assign(3)),
        ("advance-preparing", coordinator(), advance(1, 1, Step::Preparing)),
        ("advance-permit", coordinator(), advance(1, 1, Step::Permit { boot: boot() })),
        ("advance-active", coordinator(), advance(1, 1, Step::Active)),
        ("advance-ended", coordinator(), advance(1, 1, ended)),
        ("advance-fail", coordinator(), advance(2, 1, Step::Fail { code, reason })),
        ("set-run-restart", ada(), set_run(2, RunRequest::Restart)),
        ("set-run-stop", ada(), set_run(2, RunRequest::Stop)),
        ("advance-stopped", coordinator(), advance(2, 2, Step::Stopped)),
        ("set-run-start", ada(), set_run(2, RunRequest::Start)),
        ("set-run-delete", ada(), set_run(3, RunRequest::Delete)),
        (
            "forget",
            coordinator(),
            Command::Forget(Forget { workspace: workspace(3), generation: Generation::new(7, 1) }),
        ),
        (
            "set-node-availability",
            ada(),
            Command::SetNodeAvailability(SetNodeAvailability { node, availability }),
        ),
        ("revoke-certificate", ada(), Command::RevokeCertificate(revoke)),
    ]
}

/// Returns the envelopes in their order, each a second after the one before.
pub(super) fn envelopes() -> Vec<(String, Envelope)> {
    let numbered = (0_u64..).zip(founding().into_iter().chain(living()));
    let envelope = |(at, (name, principal, command)): (u64, (&str, Principal, Command))| {
        let at = Timestamp(START + at * 1000);
        let request = u128::from(at.0) << 80 | 0x7 << 76 | 0b10 << 62 | u128::from(at.0 & 0xffff);
        let envelope = Envelope {
            request: RequestId::new(Uuid::from_u128(request)),
            principal,
            at,
            if_revision: (name == "set-run-start").then_some(Revision(999)),
            command,
        };
        (name.to_owned(), envelope)
    };
    numbered.map(envelope).collect()
}
