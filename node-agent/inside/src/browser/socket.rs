//! A WebSocket to a browser's DevTools on the loopback.
//!
//! It takes a message of any length: one that is longer than was asked for is read past and stands
//! empty, so that a page that says too much costs what it said and not the connection. Text alone is
//! spoken; there is nothing in between that masking would have to be proof against.

use std::{io, time::Duration};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// For the connection to be made, and for a message to be taken.
const DEADLINE: Duration = Duration::from_secs(2);
/// The answer to the handshake, at most.
const HEAD_BYTES: usize = 8 * 1024;
/// Of a message that is read past, so much is held at a time; of the others no more than is needed.
const PIECE_BYTES: usize = 16 * 1024;

const CONTINUES: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const CONTROL: u8 = 8;
/// What a control frame may hold.
const CONTROL_BYTES: u64 = 125;

/// One connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    buffer: BytesMut,
    /// The longest message that is taken.
    limit: usize,
    message: Vec<u8>,
    /// The message that is being read is too long.
    over: bool,
    frame: Option<Frame>,
}

/// The frame that is being read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    code: u8,
    last: bool,
    left: u64,
}

impl Socket {
    /// Connects to a port of the loopback.
    ///
    /// # Errors
    /// Nobody listens there, or it is no WebSocket.
    pub(super) async fn connect(port: u16, path: &str, limit: usize) -> io::Result<Self> {
        let connecting = Self::open(port, path, limit);
        timeout(DEADLINE, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn open(port: u16, path: &str, limit: usize) -> io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: d2FycmVuLWluc2lkZS4wMA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = BytesMut::new();
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if buffer.len() > HEAD_BYTES || stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        let head = buffer.split_to(end);
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other("it does not speak WebSocket there"));
        }
        let (message, over, frame) = (Vec::new(), false, None);
        Ok(Self { stream, buffer, limit, message, over, frame })
    }

    /// Sends a text.
    ///
    /// # Errors
    /// The connection is gone, or nobody reads.
    pub(super) async fn send(&mut self, text: &str) -> io::Result<()> {
        self.write(TEXT, text.as_bytes()).await
    }

    /// Returns the next message, an empty one in place of one that was too long; none at the end.
    /// Cancel safe.
    ///
    /// # Errors
    /// The connection broke, or what came is no WebSocket.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(frame) = self.frame else {
                match head(&mut self.buffer)? {
                    Some(frame) => self.begin(frame)?,
                    None if self.fill().await? => {}
                    None => return Ok(None),
                }
                continue;
            };
            if frame.code >= CONTROL {
                if self.has(frame.left) {
                    let content = self.take(frame.left);
                    self.frame = None;
                    match frame.code {
                        CLOSE => return Ok(None),
                        PING => self.write(PONG, &content).await?,
                        _ => {}
                    }
                } else if !self.fill().await? {
                    return Ok(None);
                }
                continue;
            }
            let there = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX).min(frame.left);
            let piece = self.take(there);
            if !self.over {
                self.message.extend_from_slice(&piece);
            }
            let left = frame.left - there;
            if left > 0 {
                self.frame = Some(Frame { left, ..frame });
                if !self.fill().await? {
                    return Ok(None);
                }
                continue;
            }
            self.frame = None;
            if frame.last {
                self.over = false;
                return Ok(Some(std::mem::take(&mut self.message)));
            }
        }
    }

    fn begin(&mut self, frame: Frame) -> io::Result<()> {
        match frame.code {
            CONTINUES | TEXT | 2 => {
                let room = self.limit.saturating_sub(self.message.len());
                if frame.left > u64::try_from(room).unwrap_or(u64::MAX) {
                    (self.over, self.message) = (true, Vec::new());
                }
            }
            _ if frame.left > CONTROL_BYTES => return Err(io::ErrorKind::InvalidData.into()),
            _ => {}
        }
        self.frame = Some(frame);
        Ok(())
    }

    fn has(&self, bytes: u64) -> bool {
        u64::try_from(self.buffer.len()).unwrap_or(u64::MAX) >= bytes
    }

    fn take(&mut self, bytes: u64) -> BytesMut {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.buffer.len());
        self.buffer.split_to(bytes)
    }

    /// Reads more; returns false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::with_capacity(PIECE_BYTES);
        }
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    async fn write(&mut self, code: u8, content: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | code];
        match u16::try_from(content.len()) {
            Ok(length @ 0..126) => frame.push(0x80 | u8::try_from(length).unwrap_or_default()),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend(u64::try_from(content.len()).unwrap_or(u64::MAX).to_be_bytes());
            }
        }
        // a mask of zeros
        frame.extend([0; 4]);
        frame.extend_from_slice(content);
        let written = timeout(DEADLINE, self.stream.write_all(&frame)).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Takes the head of the next frame; none where it is not all there.
fn head(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    let [first, second, ..] = buffer[..] else { return Ok(None) };
    let (more, masked) = match second & 0x7f {
        126 => (2, second & 0x80 != 0),
        127 => (8, second & 0x80 != 0),
        _ => (0, second & 0x80 != 0),
    };
    // a server does not mask, and nothing was agreed on for the reserved bits
    if masked || first & 0x70 != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if buffer.len() < 2 + more {
        return Ok(None);
    }
    let left = match more {
        0 => u64::from(second & 0x7f),
        _ => buffer[2..2 + more].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    buffer.advance(2 + more);
    Ok(Some(Frame { code: first & 0x0f, last: first & 0x80 != 0, left }))
}
