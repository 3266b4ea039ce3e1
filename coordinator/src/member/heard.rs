//! A second opinion on silent nodes: what the other coordinators hear.
//!
//! A node's Status stream to one coordinator may be broken while the others have theirs. Before it is
//! called unreachable here the others are asked; a node that one of them hears is suspect and no
//! more.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;
use warren_common::{NodeEpoch, NodeId, ReplicaId};
use warren_model::{
    LiveView,
    command::Availability,
    liveness::{HEARD_ELSEWHERE, SUSPECT_AFTER},
};
use warren_proto::pb::raft::v1 as pb;

use super::Members;
use crate::live::Live;

/// Between two rounds of asking, while there is somebody to ask about.
const ROUND: Duration = Duration::from_secs(2);
/// How long another coordinator is given: it answers from memory.
const ANSWER: Duration = Duration::from_secs(1);
/// A node is asked about once it has been silent here for so long.
const DOUBT: Duration = SUSPECT_AFTER.saturating_sub(HEARD_ELSEWHERE);

impl Members {
    /// Has this coordinator tell the others what it hears.
    pub fn hear(&self, live: Arc<Live>) {
        // set once: a coordinator serves one API
        let _ = self.0.live.set(live);
    }

    /// Returns what this coordinator hears; nothing before it serves nodes.
    pub(super) fn heard(&self) -> pb::HeardResponse {
        let Some(live) = self.0.live.get() else { return pb::HeardResponse::default() };
        let (view, now) = live.snapshot();
        let millis = |ago: Duration| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let nodes = view.nodes.iter().map(|(id, heard)| pb::HeardNode {
            node_id: id.to_string(),
            node_epoch: heard.epoch.0,
            silent_ms: millis(now.since(heard.last_seen)),
            lease_age_ms: heard.lease.map(|at| millis(now.since(at))),
        });
        pb::HeardResponse { nodes: nodes.collect() }
    }

    /// Asks the others about nodes that are silent here, for ever.
    pub async fn keep_opinions(self, live: Arc<Live>) {
        let mut round = interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            let state = self.state();
            let (view, now) = live.snapshot();
            let silent = |(id, node): (&NodeId, &Arc<warren_model::state::Node>)| {
                let there = node.availability != Availability::Retired;
                let heard = view.nodes.get(id).map(|heard| heard.last_seen);
                let since = heard.unwrap_or_default().max(view.started);
                there && now.since(since) >= DOUBT
            };
            if !state.nodes.iter().any(silent) {
                continue;
            }
            let own = self.0.parts.replica;
            let others = state.replicas.keys().copied().filter(|replica| *replica != own);
            join_all(others.map(|replica| self.ask_heard(replica, (&live, &view)))).await;
        }
    }

    async fn ask_heard(&self, replica: ReplicaId, (live, view): (&Live, &LiveView)) {
        let Ok(mut api) = self.peer(replica) else { return };
        let answer = match timeout(ANSWER, api.heard(pb::HeardRequest {})).await {
            Ok(Ok(answer)) => answer.into_inner(),
            // an older coordinator, or one that is silent itself: no opinion
            Ok(Err(_)) | Err(_) => return debug!(%replica, "no second opinion"),
        };
        for heard in answer.nodes {
            let Ok(node) = heard.node_id.parse::<NodeId>() else { continue };
            let epoch = NodeEpoch(heard.node_epoch);
            let silent = Duration::from_millis(heard.silent_ms);
            let age = heard.lease_age_ms.map(Duration::from_millis);
            let known = view.nodes.get(&node).is_some_and(|known| known.epoch > epoch);
            if silent <= HEARD_ELSEWHERE && !known {
                live.heard_elsewhere((node, epoch), replica, (silent, age));
            }
        }
    }
}
