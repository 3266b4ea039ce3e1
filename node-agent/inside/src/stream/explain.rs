//! Why an agent's status is what it is, for whoever asks.

use prost::Message as _;
use warren_proto::pb::inside::v1::Explain;

use super::{
    Line, Served, Streams,
    attach::{is_there, not_found},
};
use crate::wire::WireError;

/// Sends the explanation of a session's agent and ends.
pub(super) async fn serve(
    streams: &Streams,
    explain: Explain,
    line: &Line,
) -> Result<Served, WireError> {
    if !is_there(streams, &explain.session).await {
        return Ok(Err(not_found(streams, &explain.session).await));
    }
    line.answer(&streams.agents.explain(&explain.session).encode_to_vec()).await
}
