//! A picture of a page, for whoever asks.

use std::io;

use tokio::time::timeout;
use warren_common::Limits;
use warren_proto::pb::inside::v1::Shot;

use super::{Line, Served, Streams};
use crate::wire::WireError;

/// Sends a picture and ends. It is held no longer than whoever asked may take for it: half a frame
/// may be on its way then, so that the connection is of no use any more.
pub(super) async fn serve(streams: &Streams, shot: Shot, line: &Line) -> Result<Served, WireError> {
    match streams.browsers.shot(&shot.browser, &shot.page).await {
        Ok(picture) => timeout(Limits::SHOT_TAKEN, line.answer(picture.bytes()))
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())),
        Err(refusal) => Ok(Err(refusal)),
    }
}
