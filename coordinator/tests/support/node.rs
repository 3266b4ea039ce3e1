//! A node without an engine: it does what its document says by saying that it did.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::Channel;
use warren_daemon::{
    Shutdown,
    identity::{ClientTls, Key, connect},
    token::JoinToken,
};
use warren_proto::{
    error::ApiError,
    pb::{
        inside::v1::{Exited, Frame, Opened, frame},
        node::v1::{
            self as pb, control_request, control_response,
            enroll_service_client::EnrollServiceClient, node_service_client::NodeServiceClient,
            status_response, tunnel_request,
        },
    },
};

pub const BOOT: &str = "0199a0b2-7f00-4000-8000-000000000001";

pub fn facts() -> pb::NodeFacts {
    pb::NodeFacts {
        hostname: "vps1".to_owned(),
        boot_id: BOOT.to_owned(),
        allocatable_memory_bytes: 8 << 30,
        swap_bytes: 0,
        milli_cpus: 4000,
        disk_bytes: 100 << 30,
        version: "0.1.0".to_owned(),
        engine: "20.10".to_owned(),
        kernel: "6.1".to_owned(),
        cgroup: 2,
        ..Default::default()
    }
}

/// A machine with a node's certificate.
pub struct Enrolled {
    pub answer: pb::EnrollResponse,
    pub channel: Channel,
}

/// Spends a token.
pub async fn enroll(token: &str, name: &str, key: &Key) -> Result<Enrolled, ApiError> {
    let read: JoinToken = token.parse().expect("a token");
    let tls = ClientTls::pinned(read.pin).expect("TLS").into();
    let channel = connect(&tls, &read.addresses).await.expect("the API answers");
    let request = pb::EnrollRequest {
        token: token.to_owned(),
        csr_pem: key.request().expect("a request"),
        node_name: name.to_owned(),
        facts: Some(facts()),
    };
    let answer = EnrollServiceClient::new(channel).enroll(request).await;
    let answer = answer.map_err(|status| ApiError::from(&status))?.into_inner();
    let channel =
        super::channel(key, &answer.certificate_pem, &answer.trust_pem, &answer.coordinators).await;
    Ok(Enrolled { answer, channel })
}

/// Runs the node until shutdown: registers, reports, and answers tunnels with an echo.
pub async fn run(channel: Channel, shutdown: Shutdown) {
    tokio::select! {
        () = serve(channel) => {}
        () = shutdown.requested() => {}
    }
}

async fn serve(channel: Channel) {
    let mut api = NodeServiceClient::new(channel.clone());
    let (requests, receiver) = mpsc::channel(16);
    let register = pb::Register { facts: Some(facts()), ..Default::default() };
    let first = control_request::Kind::Register(register);
    requests.send(pb::ControlRequest { kind: Some(first) }).await.expect("open");
    let control = api.control(ReceiverStream::new(receiver)).await.expect("the leader");
    let mut control = control.into_inner();
    let (reports, receiver) = mpsc::channel(16);
    let status = api.status(ReceiverStream::new(receiver)).await.expect("a coordinator");
    let mut status = status.into_inner();
    let (mut epoch, sequence) = (0, Arc::new(AtomicU64::new(0)));
    loop {
        tokio::select! {
            answer = control.next() => match answer {
                Some(Ok(pb::ControlResponse { kind: Some(kind) })) => match kind {
                    control_response::Kind::Registered(registered) => {
                        epoch = registered.node_epoch;
                        let renewal = pb::RenewLease { sequence: 1, sent_monotonic_ms: 42 };
                        let kind = Some(control_request::Kind::RenewLease(renewal));
                        requests.send(pb::ControlRequest { kind }).await.expect("open");
                    }
                    control_response::Kind::Spec(spec) => {
                        let sequence = sequence.fetch_add(1, Ordering::Relaxed) + 1;
                        reports.send(report(epoch, sequence, &spec)).await.expect("open");
                    }
                    control_response::Kind::LeaseConfirmed(confirmed) => {
                        assert_eq!(confirmed.sent_monotonic_ms, 42);
                    }
                },
                _ => return,
            },
            answer = status.next() => match answer {
                Some(Ok(pb::StatusResponse { kind: Some(kind) })) => match kind {
                    status_response::Kind::Acknowledged(_) => {}
                    status_response::Kind::OpenTunnel(order) => {
                        tokio::spawn(echo(channel.clone(), order));
                    }
                },
                _ => return,
            },
        }
    }
}

fn report(epoch: u64, sequence: u64, spec: &pb::NodeSpec) -> pb::StatusRequest {
    let seen = |order: &pb::WorkspaceOrder| {
        let permitted = order
            .permit
            .as_ref()
            .is_some_and(|permit| permit.run_serial == order.run_serial && permit.boot_id == BOOT);
        let state = match order.run() {
            pb::Run::Running if permitted => pb::RunState::Running,
            pb::Run::Running => pb::RunState::Prepared,
            pb::Run::Stopped => pb::RunState::Stopped,
            pb::Run::Removed | pb::Run::Unspecified => pb::RunState::Absent,
        };
        pb::WorkspaceObserved {
            workspace_id: order.workspace_id.clone(),
            generation: order.generation,
            run_serial: order.run_serial,
            state: state.into(),
            reason: "as told".to_owned(),
            since_unix_ms: 1,
            sessions: vec![pb::SessionObserved {
                name: "main".to_owned(),
                running: true,
                ..Default::default()
            }],
            ..Default::default()
        }
    };
    pb::StatusRequest {
        node_epoch: epoch,
        sequence,
        sent_unix_ms: 1,
        full: true,
        workspaces: spec.workspaces.iter().map(seen).collect(),
        usage: Some(pb::NodeUsage { memory_available_bytes: 7 << 30, ..Default::default() }),
        lease_age_ms: None,
    }
}

/// Answers one tunnel: every input comes back, the end of input ends it with code 7.
async fn echo(channel: Channel, order: pb::OpenTunnel) {
    let (frames, receiver) = mpsc::channel(16);
    let hello = pb::TunnelHello { tunnel_id: order.tunnel_id };
    let send = |kind| pb::TunnelRequest { kind: Some(kind) };
    frames.send(send(tunnel_request::Kind::Hello(hello))).await.expect("open");
    let answers = NodeServiceClient::new(channel).tunnel(ReceiverStream::new(receiver)).await;
    let mut answers = answers.expect("a tunnel").into_inner();
    let frame = |kind| send(tunnel_request::Kind::Frame(Frame { kind: Some(kind) }));
    frames.send(frame(frame::Kind::Opened(Opened {}))).await.expect("open");
    while let Some(Ok(answer)) = answers.next().await {
        let kind = match answer.frame.and_then(|frame| frame.kind) {
            Some(frame::Kind::Stdin(bytes)) => frame::Kind::Stdout(bytes),
            Some(frame::Kind::StdinClosed(_)) => {
                frame::Kind::Exited(Exited { code: 7, detached: false })
            }
            _ => continue,
        };
        if frames.send(frame(kind)).await.is_err() {
            return;
        }
    }
}
