//! The endpoint: a responder of its own rather than an HTTP library.
//!
//! It answers `GET /metrics`, `GET /healthz` (200 while the process lives) and `GET /readyz` (200,
//! or 503 with the reason), and nothing else. It reads at most 4 KiB of a request for at most 5 s,
//! answers [`SCRAPES`] at one time, and closes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tracing::{debug, warn};

use super::Metrics;
use crate::Shutdown;

const REQUEST_BYTES: usize = 4096;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests answered at one time; others wait in the listener's backlog.
const SCRAPES: usize = 8;
const UPKEEP: Duration = Duration::from_secs(5);

/// Serves the endpoint until shutdown; returns the address bound, which tells the port where
/// `address` has port 0.
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
                metrics.upkeep();
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
            respond(&mut stream, "200 OK", &metrics.render().await).await
        }
        (Some(b"GET"), Some(b"/healthz")) => respond(&mut stream, "200 OK", "ok\n").await,
        (Some(b"GET"), Some(b"/readyz")) => match metrics.readiness() {
            Ok(()) => respond(&mut stream, "200 OK", "ready\n").await,
            Err(reason) => {
                let body = format!("not ready: {reason}\n");
                respond(&mut stream, "503 Service Unavailable", &body).await
            }
        },
        _ => {
            let body = "GET /metrics, /healthz or /readyz\n";
            respond(&mut stream, "404 Not Found", body).await
        }
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
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::metrics::{BATCHES, Metric, PROCESS, start};

    const TABLE: &[Metric] = &[
        Metric::counter("warren_test_things_total", &[], "Things"),
        Metric::gauge("warren_test_probed", &[], "Set by a probe"),
        Metric::histogram("warren_test_batch_things", BATCHES, &[], "Things at once"),
    ];

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
    async fn a_scrape_finds_what_was_counted_and_nothing_else_is_served() {
        let metrics = start("test", "1.2.3", &[TABLE]).expect("first");
        metrics::counter!("warren_test_things_total").increment(3);
        // far more than one block of samples: upkeep folds them into the buckets
        (0..10_000).for_each(|_| metrics::histogram!("warren_test_batch_things").record(3.0));
        let ready = Arc::new(AtomicBool::new(false));
        metrics.probe(|| metrics::gauge!("warren_test_probed").set(7.0));
        let shutdown = Shutdown::new();
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let address = serve(any, metrics.clone(), &shutdown).await.expect("bound");
        let answer = ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        for line in [
            "# HELP warren_test_things_total Things",
            "warren_test_things_total 3",
            "warren_test_probed 7",
            "warren_test_batch_things_bucket{le=\"2\"} 0",
            "warren_test_batch_things_bucket{le=\"4\"} 10000",
            "warren_test_batch_things_count 10000",
            "warren_build_info{component=\"test\",version=\"1.2.3\"} 1",
        ] {
            assert!(answer.lines().any(|found| found == line), "no {line:?} in {answer}");
        }
        let memory = answer.lines().find(|line| line.starts_with("warren_process_memory_bytes "));
        assert!(!memory.expect("it is there").ends_with(" 0"), "{memory:?}");

        let readyz = b"GET /readyz HTTP/1.1\r\n\r\n";
        assert!(ask(address, readyz).await.contains("503"), "nobody said what ready means");
        let told = ready.clone();
        metrics.ready_when(move || match told.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err("no coordinator leads".to_owned()),
        });
        assert!(ask(address, readyz).await.ends_with("not ready: no coordinator leads\n"));
        ready.store(true, Ordering::SeqCst);
        assert!(ask(address, readyz).await.starts_with("HTTP/1.1 200"));

        assert!(ask(address, b"GET /healthz HTTP/1.1\r\n\r\n").await.ends_with("ok\n"));
        for odd in [&b"POST /metrics HTTP/1.1\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n"] {
            assert!(ask(address, odd).await.starts_with("HTTP/1.1 404"));
        }
        assert!(ask(address, &[b'x'; 4096 + 1]).await.starts_with("HTTP/1.1 400"));
        // more silent connections than are answered at one time: they time out, the next is heard
        let _silent = hold(address).await;
        assert!(shutdown.join(Duration::from_secs(10)).await);
    }

    async fn hold(address: SocketAddr) -> Vec<TcpStream> {
        let mut silent = Vec::new();
        for _ in 0..=SCRAPES {
            silent.push(TcpStream::connect(address).await.expect("it listens"));
        }
        let answer = ask_patiently(address).await;
        assert!(answer.ends_with("ok\n"), "{answer}");
        silent
    }

    async fn ask_patiently(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        let reading = stream.read_to_string(&mut answer);
        timeout(REQUEST_TIMEOUT * 3, reading).await.expect("in time").expect("an answer");
        answer
    }

    #[test]
    fn tables_keep_the_conventions() {
        for metric in TABLE.iter().chain(PROCESS) {
            assert_eq!(metric.fault(), None);
        }
        for (odd, word) in [
            (Metric::gauge("x", &[], "Y"), "form"),
            (Metric::counter("warren_x", &[], "Y"), "_total"),
            (Metric::gauge("warren_x_total", &[], "Y"), "_total"),
            (Metric::gauge("warren_x", &["A b"], "Y"), "label"),
            (Metric::gauge("warren_x", &[], ""), "help"),
            (Metric::histogram("warren_x", &[2.0, 1.0], &[], "Y"), "buckets"),
        ] {
            assert!(odd.fault().expect("a fault").contains(word), "{odd:?}");
        }
        let row = Metric::gauge("warren_x", &["a", "b"], "Y").row();
        assert_eq!(row, "| `warren_x` | gauge | `a`, `b` | Y |");
    }
}
