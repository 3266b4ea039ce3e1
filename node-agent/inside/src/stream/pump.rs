//! Moves bytes between a program and its caller until one of them has gone.

use std::{io, time::Duration};

use bytes::Bytes;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::{
        OwnedReadHalf,
        pipe::{Receiver, Sender},
    },
    time::{sleep, timeout},
};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{Frame, frame};

use super::Line;
use crate::{
    pty::{Pty, Size},
    reaper::Child,
    wire::Reader,
};

/// How long output may still come after the program has ended: from what it left running.
const QUIET: Duration = Duration::from_millis(200);
/// Between two looks for the caller while the program takes no input.
const LOOK: Duration = Duration::from_millis(250);
/// Ctrl-D: the end of input on a terminal.
const END_OF_INPUT: &[u8] = &[4];

/// The program's side.
#[derive(Debug)]
pub(super) enum Ends {
    /// One terminal for everything.
    Terminal(Pty),
    /// Three pipes.
    Pipes {
        /// Its standard input.
        input: Option<Sender>,
        /// Its standard output.
        output: Receiver,
        /// Its error output.
        errors: Receiver,
    },
}

/// What the caller may do beside input and resizing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signals {
    /// Send signals to the program.
    Forwarded,
    /// Nothing: a viewer has no business with the process that shows it.
    Ignored,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The program, with this code; all its output was sent.
    Program(i32),
    /// The caller went away or broke the protocol; the program may still run.
    Caller,
}

/// Serves the stream until its end.
pub(super) async fn run(
    ends: Ends,
    child: &Child,
    (reader, line): (&mut Reader<OwnedReadHalf>, &Line),
    signals: Signals,
) -> End {
    match ends {
        Ends::Terminal(pty) => {
            let input = feed(reader, Input::Terminal(&pty), child, signals);
            let output = copy(Output::Terminal(&pty), child, line, frame::Kind::Stdout);
            tokio::select! {
                () = input => End::Caller,
                sent = output => finish(sent, child).await,
            }
        }
        Ends::Pipes { input, output, errors } => {
            let input = feed(reader, Input::Pipe(input), child, signals);
            let output = copy(Output::Pipe(output), child, line, frame::Kind::Stdout);
            let errors = copy(Output::Pipe(errors), child, line, frame::Kind::Stderr);
            tokio::select! {
                () = input => End::Caller,
                sent = async { tokio::try_join!(output, errors).map(drop) } => {
                    finish(sent, child).await
                }
            }
        }
    }
}

async fn finish(sent: Result<(), Gone>, child: &Child) -> End {
    match sent {
        Ok(()) => End::Program(child.wait().await),
        Err(Gone) => End::Caller,
    }
}

/// The caller has gone.
struct Gone;

enum Output<'a> {
    Terminal(&'a Pty),
    Pipe(Receiver),
}

impl Output<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Terminal(pty) => pty.read(buffer).await,
            Self::Pipe(pipe) => pipe.read(buffer).await,
        }
    }
}

/// Sends what the program writes until its end.
async fn copy(
    mut output: Output<'_>,
    child: &Child,
    line: &Line,
    kind: fn(Bytes) -> frame::Kind,
) -> Result<(), Gone> {
    let mut buffer = vec![0; Limits::FRAME_BYTES];
    let mut ended = false;
    loop {
        let read = if ended {
            match timeout(QUIET, output.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => return Ok(()),
            }
        } else {
            tokio::select! {
                biased;
                read = output.read(&mut buffer) => read,
                _ = child.wait() => {
                    ended = true;
                    continue;
                }
            }
        };
        match read {
            // A pipe that fails has nothing more to say either.
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => {
                let bytes = Bytes::copy_from_slice(&buffer[..count]);
                line.send(kind(bytes)).await.map_err(|_| Gone)?;
            }
        }
    }
}

enum Input<'a> {
    Terminal(&'a Pty),
    Pipe(Option<Sender>),
}

/// Hands the caller's frames to the program; returns when the caller has gone.
async fn feed(
    reader: &mut Reader<OwnedReadHalf>,
    mut input: Input<'_>,
    child: &Child,
    signals: Signals,
) {
    loop {
        let Ok(Some(Frame { kind: Some(kind) })) = reader.next::<Frame>().await else { return };
        match kind {
            frame::Kind::Stdin(bytes) => {
                let written = tokio::select! {
                    biased;
                    () = input.write(&bytes) => true,
                    () = hangup(reader) => false,
                };
                if !written {
                    return;
                }
            }
            frame::Kind::StdinClosed(_) => input.close().await,
            frame::Kind::Resize(size) => {
                if let Input::Terminal(pty) = input {
                    // A terminal that is gone shows in its output.
                    let _ = pty.resize(Size::new(size.columns, size.rows));
                }
            }
            frame::Kind::Signal(asked) => {
                if let (Signals::Forwarded, Some(signal)) =
                    (signals, Signal::from_named_raw(asked.number))
                {
                    child.signal(signal);
                }
            }
            // Frames of the other direction: the caller does not speak the protocol.
            frame::Kind::Open(_)
            | frame::Kind::Opened(_)
            | frame::Kind::Stdout(_)
            | frame::Kind::Stderr(_)
            | frame::Kind::Exited(_)
            | frame::Kind::Failed(_) => return,
        }
    }
}

impl Input<'_> {
    /// Writes all of it; a program that takes no more input is not an error.
    async fn write(&mut self, mut bytes: &[u8]) {
        match self {
            Self::Terminal(pty) => {
                while !bytes.is_empty() {
                    match pty.write(bytes).await {
                        Ok(count) if count > 0 => bytes = &bytes[count..],
                        Ok(_) | Err(_) => return,
                    }
                }
            }
            Self::Pipe(pipe) => {
                let Some(open) = pipe else { return };
                if open.write_all(bytes).await.is_err() {
                    *pipe = None;
                }
            }
        }
    }

    async fn close(&mut self) {
        match self {
            Self::Terminal(_) => self.write(END_OF_INPUT).await,
            Self::Pipe(pipe) => *pipe = None,
        }
    }
}

/// Returns when the caller has closed the connection, although its frames are not being read.
pub(super) async fn hangup(reader: &Reader<OwnedReadHalf>) {
    let socket: &tokio::net::UnixStream = reader.source().as_ref();
    loop {
        sleep(LOOK).await;
        let mut polled = [PollFd::new(socket, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let gone = PollFlags::HUP | PollFlags::ERR;
        if poll(&mut polled, Some(&now)).is_err() || polled[0].revents().intersects(gone) {
            return;
        }
    }
}
