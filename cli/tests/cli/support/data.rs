//! A small cluster: two clients, two nodes, four workspaces in telling states.

use warren_common::Generation;
use warren_proto::pb::{
    admin::v1 as pb,
    inside::v1::{self as inside, agent_state::State},
    node::v1 as node,
};

use super::fake;

/// 2026-01-02T03:04:05Z.
pub(crate) const NOW: u64 = 1_767_323_045_000;

const GIB: u64 = 1 << 30;

/// Fills in the whole cluster.
pub(crate) fn fill(state: &mut fake::State, cluster: &str) {
    let labels = [("team".to_owned(), "web".to_owned())];
    state.clients = vec![
        pb::Client {
            id: "0199a0b2-7f00-7000-8000-0000000000c1".to_owned(),
            name: "acme".to_owned(),
            labels: labels.into(),
            created_unix_ms: NOW - 86_400_000 * 3,
            revision: 3,
            workspaces: 3,
            allowed: vec!["10.1.2.0/24:5432/tcp".to_owned()],
        },
        pb::Client {
            name: "zenith".to_owned(),
            created_unix_ms: NOW - 90_000,
            ..Default::default()
        },
    ];
    state.nodes = vec![node_ready(), node_silent()];
    state.workspaces = vec![running(), queued(), silent(), step_failed()];
    state.sessions =
        vec![session("main", "claude", None), session("tests", "npm run watch", Some(1))];
    state.cluster = pb::GetClusterResponse {
        cluster_id: cluster.to_owned(),
        name: "demo".to_owned(),
        incarnation: 1,
        created_unix_ms: NOW - 86_400_000 * 40,
        replicas: vec![
            replica(1, pb::ReplicaRole::Leader),
            replica(2, pb::ReplicaRole::Voter),
            pb::Replica {
                lag_entries: Some(41),
                contact_ms: Some(192_000),
                version: String::new(),
                engine: String::new(),
                disk_free_bytes: 0,
                trouble: "no coordinator answers: 10.0.0.3:7401: no answer in 5s".to_owned(),
                ..replica(3, pb::ReplicaRole::Voter)
            },
            pb::Replica { voter: false, lag_entries: None, ..replica(4, pb::ReplicaRole::Learner) },
        ],
        leader_replica_id: 1,
        term: 7,
        clients: 2,
        nodes: 2,
        nodes_ready: 1,
        workspaces: 4,
        workspaces_active: 3,
        audit_sequence: 123,
        audit_hash: "0123456789abcdef".repeat(4),
        version: "0.1.0".to_owned(),
        ..Default::default()
    };
    state.explanation = explanation();
    state.inspected = inspected(cluster);
    state.records = super::audit::records();
    state.verdicts = super::audit::verdicts();
}

fn inspected(cluster: &str) -> pb::InspectCoordinatorResponse {
    pb::InspectCoordinatorResponse {
        replica_id: 1,
        coordinator_holders: 1,
        cluster_id: cluster.to_owned(),
        cluster_name: "demo".to_owned(),
        version: "0.1.0".to_owned(),
        leader_replica_id: 1,
        engine: "sled".to_owned(),
        log_entries: 900,
        since_checkpoint_entries: 900,
        checkpoint_every_entries: 5000,
        log_bytes: 4 << 20,
        disk_free_bytes: 30 << 30,
        disk_bytes: 100 << 30,
        audit_sequence: 123,
        people_told: true,
        ..Default::default()
    }
}

fn node_ready() -> pb::Node {
    let finding = node::Finding {
        code: "W1102".to_owned(),
        level: node::FindingLevel::Warning.into(),
        message: "Docker runs without live-restore".to_owned(),
        fix: "set live-restore in /etc/docker/daemon.json".to_owned(),
    };
    pb::Node {
        id: "0199a0b2-7f00-7000-8000-0000000000a1".to_owned(),
        name: "n1".to_owned(),
        availability: pb::NodeAvailability::Active.into(),
        liveness: pb::NodeLiveness::Ready.into(),
        reason: "reports in time".to_owned(),
        last_seen_unix_ms: NOW - 1000,
        epoch: 4,
        facts: Some(node::NodeFacts {
            hostname: "vps-1".to_owned(),
            allocatable_memory_bytes: 14 * GIB,
            swap_bytes: 2 * GIB,
            milli_cpus: 4000,
            disk_bytes: 200 * GIB,
            version: "0.1.0".to_owned(),
            engine: "28.1.1".to_owned(),
            kernel: "6.12.0".to_owned(),
            cgroup: 2,
            findings: vec![finding],
            ..Default::default()
        }),
        usage: Some(node::NodeUsage {
            memory_available_bytes: 9 * GIB,
            disk_available_bytes: 150 * GIB,
            load_milli: 1250,
            pool: Some(node::PoolUsage {
                kind: "btrfs pool".to_owned(),
                path: "/var/lib/warren/node/pool.btrfs".to_owned(),
                used_bytes: 50 * GIB,
                available_bytes: 160 * GIB,
            }),
            memory_total_bytes: 16 * GIB,
            swap_total_bytes: 2 * GIB,
            swap_free_bytes: GIB,
            busy_milli_cpus: 2750,
            memory_pressure: Some(node::Pressure { some_60: 73, ..Default::default() }),
            cpu_pressure: Some(node::Pressure::default()),
            io_pressure: None,
            firewall: 0x3fa9_0000_0000_0001,
            images: None,
        }),
        reserved_memory_bytes: 4 * GIB,
        capped_memory_bytes: 8 * GIB,
        workspaces: 2,
        joined_unix_ms: NOW - 86_400_000 * 30,
        ..Default::default()
    }
}

fn node_silent() -> pb::Node {
    pb::Node {
        name: "n2".to_owned(),
        availability: pb::NodeAvailability::Cordoned.into(),
        liveness: pb::NodeLiveness::Unreachable.into(),
        reason: "no report for 14m".to_owned(),
        last_seen_unix_ms: NOW - 840_000,
        epoch: 1,
        workspaces: 1,
        ..Default::default()
    }
}

fn spec() -> node::WorkspaceSpec {
    node::WorkspaceSpec {
        template: "base".to_owned(),
        image: "warren-workspace:latest".to_owned(),
        repo: Some("https://git.example/acme/web.git".to_owned()),
        branch: None,
        sessions: vec![node::SessionSpec {
            name: "main".to_owned(),
            command: Some("claude".to_owned()),
        }],
        resources: Some(node::Resources {
            memory_bytes: 4 * GIB,
            swap_bytes: 0,
            reserve_bytes: 2 * GIB,
            cpu_weight: 1024,
            milli_cpus: Some(1500),
            disk_bytes: 20 * GIB,
            pids: 1024,
        }),
        placement: Some(node::Placement {
            tier: node::IsolationTier::Container.into(),
            ..Default::default()
        }),
        failover: node::Failover::Auto.into(),
        ..Default::default()
    }
}

/// One startup step.
pub(crate) fn step(name: &str, title: &str, state: node::StepState, ms: u64) -> node::StartupStep {
    node::StartupStep {
        name: name.to_owned(),
        title: title.to_owned(),
        state: state.into(),
        elapsed_ms: ms,
        ..Default::default()
    }
}

fn observed(state: node::RunState, steps: Vec<node::StartupStep>) -> node::WorkspaceObserved {
    let sessions = [session("main", "claude", None).observed].into_iter().flatten().collect();
    node::WorkspaceObserved {
        run_serial: 1,
        state: state.into(),
        steps,
        sessions,
        usage: Some(node::Usage {
            memory_bytes: 1_288_490_189,
            pids: 31,
            working_set_bytes: GIB,
            memory_cap_bytes: 4 * GIB,
            milli_cpus: 350,
            received_bytes: 3 << 20,
            sent_bytes: 5 << 10,
            ..Default::default()
        }),
        volume: Some(node::VolumeUsage { used_bytes: 12 * GIB + GIB / 2, limit_bytes: 20 * GIB }),
        caps: spec().resources.map(|asked| node::CapsHeld {
            memory_bytes: asked.memory_bytes,
            swap_bytes: asked.swap_bytes,
            milli_cpus: asked.milli_cpus,
            disk_bytes: asked.disk_bytes,
        }),
        ..Default::default()
    }
}

/// acme/web in a phase, with steps as its node sees them.
pub(crate) fn web(
    phase: pb::Phase,
    state: node::RunState,
    steps: Vec<node::StartupStep>,
) -> pb::Workspace {
    pb::Workspace {
        id: "0199a0b2-7f00-7000-8000-0000000000b1".to_owned(),
        client: "acme".to_owned(),
        name: "web".to_owned(),
        spec: Some(spec()),
        run: pb::DesiredRun::Running.into(),
        phase: phase.into(),
        reason: "runs on n1".to_owned(),
        phase_since_unix_ms: NOW - 3_600_000,
        generation: Generation::new(1, 1).0,
        run_serial: 1,
        node_id: "0199a0b2-7f00-7000-8000-0000000000a1".to_owned(),
        node: "n1".to_owned(),
        observed: Some(observed(state, steps)),
        observed_unix_ms: NOW - 1000,
        observed_live: true,
        created_unix_ms: NOW - 7_200_000,
        revision: 17,
        failover: "manual (no fence yet)".to_owned(),
        request_id: "0199a0b2-7f00-7000-8000-0000000000e1".to_owned(),
        ..Default::default()
    }
}

/// The steps of a start that went well.
pub(crate) fn steps() -> Vec<node::StartupStep> {
    use node::StepState::{Done, Skipped};
    vec![
        step("volume", "home volume 20 GiB", Done, 80),
        step("container", "container", Done, 290),
        step("clone", "git clone acme/web (1,204 objects)", Done, 2_080),
        step("setup", "setup: none asked for", Skipped, 0),
        step("session:main", "session main: claude", Done, 3_590),
    ]
}

fn running() -> pb::Workspace {
    web(pb::Phase::Active, node::RunState::Running, steps())
}

fn queued() -> pb::Workspace {
    let mut workspace = web(pb::Phase::Queued, node::RunState::Absent, Vec::new());
    workspace.id = "0199a0b2-7f00-7000-8000-0000000000b2".to_owned();
    workspace.name = "big".to_owned();
    workspace.reason = "no node has 64 GiB free: the largest is n1 with 10 GiB".to_owned();
    workspace.node = String::new();
    workspace.observed = None;
    workspace.observed_unix_ms = 0;
    workspace.observed_live = false;
    workspace
}

fn silent() -> pb::Workspace {
    let mut workspace = web(pb::Phase::Active, node::RunState::Running, steps());
    workspace.name = "old".to_owned();
    workspace.reason = "n2 has not reported for 14m".to_owned();
    workspace.node = "n2".to_owned();
    workspace.observed_unix_ms = NOW - 840_000;
    workspace.observed_live = false;
    workspace
}

/// The steps of a start whose clone failed.
pub(crate) fn failed_steps() -> Vec<node::StartupStep> {
    let mut clone = step("clone", "git clone acme/web", node::StepState::Failed, 1_500);
    clone.message = "git clone ended with exit code 128".to_owned();
    clone.output = "Cloning into 'web'...\nfatal: repository not found\n".to_owned();
    vec![step("volume", "home volume 20 GiB", node::StepState::Done, 80), clone]
}

fn step_failed() -> pb::Workspace {
    let mut workspace = web(pb::Phase::Active, node::RunState::Running, failed_steps());
    workspace.client = "zenith".to_owned();
    workspace.name = "api".to_owned();
    if let Some(observed) = &mut workspace.observed {
        observed.kills = vec![node::Kill {
            at_unix_ms: NOW - 180_000,
            process: "node".to_owned(),
            command: "node server.js --watch".to_owned(),
            session: "main".to_owned(),
            pid: Some(4711),
            source: node::KillSource::KernelLog.into(),
            cgroup: "/warren-n1/0199a0b2-7f00-7000-8000-0000000000b3/4f1c".to_owned(),
        }];
    }
    workspace
}

fn session(name: &str, command: &str, exited: Option<i32>) -> pb::Session {
    pb::Session {
        client: "acme".to_owned(),
        workspace: "web".to_owned(),
        node: "n1".to_owned(),
        observed: Some(node::SessionObserved {
            name: name.to_owned(),
            command: command.to_owned(),
            running: exited.is_none(),
            exit_code: exited.unwrap_or(0),
            started_unix_ms: NOW - 7_000_000,
            active_unix_ms: NOW - 12_000,
            viewers: 1,
            killed: None,
            agent: None,
            ..Default::default()
        }),
        observed_unix_ms: NOW - 1000,
        observed_live: true,
        asked: None,
    }
}

/// A session with an agent in it that has been in its state for some seconds.
pub(crate) fn agent(workspace: &str, state: State, seconds: u64) -> pb::Session {
    let mut session = session("main", "claude", None);
    session.workspace = workspace.to_owned();
    let since_unix_ms = NOW - seconds * 1000;
    let observed = session.observed.get_or_insert_default();
    observed.agent = Some(inside::AgentStatus {
        kind: "claude".to_owned(),
        state: Some(inside::AgentState { state: Some(state) }),
        since_unix_ms,
        last_activity_unix_ms: since_unix_ms,
        source: inside::AgentSource::Hook.into(),
        event: "Notification".to_owned(),
        evidence_unix_ms: since_unix_ms,
        meter: Some(inside::AgentMeter {
            model: "claude-opus-5-5".to_owned(),
            mode: "bypassPermissions".to_owned(),
            context_tokens: Some(54_000),
            context_window: Some(200_000),
            input_tokens: Some(1_250_000),
            output_tokens: Some(9_400),
            cost_micro_usd: Some(1_230_000),
        }),
        ..Default::default()
    });
    session
}

/// An agent that asks for leave to publish.
pub(crate) fn waiting(workspace: &str, seconds: u64) -> pb::Session {
    let wait = inside::AgentWaiting {
        kind: inside::AgentWaitKind::Permission.into(),
        text: "npm publish".to_owned(),
        options: vec!["Yes".to_owned(), "No".to_owned()],
        since_unix_ms: NOW - seconds * 1000,
    };
    agent(workspace, State::Waiting(wait), seconds)
}

/// An agent at the prompt.
pub(crate) fn idle(workspace: &str, seconds: u64) -> pb::Session {
    agent(workspace, State::Idle(inside::AgentIdle {}), seconds)
}

fn explanation() -> pb::Explanation {
    let filter = |filter: &str, considered, refused| pb::FilterCount {
        filter: filter.to_owned(),
        considered,
        refused,
    };
    let part = |name: &str, value, weight| pb::ScorePart { name: name.to_owned(), value, weight };
    pb::Explanation {
        summary: "placed on n1 (10 GiB free, 0 workspaces of acme)".to_owned(),
        node: "n1".to_owned(),
        filters: vec![filter("schedulable", 2, 1), filter("memory", 1, 0)],
        candidates: vec![
            pb::Candidate {
                node: "n1".to_owned(),
                score: 812,
                parts: vec![part("pack-or-spread", 900, 350), part("locality", 0, 250)],
                ..Default::default()
            },
            pb::Candidate {
                node: "n2".to_owned(),
                refused_by: "schedulable".to_owned(),
                detail: "cordoned".to_owned(),
                ..Default::default()
            },
        ],
    }
}

/// A backup of the cluster, sealed as asked.
pub(crate) fn backup(request: pb::BackupRequest) -> Vec<u8> {
    use warren_daemon::backup::{Content, Header, Kdf, Manifest, Sealer};
    let kdf = request.kdf.expect("the key's parameters");
    let header = Header {
        cluster: "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id"),
        name: "demo".to_owned(),
        incarnation: 7,
        revision: 42,
        term: 3,
        index: 50,
        last_replica: 3,
        taken: warren_common::Timestamp(NOW),
        version: "0.1.0".to_owned(),
        kdf: Kdf {
            algorithm: kdf.algorithm,
            memory_kib: kdf.memory_kib,
            passes: kdf.passes,
            lanes: kdf.lanes,
            salt: kdf.salt,
        },
        nonce: String::new(),
        key_check: String::new(),
    };
    let manifest = Manifest {
        clients: 2,
        nodes: 3,
        workspaces: 5,
        audit_sequence: 42,
        audit_hash: "ab".repeat(32),
        sealed: Vec::new(),
    };
    let key: [u8; 32] = request.key.as_ref().try_into().expect("32 bytes");
    let (mut file, mut sealer) = Sealer::begin(header, &key.into()).expect("begun");
    let content = Content { manifest, state: vec![7; 200_000], ..Content::default() };
    let encoded = content.encode(|plain| {
        file.extend(sealer.push(plain)?);
        Ok(())
    });
    encoded.expect("encoded");
    file.extend(sealer.finish().expect("finished"));
    file
}

/// A recovery that waits for two nodes.
pub(crate) fn recovery() -> pb::Recovery {
    pb::Recovery {
        since_unix_ms: NOW,
        reason: "restored from the backup of 2026-11-24 15:00:00 UTC".to_owned(),
        awaited_nodes: vec!["n1".to_owned(), "n2".to_owned()],
        earliest_end_unix_ms: NOW,
    }
}

fn replica(id: u64, role: pb::ReplicaRole) -> pb::Replica {
    pb::Replica {
        id,
        api_address: format!("10.0.0.{id}:7400"),
        raft_address: format!("10.0.0.{id}:7401"),
        voter: true,
        role: role.into(),
        lag_entries: Some(0),
        contact_ms: Some(0),
        version: "0.1.0".to_owned(),
        engine: "sled".to_owned(),
        disk_free_bytes: 31 << 30,
        trouble: String::new(),
    }
}
