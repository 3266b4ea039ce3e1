//! Interactive streams: a viewer and a node meet here, and their frames are passed on unchanged.
//!
//! The coordinator asks the node (over its Status stream) to open a tunnel, the node dials back
//! with the tunnel's id, and [`relay`] moves frames between bounded queues, so a slow reader slows
//! the writer and nobody else. What the frames mean is not known here.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use warren_common::{Limits, NodeId, WorkspaceId};
use warren_daemon::Shutdown;
use warren_proto::pb::inside::v1::{Failed, Frame, frame};

use crate::sync::locked;

/// Frames from one side, until it ends or breaks.
pub type Frames = Pin<Box<dyn Stream<Item = Result<Frame, tonic::Status>> + Send>>;

/// 128 random bits: the right to answer one request for a tunnel.
pub type TunnelId = [u8; 16];

/// One side of a tunnel.
pub struct End {
    /// What it sends.
    pub frames: Frames,
    /// What it is sent; [`Limits::STREAM_QUEUE`] deep.
    pub sender: mpsc::Sender<Frame>,
}

/// Tunnels that wait for their node, and how many are open per workspace.
#[derive(Default)]
pub struct Tunnels {
    waiting: Mutex<BTreeMap<TunnelId, Waiting>>,
    open: Mutex<BTreeMap<WorkspaceId, usize>>,
}

struct Waiting {
    node: NodeId,
    answer: oneshot::Sender<End>,
}

/// One of a workspace's [`Limits::STREAMS_PER_WORKSPACE`]; freed when dropped.
pub struct Slot {
    tunnels: Arc<Tunnels>,
    workspace: WorkspaceId,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = locked(&self.tunnels.open);
        if let Some(count) = open.get_mut(&self.workspace) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.workspace);
            }
        }
    }
}

/// A request for a tunnel that its node has not answered; forgotten when dropped.
pub struct Request<'a> {
    tunnels: &'a Tunnels,
    id: TunnelId,
    answer: oneshot::Receiver<End>,
}

impl Request<'_> {
    /// Returns the id to send to the node.
    pub const fn id(&self) -> TunnelId {
        self.id
    }

    /// Waits for the node at most `limit`; none when it did not come, and then it opens nothing:
    /// one that comes later is refused.
    pub async fn answered(mut self, limit: Duration) -> Option<End> {
        if let Ok(answer) = tokio::time::timeout(limit, &mut self.answer).await {
            return answer.ok();
        }
        self.given_up()
    }

    /// Waits no longer; the node may have come in this moment, and was told that it did.
    fn given_up(mut self) -> Option<End> {
        self.answer.close();
        self.answer.try_recv().ok()
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        locked(&self.tunnels.waiting).remove(&self.id);
    }
}

impl Tunnels {
    /// Returns how many tunnels wait for their node, and how many streams viewers have open.
    pub fn counts(&self) -> (usize, usize) {
        (locked(&self.waiting).len(), locked(&self.open).values().sum())
    }

    /// Takes one of the workspace's streams; none when all are taken.
    pub fn slot(self: &Arc<Self>, workspace: WorkspaceId) -> Option<Slot> {
        let mut open = locked(&self.open);
        let count = open.entry(workspace).or_default();
        if *count >= Limits::STREAMS_PER_WORKSPACE {
            return None;
        }
        *count += 1;
        Some(Slot { tunnels: Arc::clone(self), workspace })
    }

    /// Starts waiting for `node` to dial back.
    ///
    /// # Errors
    /// Fails where the kernel gives no random bytes.
    pub fn request(&self, node: NodeId) -> Result<Request<'_>, getrandom::Error> {
        let mut id = TunnelId::default();
        getrandom::fill(&mut id)?;
        let (sender, answer) = oneshot::channel();
        locked(&self.waiting).insert(id, Waiting { node, answer: sender });
        Ok(Request { tunnels: self, id, answer })
    }

    /// Spends a tunnel's id: where to hand the node's end to. None for an id that nobody waits
    /// for, that was spent before, or that another node was asked for.
    pub fn answer(&self, node: NodeId, id: &[u8]) -> Option<oneshot::Sender<End>> {
        let id = TunnelId::try_from(id).ok()?;
        let mut waiting = locked(&self.waiting);
        if waiting.get(&id)?.node != node {
            return None;
        }
        waiting.remove(&id).map(|waiting| waiting.answer)
    }
}

/// Passes frames both ways until the program ended, either side went away, or the coordinator
/// stops. A viewer that only closed its sending half still receives.
pub async fn relay(viewer: End, node: End, shutdown: Shutdown) {
    let up = pass_up(viewer.frames, node.sender);
    let down = pass_down(node.frames, &viewer.sender);
    tokio::select! {
        Broke { reason, message } = up => finish(&viewer.sender, reason, message).await,
        () = down => {}
        () = viewer.sender.closed() => {}
        () = shutdown.requested() => {
            let message = "the coordinator is shutting down";
            finish(&viewer.sender, "SHUTTING_DOWN", message).await;
        }
    }
}

/// Why nothing more is taken from a viewer; it is told, where it still listens.
struct Broke {
    reason: &'static str,
    message: &'static str,
}

/// Passes what the viewer sends; returns only when the viewer broke off.
async fn pass_up(mut from: Frames, to: mpsc::Sender<Frame>) -> Broke {
    loop {
        match from.next().await {
            Some(Ok(frame)) if payload(&frame) > Limits::FRAME_BYTES => {
                let message = "a frame beyond its bound was sent; send input in smaller pieces";
                return Broke { reason: "FRAME_TOO_LARGE", message };
            }
            Some(Ok(frame)) => {
                if to.send(frame).await.is_err() {
                    break;
                }
            }
            Some(Err(_)) => {
                let message = "what was sent is no frame that may follow here";
                return Broke { reason: "INVALID_FRAME", message };
            }
            None => break,
        }
    }
    // half closed, or the node reads no more: what the node still sends decides the end; `to` is
    // held meanwhile so that the node does not take this for a viewer that left
    let never = std::future::pending().await;
    drop(to);
    never
}

/// Passes what the node sends, up to and with the last frame.
async fn pass_down(mut from: Frames, to: &mpsc::Sender<Frame>) {
    loop {
        match from.next().await {
            Some(Ok(frame)) if payload(&frame) > Limits::FRAME_BYTES => {
                let message = "the node sent a frame beyond its bound";
                return finish(to, "FRAME_TOO_LARGE", message).await;
            }
            Some(Ok(frame)) => {
                let last =
                    matches!(frame.kind, Some(frame::Kind::Exited(_) | frame::Kind::Failed(_)));
                if to.send(frame).await.is_err() || last {
                    return;
                }
            }
            Some(Err(_)) | None => {
                let message = "the connection to the node broke; what runs there runs on";
                return finish(to, "NODE_DISCONNECTED", message).await;
            }
        }
    }
}

async fn finish(to: &mpsc::Sender<Frame>, reason: &str, message: &str) {
    let failed = Failed { reason: reason.to_owned(), message: message.to_owned() };
    let frame = Frame { kind: Some(frame::Kind::Failed(failed)) };
    // a viewer that does not read is gone soon enough
    let _ = tokio::time::timeout(Limits::TUNNEL_TIMEOUT, to.send(frame)).await;
}

fn payload(frame: &Frame) -> usize {
    match &frame.kind {
        Some(
            frame::Kind::Stdin(bytes) | frame::Kind::Stdout(bytes) | frame::Kind::Stderr(bytes),
        ) => bytes.len(),
        Some(
            frame::Kind::Open(_)
            | frame::Kind::Opened(_)
            | frame::Kind::StdinClosed(_)
            | frame::Kind::Resize(_)
            | frame::Kind::Signal(_)
            | frame::Kind::Exited(_)
            | frame::Kind::Failed(_),
        )
        | None => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio_stream::wrappers::ReceiverStream;
    use uuid::Uuid;
    use warren_proto::pb::inside::v1::Exited;

    use super::*;

    type Feed = mpsc::Sender<Result<Frame, tonic::Status>>;

    fn end() -> (End, Feed, mpsc::Receiver<Frame>) {
        let (feed, frames) = mpsc::channel(Limits::STREAM_QUEUE);
        let (sender, receiver) = mpsc::channel(Limits::STREAM_QUEUE);
        let frames = Box::pin(ReceiverStream::new(frames));
        (End { frames, sender }, feed, receiver)
    }

    fn stdout(text: &'static str) -> Frame {
        Frame { kind: Some(frame::Kind::Stdout(Bytes::from_static(text.as_bytes()))) }
    }

    fn stdin(size: usize) -> Frame {
        Frame { kind: Some(frame::Kind::Stdin(vec![b'x'; size].into())) }
    }

    fn node(n: u128) -> NodeId {
        NodeId::new(Uuid::from_u128(n))
    }

    fn workspace() -> WorkspaceId {
        WorkspaceId::new(Uuid::from_u128(9))
    }

    #[test]
    fn a_tunnel_is_answered_once_and_by_its_own_node() {
        let tunnels = Tunnels::default();
        let request = tunnels.request(node(1)).expect("random bytes");
        let id = request.id();
        assert!(tunnels.answer(node(2), &id).is_none(), "another node");
        assert!(tunnels.answer(node(1), &id[..15]).is_none(), "a piece of it");
        assert!(tunnels.answer(node(1), &id).is_some());
        assert!(tunnels.answer(node(1), &id).is_none(), "spent");
        drop(request);
        let request = tunnels.request(node(1)).expect("random bytes");
        let id = request.id();
        drop(request);
        assert!(tunnels.answer(node(1), &id).is_none(), "nobody waits any more");
    }

    #[tokio::test]
    async fn a_node_that_comes_late_opens_nothing_and_one_that_came_is_taken() {
        let tunnels = Tunnels::default();
        let request = tunnels.request(node(1)).expect("random bytes");
        let id = request.id();
        assert!(request.answered(Duration::ZERO).await.is_none());
        assert!(tunnels.answer(node(1), &id).is_none(), "it was given up");

        // it named the tunnel in time and has its end only now
        let request = tunnels.request(node(1)).expect("random bytes");
        let to = tunnels.answer(node(1), &request.id()).expect("it is awaited");
        assert!(request.answered(Duration::ZERO).await.is_none());
        assert!(to.send(end().0).is_err(), "it is told that nobody waits");

        // its end comes between the end of the time and the giving up
        let request = tunnels.request(node(1)).expect("random bytes");
        let to = tunnels.answer(node(1), &request.id()).expect("it is awaited");
        assert!(to.send(end().0).is_ok(), "it is told that it came");
        assert!(request.given_up().is_some());
    }

    #[test]
    fn a_workspace_has_a_bounded_number_of_streams() {
        let tunnels = Arc::new(Tunnels::default());
        let slots: Vec<_> = (0..Limits::STREAMS_PER_WORKSPACE)
            .map(|_| tunnels.slot(workspace()).expect("within the bound"))
            .collect();
        assert!(tunnels.slot(workspace()).is_none());
        assert!(tunnels.slot(WorkspaceId::new(Uuid::from_u128(8))).is_some(), "its own count");
        drop(slots);
        assert!(tunnels.slot(workspace()).is_some());
    }

    #[tokio::test]
    async fn frames_pass_until_the_program_ends() {
        let (viewer, viewer_feed, mut shown) = end();
        let (node, node_feed, mut typed) = end();
        let relay = tokio::spawn(relay(viewer, node, Shutdown::new()));
        viewer_feed.send(Ok(stdin(1))).await.expect("open");
        assert_eq!(typed.recv().await, Some(stdin(1)));
        drop(viewer_feed);
        node_feed.send(Ok(stdout("a"))).await.expect("a half-closed viewer still receives");
        let exited = Frame { kind: Some(frame::Kind::Exited(Exited { code: 3, detached: false })) };
        node_feed.send(Ok(exited.clone())).await.expect("open");
        assert_eq!(shown.recv().await, Some(stdout("a")));
        assert_eq!(shown.recv().await, Some(exited));
        relay.await.expect("ends with the program");
        assert_eq!(typed.recv().await, None, "the node sees the end too");
    }

    #[tokio::test]
    async fn a_dead_viewer_ends_the_tunnel() {
        let (viewer, viewer_feed, shown) = end();
        let (node, _node_feed, mut typed) = end();
        let relay = tokio::spawn(relay(viewer, node, Shutdown::new()));
        drop(shown);
        relay.await.expect("ends with the viewer");
        assert_eq!(typed.recv().await, None);
        drop(viewer_feed);
    }

    #[tokio::test]
    async fn a_broken_node_is_told_to_the_viewer() {
        let (viewer, _viewer_feed, mut shown) = end();
        let (node, node_feed, _typed) = end();
        let relay = tokio::spawn(relay(viewer, node, Shutdown::new()));
        drop(node_feed);
        let last = shown.recv().await.and_then(|frame| frame.kind);
        assert!(
            matches!(last, Some(frame::Kind::Failed(failed)) if failed.reason == "NODE_DISCONNECTED")
        );
        relay.await.expect("ends with the node");
    }

    #[tokio::test]
    async fn a_frame_past_the_bound_ends_the_tunnel() {
        let (viewer, viewer_feed, mut shown) = end();
        let (node, _node_feed, mut typed) = end();
        let relay = tokio::spawn(relay(viewer, node, Shutdown::new()));
        viewer_feed.send(Ok(stdin(Limits::FRAME_BYTES))).await.expect("open");
        assert!(typed.recv().await.is_some(), "at the bound");
        viewer_feed.send(Ok(stdin(Limits::FRAME_BYTES + 1))).await.expect("open");
        let last = shown.recv().await.and_then(|frame| frame.kind);
        let told =
            matches!(&last, Some(frame::Kind::Failed(one)) if one.reason == "FRAME_TOO_LARGE");
        assert!(told, "the viewer is told why: {last:?}");
        relay.await.expect("ends past the bound");
        assert_eq!(typed.recv().await, None, "the node sees the end");
    }
}
