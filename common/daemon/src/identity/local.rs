//! The unix socket on which a process serves its own machine, without TLS: the kernel says who
//! calls, and only root and the process's own user are let in.

use std::{
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, server::Connected};
use tower::service_fn;
use tracing::{info, warn};
use warren_common::Limits;

use super::{Connection, Trouble, client::configured, explain};
use crate::Shutdown;

/// Binds the socket (0600), replacing one that a killed process left, and yields its connections
/// until shutdown.
///
/// # Errors
/// Something else stands at the path, or it cannot be bound.
pub fn incoming_local(
    path: &Path,
    shutdown: &Shutdown,
) -> io::Result<ReceiverStream<io::Result<LocalStream>>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            let text = format!("{} is there and is no socket", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let owner = std::fs::metadata(path)?.uid();
    let (ready, stream) = mpsc::channel(Limits::STREAM_QUEUE);
    shutdown.spawn(accept(
        Socket { listener, owner, path: path.to_owned() },
        ready,
        shutdown.clone(),
    ));
    Ok(ReceiverStream::new(stream))
}

struct Socket {
    listener: UnixListener,
    owner: u32,
    path: PathBuf,
}

async fn accept(socket: Socket, ready: mpsc::Sender<io::Result<LocalStream>>, shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            () = ready.closed() => break,
            accepted = socket.listener.accept() => accepted,
        };
        let stream = accepted.and_then(|(unix, _)| {
            let uid = unix.peer_cred()?.uid();
            Ok(LocalStream { unix, uid })
        });
        match stream {
            Ok(stream) if stream.uid == 0 || stream.uid == socket.owner => {
                if ready.send(Ok(stream)).await.is_err() {
                    break;
                }
            }
            Ok(stream) => info!(uid = stream.uid, "local connection refused"),
            Err(error) => {
                warn!(%error, "cannot accept a local connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    // the next start replaces it anyway
    let _ = std::fs::remove_file(&socket.path);
}

/// Connects to a process on this machine.
///
/// # Errors
/// Nobody listens at the path, or this user may not.
pub async fn connect_local(path: &Path) -> Result<Channel, Trouble> {
    let socket = path.to_owned();
    let connector = service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move {
            let connecting = timeout(Limits::CONNECT_TIMEOUT, UnixStream::connect(&socket));
            let unreachable =
                |why: String| Trouble::Unreachable(format!("{}: {why}", socket.display()));
            match connecting.await {
                Ok(Ok(unix)) => Ok(TokioIo::new(unix)),
                Ok(Err(error)) => Err(unreachable(error.to_string())),
                Err(_) => Err(unreachable("no answer".to_owned())),
            }
        }
    });
    let endpoint = configured(Endpoint::from_static("http://localhost"));
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        explain(&error)
            .unwrap_or_else(|| Trouble::Unreachable(format!("{}: {error}", path.display())))
    })
}

/// One local connection; its [`Connected`] information is a [`Connection`].
pub struct LocalStream {
    unix: UnixStream,
    uid: u32,
}

impl Connected for LocalStream {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        Connection::Local { uid: self.uid }
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.unix).poll_read(cx, buf)
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.unix).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.unix).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.unix).poll_shutdown(cx)
    }
}
