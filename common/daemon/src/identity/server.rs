//! Accepting TLS connections and handing them to tonic.
//!
//! The accept loop never waits for a handshake; handshakes are bounded in number and time, and the
//! reason of each refused one is logged. Connections end when their certificate does, when
//! [`Connections::close_where`] says so, or with the process. Those who show no certificate that is
//! good today (they spend a token, or renew) have few places of their own, and a minute.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Connected};
use tracing::{debug, info, warn};
use warren_common::{Limits, Timestamp};

use super::{Connection, Connections, Peer, ServerTls, connections::Registered};
use crate::{Shutdown, clock};

/// How often connections are checked for certificates that have expired meanwhile.
const SWEEP: Duration = Duration::from_secs(30);
/// How long a refused peer is given to read why.
const LINGER: Duration = Duration::from_secs(1);
/// The pause after the system could not accept, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Returns a tonic server with Warren's keep-alive, windows and bounds set.
pub fn server_builder() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(15)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(1024)
}

/// Accepts on `listener` until shutdown and yields each connection whose handshake went well, for
/// `serve_with_incoming`.
pub fn incoming(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    connections: Connections,
    shutdown: &Shutdown,
) -> ReceiverStream<io::Result<PeerStream>> {
    let (ready, stream) = mpsc::channel(Limits::STREAM_QUEUE);
    let uncertified = Arc::new(Semaphore::new(Limits::UNCERTIFIED));
    let acceptor = Acceptor { tls, connections, uncertified, ready, shutdown: shutdown.clone() };
    shutdown.spawn(acceptor.run(listener));
    ReceiverStream::new(stream)
}

#[derive(Clone)]
struct Acceptor {
    tls: Arc<ServerTls>,
    connections: Connections,
    uncertified: Arc<Semaphore>,
    ready: mpsc::Sender<io::Result<PeerStream>>,
    shutdown: Shutdown,
}

/// One connection's place among those that are open, and how long it may be held.
struct Place {
    _slot: OwnedSemaphorePermit,
    until: Option<Instant>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let handshakes = Arc::new(Semaphore::new(Limits::HANDSHAKES));
        let slots = Arc::new(Semaphore::new(Limits::CONNECTIONS));
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let accepted = async {
                let slot = slots.clone().acquire_owned().await.ok()?;
                let handshake = handshakes.clone().acquire_owned().await.ok()?;
                Some((slot, handshake, listener.accept().await))
            };
            let (slot, handshake, accepted) = tokio::select! {
                () = self.shutdown.requested() => return,
                () = self.ready.closed() => return,
                _ = sweep.tick() => {
                    self.close_expired();
                    continue;
                }
                accepted = accepted => match accepted {
                    Some(accepted) => accepted,
                    None => return,
                },
            };
            match accepted {
                Ok((tcp, address)) => {
                    let acceptor = self.clone();
                    self.shutdown.spawn(async move {
                        acceptor.admit(tcp, address, slot).await;
                        drop(handshake);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn close_expired(&self) {
        let closed = self.connections.close_expired(clock::now());
        if closed > 0 {
            info!(closed, "closed connections whose certificates have expired");
        }
    }

    async fn admit(&self, tcp: TcpStream, address: SocketAddr, slot: OwnedSemaphorePermit) {
        let handshake = timeout(Limits::HANDSHAKE_TIMEOUT, self.handshake(tcp, address));
        let outcome = tokio::select! {
            () = self.shutdown.requested() => return,
            outcome = handshake => outcome,
        };
        match outcome {
            Ok(Ok((tls, peer))) => {
                let Some(place) = self.place(peer.as_deref(), (slot, clock::now())) else {
                    let reason = "too many connections without a good certificate";
                    count_refused("crowded");
                    return info!(%address, reason, "connection refused");
                };
                metrics::counter!("warren_connections_accepted_total").increment(1);
                let stream = PeerStream::new(tls, (address, peer), &self.connections, place);
                // whoever serves has gone: so does the connection
                let _ = self.ready.send(Ok(stream)).await;
            }
            Ok(Err(refused)) => {
                count_refused(refused.kind);
                info!(%address, reason = refused.reason, "connection refused");
            }
            Err(_) => {
                count_refused("timeout");
                info!(%address, "connection refused: its handshake took too long");
            }
        }
    }

    /// Finds a place: the one that was taken to shake hands, or one of those for callers without a
    /// good certificate; none where these are all taken.
    fn place(
        &self,
        peer: Option<&Peer>,
        (slot, now): (OwnedSemaphorePermit, Timestamp),
    ) -> Option<Place> {
        if peer.is_some_and(|peer| !peer.is_expired(now)) {
            return Some(Place { _slot: slot, until: None });
        }
        let slot = self.uncertified.clone().try_acquire_owned().ok()?;
        Some(Place { _slot: slot, until: Some(Instant::now() + Limits::UNCERTIFIED_TIMEOUT) })
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
    ) -> Result<(TlsStream<TcpStream>, Option<Arc<Peer>>), Refused> {
        if let Err(error) = tcp.set_nodelay(true) {
            debug!(%address, %error, "cannot set TCP_NODELAY");
        }
        let acceptor = TlsAcceptor::from(self.tls.current());
        let tls = match acceptor.accept(tcp).into_fallible().await {
            Ok(tls) => tls,
            Err((error, tcp)) => {
                linger(tcp).await;
                return Err(Refused { kind: "tls", reason: error.to_string() });
            }
        };
        let certificates = tls.get_ref().1.peer_certificates();
        let Some(leaf) = certificates.and_then(|chain| chain.first()) else {
            return Ok((tls, None));
        };
        let peer = Peer::from_certificate(leaf)
            .and_then(|peer| peer.of_cluster(self.tls.cluster()))
            .map_err(|error| Refused { kind: "certificate", reason: error.to_string() })?;
        Ok((tls, Some(Arc::new(peer))))
    }
}

/// Why a peer was not let in: a word to count by, and a sentence.
struct Refused {
    kind: &'static str,
    reason: String,
}

fn count_refused(reason: &'static str) {
    metrics::counter!("warren_connections_refused_total", "reason" => reason).increment(1);
}

/// Lets a refused peer read the alert: closing with its bytes unread would reset the connection
/// and lose it.
async fn linger(mut tcp: TcpStream) {
    let drain = async {
        tcp.shutdown().await?;
        let mut waste = [0; 4096];
        while tcp.read(&mut waste).await? > 0 {}
        io::Result::Ok(())
    };
    // whether the peer read it is its own affair
    let _ = timeout(LINGER, drain).await;
}

/// One accepted connection; its [`Connected`] information is a [`Connection`].
pub struct PeerStream {
    tls: TlsStream<TcpStream>,
    address: SocketAddr,
    peer: Option<Arc<Peer>>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    _registered: Registered,
    _place: Place,
}

impl PeerStream {
    fn new(
        tls: TlsStream<TcpStream>,
        (address, peer): (SocketAddr, Option<Arc<Peer>>),
        connections: &Connections,
        place: Place,
    ) -> Self {
        let (registered, cut) = connections.register(peer.clone(), place.until.is_none());
        let cut = Box::pin(ended(cut, place.until));
        Self { tls, address, peer, cut, _registered: registered, _place: place }
    }
}

/// Waits until a connection is to be cut: it was asked for, or its time is over.
async fn ended(cut: CancellationToken, until: Option<Instant>) {
    match until {
        // either way it is over
        Some(until) => drop(timeout_at(until, cut.cancelled()).await),
        None => cut.cancelled().await,
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        Connection::Remote { address: self.address, peer: self.peer.clone() }
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut");
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_ends_with_its_time_or_when_it_is_cut() {
        let limit = Duration::from_secs(10);
        let soon = Instant::now() + Duration::from_millis(20);
        let over = timeout(limit, ended(CancellationToken::new(), Some(soon))).await;
        assert!(over.is_ok() && Instant::now() >= soon);
        let cut = CancellationToken::new();
        cut.cancel();
        for until in [None, Some(Instant::now() + limit * 2)] {
            assert!(timeout(limit, ended(cut.clone(), until)).await.is_ok());
        }
    }
}
