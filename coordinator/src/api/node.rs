//! `NodeService`: the streams that node agents keep open.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Instrument as _;
use warren_common::{Limits, NodeId};
use warren_proto::{
    error::ApiError,
    pb::node::v1::{self as pb, node_service_server::NodeService, tunnel_request::Kind},
};

use super::{Api, calling_node, errors};
use crate::hub::{Uplink, tunnel::End};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl NodeService for Api {
    type StatusStream = Answers<pb::StatusResponse>;

    async fn status(
        &self,
        request: Request<Streaming<pb::StatusRequest>>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        let node = calling_node(&request)?;
        self.known(node)?;
        let (sender, receiver) = mpsc::channel(Limits::STREAM_QUEUE);
        let serving = self.uplink().status(node, request.into_inner(), sender);
        self.parts().shutdown.spawn(serving.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type ControlStream = Answers<pb::ControlResponse>;

    async fn control(
        &self,
        request: Request<Streaming<pb::ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let node = calling_node(&request)?;
        let uplink = self.uplink();
        // a node that is not known may have joined after the backup: its registration tells
        uplink.leading()?;
        let (sender, receiver) = mpsc::channel(Limits::STREAM_QUEUE);
        let serving = uplink.control(node, request.into_inner(), sender);
        self.parts().shutdown.spawn(serving.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type TunnelStream = Answers<pb::TunnelResponse>;

    async fn tunnel(
        &self,
        request: Request<Streaming<pb::TunnelRequest>>,
    ) -> Result<Response<Self::TunnelStream>, Status> {
        let node = calling_node(&request)?;
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(Limits::CALL_TIMEOUT, requests.message()).await;
        let first = first.map_err(|_| errors::invalid("hello", "it did not come in time"))??;
        let Some(Kind::Hello(hello)) = first.and_then(|first| first.kind) else {
            return Err(errors::invalid("hello", "it must be the first request").into());
        };
        let viewer = self.parts().hub.tunnels.answer(node, &hello.tunnel_id);
        let viewer = viewer.ok_or_else(nobody)?;
        let (sender, receiver) = mpsc::channel(Limits::STREAM_QUEUE);
        let frames = Box::pin(requests.map(|request| match request?.kind {
            Some(Kind::Frame(frame)) => Ok(frame),
            Some(Kind::Hello(_)) | None => {
                Err(Status::invalid_argument("only frames may follow the hello"))
            }
        }));
        viewer.send(End { frames, sender }).map_err(|_| nobody())?;
        let answers = ReceiverStream::new(receiver);
        let answers = answers.map(|frame| Ok(pb::TunnelResponse { frame: Some(frame) }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_secrets(
        &self,
        request: Request<pb::FetchSecretsRequest>,
    ) -> Result<Response<pb::FetchSecretsResponse>, Status> {
        let node = calling_node(&request)?;
        Ok(Response::new(self.secrets_of(node, request.into_inner()).await?))
    }
}

impl Api {
    fn uplink(&self) -> Uplink {
        let parts = self.parts();
        Uplink {
            hub: parts.hub.clone(),
            live: parts.live.clone(),
            consensus: parts.consensus.clone(),
            shutdown: parts.shutdown.clone(),
        }
    }

    /// Refuses a node that is not part of the cluster, as far as this coordinator knows.
    fn known(&self, node: NodeId) -> Result<(), ApiError> {
        match self.parts().consensus.local().nodes.contains_key(&node) {
            true => Ok(()),
            false => Err(errors::not_found("node", &node.to_string())),
        }
    }
}

fn nobody() -> ApiError {
    let message = "nobody waits for this tunnel any more";
    ApiError::new(Code::NotFound, "TUNNEL_NOT_FOUND", message)
}
