//! Bytes to and from what listens in the workspace: a port of its loopback, or a page of PID 1.
//!
//! Each direction of a port ends by itself and the other goes on, as a TCP connection does:
//! `StdinClosed` from the caller, an empty `Stdout` frame to it. A side that does not read slows the
//! other and nobody else. A page is ours: its connection ends when it does, and a browser that takes
//! nothing of it for [`Limits::VIEW_WRITE`] is gone.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::{BufMut as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, unix::OwnedReadHalf},
    sync::Notify,
    time::timeout,
};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{Connect, Exited, Frame, Opened, connect::Target, frame};

use super::{Line, Refusal, Served, Streams, pump::hangup};
use crate::{
    view::Page,
    wire::{Reader, WireError},
};

/// Bytes of a port in one piece.
const PORT_BYTES: usize = 16 * 1024;
/// One message of a caller: a frame of bytes and its head.
const SAID_BYTES: usize = Limits::FRAME_BYTES + 64;
/// For a page to say why it ends, beyond its own deadline.
const PAGE_LINGER: Duration = Duration::from_secs(5);

/// Serves one connection until both directions or the caller have ended.
pub(super) async fn serve(
    streams: &Streams,
    connect: Connect,
    reader: &mut Reader<OwnedReadHalf>,
    line: &Line,
) -> Result<Served, WireError> {
    let full = |most: usize, what: &str, then: &str| {
        let message =
            format!("{most} {what} of the workspace are open, which is the limit: {then}");
        Ok(Err(("LIMIT_REACHED", message)))
    };
    let to_port = matches!(connect.target, Some(Target::Port(_)));
    let Ok(_port) = streams.connects.ports.try_acquire_many(u32::from(to_port)) else {
        let then = "close pages and programs that use its ports, or wait until they end";
        return full(Limits::PORTS_PER_WORKSPACE, "connections to ports", then);
    };
    let Ok(_permit) = streams.connects.all.try_acquire() else {
        let then = "close some of its pages, or end a `workspace open`";
        return full(Limits::CONNECTS_PER_WORKSPACE, "connections", then);
    };
    reader.narrow(SAID_BYTES);
    let bad = |message: &str| Ok(Err(("INVALID_ARGUMENT", message.to_owned())));
    match connect.target {
        Some(Target::Port(port)) => match u16::try_from(port) {
            Ok(port) if port > 0 => match dial(port).await {
                Ok(socket) => relay(socket.into_split(), reader, line).await,
                Err(refusal) => Ok(Err(refusal)),
            },
            _ => bad("ports are 1 to 65535"),
        },
        Some(Target::View(view)) => match Page::new(streams, view) {
            Some(page) => show(page, reader, line).await,
            None => {
                let message = "this version has no such view; it has display, terminal and editor";
                Ok(Err(("PORT_CLOSED", message.to_owned())))
            }
        },
        None => bad("nothing to connect to was named"),
    }
}

/// Connects to whoever listens on the port, on either loopback.
async fn dial(port: u16) -> Result<TcpStream, Refusal> {
    let four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let dialling = async {
        match TcpStream::connect(four).await {
            Ok(socket) => Ok(socket),
            Err(error) => TcpStream::connect(six).await.map_err(|_| error),
        }
    };
    let error = match timeout(Limits::CONNECT_TIMEOUT, dialling).await {
        Ok(Ok(socket)) => {
            // an answer of few bytes is an answer too; one that cannot be hurried comes anyway
            let _ = socket.set_nodelay(true);
            return Ok(socket);
        }
        Ok(Err(error)) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    let what = "start the server in the workspace, or look with `ss -ltn` where it listens; it must \
                be on 127.0.0.1, ::1 or every address";
    let message = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("nothing listens on port {port} of the workspace; {what}")
        }
        _ => format!("port {port} of the workspace cannot be reached: {error}; {what}"),
    };
    Err(("PORT_CLOSED", message))
}

/// Serves a page until it or the caller has ended.
async fn show(
    page: Page,
    reader: &mut Reader<OwnedReadHalf>,
    line: &Line,
) -> Result<Served, WireError> {
    let (near, far) = tokio::io::duplex(Limits::VIEW_PIECE_BYTES);
    // it ends with the connection
    tokio::spawn(page.serve(far));
    let (from, to) = tokio::io::split(near);
    line.send(frame::Kind::Opened(Opened {})).await?;
    let input = async {
        if down(reader, to).await == Input::Closed {
            while let Ok(Some(_)) = reader.next::<Frame>().await {}
        }
    };
    let patience = Some(Limits::VIEW_WRITE + PAGE_LINGER);
    tokio::select! {
        biased;
        // a page that has ended hears nothing either
        sent = up(from, line, (Limits::VIEW_PIECE_BYTES, patience)) => {
            sent.map(|()| Ok(Some(Exited { code: 0, detached: false })))
        }
        () = input => Ok(Ok(None)),
    }
}

/// Moves bytes both ways until both directions or the caller have ended.
async fn relay<R, W>(
    (from, to): (R, W),
    reader: &mut Reader<OwnedReadHalf>,
    line: &Line,
) -> Result<Served, WireError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    line.send(frame::Kind::Opened(Opened {})).await?;
    let closed = Notify::new();
    let input = async {
        if down(reader, to).await == Input::Closed {
            closed.notify_one();
            // what is still said falls on deaf ears, as on a connection that was reset
            while let Ok(Some(_)) = reader.next::<Frame>().await {}
        }
    };
    let both = async { tokio::join!(up(from, line, (PORT_BYTES, None)), closed.notified()).0 };
    tokio::select! {
        biased;
        sent = both => sent.map(|()| Ok(Some(Exited { code: 0, detached: false }))),
        // nobody reads what would still come
        () = input => Ok(Ok(None)),
    }
}

/// Sends what is said until its end, in pieces; a caller that takes none of them for as long as there is
/// patience is gone.
async fn up(
    mut from: impl AsyncRead + Unpin,
    line: &Line,
    (piece, patience): (usize, Option<Duration>),
) -> Result<(), WireError> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(piece);
        // a connection that was reset has ended too
        let ended = !matches!(from.read_buf(&mut (&mut buffer).limit(piece)).await, Ok(1..));
        let sending = line.send(frame::Kind::Stdout(buffer.split().freeze()));
        match patience {
            None => sending.await?,
            Some(patience) => timeout(patience, sending).await.map_err(|_| {
                let why = format!("the browser took nothing for {} s", patience.as_secs());
                WireError::Io(io::Error::new(io::ErrorKind::TimedOut, why))
            })??,
        }
        if ended {
            return Ok(());
        }
    }
}

/// How the caller's direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// It has said everything, or what it says is not taken any more.
    Closed,
    /// It went away, or does not speak the protocol.
    Gone,
}

/// Hands on what the caller says until its end.
async fn down(reader: &mut Reader<OwnedReadHalf>, mut to: impl AsyncWrite + Unpin) -> Input {
    loop {
        match reader.next::<Frame>().await {
            Ok(Some(Frame { kind: Some(frame::Kind::Stdin(bytes)) })) => {
                let write = async {
                    to.write_all(&bytes).await?;
                    to.flush().await
                };
                let written = tokio::select! {
                    biased;
                    written = write => written,
                    () = hangup(reader) => return Input::Gone,
                };
                if written.is_err() {
                    return Input::Closed;
                }
            }
            Ok(Some(Frame { kind: Some(frame::Kind::StdinClosed(_)) })) => {
                // one that is gone has its end
                let _ = to.shutdown().await;
                return Input::Closed;
            }
            Ok(Some(Frame { kind: Some(frame::Kind::Resize(_)) })) => {}
            Ok(Some(_) | None) | Err(_) => return Input::Gone,
        }
    }
}
