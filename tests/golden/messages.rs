//! Whole messages, decoded and compared field by field, and encoded again to the same bytes.

#![allow(clippy::needless_update, reason = "a field that is added later was never sent by 0.1")]

use prost::Message;
use warren_common::{spec::NodeSpec, status::WorkspaceObserved};
use warren_proto::pb::{admin::v1 as admin, inside::v1 as inside, node::v1 as node};

use super::file::{Strings, golden};

const CLIENT: &str = "00000000-0000-0001-0000-000000000001";
const WORKSPACE: &str = "00000000-0000-0002-0000-000000000001";
const NODE: &str = "00000000-0000-0003-0000-000000000001";
const BOOT: &str = "00000000-0000-0005-0000-000000000001";

fn spec() -> node::WorkspaceSpec {
    node::WorkspaceSpec {
        template: "base".to_owned(),
        image: "warren-workspace:latest".to_owned(),
        repo: Some("https://git.example/acme/web.git".to_owned()),
        branch: Some("main".to_owned()),
        setup: Some("npm ci\n".to_owned()),
        git_identity: Some(node::GitIdentity {
            name: "Ada".to_owned(),
            email: "ada@example.org".to_owned(),
            ..Default::default()
        }),
        sessions: vec![node::SessionSpec {
            name: "main".to_owned(),
            command: Some("claude".to_owned()),
            ..Default::default()
        }],
        resources: Some(node::Resources {
            memory_bytes: 4 << 30,
            swap_bytes: 1 << 30,
            reserve_bytes: 2 << 30,
            cpu_weight: 1024,
            milli_cpus: Some(1500),
            disk_bytes: 20 << 30,
            pids: 1024,
            ..Default::default()
        }),
        placement: Some(node::Placement {
            pin_node_id: Some(NODE.to_owned()),
            required_labels: [("zone".to_owned(), "a".to_owned())].into(),
            tier: node::IsolationTier::Container.into(),
            ..Default::default()
        }),
        failover: node::Failover::Manual.into(),
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        ..Default::default()
    }
}

fn order() -> node::NodeSpec {
    node::NodeSpec {
        incarnation: 7,
        term: 3,
        revision: 21,
        workspaces: vec![node::WorkspaceOrder {
            workspace_id: WORKSPACE.to_owned(),
            client_id: CLIENT.to_owned(),
            client_name: "acme".to_owned(),
            workspace_name: "web".to_owned(),
            generation: 7 << 32 | 1,
            run: node::Run::Running.into(),
            run_serial: 2,
            permit: Some(node::Permit {
                run_serial: 2,
                boot_id: BOOT.to_owned(),
                ..Default::default()
            }),
            spec: Some(spec()),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn observed() -> node::WorkspaceObserved {
    node::WorkspaceObserved {
        workspace_id: WORKSPACE.to_owned(),
        generation: 7 << 32 | 1,
        run_serial: 2,
        state: node::RunState::Stopped.into(),
        exit_code: Some(137),
        oom: true,
        failure_code: String::new(),
        failure_retry: false,
        reason: "out of memory".to_owned(),
        since_unix_ms: 1_800_000_000_000,
        pid: Some(4711),
        steps: vec![node::StartupStep {
            name: "clone".to_owned(),
            title: "git clone acme/web".to_owned(),
            state: node::StepState::Failed.into(),
            message: "no route to host".to_owned(),
            started_unix_ms: 1_800_000_000_001,
            elapsed_ms: 2100,
            output: "fatal: unable to access".to_owned(),
            ..Default::default()
        }],
        sessions: vec![node::SessionObserved {
            name: "main".to_owned(),
            command: "claude".to_owned(),
            running: false,
            exit_code: -2,
            started_unix_ms: 1_800_000_000_002,
            active_unix_ms: 1_800_000_000_003,
            viewers: 1,
            ..Default::default()
        }],
        usage: Some(node::Usage {
            memory_bytes: 1 << 30,
            swap_bytes: 5,
            pids: 12,
            cpu_ms: 999,
            oom_kills: 1,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn create() -> admin::CreateWorkspaceRequest {
    admin::CreateWorkspaceRequest {
        mutation: Some(mutation()),
        client: "acme".to_owned(),
        name: "web".to_owned(),
        template: "base".to_owned(),
        parameters: [("repo".to_owned(), "https://git.example/acme/web.git".to_owned())].into(),
        resources: Some(admin::ResourceRequest {
            memory_bytes: Some(4 << 30),
            swap_bytes: Some(0),
            reserve_bytes: None,
            cpu_weight: Some(512),
            milli_cpus: Some(1500),
            disk_bytes: None,
            pids: Some(64),
            ..Default::default()
        }),
        placement: spec().placement,
        failover: node::Failover::Auto.into(),
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        sessions: spec().sessions,
        pin_node: "n1".to_owned(),
        no_queue: true,
        ..Default::default()
    }
}

fn mutation() -> admin::Mutation {
    admin::Mutation {
        request_id: "01a31826-3000-7000-8000-000000000001".to_owned(),
        if_revision: Some(20),
        ..Default::default()
    }
}

fn shown() -> admin::Workspace {
    admin::Workspace {
        id: WORKSPACE.to_owned(),
        client: "acme".to_owned(),
        name: "web".to_owned(),
        spec: Some(spec()),
        run: admin::DesiredRun::Running.into(),
        phase: admin::Phase::Active.into(),
        reason: "the container runs".to_owned(),
        phase_since_unix_ms: 1_800_000_000_004,
        phase_deadline_unix_ms: Some(1_800_000_000_005),
        generation: 7 << 32 | 1,
        run_serial: 2,
        node_id: NODE.to_owned(),
        node: "n1".to_owned(),
        observed: Some(observed()),
        observed_unix_ms: 1_800_000_000_006,
        observed_live: true,
        created_unix_ms: 1_800_000_000_007,
        revision: 21,
        failover: "manual (no fence)".to_owned(),
        ..Default::default()
    }
}

fn enroll() -> node::EnrollRequest {
    node::EnrollRequest {
        token: "wn1_token".to_owned(),
        csr_pem: "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned(),
        node_name: "n1".to_owned(),
        facts: Some(node::NodeFacts {
            hostname: "vps1".to_owned(),
            boot_id: BOOT.to_owned(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            findings: vec![node::Finding {
                code: "W1003".to_owned(),
                level: node::FindingLevel::Warning.into(),
                message: "live-restore is off".to_owned(),
                fix: "set it in daemon.json".to_owned(),
                ..Default::default()
            }],
            cgroup: 2,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn frames() -> Vec<(&'static str, inside::Frame)> {
    use inside::frame::Kind;
    let terminal = Some(inside::Terminal {
        term: "xterm".to_owned(),
        columns: 80,
        rows: 24,
        ..Default::default()
    });
    let open = |what| Kind::Open(inside::Open { what: Some(what), ..Default::default() });
    let attach = inside::Attach {
        session: "main".to_owned(),
        terminal: terminal.clone(),
        read_only: true,
        ..Default::default()
    };
    let exec = inside::Exec {
        argv: vec!["ls".to_owned(), "-l".to_owned()],
        terminal,
        ..Default::default()
    };
    let frame = |kind| inside::Frame { kind: Some(kind), ..Default::default() };
    vec![
        ("attach", frame(open(inside::open::What::Attach(attach)))),
        ("exec", frame(open(inside::open::What::Exec(exec)))),
        (
            "logs",
            frame(open(inside::open::What::Logs(inside::Logs {
                follow: true,
                tail: 100,
                ..Default::default()
            }))),
        ),
        ("opened", frame(Kind::Opened(inside::Opened { ..Default::default() }))),
        ("stdin", frame(Kind::Stdin(vec![0, 255, 10].into()))),
        ("stdin closed", frame(Kind::StdinClosed(inside::StdinClosed { ..Default::default() }))),
        ("stdout", frame(Kind::Stdout(vec![27, 91].into()))),
        ("stderr", frame(Kind::Stderr(vec![33].into()))),
        (
            "resize",
            frame(Kind::Resize(inside::Resize { columns: 120, rows: 40, ..Default::default() })),
        ),
        ("signal", frame(Kind::Signal(inside::Signal { number: 15, ..Default::default() }))),
        (
            "exited",
            frame(Kind::Exited(inside::Exited { code: 137, detached: true, ..Default::default() })),
        ),
        (
            "failed",
            frame(Kind::Failed(inside::Failed {
                reason: "NOT_RUNNING".to_owned(),
                message: "the workspace does not run".to_owned(),
                ..Default::default()
            })),
        ),
    ]
}

fn to_inside() -> inside::ToInside {
    let setup = inside::Setup {
        repo: "https://git.example/acme/web.git".to_owned(),
        branch: "main".to_owned(),
        folder: "web".to_owned(),
        git_name: "Ada".to_owned(),
        git_email: "ada@example.org".to_owned(),
        setup_script: "npm ci\n".to_owned(),
        clone_timeout_ms: 600_000,
        setup_timeout_ms: 1_800_000,
        sessions: vec![inside::Session {
            name: "main".to_owned(),
            command: "claude".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    inside::ToInside { kind: Some(inside::to_inside::Kind::Setup(setup)), ..Default::default() }
}

/// Checks that the kept bytes are `value` and that `value` is still those bytes.
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(
    name: &str,
    kept: &Strings,
    value: &M,
) {
    let bytes = kept.get(name).unwrap_or_else(|| panic!("no {name} in the file"));
    let read = M::decode(&bytes[..]).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(&read, value, "{name}");
    assert_eq!(&value.encode_to_vec(), bytes, "{name} is written in another way now");
}

#[test]
fn messages_of_0_1_are_read_and_still_written_alike() {
    let status = node::StatusRequest {
        node_epoch: 3,
        sequence: 4,
        sent_unix_ms: 1_800_000_000_000,
        full: true,
        workspaces: vec![observed()],
        usage: Some(node::NodeUsage {
            memory_available_bytes: 1,
            disk_available_bytes: 2,
            load_milli: 1500,
            ..Default::default()
        }),
        ..Default::default()
    };
    let control = node::ControlResponse {
        kind: Some(node::control_response::Kind::Spec(order())),
        ..Default::default()
    };
    let list = admin::ListWorkspacesResponse {
        freshness: Some(admin::Freshness {
            revision: 21,
            served_unix_ms: 1_800_000_000_008,
            ..Default::default()
        }),
        workspaces: vec![shown()],
        next_page_token: "next".to_owned(),
        ..Default::default()
    };
    let mut today: Strings = [
        ("node order".to_owned(), order().encode_to_vec()),
        ("node control".to_owned(), control.encode_to_vec()),
        ("node status".to_owned(), status.encode_to_vec()),
        ("node enroll".to_owned(), enroll().encode_to_vec()),
        ("admin create workspace".to_owned(), create().encode_to_vec()),
        ("admin list workspaces".to_owned(), list.encode_to_vec()),
        ("inside setup".to_owned(), to_inside().encode_to_vec()),
    ]
    .into();
    let frame =
        |(name, frame): (&str, inside::Frame)| (format!("frame {name}"), frame.encode_to_vec());
    today.extend(frames().into_iter().map(frame));
    let kept = golden("v0.1-wire.txt", &today);
    assert_eq!(kept.len(), today.len(), "nothing is skipped");
    check("node order", &kept, &order());
    check("node control", &kept, &control);
    check("node status", &kept, &status);
    check("node enroll", &kept, &enroll());
    check("admin create workspace", &kept, &create());
    check("admin list workspaces", &kept, &list);
    check("inside setup", &kept, &to_inside());
    for (name, frame) in frames() {
        check(&format!("frame {name}"), &kept, &frame);
    }
    // And they still mean what they meant.
    let order = NodeSpec::try_from(order()).expect("a valid document");
    assert_eq!(order.workspaces[0].address.to_string(), "acme/web");
    WorkspaceObserved::try_from(observed()).expect("a valid observation");
}
