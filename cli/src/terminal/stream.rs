//! One interactive stream: frames to and from a workspace, through coordinator and node.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, codegen::Bytes};
use warren_common::{Limits, status::clean};
use warren_proto::{
    error::reason,
    pb::{
        admin::v1::{OpenStreamRequest, OpenStreamResponse, StreamTarget, open_stream_request},
        inside::v1::{Failed, Frame, Open, frame, open},
    },
};

use crate::{
    api::{self, Api, Patience},
    error::{Error, Kind},
};

/// How long the workspace may take to answer, beyond the tunnel's own deadline.
const OPENING: Duration = Duration::from_secs(5);

/// Whether opening twice does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// A viewer or a log.
    Allowed,
    /// A program: it would run twice.
    Never,
}

/// What comes back.
#[derive(Debug)]
pub(crate) enum Event {
    /// Output.
    Stdout(Bytes),
    /// Error output.
    Stderr(Bytes),
    /// The program ended, or the viewer left on purpose.
    Exited {
        /// Its exit code.
        code: i32,
        /// The program runs on.
        detached: bool,
    },
    /// It could not be opened, or must not go on.
    Refused(Error),
    /// The connection broke: opening again may help.
    Lost(String),
}

/// An open stream.
pub(crate) struct Stream {
    up: mpsc::Sender<OpenStreamRequest>,
    down: Streaming<OpenStreamResponse>,
}

impl Stream {
    /// Opens a stream and waits until the other end is there.
    ///
    /// # Errors
    /// Why it could not be opened; [`Kind::Unreachable`] where trying again may help.
    pub(crate) async fn open(
        api: &mut Api,
        workspace: &str,
        (what, repeat): (open::What, Repeat),
    ) -> Result<Self, Error> {
        let open = Some(Open { what: Some(what) });
        let patience = match repeat {
            Repeat::Allowed => Patience::Short,
            Repeat::Never => Patience::Once,
        };
        let opened = api.call_round(patience, async |channel, last| {
            let (up, queue) = mpsc::channel(Limits::STREAM_QUEUE);
            let target = StreamTarget { workspace: workspace.to_owned(), open: open.clone(), last };
            let kind = Some(open_stream_request::Kind::Target(target));
            // the queue is empty: the first request always fits
            let _ = up.try_send(OpenStreamRequest { kind });
            let answer = api::sessions(channel).open_stream(ReceiverStream::new(queue)).await?;
            Ok(answer.map(|down| (up, down)))
        });
        let (up, down) = opened.await?;
        let mut stream = Self { up, down };
        let limit = Limits::TUNNEL_TIMEOUT + OPENING;
        match tokio::time::timeout(limit, stream.first()).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(lost_error(workspace, "it did not answer in time")),
        }
    }

    async fn first(&mut self) -> Result<(), Error> {
        match self.frame().await {
            Ok(Some(frame::Kind::Opened(_))) => Ok(()),
            Ok(Some(frame::Kind::Failed(failed))) => Err(refused(&failed)),
            Ok(_) => Err(lost_error("the workspace", "the stream ended before it was open")),
            Err(error) => Err(error),
        }
    }

    /// Returns the next frame's content; none at the end.
    async fn frame(&mut self) -> Result<Option<frame::Kind>, Error> {
        match self.down.message().await {
            Ok(answer) => Ok(answer.and_then(|answer| answer.frame).and_then(|frame| frame.kind)),
            Err(status) if api::is_lost(&status) => {
                Err(lost_error("the workspace", status.message()))
            }
            Err(status) => Err(api::plain(&status)),
        }
    }

    /// Returns what comes next. Cancel safe.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            return match self.frame().await {
                Ok(Some(frame::Kind::Stdout(bytes))) => Event::Stdout(bytes),
                Ok(Some(frame::Kind::Stderr(bytes))) => Event::Stderr(bytes),
                Ok(Some(frame::Kind::Exited(exited))) => {
                    Event::Exited { code: exited.code, detached: exited.detached }
                }
                Ok(Some(frame::Kind::Failed(failed))) => broken(refused(&failed)),
                Ok(Some(
                    frame::Kind::Open(_)
                    | frame::Kind::Opened(_)
                    | frame::Kind::Stdin(_)
                    | frame::Kind::StdinClosed(_)
                    | frame::Kind::Resize(_)
                    | frame::Kind::Signal(_),
                )) => continue,
                Ok(None) => Event::Lost("the stream ended without an exit code".to_owned()),
                Err(error) => broken(error),
            };
        }
    }

    /// Returns the queue towards the workspace.
    pub(super) const fn up(&self) -> &mpsc::Sender<OpenStreamRequest> {
        &self.up
    }

    /// Ends our half, so that what was sent still arrives, and returns the other half until its
    /// end. Never [`StdinClosed`]: in a terminal that would be typed, as Ctrl-D.
    ///
    /// [`StdinClosed`]: warren_proto::pb::inside::v1::StdinClosed
    pub(super) fn leave(self) -> Leaving {
        let (up, _) = mpsc::channel(1);
        Leaving(Self { up, down: self.down })
    }
}

/// A stream whose input has ended.
pub(super) struct Leaving(Stream);

impl Leaving {
    /// Returns the next output; none at the end.
    pub(super) async fn output(&mut self) -> Option<Bytes> {
        match self.0.next().await {
            Event::Stdout(bytes) => Some(bytes),
            Event::Stderr(_) | Event::Exited { .. } | Event::Refused(_) | Event::Lost(_) => None,
        }
    }
}

/// Returns a frame as a request.
pub(super) fn request(kind: frame::Kind) -> OpenStreamRequest {
    let frame = Frame { kind: Some(kind) };
    OpenStreamRequest { kind: Some(open_stream_request::Kind::Frame(frame)) }
}

/// What may pass by itself is a loss, the rest a refusal.
fn broken(error: Error) -> Event {
    match error.kind {
        Kind::Unreachable => Event::Lost(error.why.unwrap_or(error.message)),
        Kind::Failed
        | Kind::Usage
        | Kind::NotFound
        | Kind::Conflict
        | Kind::Timeout
        | Kind::NotPermitted
        | Kind::BrokenPipe => Event::Refused(error),
    }
}

fn lost_error(what: &str, why: &str) -> Error {
    let message = format!("the connection to {what} broke");
    Error::new(Kind::Unreachable, "CONNECTION_LOST", message).why(why)
}

/// Returns the error of a `Failed` frame by its stable reason.
fn refused(failed: &Failed) -> Error {
    let kind = match failed.reason.as_str() {
        reason::SESSION_NOT_FOUND | reason::NOT_FOUND => Kind::NotFound,
        reason::NOT_RUNNING
        | reason::WRONG_STATE
        | reason::PORT_CLOSED
        | reason::LIMIT_REACHED
        | "TOO_MANY_STREAMS" => Kind::Conflict,
        reason::NODE_UNREACHABLE
        | reason::UNREACHABLE
        | reason::TIMEOUT
        | "NODE_DISCONNECTED"
        | "SHUTTING_DOWN"
        | "STREAM_BROKEN" => Kind::Unreachable,
        reason::NOT_PERMITTED => Kind::NotPermitted,
        _ => Kind::Failed,
    };
    let message = match failed.message.is_empty() {
        true => format!("the stream failed with {}", failed.reason),
        false => clean(&failed.message, Limits::REASON_BYTES),
    };
    Error::new(kind, &clean(&failed.reason, Limits::NAME_BYTES), message)
}
