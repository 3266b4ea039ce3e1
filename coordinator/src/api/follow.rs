//! Following one workspace: its newest state, again on each change.
//!
//! Values in between may be left out, the newest never is. The stream ends with NOT_FOUND once the
//! workspace is deleted.

use std::{pin::Pin, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use warren_common::WorkspaceId;
use warren_proto::pb::admin::v1 as pb;

use super::{Api, errors};

/// What a follower receives.
pub(super) type Stream =
    Pin<Box<dyn futures_util::Stream<Item = Result<pb::FollowWorkspaceResponse, Status>> + Send>>;

/// How often it is looked at without a change: a node that falls silent makes none.
const LOOK: Duration = Duration::from_secs(2);

impl Api {
    /// Starts to follow `workspace`; the task ends with the stream's reader or the coordinator.
    pub(super) fn follow(&self, workspace: WorkspaceId) -> Stream {
        // one value waits at most: a slow reader gets newer ones, not more
        let (sender, receiver) = mpsc::channel(1);
        let api = self.clone();
        let shutdown = self.parts().shutdown.clone();
        self.parts().shutdown.spawn(async move {
            let () = tokio::select! {
                () = api.feed(workspace, &sender) => {}
                () = sender.closed() => {}
                () = shutdown.requested() => {}
            };
        });
        Box::pin(ReceiverStream::new(receiver))
    }

    async fn feed(
        &self,
        workspace: WorkspaceId,
        to: &mpsc::Sender<Result<pb::FollowWorkspaceResponse, Status>>,
    ) {
        let mut decided = self.parts().consensus.changes();
        let mut seen = self.parts().live.follow(workspace);
        let mut last = None;
        loop {
            decided.mark_unchanged();
            seen.mark_unchanged();
            let moment = self.local();
            let Some(found) = moment.state.workspaces.get(&workspace) else {
                let gone = errors::not_found("workspace", &workspace.to_string());
                let _ = to.send(Err(gone.into())).await;
                return;
            };
            let shown = moment.view().workspace(found);
            if last.as_ref() != Some(&shown) {
                let freshness = Some(moment.freshness());
                let workspace = Some(shown.clone());
                let answer = pb::FollowWorkspaceResponse { freshness, workspace };
                if to.send(Ok(answer)).await.is_err() {
                    return;
                }
                last = Some(shown);
            }
            let ended = tokio::select! {
                changed = decided.changed() => changed.is_err(),
                changed = seen.changed() => changed.is_err(),
                () = tokio::time::sleep(LOOK) => false,
            };
            if ended {
                return;
            }
        }
    }
}
