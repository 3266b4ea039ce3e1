//! A stream to a workspace that its node opened, as the fake coordinator holds it.

use tokio::{sync::mpsc, time::timeout};
use tonic::{Status, Streaming};
use warren_proto::pb::{
    inside::v1 as inside,
    node::v1::{self as pb, tunnel_request},
};

use crate::coordinator::SOON;

/// A node's half of a stream, as the coordinator holds it.
pub(crate) struct Tunnel {
    pub(crate) incoming: Streaming<pb::TunnelRequest>,
    pub(crate) outgoing: mpsc::Sender<Result<pb::TunnelResponse, Status>>,
}

impl Tunnel {
    /// Returns the next frame; none at the end.
    pub(crate) async fn next(&mut self) -> Option<inside::frame::Kind> {
        let message = timeout(SOON, self.incoming.message()).await.expect("in time");
        match message.ok()??.kind? {
            tunnel_request::Kind::Frame(frame) => frame.kind,
            tunnel_request::Kind::Hello(_) => panic!("a second hello"),
        }
    }

    pub(crate) async fn send(&self, kind: inside::frame::Kind) {
        let frame = Some(inside::Frame { kind: Some(kind) });
        self.outgoing.send(Ok(pb::TunnelResponse { frame })).await.expect("connected");
    }

    /// Waits until the output has had this text in it.
    pub(crate) async fn says(&mut self, text: &str) {
        let mut output = String::new();
        while !output.contains(text) {
            match self.next().await {
                Some(inside::frame::Kind::Stdout(bytes)) => {
                    output.push_str(&String::from_utf8_lossy(&bytes));
                }
                Some(inside::frame::Kind::Opened(_)) => {}
                other => panic!("{other:?} after {output:?}"),
            }
        }
    }

    /// Collects output until the last frame, which is returned too.
    pub(crate) async fn rest(&mut self) -> (String, Option<inside::frame::Kind>) {
        let mut output = Vec::new();
        loop {
            match self.next().await {
                Some(inside::frame::Kind::Stdout(bytes)) => output.extend_from_slice(&bytes),
                Some(inside::frame::Kind::Opened(_)) => {}
                last => return (String::from_utf8_lossy(&output).into_owned(), last),
            }
        }
    }
}
