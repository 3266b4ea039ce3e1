//! The open calls between coordinators, against the real service on loopback.

use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tower::util::MapRequestLayer;
use warren_common::ReplicaId;

use super::{
    PATIENCE,
    node::{Node, identified, speaking_as},
};
use crate::raft::{
    line::{Line, append},
    network::api,
    types::{TypeConfig, Vote, decode, encode},
};

const TO: ReplicaId = ReplicaId(1);

/// Makes a request for a line one for a method that is not there.
fn as_before_lines<B>(mut request: http::Request<B>) -> http::Request<B> {
    if request.uri().path().ends_with("/AppendStream") {
        *request.uri_mut() =
            "http://replica-2/warren.raft.v1.RaftService/None".parse().expect("a uri");
    }
    request
}

/// Serves a replica's messages until `stop`, and ends only when every call has ended.
async fn serve(
    node: &Node,
    port: u16,
    knows_lines: bool,
) -> (u16, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let stop = CancellationToken::new();
    let layer = move |request| if knows_lines { request } else { as_before_lines(request) };
    let serving = Server::builder()
        .layer(MapRequestLayer::new(identified))
        .layer(MapRequestLayer::new(layer))
        .add_service(node.consensus.service(stop.clone()).into_service())
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            stop.clone().cancelled_owned(),
        );
    (port, stop, tokio::spawn(async { serving.await.expect("it serves") }))
}

/// Sends the message of a leader that has nothing to say, and returns the line that is left.
async fn tell(line: Option<Line>, port: u16) -> Option<Line> {
    let message = AppendEntriesRequest::<TypeConfig> {
        vote: Vote::new_committed(5, 2),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    let channel = speaking_as(2)(TO, &format!("127.0.0.1:{port}")).expect("a channel");
    let payload: Bytes = encode(&message).expect("it encodes").into();
    let told = tokio::time::timeout(PATIENCE, append(line, api(channel), TO, payload)).await;
    let (line, answer) = told.expect("in time").expect("it answers");
    let answer: AppendEntriesResponse<TypeConfig> = decode(&answer).expect("it decodes");
    assert!(matches!(answer, AppendEntriesResponse::Success), "{answer:?}");
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_kept_ends_with_its_replica_and_is_opened_anew() {
    let node = Node::blank(1).await;
    let (port, stop, served) = serve(&node, 0, true).await;
    let line = tell(None, port).await;
    assert!(line.is_some(), "it is kept");
    let line = tell(line, port).await;
    let asked = Instant::now();
    stop.cancel();
    tokio::time::timeout(PATIENCE, served).await.expect("it ends").expect("no panic");
    assert!(asked.elapsed() < Duration::from_secs(2), "an open line holds nothing up");
    let (port, stop, served) = serve(&node, port, true).await;
    assert!(tell(line, port).await.is_some(), "another in its place");
    stop.cancel();
    served.await.expect("no panic");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_knows_no_lines_is_called() {
    let node = Node::blank(1).await;
    let (port, stop, served) = serve(&node, 0, false).await;
    assert!(tell(None, port).await.is_none(), "there is no line to keep");
    stop.cancel();
    served.await.expect("no panic");
    node.stop().await;
}
