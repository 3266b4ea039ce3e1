//! A browser at the far end of a WebSocket: it may stop reading, or vanish without a word.
//!
//! What is heard of it and what it is shown are two halves, so that a half that waits hides nothing
//! from the other. Each half has its deadline: [`Limits::VIEW_SILENT`] for a word of the browser,
//! which is asked for one each [`Limits::VIEW_PING`], and [`Limits::VIEW_WRITE`] for it to take what
//! it is shown. A browser that is gone is gone within the longer of the two.

use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use warren_common::{Limits, status};

use super::socket::Socket;

/// What a close frame has room for beside its code.
const CLOSE_BYTES: usize = 123;
/// Code of a close frame: connecting again is of no use.
const FINAL: u16 = 4000;
/// Code of a close frame: connecting again may help.
const PASSING: u16 = 4001;

/// How a view ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The browser left.
    Left,
    /// The browser is taken for gone: it would take no word.
    Gone(String),
    /// The browser is sent away and may come again.
    Passing(String),
    /// The browser is sent away and need not come again.
    Final(String),
}

/// What a browser says.
#[derive(Debug)]
pub(super) enum Said {
    /// Bytes for what is shown.
    Bytes(Bytes),
    /// A word for the page's server.
    Text(String),
}

/// What is heard of a browser.
pub(super) struct Ear<'a> {
    stream: SplitStream<&'a mut Socket>,
    until: Instant,
}

/// What a browser is shown.
pub(super) struct Mouth<'a> {
    sink: SplitSink<&'a mut Socket, Message>,
    ping: Interval,
}

/// Returns the two halves of a browser.
pub(super) fn halves(socket: &mut Socket) -> (Ear<'_>, Mouth<'_>) {
    let (sink, stream) = socket.split();
    let now = Instant::now();
    let mut ping = interval_at(now + Limits::VIEW_PING, Limits::VIEW_PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    (Ear { stream, until: now + Limits::VIEW_SILENT }, Mouth { sink, ping })
}

impl Ear<'_> {
    /// Returns what the browser says next. Cancel safe.
    ///
    /// # Errors
    /// It says nothing more.
    pub(super) async fn next(&mut self) -> Result<Said, End> {
        loop {
            let Ok(message) = timeout_at(self.until, self.stream.next()).await else {
                let silent = Limits::VIEW_SILENT.as_secs();
                return Err(End::Gone(format!("nothing was heard of the browser for {silent} s")));
            };
            self.until = Instant::now() + Limits::VIEW_SILENT;
            match message {
                Some(Ok(Message::Binary(bytes))) => return Ok(Said::Bytes(bytes)),
                Some(Ok(Message::Text(text))) => return Ok(Said::Text(text.as_str().to_owned())),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(Error::Capacity(_))) => {
                    let most = Limits::VIEW_MESSAGE_BYTES;
                    let why = format!("the browser sent a message of more than {most} bytes");
                    return Err(End::Final(why));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Left),
            }
        }
    }
}

impl Mouth<'_> {
    /// Shows some bytes.
    ///
    /// # Errors
    /// The browser takes nothing more.
    pub(super) async fn show(&mut self, bytes: Bytes) -> Result<(), End> {
        self.send(Message::Binary(bytes)).await
    }

    /// Returns when the browser is to be asked whether it is there. Cancel safe.
    pub(super) async fn due(&mut self) {
        self.ping.tick().await;
    }

    /// Asks whether it is there.
    ///
    /// # Errors
    /// The browser takes nothing more.
    pub(super) async fn ask(&mut self) -> Result<(), End> {
        self.send(Message::Ping(Bytes::new())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(Limits::VIEW_WRITE, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left),
            Err(_) => {
                let stuck = Limits::VIEW_WRITE.as_secs();
                Err(End::Gone(format!("the browser took nothing for {stuck} s")))
            }
        }
    }
}

impl End {
    /// Tells the browser, where that may be heard, and returns what is to be known of it here.
    pub(super) async fn tell(self, mut socket: Socket) -> Option<String> {
        let (code, why) = match self {
            Self::Left => return None,
            Self::Gone(why) => return Some(why),
            Self::Passing(why) => (PASSING, why),
            Self::Final(why) => (FINAL, why),
        };
        let reason = status::clean(&why, CLOSE_BYTES).into();
        let frame = CloseFrame { code: CloseCode::from(code), reason };
        // one that has gone meanwhile is not told
        let _ = timeout(Limits::VIEW_RELEASE, socket.close(Some(frame))).await;
        Some(why)
    }
}
