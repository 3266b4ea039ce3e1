//! Connections of the benchmarks' callers: mutual TLS with the same library and the same windows,
//! whoever answers.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Who calls, whom they trust, and the name they expect.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
}

impl Identity {
    /// Makes it from PEM texts.
    ///
    /// # Errors
    /// Fails where one of them is of no use.
    pub fn new(key: &str, chain: &str, trust: &str, server: &str) -> Result<Self> {
        let read = |text: &str| -> Result<Vec<CertificateDer<'static>>> {
            let read = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>();
            Ok(read?)
        };
        let mut roots = RootCertStore::empty();
        for certificate in read(trust)? {
            roots.add(certificate)?;
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(read(chain)?, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let server = ServerName::try_from(server.to_owned())?;
        Ok(Self { config: Arc::new(config), server })
    }

    /// Connects to host:port.
    ///
    /// # Errors
    /// Fails where nobody answers or the handshake does not succeed.
    pub async fn connect(&self, address: &str) -> Result<Channel> {
        let (identity, to) = (self.clone(), address.to_owned());
        let connector = service_fn(move |_: Uri| {
            let (identity, to) = (identity.clone(), to.clone());
            async move {
                let tcp = TcpStream::connect(&to).await?;
                tcp.set_nodelay(true)?;
                let tls = TlsConnector::from(identity.config).connect(identity.server, tcp).await?;
                Ok::<_, std::io::Error>(TokioIo::new(tls))
            }
        });
        let endpoint = Endpoint::from_static("http://bench.invalid")
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        let channel = endpoint.connect_with_connector(connector).await;
        channel.with_context(|| format!("cannot connect to {address}"))
    }
}
