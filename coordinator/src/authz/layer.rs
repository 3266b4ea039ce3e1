//! The tower layer in front of every service of a listener.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, Response};
use tokio::sync::watch;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::info;
use warren_daemon::{
    clock,
    identity::{Connection, Peer},
};
use warren_proto::{ApiError, Method, error::reason};

use super::{
    Caller, Standing, check_standing, decide,
    guard::{Guard, Guarding},
    no_certificate,
};

/// Services beside Warren's own that whoever has a certificate may call.
const STANDARD: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// The installer's files are no RPCs: it looks at tokens itself.
const INSTALLER: &str = "/warren.install.v1.Install/";

pub(super) type Look = Arc<dyn Fn(&Peer) -> Standing + Send + Sync>;

/// Lets through what the table allows, with the [`Caller`] in the request's extensions, and answers
/// the rest. A stream is let through for as long as its caller would be: it ends with the error
/// that a new call would get.
#[derive(Clone)]
pub struct Authz {
    look: Look,
    doubts: watch::Receiver<()>,
}

impl Authz {
    /// Makes the layer; `look` is asked on each call how a peer stands, so it must be quick.
    pub fn new(look: impl Fn(&Peer) -> Standing + Send + Sync + 'static) -> Self {
        Self { look: Arc::new(look), doubts: watch::Sender::new(()).subscribe() }
    }

    /// Has streams look again whenever `doubts` changes, beside now and then.
    #[must_use]
    pub fn looking_again(self, doubts: watch::Receiver<()>) -> Self {
        Self { doubts, ..self }
    }
}

impl<S> Layer<S> for Authz {
    type Service = AuthzService<S>;

    fn layer(&self, inner: S) -> AuthzService<S> {
        AuthzService { inner, authz: self.clone() }
    }
}

/// See [`Authz`].
#[derive(Clone)]
pub struct AuthzService<S> {
    inner: S,
    authz: Authz,
}

impl<S, B> Service<Request<B>> for AuthzService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future =
        Either<Either<S::Future, Guarding<S::Future>>, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.authz.admit(&request) {
            Ok((caller, method)) => {
                let guard = self.authz.guard(method, &caller);
                request.extensions_mut().insert(caller);
                let answer = self.inner.call(request);
                Either::Left(match guard {
                    None => Either::Left(answer),
                    Some(guard) => Either::Right(Guarding::new(answer, guard)),
                })
            }
            Err(error) => {
                info!(path = request.uri().path(), reason = %error.reason, %error, "call refused");
                Either::Right(ready(Ok(Status::from(error).into_http())))
            }
        }
    }
}

impl Authz {
    /// Returns what watches over the answer of a streaming call; none for the others.
    fn guard(&self, method: Option<Method>, caller: &Caller) -> Option<Guard> {
        let method = method.filter(|method| method.streams())?;
        let Caller::Peer { peer, .. } = caller else { return None };
        let look = (self.look.clone(), self.doubts.clone());
        Some(Guard::new(method, (caller.clone(), peer.clone()), look))
    }

    fn admit<B>(&self, request: &Request<B>) -> Result<(Caller, Option<Method>), ApiError> {
        let path = request.uri().path();
        let method = Method::from_path(path);
        let connection = request.extensions().get::<Connection>().cloned();
        let caller = Caller::from(connection.ok_or_else(|| {
            ApiError::new(Code::Internal, reason::INTERNAL, "the connection is of no known kind")
        })?);
        if let Caller::Peer { peer, .. } = &caller {
            check_standing(peer, method, ((self.look)(peer), clock::now()))?;
        }
        match method {
            Some(method) => decide(method, &caller)?,
            None if path.starts_with(INSTALLER) => {}
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
        Ok((caller, method))
    }
}
