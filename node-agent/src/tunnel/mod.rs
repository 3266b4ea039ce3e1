//! Interactive streams: a coordinator asks, the node dials back, frames flow both ways.
//!
//! Terminals and execs are relayed to and from PID 1 (`relay`); logs are answered here from the
//! engine (`logs`). A tunnel changes nothing that persists; it carries the generation and is
//! refused where the node holds another. When either side goes, both are closed.

mod logs;
mod relay;

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Streaming, transport::Channel};
use tracing::{debug, warn};
use warren_common::{Generation, Limits, WorkspaceId, status::clean};
use warren_proto::{
    error::reason,
    pb::{
        inside::v1::{self as inside, open::What},
        node::v1::{self as pb, node_service_client::NodeServiceClient},
    },
};

use crate::{engine::Engine, inside::Doors, ledger::Ledger};

/// What a stream needs of the agent.
#[derive(Clone)]
pub struct Tunnels {
    /// For logs.
    engine: Arc<dyn Engine>,
    /// For everything else.
    doors: Arc<Doors>,
    ledger: Ledger,
    open: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Why a stream ends before its program did: a frame for the viewer.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {message}")]
struct Failure {
    reason: &'static str,
    message: String,
}

/// The coordinator's end of one stream.
struct Viewer {
    frames: mpsc::Sender<pb::TunnelRequest>,
    incoming: Streaming<pb::TunnelResponse>,
}

impl Tunnels {
    /// Makes what answers requests for streams; every stream ends when `stop` is cancelled.
    pub fn new(
        engine: Arc<dyn Engine>,
        doors: Arc<Doors>,
        ledger: Ledger,
        stop: CancellationToken,
    ) -> Self {
        let open = Arc::new(Semaphore::new(Limits::STREAMS_PER_NODE));
        Self { engine, doors, ledger, open, tasks: TaskTracker::new(), stop }
    }

    /// Answers one request on the connection it came by.
    pub fn answer(&self, channel: Channel, request: pb::OpenTunnel) {
        let Ok(share) = Arc::clone(&self.open).try_acquire_owned() else {
            // no answer at all: the coordinator's own deadline tells the viewer
            return warn!("{} streams are open, another is not answered", Limits::STREAMS_PER_NODE);
        };
        let this = self.clone();
        self.tasks.spawn(async move {
            let _share = share;
            let stop = this.stop.clone();
            stop.run_until_cancelled(this.serve(channel, request)).await;
        });
    }

    /// Returns how many streams are open.
    pub fn count(&self) -> usize {
        Limits::STREAMS_PER_NODE - self.open.available_permits()
    }

    /// Waits until every stream has ended, once `stop` is cancelled.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn serve(&self, channel: Channel, request: pb::OpenTunnel) {
        let workspace = request.workspace_id.clone();
        let mut viewer = match dial(channel, request.tunnel_id.clone()).await {
            Ok(viewer) => viewer,
            Err(error) => return debug!(%workspace, error, "a tunnel could not be opened"),
        };
        if let Err(failure) = self.carry(&mut viewer, request).await {
            debug!(%workspace, %failure, "a stream failed");
            let failed =
                inside::Failed { reason: failure.reason.to_owned(), message: failure.message };
            viewer.send(inside::frame::Kind::Failed(failed)).await;
        }
        viewer.finish().await;
    }

    async fn carry(&self, viewer: &mut Viewer, request: pb::OpenTunnel) -> Result<(), Failure> {
        let open = request.open.unwrap_or_default();
        let workspace: WorkspaceId = request
            .workspace_id
            .parse()
            .map_err(|error| Failure::new(reason::INVALID_ARGUMENT, error))?;
        self.check(workspace, Generation(request.generation))?;
        match &open.what {
            Some(
                What::Attach(_)
                | What::Exec(_)
                | What::Explain(_)
                | What::Send(_)
                | What::Read(_)
                | What::Connect(_)
                | What::Shot(_),
            ) => {
                let door = self.doors.get(workspace).ok_or_else(not_running)?;
                relay::carry(viewer, &door, open).await
            }
            Some(What::Logs(logs)) => {
                logs::carry(viewer, self.engine.as_ref(), workspace, *logs).await
            }
            None => Err(Failure::new(reason::INVALID_ARGUMENT, "nothing to open was named")),
        }
    }

    fn check(&self, workspace: WorkspaceId, generation: Generation) -> Result<(), Failure> {
        match self.ledger.order(workspace) {
            Some(order) if order.generation == generation => Ok(()),
            Some(order) => Err(Failure::new(
                reason::NOT_RUNNING,
                format!(
                    "the node holds generation {} of the workspace, not {generation}",
                    order.generation
                ),
            )),
            None => {
                Err(Failure::new(reason::NOT_RUNNING, "the workspace is not assigned to this node"))
            }
        }
    }
}

/// Opens the node's half of the tunnel on the connection the request came by.
async fn dial(channel: Channel, tunnel_id: bytes::Bytes) -> Result<Viewer, String> {
    let (frames, queue) = mpsc::channel(Limits::STREAM_QUEUE);
    let hello = pb::TunnelHello { tunnel_id };
    let hello = pb::TunnelRequest { kind: Some(pb::tunnel_request::Kind::Hello(hello)) };
    frames.try_send(hello).map_err(|error| error.to_string())?;
    let mut api = NodeServiceClient::new(channel)
        .max_decoding_message_size(Limits::MESSAGE_BYTES)
        .max_encoding_message_size(Limits::MESSAGE_BYTES);
    let call = api.tunnel(ReceiverStream::new(queue));
    match timeout(Limits::TUNNEL_TIMEOUT, call).await {
        Ok(Ok(response)) => Ok(Viewer { frames, incoming: response.into_inner() }),
        Ok(Err(status)) => Err(clean(status.message(), Limits::REASON_BYTES)),
        Err(_) => Err("the coordinator did not answer in time".to_owned()),
    }
}

impl Viewer {
    /// Sends a frame once there is room; returns whether the viewer is still there.
    async fn send(&self, kind: inside::frame::Kind) -> bool {
        send(&self.frames, kind).await
    }

    /// Says that no more frames will come, and lets the other side close.
    async fn finish(self) {
        let Self { frames, mut incoming } = self;
        drop(frames);
        let drained = async { while let Ok(Some(_)) = incoming.message().await {} };
        if timeout(Limits::SHUTDOWN, drained).await.is_err() {
            debug!("a coordinator did not close a finished stream in time");
        }
    }
}

async fn send(frames: &mpsc::Sender<pb::TunnelRequest>, kind: inside::frame::Kind) -> bool {
    let frame = inside::Frame { kind: Some(kind) };
    let request = pb::TunnelRequest { kind: Some(pb::tunnel_request::Kind::Frame(frame)) };
    frames.send(request).await.is_ok()
}

impl Failure {
    fn new(reason: &'static str, message: impl ToString) -> Self {
        Self { reason, message: clean(&message.to_string(), Limits::REASON_BYTES) }
    }
}

fn not_running() -> Failure {
    Failure::new(reason::NOT_RUNNING, "the workspace does not run")
}
