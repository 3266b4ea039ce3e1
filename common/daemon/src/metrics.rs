//! Counters and gauges of a process, served to Prometheus.
//!
//! The endpoint is a responder of its own rather than an HTTP library: it answers `GET /metrics`
//! and `GET /healthz`, reads at most 4 KiB of a request for at most 5 s, and closes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tracing::{debug, warn};

use crate::{Shutdown, telemetry::TelemetryError};

const REQUEST_BYTES: usize = 4096;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const SCRAPES: usize = 8;
const UPKEEP: Duration = Duration::from_secs(5);

/// What a process has counted, ready to be rendered.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Starts counting: from here on the macros of the `metrics` crate have an effect.
///
/// # Errors
/// Counting was started before.
pub fn start() -> Result<Metrics, TelemetryError> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Twice("counting"))?;
    Ok(Metrics(handle))
}

/// Serves `/metrics` and `/healthz` until shutdown; returns the address bound, which tells the port
/// where `address` has port 0.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    shutdown: &Shutdown,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    shutdown.spawn(accept(listener, metrics, shutdown.clone()));
    Ok(bound)
}

async fn accept(listener: TcpListener, metrics: Metrics, shutdown: Shutdown) {
    let scrapes = Arc::new(Semaphore::new(SCRAPES));
    let mut upkeep = tokio::time::interval(UPKEEP);
    loop {
        let accepted = async {
            let permit = scrapes.clone().acquire_owned().await.ok()?;
            Some((permit, listener.accept().await))
        };
        let (permit, accepted) = tokio::select! {
            () = shutdown.requested() => return,
            _ = upkeep.tick() => {
                metrics.0.run_upkeep();
                continue;
            }
            accepted = accepted => match accepted {
                Some(accepted) => accepted,
                None => return,
            },
        };
        match accepted {
            Ok((stream, address)) => {
                let metrics = metrics.clone();
                shutdown.spawn(async move {
                    match timeout(REQUEST_TIMEOUT, answer(stream, &metrics)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(%address, %error, "a scrape failed"),
                        Err(_) => debug!(%address, "a scrape took too long"),
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a scrape");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, metrics: &Metrics) -> io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let mut piece = [0; 512];
        let count = stream.read(&mut piece).await?;
        if count == 0 || request.len() + count > REQUEST_BYTES {
            return respond(&mut stream, "400 Bad Request", "the request is no scrape\n").await;
        }
        request.extend(&piece[..count]);
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics")) => {
            respond(&mut stream, "200 OK", &metrics.0.render()).await
        }
        (Some(b"GET"), Some(b"/healthz")) => respond(&mut stream, "200 OK", "ok\n").await,
        _ => respond(&mut stream, "404 Not Found", "GET /metrics or /healthz\n").await,
    }
}

async fn respond(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request).await.expect("sent");
        let mut answer = String::new();
        timeout(Duration::from_secs(5), stream.read_to_string(&mut answer))
            .await
            .expect("in time")
            .expect("an answer");
        answer
    }

    #[tokio::test]
    async fn a_scrape_finds_what_was_counted() {
        let metrics = start().expect("first");
        metrics::counter!("warren_test_total").increment(3);
        let shutdown = Shutdown::new();
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let address = serve(any, metrics, &shutdown).await.expect("bound");
        let answer = ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("warren_test_total 3"), "{answer}");
        assert!(ask(address, b"GET /healthz HTTP/1.1\r\n\r\n").await.ends_with("ok\n"));
        assert!(ask(address, b"POST / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, &[b'x'; 4096 + 1]).await.starts_with("HTTP/1.1 400"));
        assert!(shutdown.join(Duration::from_secs(5)).await);
    }
}
