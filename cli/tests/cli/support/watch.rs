//! The events of the fake coordinator, told piece by piece.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use warren_proto::{
    ApiError, Method,
    error::reason,
    pb::admin::v1::{
        self as pb, event::What, watch_response::Kind, watch_service_server::WatchService,
    },
};

use super::{
    data::NOW,
    fake::{Fake, INCARNATION},
};

type Answer = Result<pb::WatchResponse, Status>;

/// What a watch stream does next.
pub(crate) enum Piece {
    /// Tells these events.
    Events(Vec<pb::Event>),
    /// Says up to where everything was told.
    UpTo(u64),
    /// Tells these sessions.
    Sessions(pb::Sessions),
    /// Tells these browsers.
    Browsers(pb::Browsers),
    /// Breaks so; the next piece belongs to the next stream.
    End(Status),
}

/// Returns an event of the test's.
pub(crate) fn event(revision: u64, index: u32, what: What) -> pb::Event {
    pb::Event { revision, index, at_unix_ms: NOW + revision * 1000, what: Some(what) }
}

#[tonic::async_trait]
impl WatchService for Fake {
    type WatchStream = ReceiverStream<Answer>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let placed = request.from_revision > 0 || request.incarnation > 0;
        self.state().watched.push(request);
        let mut state = self.enter(Method::WatchWatch)?;
        if state.anew && placed {
            let error = ApiError::new(Code::OutOfRange, reason::RESYNC, "these are not kept");
            return Err(error.into());
        }
        let all = state.watch.len();
        let ended = state.watch.iter().position(|piece| matches!(piece, Piece::End(_)));
        let pieces: Vec<Piece> = state.watch.drain(..ended.map_or(all, |at| at + 1)).collect();
        drop(state);
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            for piece in pieces {
                let kind = match piece {
                    Piece::Events(events) => Kind::Events(pb::Events { events }),
                    Piece::UpTo(revision) => {
                        let incarnation = INCARNATION;
                        let served_unix_ms = NOW;
                        Kind::Bookmark(pb::Bookmark { revision, incarnation, served_unix_ms })
                    }
                    Piece::Sessions(sessions) => Kind::Sessions(sessions),
                    Piece::Browsers(browsers) => Kind::Browsers(browsers),
                    Piece::End(status) => {
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                };
                if sender.send(Ok(pb::WatchResponse { kind: Some(kind) })).await.is_err() {
                    return;
                }
            }
            // nothing more to tell: the stream stays open, as a real one would
            sender.closed().await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
