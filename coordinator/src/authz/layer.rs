//! The tower layer in front of every service of a listener.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::info;
use warren_daemon::{
    clock,
    identity::{Connection, Peer},
};
use warren_proto::{ApiError, Method, error::reason};

use super::{Caller, check_standing, decide, no_certificate};

/// Services beside Warren's own that whoever has a certificate may call.
const STANDARD: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

type Revoked = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// Lets through what the table allows, with the [`Caller`] in the request's extensions, and answers
/// the rest.
#[derive(Clone)]
pub struct Authz {
    revoked: Revoked,
}

impl Authz {
    /// Makes the layer; `revoked` is asked on each call whether a peer's serial is on the deny-list
    /// or its node is gone, so it must be quick.
    pub fn new(revoked: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        Self { revoked: Arc::new(revoked) }
    }
}

impl<S> Layer<S> for Authz {
    type Service = AuthzService<S>;

    fn layer(&self, inner: S) -> AuthzService<S> {
        AuthzService { inner, revoked: self.revoked.clone() }
    }
}

/// See [`Authz`].
#[derive(Clone)]
pub struct AuthzService<S> {
    inner: S,
    revoked: Revoked,
}

impl<S, B> Service<Request<B>> for AuthzService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.admit(&request) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            Err(error) => {
                info!(path = request.uri().path(), reason = %error.reason, %error, "call refused");
                Either::Right(ready(Ok(Status::from(error).into_http())))
            }
        }
    }
}

impl<S> AuthzService<S> {
    fn admit<B>(&self, request: &Request<B>) -> Result<Caller, ApiError> {
        let path = request.uri().path();
        let method = Method::from_path(path);
        let connection = request.extensions().get::<Connection>().cloned();
        let caller = Caller::from(connection.ok_or_else(|| {
            ApiError::new(Code::Internal, reason::INTERNAL, "the connection is of no known kind")
        })?);
        if let Caller::Peer { peer, .. } = &caller {
            check_standing(peer, method, ((self.revoked)(peer), clock::now()))?;
        }
        match method {
            Some(method) => decide(method, &caller)?,
            None if STANDARD.iter().any(|service| path.starts_with(service)) => {
                if let Caller::Anonymous { .. } = caller {
                    return Err(no_certificate());
                }
            }
            None => {
                let path: String = path.chars().take(100).collect();
                let message = format!("no such call: {path:?}");
                return Err(ApiError::new(Code::Unimplemented, reason::UNKNOWN_METHOD, message)
                    .next("upgrade the older of the two programs"));
            }
        }
        Ok(caller)
    }
}
