//! A node's Status stream: its reports come up, requests for tunnels go down.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tonic::{Code, Status};
use tracing::{debug, warn};
use warren_common::{Limits, NodeEpoch, NodeId, Timestamp, status::WorkspaceObserved};
use warren_model::Report;
use warren_proto::{
    convert::InvalidMessage,
    error::ApiError,
    pb::node::v1::{self as pb, status_response::Kind},
};

use super::Uplink;
use crate::live::Beside;

type Answer = Result<pb::StatusResponse, Status>;

impl Uplink {
    /// Serves one Status stream until it ends, a newer one replaces it, or the coordinator stops.
    pub async fn status(
        self,
        node: NodeId,
        mut reports: impl Stream<Item = Result<pb::StatusRequest, Status>> + Unpin,
        answers: mpsc::Sender<Answer>,
    ) {
        let first = tokio::select! {
            first = reports.next() => first,
            () = answers.closed() => return,
            () = self.shutdown.requested() => return,
        };
        if let Some(Ok(first)) = &first
            && self.is_superseded(node, NodeEpoch(first.node_epoch))
        {
            // it must not take the place of the agent that came after it
            let _ = answers.try_send(Err(superseded().into()));
            return;
        }
        let mut first = Some(first);
        let (place, mut orders) = self.hub.enter_status(node);
        loop {
            let next = async {
                match first.take() {
                    Some(first) => first,
                    None => reports.next().await,
                }
            };
            let answer = tokio::select! {
                biased;
                report = next => match self.reported(node, report) {
                    Ok(Some(sequence)) => Kind::Acknowledged(sequence),
                    Ok(None) => continue,
                    Err(end) => {
                        if let Some(status) = end {
                            let _ = answers.try_send(Err(status));
                        }
                        return;
                    }
                },
                Some(order) = orders.recv() => Kind::OpenTunnel(order),
                () = place.replaced.cancelled() => {
                    let _ = answers.try_send(Err(Status::aborted("a newer stream took over")));
                    return;
                }
                () = answers.closed() => return,
                () = self.shutdown.requested() => return,
            };
            // a node that does not read is not heard until it does: its reports age meanwhile
            let sent = tokio::select! {
                sent = answers.send(Ok(pb::StatusResponse { kind: Some(answer) })) => sent.is_ok(),
                () = place.replaced.cancelled() => false,
                () = self.shutdown.requested() => false,
            };
            if !sent {
                return;
            }
        }
    }

    /// Whether the node has registered again since this epoch, as far as this coordinator knows.
    fn is_superseded(&self, node: NodeId, epoch: NodeEpoch) -> bool {
        let state = self.consensus.local();
        state.nodes.get(&node).is_some_and(|node| epoch < node.epoch)
    }

    /// Takes one report: what to acknowledge, if anything, or how the stream ends.
    fn reported(
        &self,
        node: NodeId,
        report: Option<Result<pb::StatusRequest, Status>>,
    ) -> Result<Option<u64>, Option<Status>> {
        let report = match report {
            Some(Ok(report)) => report,
            Some(Err(status)) => {
                debug!(%node, %status, "a status stream broke");
                return Err(None);
            }
            None => return Err(None),
        };
        self.take(node, report).map_err(|error| {
            warn!(%node, %error, "a node's report is malformed");
            Some(error.into())
        })
    }

    /// Takes a report into the live view. One of another registration than the node's present one,
    /// as far as this coordinator knows, changes nothing and is not acknowledged.
    fn take(&self, node: NodeId, report: pb::StatusRequest) -> Result<Option<u64>, InvalidMessage> {
        let epoch = NodeEpoch(report.node_epoch);
        let present = self.consensus.local().nodes.get(&node).map(|node| node.epoch);
        if present != Some(epoch) {
            debug!(%node, %epoch, ?present, "a report is of another registration");
            return Ok(None);
        }
        if report.workspaces.len() > Limits::OBSERVED_PER_NODE {
            let why = format!("more than the limit of {}", Limits::OBSERVED_PER_NODE);
            return Err(InvalidMessage::new("workspaces", why));
        }
        let observed = |(index, one): (usize, pb::WorkspaceObserved)| {
            let one: Result<WorkspaceObserved, InvalidMessage> = one.try_into();
            one.map_err(|error| error.within(&format!("workspaces[{index}]")))
        };
        let workspaces = report.workspaces.into_iter().enumerate().map(observed);
        let sequence = report.sequence;
        let (full, workspaces) = (report.full, workspaces.collect::<Result<_, _>>()?);
        let taken = |received| Report { epoch, sequence, received, full, workspaces };
        let beside = Beside {
            usage: report.usage.map(bounded),
            lease_age: report.lease_age_ms.map(Duration::from_millis),
            sent: Timestamp(report.sent_unix_ms),
        };
        if !self.live.take(node, taken, beside) {
            debug!(%node, sequence, "a report is older than one taken before");
        }
        Ok(Some(sequence))
    }
}

/// Cuts what a node may tell of its images, so that what is said of one node stays small.
fn bounded(mut usage: pb::NodeUsage) -> pb::NodeUsage {
    let Some(pb::NodeImages { images, more }) = &mut usage.images else { return usage };
    let told = images.len();
    images.retain(|one| one.name.len().max(one.id.len()) <= Limits::LABEL_BYTES);
    images.truncate(Limits::NODE_IMAGES);
    let cut = u32::try_from(told - images.len()).unwrap_or(u32::MAX);
    *more = more.saturating_add(cut);
    usage
}

fn superseded() -> ApiError {
    let message = "the node has registered again since; reports of before are not taken";
    ApiError::new(Code::Aborted, "SUPERSEDED_EPOCH", message)
}
