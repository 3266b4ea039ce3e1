//! The WebSocket of a page (RFC 6455): binary messages are what is shown and typed.

use bytes::Bytes;
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use warren_common::Limits;
use warren_proto::pb::inside::v1::ViewKind;

use super::{Answer, Page, browser::End, display, terminal, text, whole};
use crate::journal::event;

/// Names what is spoken; the token stands beside it, since a browser lets a page set nothing else.
const PROTOCOL: &str = "warren";
const TOKEN_PREFIX: &str = "token.";
/// Bytes of a browser that are read at once.
const READ_BYTES: usize = 4 * 1024;
/// What waits for a browser: one piece with its head, and words of the protocol.
const QUEUE_BYTES: usize = Limits::VIEW_PIECE_BYTES + 1024;

/// A browser's WebSocket.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Returns the token that a request for a WebSocket carries.
pub(super) fn token(request: &Request<Incoming>) -> Option<&str> {
    let named = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    named.split(',').find_map(|one| one.trim().strip_prefix(TOKEN_PREFIX))
}

/// Becomes a WebSocket and shows what the page is for.
pub(super) fn upgrade(page: Page, mut request: Request<Incoming>) -> Answer {
    let value = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let asks = value(header::UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
    let version = value(header::SEC_WEBSOCKET_VERSION) == Some("13");
    let key = value(header::SEC_WEBSOCKET_KEY).filter(|_| asks && version);
    let Some(accept) = key.map(|key| derive_accept_key(key.as_bytes())) else {
        return text(StatusCode::UPGRADE_REQUIRED, "this address is a WebSocket, version 13");
    };
    let Ok(accept) = HeaderValue::try_from(accept) else {
        return text(StatusCode::BAD_REQUEST, "the key of the WebSocket is odd");
    };
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // a browser that left meanwhile is no trouble
        let Ok(upgraded) = upgrading.await else { return };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(QUEUE_BYTES)
            .max_message_size(Some(Limits::VIEW_MESSAGE_BYTES))
            .max_frame_size(Some(Limits::VIEW_MESSAGE_BYTES));
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let (end, _permit) = match page.streams.viewers.enter() {
            Ok(permit) => (show(&mut socket, &page).await, Some(permit)),
            Err(end) => (end, None),
        };
        if let Some(why) = end.tell(socket).await {
            event!("a view ended: {why}");
        }
    });
    let mut answer = whole(Bytes::new());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    answer
}

async fn show(socket: &mut Socket, page: &Page) -> End {
    match page.view.kind() {
        ViewKind::Terminal => terminal::show(socket, page).await,
        ViewKind::Display | ViewKind::Editor | ViewKind::Unspecified => {
            display::show(socket, page).await
        }
    }
}
