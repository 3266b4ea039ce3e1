//! Bodies of the installer's answers: a text, or a part of a file read as it is sent.

use std::{
    fs::File,
    io::Read as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tonic::Status;

/// Bytes that are read at one time.
const CHUNK: usize = 256 * 1024;
/// Chunks that are read ahead of a slow reader.
const AHEAD: usize = 4;

/// A text that is sent at once.
pub(super) struct Whole(Option<Bytes>);

impl From<String> for Whole {
    fn from(text: String) -> Self {
        Self(Some(text.into()))
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// The rest of an open file, which ends with its reader.
pub(super) struct Part {
    chunks: mpsc::Receiver<std::io::Result<Bytes>>,
    left: u64,
}

impl Part {
    pub(super) fn new(mut file: File, length: u64) -> Self {
        let (sender, chunks) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            let mut left = length;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                let mut buffer = vec![0; most];
                let read = match file.read(&mut buffer) {
                    Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    Ok(read) => {
                        buffer.truncate(read);
                        left = left.saturating_sub(read as u64);
                        Ok(Bytes::from(buffer))
                    }
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                // a reader that left is waited for no longer
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        });
        Self { chunks, left: length }
    }
}

impl Body for Part {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match ready!(self.chunks.poll_recv(cx)) {
            Some(Ok(bytes)) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => {
                Poll::Ready(Some(Err(Status::unavailable(format!("reading the file: {error}")))))
            }
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
