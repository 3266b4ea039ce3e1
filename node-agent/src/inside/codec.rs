//! Length-delimited messages on a stream: a varint, then that many bytes, as prost writes them.
//!
//! What comes from inside a workspace is hostile until proven otherwise: the length is checked
//! before anything is allocated, and the reader never takes a byte beyond the message.

use std::io;

use prost::{DecodeError, Message};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use warren_common::Limits;

/// Bytes of the longest varint that can stand before a message within the bound.
const PREFIX_BYTES: u32 = 3;

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The other side went away or the kernel refused.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// Longer than [`Limits::INSIDE_MESSAGE_BYTES`].
    #[error("a message is longer than {} bytes", Limits::INSIDE_MESSAGE_BYTES)]
    TooLong,
    /// Not a message of the expected type.
    #[error("a message is malformed")]
    Malformed(#[source] DecodeError),
}

/// Reads one message; none where the other side closed between messages. Not cancel safe.
///
/// # Errors
/// A broken connection, or a message that breaks its bounds or form.
pub async fn read_message<M, R>(reader: &mut R) -> Result<Option<M>, CodecError>
where
    M: Message + Default,
    R: AsyncRead + Unpin,
{
    let Some(length) = read_length(reader).await? else { return Ok(None) };
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.map_err(CodecError::Io)?;
    M::decode(body.as_slice()).map(Some).map_err(CodecError::Malformed)
}

async fn read_length<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Option<usize>, CodecError> {
    let mut length = 0_usize;
    for index in 0..PREFIX_BYTES {
        let byte = match reader.read_u8().await {
            Ok(byte) => byte,
            Err(error) if index == 0 && error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            Err(error) => return Err(CodecError::Io(error)),
        };
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return match length <= Limits::INSIDE_MESSAGE_BYTES {
                true => Ok(Some(length)),
                false => Err(CodecError::TooLong),
            };
        }
    }
    Err(CodecError::TooLong)
}

/// Writes one message. Not cancel safe.
///
/// # Errors
/// A broken connection, or a message longer than the other side takes.
pub async fn write_message<M, W>(writer: &mut W, message: &M) -> Result<(), CodecError>
where
    M: Message,
    W: AsyncWrite + Unpin,
{
    if message.encoded_len() > Limits::INSIDE_MESSAGE_BYTES {
        return Err(CodecError::TooLong);
    }
    let bytes = message.encode_length_delimited_to_vec();
    writer.write_all(&bytes).await.map_err(CodecError::Io)?;
    writer.flush().await.map_err(CodecError::Io)
}

#[cfg(test)]
mod tests {
    use warren_proto::pb::inside::v1::{Frame, frame::Kind};

    use super::*;

    fn stdin(length: usize) -> Frame {
        Frame { kind: Some(Kind::Stdin(vec![7; length].into())) }
    }

    #[tokio::test]
    async fn messages_survive_the_wire_one_by_one() {
        let (mut here, mut there) = tokio::io::duplex(1 << 20);
        for length in [0, 1, 127, 128, 32 * 1024] {
            write_message(&mut here, &stdin(length)).await.expect("written");
        }
        drop(here);
        for length in [0, 1, 127, 128, 32 * 1024] {
            let read = read_message::<Frame, _>(&mut there).await.expect("whole");
            assert_eq!(read, Some(stdin(length)));
        }
        assert!(read_message::<Frame, _>(&mut there).await.expect("an end").is_none());
    }

    #[tokio::test]
    async fn a_message_at_the_limit_and_one_past_it() {
        let (mut here, mut there) = tokio::io::duplex(1 << 20);
        let fits = Limits::INSIDE_MESSAGE_BYTES - 4;
        assert_eq!(stdin(fits).encoded_len(), Limits::INSIDE_MESSAGE_BYTES);
        write_message(&mut here, &stdin(fits)).await.expect("fits");
        read_message::<Frame, _>(&mut there).await.expect("fits").expect("a message");
        let error = write_message(&mut here, &stdin(fits + 1)).await.expect_err("too long");
        assert!(matches!(error, CodecError::TooLong));
        let hostile = stdin(fits + 1).encode_length_delimited_to_vec();
        here.write_all(&hostile).await.expect("sent");
        let error = read_message::<Frame, _>(&mut there).await.expect_err("too long");
        assert!(matches!(error, CodecError::TooLong));
    }

    #[tokio::test]
    async fn endless_lengths_and_cut_messages_are_errors() {
        for hostile in [&[0xff; 16][..], &[0x80, 0x80, 0x80, 0x01], &[5, 1, 2], &[0x80], &[1, 0xff]]
        {
            let mut reader = hostile;
            assert!(read_message::<Frame, _>(&mut reader).await.is_err(), "{hostile:?}");
        }
    }
}
