//! The local socket on which a cluster is made.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::UnixStream;
use tracing::error;
use warren_common::Limits;
use warren_daemon::{
    Shutdown,
    files::{self, FileError},
    identity::{incoming_local, server_builder},
};
use warren_proto::pb::admin::v1::bootstrap_service_server::BootstrapServiceServer;

use super::Founder;

/// How long a process that listens on the socket is given to accept.
const ANSWER: Duration = Duration::from_secs(1);

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Its folder cannot be made.
    #[error("the socket's folder cannot be made")]
    Folder(#[source] FileError),
    /// Another process answers on it.
    #[error("another coordinator answers on {}", .0.display())]
    Taken(PathBuf),
    /// It cannot be bound.
    #[error("cannot listen on {}", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Checks that nobody answers on the socket: two coordinators must not share a state folder.
///
/// # Errors
/// Somebody does.
pub async fn ensure_free(path: &Path) -> Result<(), SocketError> {
    let answer = tokio::time::timeout(ANSWER, UnixStream::connect(path)).await;
    match answer {
        Ok(Err(_)) => Ok(()),
        Ok(Ok(_)) | Err(_) => Err(SocketError::Taken(path.to_owned())),
    }
}

/// Serves the local socket until shutdown; one that a killed process left is replaced.
///
/// # Errors
/// Another process answers on it, or it cannot be bound.
pub async fn serve(path: &Path, founder: Founder, shutdown: &Shutdown) -> Result<(), SocketError> {
    if let Some(folder) = path.parent() {
        files::private_folder(folder).map_err(SocketError::Folder)?;
    }
    ensure_free(path).await?;
    let connections = incoming_local(path, shutdown)
        .map_err(|source| SocketError::Bind { path: path.to_owned(), source })?;
    let service = BootstrapServiceServer::new(founder)
        .max_decoding_message_size(Limits::MESSAGE_BYTES)
        .max_encoding_message_size(Limits::MESSAGE_BYTES);
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        let ended = stop.clone();
        let serving = server_builder()
            .add_service(service)
            .serve_with_incoming_shutdown(connections, async move { stop.requested().await });
        tokio::select! {
            served = serving => if let Err(error) = served {
                error!(%error, "the local socket is not served any more");
            },
            () = async { ended.requested().await; tokio::time::sleep(ANSWER).await } => {}
        }
    });
    Ok(())
}
