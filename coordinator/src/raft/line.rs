//! One open call to a replica, on which a leader's messages go out one after the other.
//!
//! A call of its own for each message costs both sides its headers and trailers, which is more than
//! the entries themselves under load. A line carries one message at a time: it is as the calls
//! were, and while an answer is outstanding the next entries gather.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use warren_common::ReplicaId;
use warren_proto::pb::raft::v1 as pb;

use super::network::{Api, addressed};

/// See the module.
pub(super) struct Line {
    messages: mpsc::Sender<pb::AppendStreamRequest>,
    answers: Streaming<pb::AppendStreamResponse>,
}

impl Line {
    /// Opens a line with its first message already on it.
    async fn open(
        api: &mut Api,
        to: ReplicaId,
        first: pb::AppendStreamRequest,
    ) -> Result<Self, Status> {
        let (messages, sent) = mpsc::channel(1);
        messages.try_send(first).map_err(|_| closed())?;
        let answers = api.append_stream(addressed(to, ReceiverStream::new(sent))).await?;
        Ok(Self { messages, answers: answers.into_inner() })
    }

    async fn answer(&mut self) -> Result<Bytes, Status> {
        Ok(self.answers.message().await?.ok_or_else(closed)?.payload)
    }

    async fn ask(&mut self, message: pb::AppendStreamRequest) -> Result<Bytes, Status> {
        self.messages.send(message).await.map_err(|_| closed())?;
        self.answer().await
    }
}

/// Sends a message and returns the answer, with the line for the next one. A line that broke since
/// it was last used is opened anew: the message may come twice, which changes nothing. A replica
/// that does not know lines yet gets a call.
pub(super) async fn append(
    line: Option<Line>,
    mut api: Api,
    to: ReplicaId,
    payload: Bytes,
) -> Result<(Option<Line>, Bytes), Status> {
    if let Some(mut line) = line
        && let Ok(answer) = line.ask(pb::AppendStreamRequest { payload: payload.clone() }).await
    {
        return Ok((Some(line), answer));
    }
    let first = pb::AppendStreamRequest { payload: payload.clone() };
    let opened = match Line::open(&mut api, to, first).await {
        Ok(mut line) => line.answer().await.map(|answer| (Some(line), answer)),
        Err(status) => Err(status),
    };
    match opened {
        Err(status) if status.code() == Code::Unimplemented => {
            let request = addressed(to, pb::AppendEntriesRequest { payload });
            Ok((None, api.append_entries(request).await?.into_inner().payload))
        }
        opened => opened,
    }
}

fn closed() -> Status {
    Status::unavailable("the replica ended the call")
}
