//! Connecting to a coordinator: several addresses in order, one fixed name, today's certificate.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use warren_common::Limits;

use super::{
    ClientTls, Peer, PeerIdentity, SERVER_NAME, Trouble, explain, trouble::SERVER_OTHER_THAN_MEANT,
};

/// Connects to the first address that answers. The channel reconnects by itself, trying the
/// addresses in the same order, with the certificate that is current then.
///
/// A certificate of ours that the coordinator refuses shows in the first call only: hand its
/// status to [`explain`].
///
/// # Errors
/// No address answered, or the coordinator is not to be trusted.
pub async fn connect(tls: &Arc<ClientTls>, addresses: &[String]) -> Result<Channel, Trouble> {
    let endpoint = endpoint();
    endpoint.connect_with_connector(connector(tls, addresses, None)).await.map_err(|error| {
        explain(&error).unwrap_or_else(|| Trouble::Tls(format!("cannot connect: {error}")))
    })
}

/// Returns a channel that connects with its first call; for the addresses of [`connect`].
pub fn connect_lazy(tls: &Arc<ClientTls>, addresses: &[String]) -> Channel {
    endpoint().connect_with_connector_lazy(connector(tls, addresses, None))
}

/// As [`connect_lazy`] with one address, for one server and no other: all coordinators carry one
/// name, and an address may be another's by now.
pub fn connect_lazy_to(tls: &Arc<ClientTls>, address: &str, meant: PeerIdentity) -> Channel {
    endpoint().connect_with_connector_lazy(connector(tls, &[address.to_owned()], Some(meant)))
}

/// The authority is what coordinators answer to; the scheme has no say, the connector does TLS.
fn endpoint() -> Endpoint {
    configured(Endpoint::from_static("http://coordinator.warren.internal"))
}

/// Sets keep-alive and windows, alike for every channel.
pub(super) fn configured(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
}

fn connector(
    tls: &Arc<ClientTls>,
    addresses: &[String],
    meant: Option<PeerIdentity>,
) -> impl tower::Service<Uri, Response = TokioIo<ClientStream>, Error = Trouble, Future: Send + 'static>
+ Send
+ 'static {
    let addresses: Arc<[String]> = addresses.into();
    let tls = tls.clone();
    service_fn(move |_: Uri| {
        let (tls, addresses, meant) = (tls.clone(), addresses.clone(), meant.clone());
        async move { dial(&tls, &addresses, meant.as_ref()).await.map(TokioIo::new) }
    })
}

/// Tries each address; a coordinator that is not to be trusted outweighs one that does not answer.
async fn dial(
    tls: &Arc<ClientTls>,
    addresses: &[String],
    meant: Option<&PeerIdentity>,
) -> Result<ClientStream, Trouble> {
    let mut unreachable = Vec::new();
    let mut distrusted = None;
    for address in addresses.iter().take(Limits::ADDRESSES) {
        let dialled = dial_one(tls, address).await;
        match dialled.and_then(|stream| stream.is_of(meant).map(|()| stream)) {
            Ok(stream) => {
                tls.note(None);
                return Ok(stream);
            }
            Err(Trouble::Unreachable(why)) => unreachable.push(why),
            Err(trouble) => distrusted = Some(trouble),
        }
    }
    Err(distrusted.unwrap_or_else(|| match unreachable.is_empty() {
        true => Trouble::Unreachable("no address of a coordinator is known".to_owned()),
        false => {
            Trouble::Unreachable(format!("no coordinator answers: {}", unreachable.join("; ")))
        }
    }))
}

async fn dial_one(tls: &Arc<ClientTls>, address: &str) -> Result<ClientStream, Trouble> {
    let unreachable = |why: String| Trouble::Unreachable(format!("{address}: {why}"));
    let tcp = timeout(Limits::CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| unreachable(format!("no answer in {:?}", Limits::CONNECT_TIMEOUT)))?
        .map_err(|error| unreachable(error.to_string()))?;
    tcp.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
    let name = ServerName::try_from(SERVER_NAME).expect("the constant is a DNS name");
    let handshake = TlsConnector::from(tls.current()).connect(name, tcp);
    let stream = timeout(Limits::HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| unreachable("the TLS handshake took too long".to_owned()))?
        .map_err(|error| {
            let lost = || unreachable(format!("the TLS handshake failed: {error}"));
            Trouble::from_io(&error).unwrap_or_else(lost)
        })?;
    Ok(ClientStream { tls: stream, owner: tls.clone() })
}

/// The client's side of a connection; alerts become sentences that survive the layers above.
struct ClientStream {
    tls: TlsStream<TcpStream>,
    owner: Arc<ClientTls>,
}

impl ClientStream {
    /// Refuses a server that is a coordinator, but not the one that was meant.
    fn is_of(&self, meant: Option<&PeerIdentity>) -> Result<(), Trouble> {
        let Some(meant) = meant else { return Ok(()) };
        let chain = self.tls.get_ref().1.peer_certificates();
        let peer = chain.and_then(|chain| Peer::from_certificate(chain.first()?).ok());
        match peer.is_some_and(|peer| peer.identity == *meant) {
            true => Ok(()),
            false => Err(Trouble::Distrusted(SERVER_OTHER_THAN_MEANT)),
        }
    }

    fn translate(&self, error: io::Error) -> io::Error {
        match Trouble::from_io(&error) {
            Some(trouble) => {
                self.owner.note(Some(trouble.clone()));
                io::Error::new(error.kind(), trouble)
            }
            None => error,
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.tls).poll_read(cx, buf);
        polled.map_err(|error| self.translate(error))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tls).poll_write(cx, buf);
        polled.map_err(|error| self.translate(error))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.tls).poll_flush(cx);
        polled.map_err(|error| self.translate(error))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tls).poll_write_vectored(cx, bufs);
        polled.map_err(|error| self.translate(error))
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
