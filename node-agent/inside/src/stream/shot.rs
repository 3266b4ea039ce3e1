//! A picture of a page, for whoever asks.

use warren_proto::pb::inside::v1::Shot;

use super::{Line, Served, Streams};
use crate::wire::WireError;

/// Sends a picture and ends.
pub(super) async fn serve(streams: &Streams, shot: Shot, line: &Line) -> Result<Served, WireError> {
    match streams.browsers.shot(&shot.browser, &shot.page).await {
        Ok(picture) => line.answer(&picture).await,
        Err(refusal) => Ok(Err(refusal)),
    }
}
