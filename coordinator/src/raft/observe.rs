//! Watches openraft and tells the rest: who leads, whether the replica failed, and the gauges.

use std::sync::Arc;

use openraft::{
    RaftMetrics, ServerState, async_runtime::WatchReceiver as _, vote::RaftLeaderId as _,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warren_common::ReplicaId;

use super::{
    answers::Leadership,
    contact::Contacts,
    types::{Raft, TypeConfig},
};
use crate::store::Flusher;

/// Who is told what is seen.
pub(super) struct Seen {
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) contacts: Arc<Contacts>,
    pub(super) flusher: Flusher,
}

/// Follows the metrics until `stop` or until openraft ends.
pub(super) async fn run(raft: Raft, seen: Seen, stop: CancellationToken) {
    let Seen { leadership, contacts, flusher } = seen;
    let mut changes = raft.metrics();
    drop(raft);
    loop {
        let now = changes.borrow_and_update().clone();
        let mut leads = leading(&now);
        if let Err(fatal) = &now.running_state {
            leads = Leadership { leader: None, leading: false, ..leads };
            if !stop.is_cancelled() {
                flusher.fail(&fatal.to_string());
            }
        }
        contacts.led(leads.leader.is_some());
        leadership.send_if_modified(|known| {
            let changed = *known != leads;
            if changed {
                tracing::info!(leader = ?leads.leader, term = leads.term, leading = leads.leading, "leadership");
            }
            *known = leads;
            changed
        });
        record(&now, leads);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    leadership.send_modify(|known| *known = Leadership { leader: None, leading: false, ..*known });
}

/// Derives who leads. This replica does once an entry of its own leadership is applied: the first
/// one is its blank entry, and everything ever acknowledged stands before it.
fn leading(metrics: &RaftMetrics<TypeConfig>) -> Leadership {
    let own = metrics.vote.leader_id().to_committed();
    let applied = metrics.last_applied.as_ref().map(|last| *last.committed_leader_id());
    let leads = metrics.state == ServerState::Leader
        && metrics.vote.is_committed()
        && own.node_id == metrics.id
        && applied == Some(own);
    Leadership {
        leader: metrics.current_leader.map(ReplicaId),
        term: metrics.current_term,
        leading: leads,
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats, and indexes stay below 2^53")]
fn record(now: &RaftMetrics<TypeConfig>, leads: Leadership) {
    let index = |index: Option<u64>| index.map_or(-1.0, |index| index as f64);
    metrics::gauge!("warren_raft_term").set(now.current_term as f64);
    metrics::gauge!("warren_raft_leading").set(f64::from(u8::from(leads.leading)));
    metrics::gauge!("warren_raft_has_leader").set(f64::from(u8::from(leads.leader.is_some())));
    metrics::gauge!("warren_raft_last_log_index").set(index(now.last_log_index));
    let committed = now.local_committed.as_ref().map(|id| id.index);
    metrics::gauge!("warren_raft_committed_index").set(index(committed));
    metrics::gauge!("warren_raft_applied_index")
        .set(index(now.last_applied.as_ref().map(|id| id.index)));
    metrics::gauge!("warren_raft_checkpoint_index")
        .set(index(now.snapshot.as_ref().map(|id| id.index)));
    metrics::gauge!("warren_raft_purged_index").set(index(now.purged.as_ref().map(|id| id.index)));
    let voters = now.membership_config.voter_ids().count();
    metrics::gauge!("warren_raft_voters").set(voters as f64);
}
