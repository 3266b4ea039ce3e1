//! A WebSocket to a program of the workspace: a browser's DevTools, Codex's daemon.
//!
//! It takes a message of any length: one that is longer than was asked for, or than there is room for
//! among all that have not ended, is read past and stands empty, so that a page that says too much costs
//! what it said and not the connection. One that does not end does cost it. Text alone is spoken; there is
//! nothing in between that masking would have to be proof against.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use warren_common::Limits;

/// For the connection to be made.
const DEADLINE: Duration = Duration::from_secs(2);
/// The answer to the handshake, at most.
const HEAD_BYTES: usize = 8 * 1024;
/// Of a message that is read past, so much is held at a time; of the others no more than is needed.
const PIECE_BYTES: usize = 16 * 1024;

const CONTINUES: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const CONTROL: u8 = 8;
/// What a control frame may hold.
const CONTROL_BYTES: u64 = 125;
/// Control frames between the ends of two messages; a browser sends none at all.
const CONTROLS: u32 = 64;

/// What all messages of one workspace hold that have not ended; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

/// One connection.
#[derive(Debug)]
pub(crate) struct Socket<S = TcpStream> {
    stream: S,
    buffer: BytesMut,
    message: Message,
    frame: Option<Frame>,
    controls: u32,
    /// What was said and is not sent yet, so that a call that is dropped leaves no half a frame.
    unsent: BytesMut,
    /// Since when something is not.
    stuck: Option<Instant>,
}

/// The message that is being read.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    /// The longest that is taken.
    limit: usize,
    held: Held,
    /// When its first frame came; none between two messages.
    began: Option<Instant>,
    /// It is too long: what it says is read past.
    over: bool,
    /// What it says altogether, as its frames announce it.
    said: u64,
}

/// The frame that is being read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    code: u8,
    last: bool,
    left: u64,
}

impl Message {
    fn new(limit: usize, held: Held) -> Self {
        Self { bytes: Vec::new(), limit, held, began: None, over: false, said: 0 }
    }

    /// Takes in the head of a frame of it.
    fn begin(&mut self, frame: Frame) -> io::Result<()> {
        if (frame.code == CONTINUES) != self.began.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // also where bytes are always there, so that nothing is ever waited for
        if self.began.get_or_insert_with(Instant::now).elapsed() > Limits::DEVTOOLS_TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.said = self.said.saturating_add(frame.left);
        if self.said > Limits::DEVTOOLS_PASSED_BYTES {
            return Err(io::Error::other("it says more at once than anybody reads"));
        }
        if self.said > u64::try_from(self.limit).unwrap_or(u64::MAX) {
            self.pass();
        }
        Ok(())
    }

    fn add(&mut self, piece: &[u8]) {
        if self.over {
            return;
        }
        let before = self.held.0.fetch_add(piece.len(), Ordering::Relaxed);
        self.bytes.extend_from_slice(piece);
        if before + piece.len() > Limits::DEVTOOLS_HELD_BYTES {
            self.pass();
        }
    }

    /// Holds nothing of it any more.
    fn pass(&mut self) {
        self.over = true;
        self.take();
    }

    fn end(&mut self) -> Vec<u8> {
        (self.began, self.over, self.said) = (None, false, 0);
        self.take()
    }

    fn take(&mut self) -> Vec<u8> {
        self.held.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.take();
    }
}

impl Socket {
    /// Connects to a port of the loopback. Messages up to `limit` are taken.
    ///
    /// # Errors
    /// Nobody listens there, or it is no WebSocket.
    pub(crate) async fn connect(
        (port, path): (u16, &str),
        limit: usize,
        held: &Held,
    ) -> io::Result<Self> {
        let host = format!("127.0.0.1:{port}");
        Self::over(TcpStream::connect(("127.0.0.1", port)), (&host, path), limit, held).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Asks for `path` of `host` over what `connecting` comes to. Messages up to `limit` are taken.
    ///
    /// # Errors
    /// Nobody listens there, or it is no WebSocket.
    pub(crate) async fn over(
        connecting: impl Future<Output = io::Result<S>>,
        place: (&str, &str),
        limit: usize,
        held: &Held,
    ) -> io::Result<Self> {
        let (stream, buffer) = timed(Instant::now(), DEADLINE, open(connecting, place)).await?;
        let message = Message::new(limit, held.clone());
        let unsent = BytesMut::new();
        Ok(Self { stream, buffer, message, frame: None, controls: 0, unsent, stuck: None })
    }

    /// Sends a text. Cancel safe: what is left is sent with whatever comes next.
    ///
    /// # Errors
    /// The connection is gone, or nobody reads.
    pub(crate) async fn send(&mut self, text: &str) -> io::Result<()> {
        self.say(TEXT, text.as_bytes());
        self.flush().await
    }

    /// Returns the next message, an empty one in place of one that was too long; none at the end.
    /// Cancel safe.
    ///
    /// # Errors
    /// The connection broke, a message did not end in time, or what came is no WebSocket.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            self.flush().await?;
            let Some(frame) = self.frame else {
                match head(&mut self.buffer)? {
                    Some(frame) => self.begin(frame)?,
                    None if self.fill().await? => {}
                    None => return Ok(None),
                }
                continue;
            };
            if frame.code >= CONTROL {
                if !self.has(frame.left) {
                    if !self.fill().await? {
                        return Ok(None);
                    }
                    continue;
                }
                let content = self.take(frame.left);
                self.frame = None;
                match frame.code {
                    CLOSE => return Ok(None),
                    PING => self.say(PONG, &content),
                    _ => {}
                }
                continue;
            }
            let there = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX).min(frame.left);
            let piece = self.take(there);
            self.message.add(&piece);
            let left = frame.left - there;
            self.frame = (left > 0).then_some(Frame { left, ..frame });
            if left > 0 {
                if !self.fill().await? {
                    return Ok(None);
                }
            } else if frame.last {
                self.controls = 0;
                return Ok(Some(self.message.end()));
            }
        }
    }

    fn begin(&mut self, frame: Frame) -> io::Result<()> {
        match frame.code {
            CONTINUES | TEXT | BINARY => self.message.begin(frame)?,
            CLOSE | PING | PONG if frame.left <= CONTROL_BYTES && self.controls < CONTROLS => {
                self.controls += 1;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
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

    /// Reads more; returns false at the end. A message that has begun is waited for until its time.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::with_capacity(PIECE_BYTES);
        }
        let reading = self.stream.read_buf(&mut self.buffer);
        let count = match self.message.began {
            Some(began) => timed(began, Limits::DEVTOOLS_TIMEOUT, reading).await?,
            None => reading.await?,
        };
        Ok(count > 0)
    }

    /// Puts a frame behind what is not sent yet.
    fn say(&mut self, code: u8, content: &[u8]) {
        self.unsent.extend_from_slice(&framed(code, content));
    }

    /// Sends what is not sent yet. Cancel safe.
    async fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let since = *self.stuck.get_or_insert_with(Instant::now);
            let writing = self.stream.write_buf(&mut self.unsent);
            if timed(since, Limits::DEVTOOLS_TIMEOUT, writing).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.stuck = None;
        Ok(())
    }
}

/// Waits until `limit` after `since`.
async fn timed<T>(
    since: Instant,
    limit: Duration,
    doing: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let in_time = timeout_at(since + limit, doing).await;
    in_time.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Connects and shakes hands; returns what came behind the answer too.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    connecting: impl Future<Output = io::Result<S>>,
    (host, path): (&str, &str),
) -> io::Result<(S, BytesMut)> {
    let mut stream = connecting.await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
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
    Ok((stream, buffer))
}

/// Returns a frame as a client sends it.
fn framed(code: u8, content: &[u8]) -> Vec<u8> {
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
    frame
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

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, net::TcpListener, time::timeout};

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    }

    /// Returns a connection and its server's side, the handshake done.
    async fn pair(limit: usize, held: &Held) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serve = async {
            let (mut far, _) = listener.accept().await.expect("a caller");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                far.read_buf(&mut asked).await.expect("a request");
            }
            far.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.expect("it reads");
            far
        };
        let (socket, far) = tokio::join!(Socket::connect((port, "/x"), limit, held), serve);
        (socket.expect("a WebSocket"), far)
    }

    fn frame(code: u8, last: bool, content: &[u8]) -> Vec<u8> {
        let mut frame = vec![if last { 0x80 | code } else { code }, 127];
        frame.extend(u64::try_from(content.len()).expect("short").to_be_bytes());
        frame.extend_from_slice(content);
        frame
    }

    #[test]
    fn what_is_unfinished_is_bounded_over_all_connections() {
        block_on(async {
            let held = Held::default();
            let part = Limits::DEVTOOLS_HELD_BYTES / 2;
            let (mut one, mut far_one) = pair(part + 9, &held).await;
            let (mut other, mut far_other) = pair(part + 9, &held).await;
            let begun = frame(TEXT, false, &vec![b'x'; part]);
            far_one.write_all(&begun).await.expect("it reads");
            let brief = Duration::from_millis(200);
            assert!(timeout(brief, one.next()).await.is_err(), "it has not ended");
            assert_eq!(held.0.load(Ordering::Relaxed), part);
            // there is room for this one, but not for a byte more
            far_other.write_all(&begun).await.expect("it reads");
            assert!(timeout(brief, other.next()).await.is_err());
            far_other.write_all(&frame(CONTINUES, true, b"y")).await.expect("it reads");
            assert_eq!(other.next().await.expect("open"), Some(Vec::new()), "read past");
            far_one.write_all(&frame(CONTINUES, true, b"y")).await.expect("it reads");
            assert_eq!(
                one.next().await.expect("open").map(|message| message.len()),
                Some(part + 1)
            );
            far_one.write_all(&begun).await.expect("it reads");
            assert!(timeout(brief, one.next()).await.is_err());
            drop((one, other));
            assert_eq!(held.0.load(Ordering::Relaxed), 0, "nothing stays behind");
        });
    }

    #[test]
    fn a_message_that_does_not_end_ends_the_conversation() {
        block_on(async {
            let (mut socket, mut far) = pair(100, &Held::default()).await;
            far.write_all(&frame(CONTINUES, true, b"a")).await.expect("it reads");
            let nothing = socket.next().await.expect_err("there is none to be continued");
            assert_eq!(nothing.kind(), io::ErrorKind::InvalidData);
            let (mut socket, mut far) = pair(100, &Held::default()).await;
            let began = Instant::now();
            far.write_all(&frame(TEXT, false, b"a")).await.expect("it reads");
            let dripping = async {
                // each comes in time, and none is the last
                while far.write_all(&frame(CONTINUES, false, b"")).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                std::future::pending::<()>().await;
            };
            let end = tokio::select! {
                end = socket.next() => end,
                () = dripping => unreachable!("it drips for ever"),
            };
            assert_eq!(end.expect_err("it waits").kind(), io::ErrorKind::TimedOut);
            let took = began.elapsed();
            assert!(took >= Limits::DEVTOOLS_TIMEOUT && took < 2 * Limits::DEVTOOLS_TIMEOUT);
        });
    }

    #[test]
    fn one_that_says_more_than_anybody_reads_or_floods_is_left() {
        block_on(async {
            let (mut socket, mut far) = pair(100, &Held::default()).await;
            let mut endless = vec![TEXT, 127];
            endless.extend((Limits::DEVTOOLS_PASSED_BYTES + 1).to_be_bytes());
            far.write_all(&endless).await.expect("it reads");
            assert!(socket.next().await.is_err());
            let (mut socket, mut far) = pair(100, &Held::default()).await;
            let pings = frame(PING, true, b"p").repeat(1000);
            let flooding = async { drop(far.write_all(&pings).await) };
            let (end, ()) = tokio::join!(socket.next(), flooding);
            assert!(end.is_err());
        });
    }

    #[test]
    fn an_answer_to_a_ping_is_whole_however_often_it_is_dropped() {
        block_on(async {
            let (mut socket, mut far) = pair(100, &Held::default()).await;
            let ping = frame(PING, true, &[7; 125]);
            far.write_all(&ping.repeat(3)).await.expect("it reads");
            far.write_all(&frame(TEXT, true, b"hi")).await.expect("it reads");
            let message = loop {
                // dropped after every step that it waits at
                let brief = timeout(Duration::ZERO, socket.next()).await;
                if let Ok(message) = brief {
                    break message.expect("open");
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(message.as_deref(), Some(&b"hi"[..]));
            let mut expected = framed(PONG, &[7; 125]).repeat(3);
            socket.send("after").await.expect("open");
            expected.extend(framed(TEXT, b"after"));
            let mut seen = vec![0; expected.len()];
            far.read_exact(&mut seen).await.expect("it comes");
            assert_eq!(seen, expected);
        });
    }
}
