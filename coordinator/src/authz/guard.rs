//! Streams last as long as their caller's standing.
//!
//! [`super::Authz`] puts a guard around the answer of every streaming call, so that no handler has
//! to think of it: once the certificate has expired or was revoked, or the table would refuse the
//! caller, the stream ends with the error that a new call would get, and its handler sees its
//! reader leave.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tonic::{Status, body::Body};
use tracing::info;
use warren_daemon::{clock, identity::Peer};
use warren_proto::{ApiError, Method};

use super::{Caller, check_standing, decide, layer::Look};

/// The clock may jump, and expiry makes no noise: look at least this often.
const LOOK: Duration = Duration::from_secs(30);

/// Says when and why a caller may not go on.
pub(super) struct Guard(Pin<Box<dyn Future<Output = ApiError> + Send>>);

impl Guard {
    /// Watches over one caller of one streaming method: how it stands, looked at again when
    /// told to.
    pub(super) fn new(
        method: Method,
        (caller, peer): (Caller, Arc<Peer>),
        (look, mut doubts): (Look, watch::Receiver<()>),
    ) -> Self {
        Self(Box::pin(async move {
            loop {
                doubts.mark_unchanged();
                let now = clock::now();
                let good = check_standing(&peer, Some(method), (look(&peer), now));
                if let Err(error) = good.and_then(|()| decide(method, &caller)) {
                    info!(path = method.path(), reason = %error.reason, %error, "stream ended");
                    return error;
                }
                let later = tokio::time::sleep(peer.not_after.since(now).min(LOOK));
                tokio::select! {
                    Ok(()) = doubts.changed() => {}
                    () = later => {}
                }
            }
        }))
    }
}

/// The answer of a streaming call, to be guarded once it is there.
pub struct Guarding<F> {
    answer: Pin<Box<F>>,
    guard: Option<Guard>,
}

impl<F> Guarding<F> {
    pub(super) fn new(answer: F, guard: Guard) -> Self {
        Self { answer: Box::pin(answer), guard: Some(guard) }
    }
}

impl<F, E> Future for Guarding<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.answer.as_mut().poll(context));
        let guard = self.guard.take();
        Poll::Ready(answer.map(|answer| match guard {
            Some(guard) => answer.map(|inner| Body::new(Guarded { inner, guard: Some(guard) })),
            None => answer,
        }))
    }
}

/// A stream that ends with its caller's standing.
struct Guarded {
    inner: Body,
    /// None once it has spoken.
    guard: Option<Guard>,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(guard) = &mut self.guard else { return Poll::Ready(None) };
        if let Poll::Ready(error) = guard.0.as_mut().poll(context) {
            self.guard = None;
            // whoever feeds the stream sees that nobody reads it any more
            self.inner = Body::empty();
            let mut trailers = HeaderMap::new();
            let written = Status::from(error).add_header(&mut trailers);
            return Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.guard.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
