//! Length-delimited messages on the unix socket, each at most [`Limits::INSIDE_MESSAGE_BYTES`].

use std::io;

use bytes::{Buf, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use warren_common::Limits;

/// The longest length prefix: a 64-bit varint.
const PREFIX_BYTES: usize = 10;

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// It ended in the middle of a message.
    #[error("the connection ended within a message")]
    Truncated,
    /// The other side announced more than the bound.
    #[error("a message has {0} bytes, the limit is {1}")]
    TooLong(usize, usize),
    /// Not a message.
    #[error("a message could not be decoded")]
    Decode(#[from] prost::DecodeError),
}

/// Reads messages off `R`, keeping what has arrived of the next one.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    source: R,
    buffer: BytesMut,
    most: usize,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Returns a reader with nothing read.
    pub(crate) fn new(source: R) -> Self {
        Self { source, buffer: BytesMut::new(), most: Limits::INSIDE_MESSAGE_BYTES }
    }

    /// Takes no message that is longer than `most` any more.
    pub(crate) const fn narrow(&mut self, most: usize) {
        self.most = most;
    }

    /// The source below.
    pub(crate) const fn source(&self) -> &R {
        &self.source
    }

    /// Returns the next message, none at the end. Cancel safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// Fails where the connection does, or where what came is not a message within the bound; the
    /// connection is useless then.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, WireError> {
        loop {
            if let Some(message) = take(&mut self.buffer, self.most)? {
                return Ok(Some(message));
            }
            if self.source.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(WireError::Truncated) };
            }
        }
    }
}

fn take<M: Message + Default>(buffer: &mut BytesMut, most: usize) -> Result<Option<M>, WireError> {
    let head = &buffer[..buffer.len().min(PREFIX_BYTES)];
    let Some(last) = head.iter().position(|byte| byte & 0x80 == 0) else {
        // Ten bytes without an end are not a varint; prost says so.
        return if head.len() < PREFIX_BYTES {
            Ok(None)
        } else {
            Err(prost::decode_length_delimiter(head)
                .map_or_else(Into::into, |length| WireError::TooLong(length, most)))
        };
    };
    let length = prost::decode_length_delimiter(&head[..=last])?;
    if length > most {
        return Err(WireError::TooLong(length, most));
    }
    if buffer.len() < last + 1 + length {
        return Ok(None);
    }
    buffer.advance(last + 1);
    Ok(Some(M::decode(buffer.split_to(length))?))
}

/// Writes one message. Not cancel safe: a dropped call may leave half a message behind.
///
/// # Errors
/// Fails where the connection does, and for a message over the bound, which is not sent.
pub(crate) async fn send<W, M>(sink: &mut W, message: &M) -> Result<(), WireError>
where
    W: AsyncWrite + Unpin,
    M: Message,
{
    let length = message.encoded_len();
    if length > Limits::INSIDE_MESSAGE_BYTES {
        return Err(WireError::TooLong(length, Limits::INSIDE_MESSAGE_BYTES));
    }
    sink.write_all(&message.encode_length_delimited_to_vec()).await?;
    sink.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_proto::pb::inside::v1::{Frame, frame};

    fn stdin(size: usize) -> Frame {
        Frame { kind: Some(frame::Kind::Stdin(vec![7; size].into())) }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn messages_survive_any_cut() {
        let mut bytes = stdin(300).encode_length_delimited_to_vec();
        bytes.extend(stdin(2).encode_length_delimited_to_vec());
        for cut in 0..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            let mut reader = Reader::new(AsyncReadExt::chain(head, tail));
            block_on(async {
                assert_eq!(reader.next().await.expect("whole"), Some(stdin(300)));
                assert_eq!(reader.next().await.expect("whole"), Some(stdin(2)));
                assert_eq!(reader.next::<Frame>().await.expect("the end"), None);
            });
        }
    }

    #[test]
    fn what_is_too_long_or_odd_is_refused() {
        let next =
            |bytes: Vec<u8>| block_on(async move { Reader::new(&bytes[..]).next::<Frame>().await });
        let mut long = Vec::new();
        prost::encode_length_delimiter(Limits::INSIDE_MESSAGE_BYTES + 1, &mut long).expect("fits");
        assert!(matches!(next(long), Err(WireError::TooLong(_, _))));
        let narrow = block_on(async {
            let bytes = stdin(300).encode_length_delimited_to_vec();
            let mut reader = Reader::new(&bytes[..]);
            reader.narrow(200);
            reader.next::<Frame>().await
        });
        assert!(matches!(narrow, Err(WireError::TooLong(_, 200))));
        assert!(matches!(next(vec![0xff; 12]), Err(WireError::Decode(_))));
        assert!(matches!(next(vec![5, 1]), Err(WireError::Truncated)));
        let sent = block_on(send(&mut Vec::new(), &stdin(Limits::INSIDE_MESSAGE_BYTES)));
        assert!(matches!(sent, Err(WireError::TooLong(_, _))));
    }
}
