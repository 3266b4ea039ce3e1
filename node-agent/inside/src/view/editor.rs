//! The editor: what a browser asks of code-server, passed on over its unix socket.
//!
//! code-server trusts whoever reaches its socket, so the page's own wall stands here: the address
//! that the command line printed sets a cookie once, and nothing passes without it.

use std::{io, path::Path, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request, StatusCode,
    body::Incoming,
    client::conn::http1,
    header::{COOKIE, HeaderValue, LOCATION, SET_COOKIE},
};
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional, net::UnixStream};

use super::{Answer, BoxError, HEAD_BYTES, Page, same, text};

/// For the editor to be started and to answer.
const EDITOR_WAIT: Duration = Duration::from_secs(60);

/// Answers one request: with a cookie for the token, or with what the editor says to one that
/// carries it.
pub(super) async fn answer(page: &Page, mut request: Request<Incoming>) -> Answer {
    let name = cookie_name(&page.view.host);
    let shown = take_cookie(request.headers_mut(), &name);
    if !shown.is_some_and(|shown| same(&shown, &page.view.token)) {
        let query = request.uri().query().unwrap_or_default();
        let token = query.split('&').find_map(|part| part.strip_prefix("token="));
        if !token.is_some_and(|token| same(token, &page.view.token)) {
            let words = "the token is missing: open the address that warren workspace open printed";
            return text(StatusCode::FORBIDDEN, words);
        }
        return welcome(&name, &page.view.token);
    }
    let services = &page.streams.services;
    let Some(lease) = services.editor.want(EDITOR_WAIT).await else {
        let words = "the editor does not answer; warren workspace show says why";
        return text(StatusCode::BAD_GATEWAY, words);
    };
    match pass(&services.editor_socket(), request, lease).await {
        Ok(answer) => answer,
        Err(error) => text(StatusCode::BAD_GATEWAY, &format!("the editor did not answer: {error}")),
    }
}

/// Cookies know no ports: each command's has a name of its own.
fn cookie_name(host: &str) -> String {
    format!("warren-{}", host.rsplit_once(':').map_or("", |(_, port)| port))
}

/// Sets the cookie and leads to the page without the token in its address.
fn welcome(name: &str, token: &str) -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "the editor is at /");
    let cookie = format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    answer
}

/// Takes our cookie out of a request and returns its value; the others stay.
fn take_cookie(headers: &mut HeaderMap, name: &str) -> Option<String> {
    let mut ours = None;
    let mut others = Vec::new();
    for value in headers.get_all(COOKIE) {
        for part in value.to_str().ok()?.split(';').map(str::trim) {
            match part.split_once('=') {
                Some((key, value)) if key == name => ours = Some(value.to_owned()),
                _ => others.push(part.to_owned()),
            }
        }
    }
    headers.remove(COOKIE);
    if let Ok(rest) = HeaderValue::try_from(others.join("; ")).as_ref()
        && !rest.is_empty()
    {
        headers.insert(COOKIE, rest.clone());
    }
    ours
}

/// Passes one request on over a connection of its own, which goes on where both sides agree to
/// speak something else. `lease` keeps the editor up meanwhile.
async fn pass(
    socket: &Path,
    mut request: Request<Incoming>,
    lease: impl Send + 'static,
) -> Result<Answer, BoxError> {
    let connection = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(connection)).await?;
    tokio::spawn(async move {
        // one that breaks off shows in the answer
        let _ = connection.with_upgrades().await;
    });
    let browser = hyper::upgrade::on(&mut request);
    let mut answer = sender.send_request(request).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let editor = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            let _lease = lease;
            let joined = async {
                let (browser, editor) =
                    tokio::try_join!(browser, editor).map_err(io::Error::other)?;
                copy_bidirectional(&mut TokioIo::new(browser), &mut TokioIo::new(editor)).await
            };
            // either side may leave
            let _ = joined.await;
        });
    }
    Ok(answer.map(|body| body.map_err(Into::into).boxed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cookie_is_taken_and_the_others_stay() {
        let name = cookie_name("127.0.0.1:4711");
        assert_eq!(name, "warren-4711");
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; warren-4711=x; b=2"));
        headers.append(COOKIE, HeaderValue::from_static("warren-4712=y"));
        assert_eq!(take_cookie(&mut headers, &name).as_deref(), Some("x"));
        assert_eq!(headers[COOKIE], "a=1; b=2; warren-4712=y");
        assert_eq!(take_cookie(&mut headers, &name), None);
        headers.remove(COOKIE);
        assert_eq!(take_cookie(&mut headers, &name), None);
        assert!(!headers.contains_key(COOKIE));
    }
}
