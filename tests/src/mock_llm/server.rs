//! HTTP around the three APIs.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::{Asked, Event, anthropic, gemini, openai};
use crate::{Daemon, Host, Stage, program::binary, wait_until};

/// The port it listens on, in a host of its own.
pub const PORT: u16 = 8089;

/// Starts the server as a process in a host's network; its log has a line for each request, with
/// the prompts before the newest one.
///
/// # Errors
/// Fails where it does not listen.
pub fn start(stage: &Stage, host: &Host) -> Result<Daemon> {
    let address = format!("{}:{PORT}", host.address());
    let program = host.program(binary("warren-test-mock-llm")?).args([&address]);
    let mut daemon = Daemon::start("mock-llm", stage.root(), program)?;
    wait_until("the models' stand-in listens", Duration::from_secs(10), || {
        daemon.check()?;
        anyhow::ensure!(daemon.log().contains("listening"), "it does not say so yet");
        Ok(())
    })?;
    Ok(daemon)
}

/// Serves on `address` for ever.
///
/// # Errors
/// Fails where the address cannot be bound.
pub async fn serve(address: &str) -> Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot bind {address}"))?;
    eprintln!("listening on {address}");
    accept(listener).await
}

async fn accept(listener: TcpListener) -> Result<()> {
    let refused = Arc::new(Refused::default());
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        let refused = Arc::clone(&refused);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let refused = Arc::clone(&refused);
                async move { Ok::<_, Infallible>(answer(request, &refused).await) }
            });
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // whoever asked may hang up in the middle of an answer: that is what Esc does
            if let Err(error) = served.await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

/// How often each prompt was refused.
#[derive(Default)]
struct Refused(Mutex<HashMap<String, u32>>);

impl Refused {
    /// Counts one more, and returns whether that is within `times`.
    fn once_more(&self, prompt: &str, times: Option<u32>) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(prompt.to_owned()).or_default();
        *count = count.saturating_add(1);
        times.is_none_or(|times| *count <= times)
    }
}

type Reply = Response<BoxBody<Bytes, Infallible>>;

/// Which of the APIs was called.
#[derive(Debug, Clone, Copy)]
enum Api {
    Anthropic,
    OpenAi,
    Gemini,
}

impl Api {
    fn refusal(self, status: u16) -> Value {
        match self {
            Self::Anthropic => anthropic::refusal(status),
            Self::OpenAi => openai::refusal(status),
            Self::Gemini => gemini::refusal(status),
        }
    }
}

async fn answer(request: Request<Incoming>, refused: &Refused) -> Reply {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if parts.method == Method::HEAD {
        return whole(StatusCode::OK, None);
    }
    if parts.method == Method::GET {
        eprintln!("GET {path}");
        return whole(StatusCode::OK, Some(&json!({"object": "list", "data": [], "models": []})));
    }
    if let Some(encoding) = parts.headers.get(header::CONTENT_ENCODING) {
        eprintln!("POST {path}: packed as {encoding:?}");
        return whole(StatusCode::UNSUPPORTED_MEDIA_TYPE, None);
    }
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let tokens = bytes.len() / 4;
    let last = path.rsplit('/').next().unwrap_or_default();
    match last {
        "count_tokens" => whole(StatusCode::OK, Some(&json!({"input_tokens": tokens}))),
        "messages" => told(Api::Anthropic, &anthropic::read(&body), refused).await,
        "responses" => told(Api::OpenAi, &openai::read(&body), refused).await,
        _ if last.ends_with(":countTokens") => {
            whole(StatusCode::OK, Some(&json!({"totalTokens": tokens})))
        }
        _ if last.ends_with("enerateContent") => {
            told(Api::Gemini, &gemini::read(&body, last), refused).await
        }
        _ => {
            eprintln!("POST {path}: nothing is known of it");
            whole(StatusCode::OK, Some(&json!({})))
        }
    }
}

async fn told(api: Api, asked: &Asked, refused: &Refused) -> Reply {
    let answer = asked.answer();
    eprintln!(
        "{api:?}: {} tools, {} done, {answer:?}{}, before it {:?}",
        asked.tools.len(),
        asked.stand.done,
        if asked.aside.is_some() { " (aside)" } else { "" },
        asked.stand.earlier,
    );
    tokio::time::sleep(answer.hang).await;
    if let Some((status, times)) = answer.refusal
        && refused.once_more(&asked.stand.prompt, times)
    {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return whole(status, Some(&api.refusal(status.as_u16())));
    }
    let act = &answer.act;
    if asked.streams {
        return streamed(match api {
            Api::Anthropic => anthropic::events(asked, act),
            Api::OpenAi => openai::events(asked, act),
            Api::Gemini => gemini::events(asked, act),
        });
    }
    let body = match api {
        Api::Anthropic => anthropic::whole(asked, act),
        Api::OpenAi => openai::whole(asked, act),
        Api::Gemini => gemini::whole(asked, act),
    };
    whole(StatusCode::OK, Some(&body))
}

fn whole(status: StatusCode, body: Option<&Value>) -> Reply {
    let text = body.map(ToString::to_string).unwrap_or_default();
    let mut reply = Response::new(Full::from(text).boxed());
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    reply
}

fn streamed(events: Vec<Event>) -> Reply {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for event in events {
            tokio::time::sleep(event.pause).await;
            let name = event.name.map(|name| format!("event: {name}\n")).unwrap_or_default();
            let text = format!("{name}data: {}\n\n", event.data);
            // gone: the person pressed Esc
            if sender.send(Ok(Frame::data(Bytes::from(text)))).await.is_err() {
                return;
            }
        }
    });
    let mut reply = Response::new(StreamBody::new(ReceiverStream::new(receiver)).boxed());
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    reply
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Posts a body as an agent would, and returns all that comes back.
    async fn post(address: &str, path: &str, body: &Value) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    async fn listening() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(accept(listener));
        address
    }

    #[tokio::test]
    async fn each_api_streams_its_own_events() {
        let address = listening().await;
        let prompt = json!([{"role": "user", "content": "[[say hello]]"}]);
        let tools = json!([{"name": "Bash"}]);
        let body = json!({"stream": true, "messages": prompt, "tools": tools});
        let answer = post(&address, "/v1/messages?beta=true", &body).await;
        assert!(answer.contains("content-type: text/event-stream"), "{answer}");
        assert!(answer.contains("event: message_start\ndata: {"), "{answer}");
        assert!(answer.contains("hello") && answer.contains("event: message_stop"), "{answer}");

        let content = json!([{"type": "input_text", "text": "[[say hello]]"}]);
        let body = json!({"stream": true, "input": [{"role": "user", "content": content}]});
        let answer = post(&address, "/v1/responses", &body).await;
        assert!(answer.contains("event: response.completed\ndata: {"), "{answer}");
        assert!(answer.contains("hello"), "{answer}");

        let body = json!({"contents": [{"role": "user", "parts": [{"text": "[[say hello]]"}]}]});
        let path = "/v1beta/models/m:streamGenerateContent?alt=sse";
        let answer = post(&address, path, &body).await;
        assert!(answer.contains("data: {\"candidates\"") && answer.contains("hello"), "{answer}");
        assert!(!answer.contains("event:"), "{answer}");
    }

    #[tokio::test]
    async fn a_refusal_ends_after_its_count() {
        let address = listening().await;
        let prompt = json!([{"role": "user", "content": "[[err 529 2]] [[say hello]]"}]);
        let body = json!({"messages": prompt, "tools": [{"name": "Bash"}]});
        for _ in 0..2 {
            let answer = post(&address, "/v1/messages", &body).await;
            assert!(answer.starts_with("HTTP/1.1 529"), "{answer}");
            assert!(answer.contains("overloaded_error"), "{answer}");
        }
        let answer = post(&address, "/v1/messages", &body).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello"), "{answer}");
    }
}
