//! What a new server needs to become a node, served to whoever holds a join token.
//!
//! Plain files over HTTP/2 on the API's own port, so that a server needs nothing but curl: the
//! installer (`deploy/install-node`) with the checksums of what belongs to it, and those files. The
//! printed command pins this coordinator's public key, so the installer is ours and what it fetches
//! is checked against it. The files are served for a token alone: strangers get a few kilobytes and
//! no more. A transfer that breaks off goes on where it was (`Range`).

mod body;
mod files;

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::{body::Body, server::NamedService};
use tower::Service;
use tracing::{debug, info};
use warren_common::Timestamp;
use warren_daemon::{clock, token::JoinToken};
use warren_model::ClusterState;

pub use files::{Files, InstallPaths};
use files::{Item, Offer};

use crate::raft::Consensus;

/// What every path begins with.
pub const NAME: &str = "warren.install.v1.Install";
/// The installer, as the repository has it.
const SCRIPT: &str = include_str!("../../../deploy/install-node");
const UNIT: &str = include_str!("../../../deploy/systemd/warren-node-agent.service");
const SUPERVISE: &str = include_str!("../../../deploy/supervise");

/// Returns the path of the installer.
pub fn script_path() -> String {
    format!("/{NAME}/script")
}

/// Serves the installer; clones share everything.
#[derive(Clone)]
pub struct Install {
    files: Arc<Files>,
    consensus: Consensus,
}

impl NamedService for Install {
    const NAME: &'static str = NAME;
}

/// Why a request is not answered.
struct Refused(StatusCode, String);

impl Install {
    /// Makes the service.
    pub fn new(files: Arc<Files>, consensus: Consensus) -> Self {
        Self { files, consensus }
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match self.find(&path, &request).await {
            Ok(response) => response,
            Err(Refused(status, why)) => {
                info!(path, %status, why, "the installer was refused");
                // curl shows nothing of it with -f, and people may ask without
                let body = Body::new(body::Whole::from(format!("{why}\n")));
                plain(status, body)
            }
        }
    }

    async fn find<B>(&self, path: &str, request: &Request<B>) -> Result<Response<Body>, Refused> {
        if request.method() != Method::GET {
            let why = "only GET is served here".to_owned();
            return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, why));
        }
        let item = path.strip_prefix(&format!("/{NAME}/")).unwrap_or_default();
        if item == "script" {
            let files = Arc::clone(&self.files);
            let offer = tokio::task::spawn_blocking(move || files.offer()).await;
            let failed = |why: String| Refused(StatusCode::SERVICE_UNAVAILABLE, why);
            let offer = offer.map_err(|why| failed(why.to_string()))?.map_err(failed)?;
            return Ok(plain(StatusCode::OK, Body::new(body::Whole::from(script(&offer)))));
        }
        let found = Item::named(item).ok_or_else(|| {
            Refused(StatusCode::NOT_FOUND, format!("there is no {item:?} in the installer"))
        })?;
        self.admit(request)?;
        match found {
            Item::Unit => Ok(plain(StatusCode::OK, Body::new(body::Whole::from(UNIT.to_owned())))),
            Item::Supervise => {
                Ok(plain(StatusCode::OK, Body::new(body::Whole::from(SUPERVISE.to_owned()))))
            }
            Item::Agent | Item::Inside | Item::Image => self.file(found, request).await,
        }
    }

    /// Lets a request through that shows a token which was minted here and is not over.
    fn admit<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        let shown = request.headers().get(header::AUTHORIZATION);
        let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = shown.and_then(|text| text.parse::<JoinToken>().ok());
        let Some(token) = token else {
            let why = "a join token is needed: warren node token".to_owned();
            return Err(Refused(StatusCode::UNAUTHORIZED, why));
        };
        match is_good(&self.consensus.local(), &token, clock::now()) {
            true => Ok(()),
            false => {
                let why = "the join token is not good, or not any more: warren node token";
                Err(Refused(StatusCode::FORBIDDEN, why.to_owned()))
            }
        }
    }

    async fn file<B>(&self, item: Item, request: &Request<B>) -> Result<Response<Body>, Refused> {
        let from = match request.headers().get(header::RANGE) {
            None => 0,
            Some(range) => from_of(range).ok_or_else(|| {
                let why = "only ranges of the form bytes=N- are served".to_owned();
                Refused(StatusCode::RANGE_NOT_SATISFIABLE, why)
            })?,
        };
        let files = Arc::clone(&self.files);
        let opened = tokio::task::spawn_blocking(move || files.open(item, from)).await;
        let opened = opened.map_err(|why| io::Error::other(why.to_string())).and_then(|one| one);
        let (file, length) = opened.map_err(|error| {
            let why = format!("it cannot be read on the coordinator: {error}");
            Refused(StatusCode::NOT_FOUND, why)
        })?;
        if from > length {
            let why = format!("it has {length} bytes");
            return Err(Refused(StatusCode::RANGE_NOT_SATISFIABLE, why));
        }
        debug!(?item, from, length, "a file of the installer is served");
        let status = if from == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
        let mut response = plain(status, Body::new(body::Part::new(file, length - from)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length - from));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if from > 0 {
            let last = length.saturating_sub(1);
            let range = HeaderValue::try_from(format!("bytes {from}-{last}/{length}"));
            headers.extend(range.ok().map(|range| (header::CONTENT_RANGE, range)));
        }
        Ok(response)
    }
}

/// Whether a node's token was minted here and its time is not over. A spent one is good too: the
/// installer that was interrupted is run again.
fn is_good(state: &ClusterState, token: &JoinToken, now: Timestamp) -> bool {
    let known = state.tokens.get(&token.id);
    known.is_some_and(|known| known.secret_hash == token.secret_hash() && known.expires > now)
}

fn plain(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let text = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

/// Reads `bytes=N-`.
fn from_of(range: &HeaderValue) -> Option<u64> {
    range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Returns the installer with what it may fetch, as shell assignments in front of it: every value is
/// of our own making and holds no quote.
fn script(offer: &Offer) -> String {
    let mut head = String::from("#!/bin/sh\n# Made by a Warren coordinator.\n");
    let mut set = |name: &str, value: &str| {
        let safe = |c: &char| c.is_ascii_alphanumeric() || ".:/+=-_[]".contains(*c);
        let value: String = value.chars().filter(safe).collect();
        head.push_str(&format!("{name}='{value}'\n"));
    };
    set("WARREN_COORDINATOR", &offer.address);
    set("WARREN_PIN", &offer.pin);
    set("WARREN_PATH", &format!("/{NAME}"));
    set("WARREN_ARCH", std::env::consts::ARCH);
    set("WARREN_VERSION", env!("CARGO_PKG_VERSION"));
    set("SHA_unit", &files::hex(&files::digest(UNIT.as_bytes())));
    set("SHA_supervise", &files::hex(&files::digest(SUPERVISE.as_bytes())));
    for (name, digest) in
        [("agent", Some(offer.agent)), ("inside", Some(offer.inside)), ("image", offer.image)]
    {
        set(&format!("SHA_{name}"), &digest.map(|digest| files::hex(&digest)).unwrap_or_default());
    }
    let body = SCRIPT.split_once('\n').map_or(SCRIPT, |(_, body)| body);
    head + body
}

impl<B> Service<Request<B>> for Install
where
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let install = self.clone();
        // what comes with a GET is not read
        let (parts, _) = request.into_parts();
        let request = Request::from_parts(parts, ());
        Box::pin(async move { Ok(install.answer(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_open_ranges_are_read() {
        let read = |text: &str| from_of(&HeaderValue::from_str(text).expect("a value"));
        assert_eq!(read("bytes=17-"), Some(17));
        for odd in ["bytes=1-2", "bytes=-5", "bytes=1-,3-", "items=1-", "bytes=x-"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn nothing_that_an_address_holds_leaves_its_quotes() {
        let offer = Offer {
            address: "h'; rm -rf /; '.example:7400".to_owned(),
            pin: "AAAA+/=".to_owned(),
            agent: [1; 32],
            inside: [2; 32],
            image: None,
        };
        let script = script(&offer);
        assert!(script.starts_with("#!/bin/sh\n"), "{}", &script[..80]);
        assert!(script.contains("WARREN_COORDINATOR='hrm-rf/.example:7400'\n"));
        assert!(script.contains(&format!("SHA_agent='{}'\n", "01".repeat(32))));
        assert!(script.contains("SHA_image=''\n") && script.contains("WARREN_PIN='AAAA+/='\n"));
        assert!(script.trim_end().ends_with("main \"$@\""), "a cut copy does nothing");
    }
}
