//! The display: RFB between a browser and the VNC server, filtered by who has control.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::{
    Response,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{MissedTickBehavior, interval},
};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use warren_proto::pb::inside::v1::View;

use super::{
    Answer, Page,
    control::{Control, Seat},
    rfb::Filter,
    socket::Socket,
};

/// For the VNC server to be started and to answer.
const VNC_WAIT: Duration = Duration::from_secs(15);
/// Between two looks whether control has ended.
const LOOK: Duration = Duration::from_millis(250);
const PIECE: usize = 16 * 1024;
/// Code of a close frame that says why.
const TROUBLE: u16 = 4000;

/// What the page asks for every other second.
#[derive(Serialize)]
struct State {
    watching: u32,
    /// Somebody has control.
    taken: bool,
    /// This page asked for it.
    asked: bool,
    /// This page has it, for so long.
    left_ms: Option<u64>,
}

/// Says how the display stands for a viewer.
pub(super) fn state(control: &Control, view: &View) -> Answer {
    let seen = control.seen(&view.token);
    let left_ms = seen.left.map(|left| left.as_millis().try_into().unwrap_or(u64::MAX));
    let asked = view.control_ms > 0;
    let state = State { watching: seen.watching, taken: seen.taken, asked, left_ms };
    // of numbers and truth values alone: it cannot fail
    let json = serde_json::to_vec(&state).unwrap_or_default();
    let mut answer = Response::new(Full::new(Bytes::from(json)));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Shows the display until the browser or the VNC server goes.
pub(super) async fn show(mut socket: Socket, page: &Page) -> Result<(), String> {
    let services = &page.streams.services;
    let wanted = Duration::from_millis(page.view.control_ms.into());
    let wanted = (!wanted.is_zero()).then_some(wanted);
    let path = services.vnc_socket();
    let lease = services.vnc.want(VNC_WAIT).await;
    let server = match &lease {
        Some(_) => connect(&path).await,
        None => Err("the display's VNC server does not answer".to_owned()),
    };
    let why = match server {
        Ok(server) => {
            let seat = page.streams.control.sit(&page.view.token, wanted);
            relay(&mut socket, server, &seat).await
        }
        Err(why) => Err(why),
    };
    if let Err(why) = &why {
        let frame = CloseFrame { code: TROUBLE.into(), reason: why.clone().into() };
        // a browser that has gone is not told
        let _ = socket.close(Some(frame)).await;
    }
    why
}

async fn connect(path: &Path) -> Result<UnixStream, String> {
    let connected = UnixStream::connect(path).await;
    connected.map_err(|error| format!("the display's VNC server does not answer: {error}"))
}

async fn relay(socket: &mut Socket, server: UnixStream, seat: &Seat) -> Result<(), String> {
    let (mut read, mut write) = server.into_split();
    let gone = |error: std::io::Error| format!("the display's VNC server went away: {error}");
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    let mut buffer = vec![0; PIECE];
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut controlled = false;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    controlled = ended(controlled, seat, &mut filter, &mut out);
                    filter.feed(&bytes, controlled, &mut out).map_err(|why| why.to_string())?;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Text(_))) => return Err("it sent text".to_owned()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    // what it held down must not stay down
                    filter.release(&mut out);
                    return write.write_all(&out).await.map_err(gone);
                }
            },
            count = read.read(&mut buffer) => match count.map_err(gone)? {
                0 => return Err("the display's VNC server went away".to_owned()),
                count => {
                    let bytes = Bytes::copy_from_slice(&buffer[..count]);
                    if socket.send(Message::Binary(bytes)).await.is_err() {
                        filter.release(&mut out);
                        return write.write_all(&out).await.map_err(gone);
                    }
                }
            },
            _ = look.tick() => controlled = ended(controlled, seat, &mut filter, &mut out),
        }
        write.write_all(&out).await.map_err(gone)?;
        out.clear();
    }
}

/// Returns whether this page has control now; lets go of what it holds down where that has ended.
fn ended(before: bool, seat: &Seat, filter: &mut Filter, out: &mut Vec<u8>) -> bool {
    let now = seat.controls();
    if before && !now {
        filter.release(out);
    }
    now
}
