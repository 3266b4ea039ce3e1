//! Relays one stream between a viewer and PID 1 of a workspace.
//!
//! Both directions wait for the slower side: a queue of [`Limits::STREAM_QUEUE`] frames towards
//! the coordinator, the socket's buffer towards PID 1. What comes from inside is checked for form
//! and size; what it means is the viewer's business.

use tokio::{
    io::AsyncWriteExt as _,
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::mpsc,
    time::timeout,
};
use tonic::Streaming;
use warren_common::{Limits, status::clean};
use warren_proto::{
    error::reason,
    pb::{
        inside::v1::{self as inside, Frame, frame::Kind},
        node::v1 as pb,
    },
};

use super::{Failure, Viewer, not_running, send};
use crate::inside::{CodecError, Door, OpenError, read_message, write_message};

/// Bytes of the stable reason that a workspace may put into a failure.
const REASON_NAME_BYTES: usize = 64;

/// Opens a stream at PID 1 and carries it until either side goes.
pub(super) async fn carry(
    viewer: &mut Viewer,
    door: &Door,
    open: inside::Open,
) -> Result<(), Failure> {
    let given = door.stream().await.map_err(|error| match error {
        OpenError::NotConnected => not_running(),
        OpenError::TooMany => Failure::new(reason::LIMIT_REACHED, error),
        OpenError::Silent => Failure::new(reason::TIMEOUT, error),
    })?;
    let (mut reader, mut writer) = given.stream.into_split();
    let first = async {
        let open = Frame { kind: Some(Kind::Open(open)) };
        write_message(&mut writer, &open).await?;
        read_message::<Frame, _>(&mut reader).await
    };
    let first = match timeout(Limits::TUNNEL_TIMEOUT, first).await {
        Ok(first) => checked(first)?,
        Err(_) => {
            return Err(Failure::new(reason::TIMEOUT, "the workspace did not answer in time"));
        }
    };
    let last = is_last(&first);
    if !send(&viewer.frames, first).await || last {
        return Ok(());
    }
    tokio::select! {
        ended = up(reader, &viewer.frames) => ended,
        () = down(&mut viewer.incoming, writer) => Ok(()),
        () = viewer.frames.closed() => Ok(()),
    }
}

/// From PID 1 to the viewer, until the stream's last frame.
async fn up(
    mut reader: OwnedReadHalf,
    frames: &mpsc::Sender<pb::TunnelRequest>,
) -> Result<(), Failure> {
    loop {
        let frame = checked(read_message::<Frame, _>(&mut reader).await)?;
        let last = is_last(&frame);
        if !send(frames, frame).await || last {
            return Ok(());
        }
    }
}

/// From the viewer to PID 1, until the viewer goes.
async fn down(incoming: &mut Streaming<pb::TunnelResponse>, mut writer: OwnedWriteHalf) {
    while let Ok(Some(response)) = incoming.message().await {
        let Some(frame) = response.frame else { continue };
        if write_message(&mut writer, &frame).await.is_err() {
            // PID 1 closed its side; its last frame may still be on the way up
            return std::future::pending().await;
        }
    }
    // the viewer is gone: closing the connection ends what it opened; an error says it has ended
    let _ = writer.shutdown().await;
}

const fn is_last(kind: &Kind) -> bool {
    matches!(kind, Kind::Exited(_) | Kind::Failed(_))
}

/// Lets through what may come out of a workspace, cleaned where people read it as ours.
fn checked(read: Result<Option<Frame>, CodecError>) -> Result<Kind, Failure> {
    let broken = |message: &str| Failure::new("STREAM_BROKEN", message);
    let frame = match read {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(broken("the workspace closed the stream")),
        Err(error) => return Err(broken(&error.to_string())),
    };
    let kind = frame.kind.ok_or_else(|| broken("the workspace sent an empty frame"))?;
    match kind {
        Kind::Stdout(ref bytes) | Kind::Stderr(ref bytes) => match bytes.len() {
            0..=Limits::FRAME_BYTES => Ok(kind),
            _ => Err(broken("the workspace sent a frame that is too long")),
        },
        Kind::Opened(_) | Kind::Exited(_) => Ok(kind),
        Kind::Failed(failed) => Ok(Kind::Failed(inside::Failed {
            reason: clean(&failed.reason, REASON_NAME_BYTES),
            message: clean(&failed.message, Limits::REASON_BYTES),
        })),
        Kind::Open(_)
        | Kind::Stdin(_)
        | Kind::StdinClosed(_)
        | Kind::Resize(_)
        | Kind::Signal(_) => Err(broken("the workspace sent a frame that only viewers send")),
    }
}
