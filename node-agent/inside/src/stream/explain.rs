//! Why an agent's status is what it is, for whoever asks.

use prost::Message as _;
use warren_common::{Limits, SessionName};
use warren_proto::pb::inside::v1::{Exited, Explain, Opened, frame};

use super::{Line, Served, Streams, attach};
use crate::wire::WireError;

/// Sends the explanation of a session's agent and ends.
pub(super) async fn serve(
    streams: &Streams,
    explain: Explain,
    line: &Line,
) -> Result<Served, WireError> {
    let named = explain.session.parse::<SessionName>().is_ok();
    if !named || !streams.keeper.tmux().has(&explain.session).await {
        return Ok(Err(attach::not_found(streams, &explain.session).await));
    }
    line.send(frame::Kind::Opened(Opened {})).await?;
    let mut bytes = bytes::Bytes::from(streams.agents.explain(&explain.session).encode_to_vec());
    while !bytes.is_empty() {
        let next = bytes.split_to(bytes.len().min(Limits::FRAME_BYTES));
        line.send(frame::Kind::Stdout(next)).await?;
    }
    Ok(Ok(Some(Exited { code: 0, detached: false })))
}
