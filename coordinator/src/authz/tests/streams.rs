//! A stream that is open when its caller loses its standing.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::{Request as HttpRequest, Response};
use http_body::Body as _;
use tokio::{sync::watch, time::timeout};
use tonic::body::Body;
use tower::{Layer as _, Service as _, service_fn};
use warren_daemon::clock;

use super::*;

/// A body that never says anything; tells when it is dropped.
struct Silent(Arc<AtomicBool>);

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl http_body::Body for Silent {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
        std::task::Poll::Pending
    }
}

struct Site {
    revoked: Arc<AtomicBool>,
    doubts: watch::Sender<()>,
    left: Arc<AtomicBool>,
}

impl Site {
    fn new() -> Self {
        let (revoked, left) = Default::default();
        Self { revoked, doubts: watch::Sender::new(()), left }
    }

    /// Opens a stream for a person whose certificate is good for `lasts`.
    async fn open(&self, method: Method, lasts: Duration) -> Body {
        let revoked = self.revoked.clone();
        let layer = Authz::new(move |_| revoked_if(revoked.load(Ordering::Acquire)));
        let layer = layer.looking_again(self.doubts.subscribe());
        let left = self.left.clone();
        let mut service = layer.layer(service_fn(move |_: HttpRequest<()>| {
            let body = Body::new(Silent(left.clone()));
            std::future::ready(Ok::<_, Infallible>(Response::new(body)))
        }));
        let Caller::Peer { peer, address } = person(Role::Admin) else { panic!("a peer") };
        let not_after = clock::now().plus(lasts);
        let peer = Some(Arc::new(Peer { not_after, ..Peer::clone(&peer) }));
        let mut request = HttpRequest::builder().uri(method.path()).body(()).expect("a request");
        request.extensions_mut().insert(Connection::Remote { address, peer });
        service.call(request).await.expect("never fails").into_body()
    }
}

/// Returns the reason with which a stream ends.
async fn ends(body: &mut Body) -> (Code, String) {
    let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
    let frame = timeout(Duration::from_secs(60), frame).await.expect("in time");
    let frame = frame.expect("an end is told").expect("no fault");
    let trailers = frame.into_trailers().expect("trailers");
    let error = ApiError::from(&Status::from_header_map(&trailers).expect("a status"));
    assert!(body.is_end_stream());
    (error.code, error.reason.into_owned())
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_revoked_caller_is_told_on_every_kind_of_stream_and_its_handler_sees_it_leave() {
    for method in Method::ALL.iter().copied().filter(|method| method.streams()) {
        if !matches!(rule(method), Rule::People(_)) {
            continue;
        }
        let site = Site::new();
        let mut body = site.open(method, LONG).await;
        // a doubt that proves unfounded ends nothing
        site.doubts.send_replace(());
        let silent = timeout(Duration::from_millis(50), ends(&mut body)).await;
        assert!(silent.is_err() && !site.left.load(Ordering::Acquire), "{}", method.path());
        site.revoked.store(true, Ordering::Release);
        site.doubts.send_replace(());
        let revoked = (Code::Unauthenticated, reason::CERTIFICATE_REVOKED.to_owned());
        assert_eq!(ends(&mut body).await, revoked, "{}", method.path());
        assert!(site.left.load(Ordering::Acquire), "{}", method.path());
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_certificate() {
    let site = Site::new();
    let mut body = site.open(Method::WatchWatch, Duration::from_millis(100)).await;
    let expired = (Code::Unauthenticated, reason::CERTIFICATE_EXPIRED.to_owned());
    assert_eq!(ends(&mut body).await, expired);
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_passed_as_it_is() {
    let site = Site::new();
    let mut body = site.open(Method::WorkspaceListWorkspaces, LONG).await;
    site.revoked.store(true, Ordering::Release);
    site.doubts.send_replace(());
    let silent = timeout(Duration::from_millis(50), ends(&mut body)).await;
    assert!(silent.is_err());
}
