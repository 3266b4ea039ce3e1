//! Watches openraft and tells the rest: who leads, whether the replica failed, and the gauges.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, gauge, histogram};
use openraft::{
    Instant as _, RaftMetrics, ServerState,
    async_runtime::WatchReceiver as _,
    metrics::{MetricsRecorder, RaftServerMetrics},
    vote::RaftLeaderId as _,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warren_common::ReplicaId;

use super::{
    answers::Leadership,
    contact::Contacts,
    types::{LogId, Raft, TypeConfig, Vote},
};
use crate::{
    measure::probe::{number, wide},
    store::Flusher,
};

/// How often a leader notes that a majority confirms it.
const NOTE: Duration = Duration::from_millis(100);

/// Who is told what is seen.
pub(super) struct Seen {
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) contacts: Arc<Contacts>,
    pub(super) flusher: Flusher,
}

/// Follows openraft until `stop` or until it ends.
///
/// openraft tells its whole state after every turn of its loop, many times for each write; who
/// leads changes far less often. So this wakes when the role changes, and for every turn only while
/// a new leader has not applied the first entry of its term yet.
pub(super) async fn run(raft: Raft, seen: Seen, stop: CancellationToken) {
    let Seen { leadership, contacts, flusher } = seen;
    let (mut roles, mut progress) = (raft.server_metrics(), raft.data_metrics());
    let whole = raft.metrics();
    if let Err(fatal) = raft.set_metrics_recorder(Some(Arc::new(Recorder))).await {
        tracing::debug!(%fatal, "openraft counts nothing: it has ended");
    }
    drop(raft);
    let mut standing = false;
    loop {
        let role = roles.borrow_and_update().clone();
        // after the role: openraft tells the progress first, so it is not older
        let applied = progress.borrow_and_update().last_applied;
        let stands = role.state == ServerState::Candidate;
        if stands && !standing {
            counter!("warren_raft_elections_total").increment(1);
        }
        standing = stands;
        let leads = leading(&role, applied);
        tell(&leadership, &contacts, leads);
        note(&contacts, &whole.borrow_watched());
        let begins = role.state == ServerState::Leader && !leads.leading;
        let ended = tokio::select! {
            () = stop.cancelled() => break,
            changed = roles.changed() => changed.is_err(),
            changed = progress.changed(), if begins => changed.is_err(),
            () = tokio::time::sleep(NOTE), if leads.leading => false,
        };
        if ended {
            break;
        }
    }
    if !stop.is_cancelled() {
        // a panic ends openraft before it can say so
        let fatal = whole.borrow_watched().running_state.clone().err();
        let why = fatal.map(|fatal| fatal.to_string());
        flusher.fail(why.as_deref().unwrap_or("consensus ended without a word: it panicked"));
    }
    let known = *leadership.borrow();
    tell(&leadership, &contacts, Leadership { leader: None, leading: false, ..known });
}

/// Tells who leads, where that is news.
fn tell(leadership: &watch::Sender<Leadership>, contacts: &Contacts, leads: Leadership) {
    contacts.led(leads.leader.is_some());
    leadership.send_if_modified(|known| {
        let changed = *known != leads;
        if known.leader != leads.leader {
            counter!("warren_raft_leader_changes_total").increment(1);
        }
        if changed {
            tracing::info!(leader = ?leads.leader, term = leads.term, leading = leads.leading, "leadership");
        }
        *known = leads;
        changed
    });
}

/// Notes how fresh the state of a leader is: what is known of it when it leads no more.
fn note(contacts: &Contacts, now: &RaftMetrics<TypeConfig>) {
    if let Some((at, committed)) = confirmed(now) {
        contacts.told(at, committed, now.last_applied.as_ref().map(|id| id.index));
    }
}

/// Returns when a majority last confirmed this replica as the leader that it is, and up to where
/// everything acknowledged before stands; none where it does not lead.
pub(super) fn confirmed(now: &RaftMetrics<TypeConfig>) -> Option<(Instant, Option<u64>)> {
    if !leads(now).leading {
        return None;
    }
    let at = Instant::now().checked_sub(since_quorum(now)?)?;
    Some((at, now.local_committed.as_ref().map(|id| id.index)))
}

/// Returns how long ago a majority last heard this replica as its leader; none where it leads
/// nobody. One that is alone is its own majority, and asks nobody.
pub(super) fn since_quorum(now: &RaftMetrics<TypeConfig>) -> Option<Duration> {
    let mut voters = now.membership_config.voter_ids();
    let alone = voters.next() == Some(now.id) && voters.next().is_none();
    match alone && now.state == ServerState::Leader {
        true => Some(Duration::ZERO),
        false => now.last_quorum_acked.map(|at| at.elapsed()),
    }
}

/// Derives who leads. This replica does once an entry of its own leadership is applied: the first
/// one is its blank entry, and everything ever acknowledged stands before it.
fn leading(role: &RaftServerMetrics<TypeConfig>, applied: Option<LogId>) -> Leadership {
    leadership_of((role.id, role.state, role.current_leader), role.vote, applied)
}

fn leads(now: &RaftMetrics<TypeConfig>) -> Leadership {
    leadership_of((now.id, now.state, now.current_leader), now.vote, now.last_applied)
}

fn leadership_of(
    (id, state, leader): (u64, ServerState, Option<u64>),
    vote: Vote,
    applied: Option<LogId>,
) -> Leadership {
    let own = vote.leader_id().to_committed();
    let applied = applied.as_ref().map(|last| *last.committed_leader_id());
    let leading = state == ServerState::Leader
        && vote.is_committed()
        && own.node_id == id
        && applied == Some(own);
    Leadership { leader: leader.map(ReplicaId), term: vote.leader_id().term, leading }
}

/// Sets the gauges from what openraft last said; `led` where a leader with a majority is in sight.
pub(super) fn sample(now: &RaftMetrics<TypeConfig>, flusher: &Flusher, led: bool) {
    let index = |index: Option<u64>| index.map_or(-1.0, wide);
    let role = match (&now.running_state, now.state) {
        (Err(_), _) | (Ok(()), ServerState::Shutdown) => 4.0,
        (Ok(()), ServerState::Learner) => 0.0,
        (Ok(()), ServerState::Follower) => 1.0,
        (Ok(()), ServerState::Candidate) => 2.0,
        (Ok(()), ServerState::Leader) => 3.0,
    };
    gauge!("warren_raft_term").set(wide(now.current_term));
    gauge!("warren_raft_role_code").set(role);
    let leads = leads(now);
    let has_leader = led && leads.leader.is_some();
    gauge!("warren_raft_has_leader").set(f64::from(u8::from(has_leader)));
    gauge!("warren_raft_leading").set(f64::from(u8::from(leads.leading)));
    gauge!("warren_raft_last_log_index").set(index(now.last_log_index));
    let of = |id: &Option<LogId>| index(id.as_ref().map(|id| id.index));
    gauge!("warren_raft_committed_index").set(of(&now.local_committed));
    gauge!("warren_raft_cluster_committed_index").set(of(&now.cluster_committed));
    gauge!("warren_raft_applied_index").set(of(&now.last_applied));
    gauge!("warren_raft_checkpoint_index").set(of(&now.snapshot));
    gauge!("warren_raft_purged_index").set(of(&now.purged));
    gauge!("warren_raft_voters").set(number(now.membership_config.voter_ids().count()));
    gauge!("warren_raft_learners")
        .set(number(now.membership_config.membership().learner_ids().count()));
    let quorum = since_quorum(now).map_or(-1.0, |since| since.as_secs_f64());
    gauge!("warren_raft_quorum_age_seconds").set(quorum);
    let failed = flusher.lost().borrow().is_some();
    gauge!("warren_store_failed").set(f64::from(u8::from(failed)));
    peers(now);
}

/// How far behind the others are, where this replica leads.
fn peers(now: &RaftMetrics<TypeConfig>) {
    for (id, _) in now.membership_config.nodes().filter(|(id, _)| **id != now.id) {
        let peer = id.to_string();
        let matched = now.replication.as_ref().and_then(|all| all.get(id));
        let lag = matched.map(|matched| {
            let held = matched.as_ref().map_or(0, |held| held.index + 1);
            now.last_log_index.map_or(0, |last| last + 1).saturating_sub(held)
        });
        gauge!("warren_raft_peer_lag_entries", "peer" => peer.clone()).set(lag.map_or(-1.0, wide));
        let answered = now.heartbeat.as_ref().and_then(|all| *all.get(id)?);
        gauge!("warren_raft_peer_contact_age_seconds", "peer" => peer)
            .set(answered.map_or(-1.0, |at| at.elapsed().as_secs_f64()));
    }
}

/// Counts a checkpoint that was written, or was not.
pub(super) fn checkpoint(written: bool, took: Duration) {
    let result = if written { "ok" } else { "failed" };
    counter!("warren_checkpoint_writes_total", "result" => result).increment(1);
    histogram!("warren_checkpoint_write_seconds").record(took.as_secs_f64());
}

/// What openraft counts by itself; its gauges are [`sample`]'s.
#[derive(Debug)]
struct Recorder;

impl MetricsRecorder for Recorder {
    fn record_apply_batch(&self, entries: u64) {
        histogram!("warren_raft_apply_batch_entries").record(wide(entries));
    }

    fn record_append_batch(&self, entries: u64) {
        histogram!("warren_raft_append_batch_entries").record(wide(entries));
    }

    fn record_write_batch(&self, entries: u64) {
        histogram!("warren_raft_write_batch_entries").record(wide(entries));
    }

    fn set_current_term(&self, _: u64) {}

    fn set_last_log_index(&self, _: u64) {}

    fn set_committed_index(&self, _: u64) {}

    fn set_applied_index(&self, _: u64) {}

    fn set_snapshot_index(&self, _: u64) {}

    fn set_purged_index(&self, _: u64) {}

    fn set_server_state(&self, _: u8) {}

    fn increment_vote(&self) {
        counter!("warren_raft_vote_requests_total").increment(1);
    }

    fn increment_heartbeat(&self) {
        counter!("warren_raft_heartbeats_total").increment(1);
    }

    fn increment_append(&self) {
        counter!("warren_raft_append_requests_total").increment(1);
    }
}
