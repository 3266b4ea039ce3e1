//! Writing a program's output to our own stdout and stderr as it comes, byte for byte.

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::error::Error;

/// Writes to stdout.
///
/// # Errors
/// A closed pipe ends the command in silence.
pub(crate) async fn stdout(bytes: &[u8]) -> Result<(), Error> {
    write(tokio::io::stdout(), bytes, "writing to stdout").await
}

/// Writes to stderr.
///
/// # Errors
/// As [`stdout`].
pub(crate) async fn stderr(bytes: &[u8]) -> Result<(), Error> {
    write(tokio::io::stderr(), bytes, "writing to stderr").await
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    bytes: &[u8],
    what: &'static str,
) -> Result<(), Error> {
    let written = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    written.await.map_err(|error| Error::pipe(what, &error))
}
