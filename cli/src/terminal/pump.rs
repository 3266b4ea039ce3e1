//! Moves bytes between our terminal or pipes and a stream until one of them ends.
//!
//! One loop waits for everything at once. What is to go up waits in a short queue of its own, so
//! that a workspace that does not read never keeps its output, or the detach keys, from us.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tonic::codegen::Bytes;
use warren_common::Limits;
use warren_proto::pb::{
    admin::v1::OpenStreamRequest,
    inside::v1::{Resize, Signal as SignalFrame, StdinClosed, frame},
};

use super::{
    detach::Detacher,
    input::Input,
    pipe,
    raw::Raw,
    size,
    stream::{Event, Stream, request},
};
use crate::error::{Error, Kind};

/// Pieces of input waiting to go up, at most: enough for a large paste.
const WAITING: usize = 64;
/// How long input typed before the detach keys may take to go up.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Why the pump stopped.
#[derive(Debug)]
pub(super) enum End {
    /// The program ended with this code.
    Exited(i32),
    /// The viewer was detached by the other side; the program runs on.
    Detached,
    /// The detach keys were typed, or our terminal went away.
    Left,
    /// A signal told us to go.
    Signal(i32),
    /// It must not go on.
    Refused(Error),
    /// The connection broke.
    Lost(String),
}

/// What to do with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnSignal {
    /// Pass it on to the program; the second one ends us.
    Forward,
    /// End.
    Leave,
}

/// Signals that end a program, and changes of the window.
pub(crate) struct Signals {
    ends: Ends,
    window: Signal,
}

/// Signals that end a program, by number.
struct Ends([(i32, Signal); 4]);

impl Signals {
    /// Begins to catch them: from here on none of them ends the process by itself.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) fn catch() -> Result<Self, Error> {
        let catch = |kind: SignalKind| {
            signal(kind).map_err(|error| Error::pipe("catching signals", &error))
        };
        let end = |kind: SignalKind| Ok((kind.as_raw_value(), catch(kind)?));
        Ok(Self {
            ends: Ends([
                end(SignalKind::interrupt())?,
                end(SignalKind::terminate())?,
                end(SignalKind::hangup())?,
                end(SignalKind::quit())?,
            ]),
            window: catch(SignalKind::window_change())?,
        })
    }

    /// Returns the next signal that ends a program. Cancel safe.
    pub(super) async fn next(&mut self) -> i32 {
        self.ends.next().await
    }
}

impl Ends {
    async fn next(&mut self) -> i32 {
        let [a, b, c, d] = &mut self.0;
        tokio::select! {
            _ = a.1.recv() => a.0,
            _ = b.1.recv() => b.0,
            _ = c.1.recv() => c.0,
            _ = d.1.recv() => d.0,
        }
    }
}

/// One stream being moved.
pub(super) struct Pump<'a> {
    /// The other end.
    pub(super) stream: &'a mut Stream,
    /// Where input comes from; none where none is passed on.
    pub(super) input: Option<&'a mut Input>,
    /// The keys that leave.
    pub(super) keys: Option<&'a mut Detacher>,
    /// Our terminal, where it is raw.
    pub(super) raw: Option<&'a Raw>,
    /// Typed bytes are not sent, but still watched for the detach keys.
    pub(super) mute: bool,
    /// The end of input is passed on; in a terminal it would be typed, as Ctrl-D.
    pub(super) close: bool,
    /// What to do with signals.
    pub(super) on_signal: OnSignal,
}

impl Pump<'_> {
    /// Runs until one side ends.
    ///
    /// # Errors
    /// Where our own terminal or pipes fail.
    pub(super) async fn run(mut self, signals: &mut Signals) -> Result<End, Error> {
        let Signals { ends, window } = signals;
        let up = self.stream.up().clone();
        let mut waiting: VecDeque<frame::Kind> = VecDeque::new();
        let mut signalled = false;
        let mut input_open = self.input.is_some();
        if !input_open && self.close {
            waiting.push_back(frame::Kind::StdinClosed(StdinClosed {}));
        }
        loop {
            let room = input_open && waiting.len() < WAITING;
            tokio::select! {
                event = self.stream.next() => {
                    if let Some(end) = self.output(event).await? {
                        return Ok(end);
                    }
                }
                typed = typed(self.input.as_deref_mut()), if room => match typed {
                    Some(bytes) => {
                        if self.typed(&bytes, &mut waiting) {
                            last_words(&up, &mut waiting).await;
                            return Ok(End::Left);
                        }
                    }
                    None if self.keys.is_some() => return Ok(End::Left),
                    None => {
                        input_open = false;
                        if self.close {
                            waiting.push_back(frame::Kind::StdinClosed(StdinClosed {}));
                        }
                    }
                },
                () = send(&up, &mut waiting), if !waiting.is_empty() => {}
                _ = window.recv(), if self.raw.is_some() => {
                    waiting.push_back(resize());
                }
                number = ends.next() => {
                    if signalled || self.on_signal == OnSignal::Leave {
                        return Ok(End::Signal(number));
                    }
                    signalled = true;
                    waiting.push_front(frame::Kind::Signal(SignalFrame { number }));
                }
            }
        }
    }

    /// Shows output; returns the end where it is one.
    async fn output(&self, event: Event) -> Result<Option<End>, Error> {
        match event {
            Event::Stdout(bytes) => {
                if let Some(raw) = self.raw {
                    raw.watch(&bytes);
                }
                pipe::stdout(&bytes).await.map(|()| None)
            }
            Event::Stderr(bytes) => pipe::stderr(&bytes).await.map(|()| None),
            Event::Exited { detached: true, .. } => Ok(Some(End::Detached)),
            Event::Exited { code, detached: false } => Ok(Some(End::Exited(code))),
            Event::Refused(error) => Ok(Some(End::Refused(error))),
            Event::Lost(why) => Ok(Some(End::Lost(why))),
        }
    }

    /// Queues typed bytes; returns whether the detach keys were among them.
    fn typed(&mut self, bytes: &Bytes, waiting: &mut VecDeque<frame::Kind>) -> bool {
        let (pass, left) = match &mut self.keys {
            Some(keys) => {
                let (pass, left) = keys.feed(bytes);
                (Bytes::from(pass), left)
            }
            None => (bytes.clone(), false),
        };
        if !pass.is_empty() && !self.mute {
            waiting.extend(pieces(&pass));
        }
        left
    }
}

/// Held-back detach keys can make input a little longer than a frame.
fn pieces(bytes: &Bytes) -> impl Iterator<Item = frame::Kind> {
    let pieces = bytes.chunks(Limits::FRAME_BYTES);
    pieces.map(|piece| frame::Kind::Stdin(Bytes::copy_from_slice(piece)))
}

async fn typed(input: Option<&mut Input>) -> Option<Bytes> {
    match input {
        Some(input) => input.next().await,
        None => None,
    }
}

/// Sends the first waiting piece. Cancel safe: it is taken only once there is room.
async fn send(up: &mpsc::Sender<OpenStreamRequest>, waiting: &mut VecDeque<frame::Kind>) {
    match up.reserve().await {
        Ok(permit) => {
            if let Some(kind) = waiting.pop_front() {
                permit.send(request(kind));
            }
        }
        // the stream is over, which its other half will say
        Err(_) => std::future::pending().await,
    }
}

/// What was typed before the detach keys still goes up, if it can at once.
async fn last_words(up: &mpsc::Sender<OpenStreamRequest>, waiting: &mut VecDeque<frame::Kind>) {
    let all = async {
        while !waiting.is_empty() {
            send(up, waiting).await;
        }
    };
    let _ = timeout(LAST_WORDS, all).await;
}

fn resize() -> frame::Kind {
    let (columns, rows) = size();
    frame::Kind::Resize(Resize { columns: columns.into(), rows: rows.into() })
}

/// Returns the error of a stream that broke and is not opened again.
pub(super) fn lost(what: &str, why: String) -> Error {
    let message = format!("the connection to {what} broke");
    Error::new(Kind::Unreachable, "CONNECTION_LOST", message).why(why)
}

/// Returns a remote exit code as ours; what does not fit is an error of its own.
pub(super) fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(1)
}
