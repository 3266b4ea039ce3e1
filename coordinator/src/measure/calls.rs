//! The outermost layer of every listener: counts calls, and gives each its request id.
//!
//! A caller names its request in the metadata `warren-request-id`; on the API a call without one
//! gets a fresh one. It stands in the span of the call, so in every log line below it, and in the
//! answer's metadata. Which mutation it is, is the mutation's own field, which replaces it in the
//! span. A call ends when its last byte is sent or its caller is gone: streams count for as long
//! as they are open.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, info_span};
use uuid::Uuid;
use warren_common::RequestId;
use warren_proto::{Method, REQUEST_ID};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Calls {
    /// A call without a request id gets one: not where coordinators send heartbeats.
    pub mint: bool,
}

impl<S> Layer<S> for Calls {
    type Service = CallsService<S>;

    fn layer(&self, inner: S) -> CallsService<S> {
        CallsService { inner, mint: self.mint }
    }
}

/// See [`Calls`].
#[derive(Debug, Clone)]
pub struct CallsService<S> {
    inner: S,
    mint: bool,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S, B> Service<Request<B>> for CallsService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = named(request.uri().path());
        let id =
            asked(request.headers()).or_else(|| self.mint.then(|| RequestId::new(Uuid::now_v7())));
        let span = match id {
            Some(id) => info_span!("call", method, request = %id),
            None => Span::none(),
        };
        let open = Open::begin(method);
        let answering = span.in_scope(|| self.inner.call(request));
        let counted = async move {
            let mut response = answering.await?;
            if let Some(id) = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
                response.headers_mut().entry(REQUEST_ID).or_insert(id);
            }
            Ok(response.map(|body| open.follow(body)))
        };
        // what is answered without a handler, such as a refusal, is counted the same way
        Box::pin(async move { counted.await.map(settle) }.instrument(span))
    }
}

/// Returns the request id that a caller sent; none where it is no id.
fn asked(headers: &HeaderMap) -> Option<RequestId> {
    headers.get(REQUEST_ID)?.to_str().ok()?.parse().ok()
}

/// Returns service and RPC; one word for everything that is not Warren's, because callers choose it.
fn named(path: &str) -> &'static str {
    match Method::from_path(path) {
        Some(method) => method.path().rsplit_once(".v1.").map_or(method.path(), |(_, name)| name),
        None if path.starts_with("/grpc.health.v1.Health/") => "Health",
        None if path.starts_with("/grpc.reflection.") => "ServerReflection",
        None => "unknown",
    }
}

/// A call under way; counted when dropped.
struct Open {
    method: &'static str,
    began: Instant,
    code: Code,
}

impl Open {
    fn begin(method: &'static str) -> Self {
        metrics::gauge!("warren_rpc_calls_open", "method" => method).increment(1.0);
        // until something else is known, the caller left
        Self { method, began: Instant::now(), code: Code::Cancelled }
    }

    fn follow(self, body: Body) -> Followed {
        Followed { body, open: self }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self { method, began, code } = *self;
        metrics::gauge!("warren_rpc_calls_open", "method" => method).decrement(1.0);
        metrics::counter!("warren_rpc_calls_total", "method" => method, "code" => word(code))
            .increment(1);
        metrics::histogram!("warren_rpc_call_seconds", "method" => method)
            .record(began.elapsed().as_secs_f64());
    }
}

/// Takes the code from the head where the answer has no body.
fn settle(mut response: Response<Followed>) -> Response<Body> {
    if let Some(status) = Status::from_header_map(response.headers()) {
        response.body_mut().open.code = status.code();
    }
    response.map(Body::new)
}

/// The body of an answer, watched to its end.
struct Followed {
    body: Body,
    open: Open,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.open.code = status.code();
                }
            }
            Some(Err(status)) => self.open.code = status.code(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns gRPC's own word for a code.
const fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_of_a_closed_set() {
        assert_eq!(
            named("/warren.admin.v1.ClusterService/GetCluster"),
            "ClusterService/GetCluster"
        );
        assert_eq!(named("/grpc.health.v1.Health/Check"), "Health");
        assert_eq!(named("/anything/a-caller-likes"), "unknown");
    }

    #[test]
    fn only_an_id_is_taken_for_a_request_id() {
        let mut headers = HeaderMap::new();
        assert_eq!(asked(&headers), None);
        headers.insert(REQUEST_ID, HeaderValue::from_static("x\" forged=\"1"));
        assert_eq!(asked(&headers), None);
        let id = "0199a0b2-7f00-7000-8000-000000000001";
        headers.insert(REQUEST_ID, HeaderValue::from_static(id));
        assert_eq!(asked(&headers).map(|id| id.to_string()).as_deref(), Some(id));
    }

    #[tokio::test]
    async fn the_answer_names_the_request_and_the_code_is_found_in_head_and_trailers() {
        let id = "0199a0b2-7f00-7000-8000-000000000001";
        let answer = |status: Status| {
            tower::service_fn(move |_: Request<()>| {
                let response = status.clone().into_http::<Body>();
                async move { Ok::<_, std::convert::Infallible>(response) }
            })
        };
        let mut service = Calls { mint: true }.layer(answer(Status::not_found("x")));
        let request = Request::builder().uri("/a").header(REQUEST_ID, id).body(());
        let response = service.call(request.expect("a request")).await.expect("answered");
        assert_eq!(response.headers()[REQUEST_ID], id);
        let fresh = service.call(Request::new(())).await.expect("answered");
        assert!(asked(fresh.headers()).is_some(), "one was minted");
        let mut quiet = Calls { mint: false }.layer(answer(Status::ok("")));
        let without = quiet.call(Request::new(())).await.expect("answered");
        assert_eq!(without.headers().get(REQUEST_ID), None);
        let mut open = Open::begin("test");
        open.code = Code::Ok;
        let followed = settle(Response::new(open.follow(Body::empty())));
        assert!(followed.into_body().is_end_stream());
    }
}
