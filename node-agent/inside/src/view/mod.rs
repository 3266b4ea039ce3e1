//! Pages of a workspace, for one browser: the display, a session's terminal and the editor.
//!
//! The bytes of a stream are a browser's connection; HTTP is spoken on them here, and nothing listens
//! anywhere. The page itself is no secret. Whatever it shows needs the token that the command line
//! minted, and a Host and an Origin that are the command line's: a name that leads to the same
//! address, or a page of another site, gets nothing.

mod assets;
mod browser;
pub(crate) mod control;
mod display;
mod editor;
mod hands;
mod rfb;
mod socket;
mod state;
mod terminal;
pub(crate) mod viewers;

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::DuplexStream;
use warren_proto::pb::inside::v1::{View, ViewKind};

use crate::stream::Streams;

/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Carries the token beside a request that is no WebSocket.
const TOKEN: &str = "x-warren-token";
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                   img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// An answer whose body may come piece by piece.
type Answer = Response<BoxBody<Bytes, BoxError>>;

/// One browser's view.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    streams: Streams,
    view: View,
}

impl Page {
    /// Returns the view, where this version has such a page.
    pub(crate) fn new(streams: &Streams, view: View) -> Option<Self> {
        let known = view.kind() != ViewKind::Unspecified;
        let page = Self { streams: streams.clone(), view };
        // without a token nobody could be told from anybody
        (known && page.view.token.len() >= 16).then_some(page)
    }

    /// Serves one connection of the browser to its end.
    pub(crate) async fn serve(self, connection: DuplexStream) {
        let answer = service_fn(async |request: Request<Incoming>| {
            let editor = self.view.kind() == ViewKind::Editor && self.is_ours(&request);
            Ok::<_, Infallible>(match editor {
                true => editor::answer(&self, request).await,
                false => self.answer(request),
            })
        });
        let serving = http1::Builder::new()
            // a connection on which nothing is asked is closed after a while
            .timer(TokioTimer::new())
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(connection), answer)
            .with_upgrades();
        // a browser that breaks off tells nobody anything
        let _ = serving.await;
    }

    fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let mut answer = if !self.is_ours(&request) {
            text(StatusCode::FORBIDDEN, "this address is for another page")
        } else {
            match (request.method(), path.as_str()) {
                (&Method::GET, "/state" | "/socket") | (&Method::POST, "/give" | "/take") => {
                    self.guarded(request, &path)
                }
                (&Method::GET, _) => {
                    assets::serve(self.view.kind(), &path, &self.streams.config.modules)
                }
                _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET"),
            }
        };
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, CSP),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
        ] {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }

    /// Whether the request is for the address that the browser was sent to, from no other site.
    fn is_ours(&self, request: &Request<Incoming>) -> bool {
        let value = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        let origin = format!("http://{}", self.view.host);
        value(header::HOST) == Some(self.view.host.as_bytes())
            && value(header::ORIGIN).is_none_or(|named| named == origin.as_bytes())
    }

    fn guarded(&self, request: Request<Incoming>, path: &str) -> Answer {
        let shown = match path {
            "/socket" => socket::token(&request),
            _ => request.headers().get(TOKEN).and_then(|token| token.to_str().ok()),
        };
        if !shown.is_some_and(|shown| same(shown, &self.view.token)) {
            return text(StatusCode::FORBIDDEN, "the token in the address is missing or another");
        }
        let control = &self.streams.control;
        match path {
            "/socket" => return socket::upgrade(self.clone(), request),
            "/give" | "/take" => control.give(&self.view.token, path == "/give"),
            _ => {}
        }
        state::tell(control, &self.view)
    }
}

/// Compares in a time that does not tell where two texts differ.
fn same(one: &str, other: &str) -> bool {
    let differ = one.bytes().zip(other.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
    one.len() == other.len() && differ == 0
}

fn text(status: StatusCode, words: &str) -> Answer {
    let mut answer = whole(Bytes::from(format!("{words}\n")));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

/// Answers with what is there already.
fn whole(body: Bytes) -> Answer {
    Response::new(Full::new(body).map_err(|never: Infallible| match never {}).boxed())
}
