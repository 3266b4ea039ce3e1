//! Answers log streams from the engine's log of PID 1, running or not.

use futures_util::StreamExt as _;
use warren_common::{Limits, WorkspaceId};
use warren_proto::{
    error::reason,
    pb::inside::v1::{self as inside, frame::Kind},
};

use super::{Failure, Viewer, send};
use crate::engine::{ContainerSeen, Engine, LogQuery};

/// Carries the log of the workspace's newest container until its end, or with `follow` until the
/// container stops or the viewer goes.
pub(super) async fn carry(
    viewer: &mut Viewer,
    engine: &dyn Engine,
    workspace: WorkspaceId,
    logs: inside::Logs,
) -> Result<(), Failure> {
    let container = newest(engine, workspace).await?;
    if !viewer.send(Kind::Opened(inside::Opened {})).await {
        return Ok(());
    }
    let Viewer { frames, incoming } = viewer;
    let gone = async { while let Ok(Some(_)) = incoming.message().await {} };
    let query = LogQuery { follow: logs.follow, tail: (logs.tail > 0).then_some(logs.tail) };
    let mut log = engine.logs(&container.id, query);
    let carrying = async {
        while let Some(chunk) = log.next().await {
            let chunk = chunk.map_err(|error| Failure::new(error.code(), error))?;
            let mut rest = chunk.bytes;
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(Limits::FRAME_BYTES));
                let kind = if chunk.stderr { Kind::Stderr(piece) } else { Kind::Stdout(piece) };
                if !send(frames, kind).await {
                    return Ok(());
                }
            }
        }
        send(frames, Kind::Exited(inside::Exited { code: 0, detached: false })).await;
        Ok(())
    };
    tokio::select! {
        ended = carrying => ended,
        () = gone => Ok(()),
        () = frames.closed() => Ok(()),
    }
}

async fn newest(engine: &dyn Engine, workspace: WorkspaceId) -> Result<ContainerSeen, Failure> {
    let ours = engine.list_of(workspace).await;
    let ours = ours.map_err(|error| Failure::new(error.code(), error))?;
    ours.into_iter().max_by_key(|seen| (seen.generation, seen.run_serial)).ok_or_else(|| {
        Failure::new(reason::NOT_RUNNING, "the workspace has no container and no log")
    })
}
