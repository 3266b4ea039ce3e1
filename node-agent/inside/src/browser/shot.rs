//! Pictures of pages, for whoever asks.
//!
//! Each is taken over a connection of its own, so that a page that is slow to show itself keeps
//! nobody else from looking.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::time::timeout;
use warren_common::Limits;

use super::{
    devtools::{call, quoted},
    message::{Captured, Head, SessionId, answer},
};
use crate::websocket::{Held, Socket};

/// What surrounds a picture in its message.
const AROUND_BYTES: usize = 4096;
/// Base64 takes four bytes for three.
const LONGEST: usize = Limits::SHOT_BYTES / 3 * 4 + AROUND_BYTES;
/// What is asked for, the best first: a longer one is passed over.
const FORMATS: [&str; 2] =
    [r#"{"format":"png"}"#, r#"{"format":"jpeg","quality":50,"optimizeForSpeed":true}"#];

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShotError {
    /// The browser is out of reach.
    #[error("its DevTools do not answer")]
    Unreachable(#[from] io::Error),
    /// It does not want to.
    #[error("the browser refused: {0}")]
    Refused(String),
    /// The page shows nothing in time.
    #[error(
        "the page gave no picture within {} s: it hangs, shows a dialog or is hidden",
        Limits::SHOT_TIMEOUT.as_secs()
    )]
    Silent,
    /// Both are too large.
    #[error("its picture is larger than {} bytes", Limits::SHOT_BYTES)]
    TooLarge,
}

/// Takes a picture of a page.
///
/// # Errors
/// Why there is none.
pub(super) async fn take(place: (u16, &str), page: &str) -> Result<Vec<u8>, ShotError> {
    timeout(Limits::SHOT_TIMEOUT, shoot(place, page)).await.unwrap_or(Err(ShotError::Silent))
}

async fn shoot(place: (u16, &str), page: &str) -> Result<Vec<u8>, ShotError> {
    // one at a time: it need not share with what the conversations hold
    let mut socket = Socket::connect(place, LONGEST, &Held::default()).await?;
    let parameters = format!(r#"{{"targetId":{},"flatten":true}}"#, quoted(page));
    socket.send(&call(1, "Target.attachToTarget", &parameters, None)).await?;
    let attached = answered(&mut socket, 1).await?;
    let Some(SessionId { session_id }) = answer(&attached) else {
        return Err(ShotError::Refused("it has no such page any more".to_owned()));
    };
    for (id, format) in (2..).zip(FORMATS) {
        socket.send(&call(id, "Page.captureScreenshot", format, Some(&session_id))).await?;
        let bytes = answered(&mut socket, id).await?;
        if bytes.is_empty() {
            continue;
        }
        let Captured { data } = answer(&bytes).ok_or_else(|| refused(&bytes))?;
        let picture = STANDARD.decode(data);
        return picture.map_err(|_| ShotError::Refused("what it gave is no picture".to_owned()));
    }
    Err(ShotError::TooLarge)
}

fn refused(bytes: &[u8]) -> ShotError {
    let head = Head::read(bytes).unwrap_or_default();
    let why = head.fault().unwrap_or("what it said is not understood");
    ShotError::Refused(warren_common::status::reason(why))
}

/// Returns the answer to a call; an empty one where it was too long. Nothing else is said here that
/// could be.
async fn answered(socket: &mut Socket, id: u64) -> io::Result<Vec<u8>> {
    while let Some(bytes) = socket.next().await? {
        if bytes.is_empty() || Head::read(&bytes).and_then(|head| head.id) == Some(id) {
            return Ok(bytes);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
