//! What a node holds that a restored cluster may not know: asked for when it registers, before it
//! is told anything.

use futures_util::{Stream, StreamExt as _};
use tonic::Status;
use tracing::{info, warn};
use warren_common::{Limits, NodeId, Revision, spec::HeldOrder};
use warren_model::{
    Command,
    command::{
        AccountNode, AdoptWorkspace, SessionCommand,
        session::{AdoptSessions, TakeOverSessions},
    },
};
use warren_proto::{
    convert::InvalidMessage,
    error::ApiError,
    pb::node::v1::{self as pb, control_request},
};

use super::Uplink;
use crate::api::errors;

impl Uplink {
    /// Takes over what the node tells, as the cluster of that incarnation told it, then counts it as
    /// heard. A workspace that cannot be taken over is left out, and the node leaves it as it is while
    /// the cluster recovers.
    pub(super) async fn adopt(
        &self,
        (node, incarnation): (NodeId, u32),
        requests: &mut (impl Stream<Item = Result<pb::ControlRequest, Status>> + Unpin),
    ) -> Result<(), ApiError> {
        let (revision, orders) = told(requests).await?;
        let mut holds = Vec::with_capacity(orders.len());
        for held in orders {
            let (workspace, address) = (held.order.workspace, held.order.address.clone());
            holds.push(workspace);
            let (sessions, generation) = (held.order.sessions.clone(), held.order.generation);
            let whole = held.order.sessions_told;
            let adopt = AdoptWorkspace { node, revision, held };
            let mut decided = self.decide(Command::AdoptWorkspace(Box::new(adopt))).await;
            // none told by one that knew of them: whatever the state has was deleted
            let known = || self.consensus.local().sessions.contains_key(&workspace);
            if decided.is_ok() && (!sessions.is_empty() || (whole && known())) {
                let told = revision;
                let adopt = AdoptSessions { workspace, node, generation, told, sessions };
                let take = TakeOverSessions { incarnation, adopt };
                let take = SessionCommand::TakeOver(take);
                decided = self.decide(Command::Session(Box::new(take))).await;
            }
            if let Err(error) = decided {
                if retry(&error) {
                    return Err(error);
                }
                warn!(%node, %workspace, %address, %error, "a workspace cannot be taken over");
            }
        }
        let count = holds.len();
        self.decide(Command::AccountNode(AccountNode { node, revision, holds })).await?;
        info!(%node, workspaces = count, "a node has told what it holds");
        Ok(())
    }
}

/// Whether the node should come again, rather than this workspace be left out.
fn retry(error: &ApiError) -> bool {
    use tonic::Code;
    matches!(error.code, Code::Unavailable | Code::DeadlineExceeded | Code::Internal)
}

/// Collects the pieces.
async fn told(
    requests: &mut (impl Stream<Item = Result<pb::ControlRequest, Status>> + Unpin),
) -> Result<(Revision, Vec<HeldOrder>), ApiError> {
    let mut orders = Vec::new();
    loop {
        let next = tokio::time::timeout(Limits::CALL_TIMEOUT, requests.next()).await;
        let next = next.map_err(|_| errors::invalid("held", "it did not come in time"))?;
        let Some(Ok(pb::ControlRequest { kind: Some(kind) })) = next else {
            return Err(errors::invalid("held", "the stream ended before it"));
        };
        let piece = match kind {
            control_request::Kind::Held(piece) => piece,
            // signs of life may come in between
            control_request::Kind::RenewLease(_)
            | control_request::Kind::Facts(_)
            | control_request::Kind::AppliedRevision(_) => continue,
            control_request::Kind::Register(_) => {
                return Err(errors::invalid("register", "it came before"));
            }
        };
        if orders.len() + piece.orders.len() > Limits::OBSERVED_PER_NODE {
            let why = format!("more than the limit of {}", Limits::OBSERVED_PER_NODE);
            return Err(errors::invalid("held", why));
        }
        for (index, order) in piece.orders.into_iter().enumerate() {
            let order: Result<HeldOrder, InvalidMessage> = order.try_into();
            let order = order.map_err(|error| error.within(&format!("held.orders[{index}]")))?;
            orders.push(order);
        }
        if piece.last {
            return Ok((Revision(piece.revision), orders));
        }
    }
}
