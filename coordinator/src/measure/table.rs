//! The table of a coordinator's metrics.

use warren_daemon::metrics::{BATCHES, LATENCIES, Metric, SECONDS};

/// Every metric of a coordinator besides [`warren_daemon::metrics::PROCESS`].
pub const METRICS: &[Metric] = &[
    // Raft
    Metric::gauge("warren_raft_term", &[], "Term this replica is in"),
    Metric::gauge(
        "warren_raft_role_code",
        &[],
        "0 learner, 1 follower, 2 candidate, 3 leader, 4 stopped",
    ),
    Metric::gauge("warren_raft_leading", &[], "1 where this replica leads and may serve"),
    Metric::gauge(
        "warren_raft_has_leader",
        &[],
        "1 where this replica leads with a majority, or heard its leader lately",
    ),
    Metric::counter(
        "warren_raft_leader_changes_total",
        &[],
        "Times this replica learnt of another leader, or of none",
    ),
    Metric::counter("warren_raft_elections_total", &[], "Elections this replica stood in"),
    Metric::counter(
        "warren_raft_vote_requests_total",
        &[],
        "Requests for a vote that other replicas sent",
    ),
    Metric::counter(
        "warren_raft_append_requests_total",
        &[],
        "Append messages that a leader sent here, heartbeats included",
    ),
    Metric::counter(
        "warren_raft_heartbeats_total",
        &[],
        "Rounds of heartbeats this replica sent as leader",
    ),
    Metric::gauge(
        "warren_raft_last_log_index",
        &[],
        "Newest entry in the log; -1 without one, as for every index",
    ),
    Metric::gauge("warren_raft_committed_index", &[], "Newest entry known here to be committed"),
    Metric::gauge(
        "warren_raft_cluster_committed_index",
        &[],
        "Newest entry that the leader said is committed",
    ),
    Metric::gauge("warren_raft_applied_index", &[], "Newest entry in the state"),
    Metric::gauge("warren_raft_checkpoint_index", &[], "Newest entry in a checkpoint"),
    Metric::gauge(
        "warren_raft_purged_index",
        &[],
        "Newest entry let go at the log's front; what the older checkpoint needs stays on disk",
    ),
    Metric::gauge("warren_raft_voters", &[], "Replicas with a vote"),
    Metric::gauge("warren_raft_learners", &[], "Replicas without a vote"),
    Metric::gauge(
        "warren_raft_quorum_age_seconds",
        &[],
        "On the leader: since a majority last confirmed it; -1 elsewhere",
    ),
    Metric::gauge(
        "warren_raft_peer_lag_entries",
        &["peer"],
        "On the leader: entries the replica does not hold yet; -1 where nothing is known",
    ),
    Metric::gauge(
        "warren_raft_peer_contact_age_seconds",
        &["peer"],
        "On the leader: since the replica last answered; -1 where it never has",
    ),
    Metric::histogram(
        "warren_raft_write_batch_entries",
        BATCHES,
        &[],
        "Proposals taken into one append",
    ),
    Metric::histogram(
        "warren_raft_append_batch_entries",
        BATCHES,
        &[],
        "Entries of one append to the log",
    ),
    Metric::histogram(
        "warren_raft_append_seconds",
        LATENCIES,
        &[],
        "From an append to the log until it is durable",
    ),
    Metric::histogram(
        "warren_raft_apply_batch_entries",
        BATCHES,
        &[],
        "Entries of one batch applied to the state",
    ),
    Metric::histogram(
        "warren_raft_apply_seconds",
        LATENCIES,
        &[],
        "Applying one batch, audit records included",
    ),
    Metric::histogram(
        "warren_raft_read_batch",
        BATCHES,
        &[],
        "Linearizable reads that shared one round",
    ),
    // disk
    Metric::counter("warren_store_syncs_total", &[], "fsyncs of the log"),
    Metric::histogram(
        "warren_store_flush_seconds",
        LATENCIES,
        &[],
        "One flush of the log with its fsync",
    ),
    Metric::histogram(
        "warren_store_flush_batch_writes",
        BATCHES,
        &[],
        "Writes that shared one flush",
    ),
    Metric::gauge(
        "warren_store_failed",
        &[],
        "1 once storage has failed: nothing is acknowledged any more",
    ),
    Metric::gauge(
        "warren_store_disk_bytes",
        &["part"],
        "Bytes of log, checkpoints, audit records and keys on disk",
    ),
    Metric::gauge("warren_store_free_bytes", &[], "Bytes left on the volume of the state folder"),
    Metric::counter("warren_checkpoint_writes_total", &["result"], "Checkpoints written"),
    Metric::histogram("warren_checkpoint_write_seconds", SECONDS, &[], "Writing one checkpoint"),
    Metric::gauge(
        "warren_checkpoint_age_seconds",
        &[],
        "Since the newest checkpoint was written; -1 without one",
    ),
    Metric::gauge("warren_audit_records", &[], "Records in the audit chain"),
    // calls and connections
    Metric::counter("warren_rpc_calls_total", &["method", "code"], "Calls that have ended"),
    Metric::histogram(
        "warren_rpc_call_seconds",
        LATENCIES,
        &["method"],
        "From a call's head to its last byte; streams last as long as they are open",
    ),
    Metric::gauge("warren_rpc_calls_open", &["method"], "Calls and streams under way"),
    Metric::gauge("warren_connections_open", &[], "TLS connections on both listeners"),
    Metric::counter("warren_connections_accepted_total", &[], "TLS handshakes that went well"),
    Metric::counter(
        "warren_connections_refused_total",
        &["reason"],
        "Connections that were not let in: tls, certificate, timeout or crowded",
    ),
    Metric::gauge(
        "warren_node_streams_open",
        &["stream"],
        "Status and Control streams of nodes, tunnels that nodes were asked for, viewers",
    ),
    // queues
    Metric::gauge("warren_queue_items", &["queue"], "What waits in a bounded queue now"),
    Metric::gauge("warren_queue_limit_items", &["queue"], "What a bounded queue may hold"),
    // planning and state
    Metric::counter(
        "warren_planner_rounds_total",
        &["result"],
        "Rounds of planning: planned, or unconfirmed where the state could not be confirmed",
    ),
    Metric::histogram(
        "warren_planner_round_seconds",
        LATENCIES,
        &[],
        "One round of planning, proposing included",
    ),
    Metric::counter("warren_planner_commands_total", &["command"], "Commands proposed"),
    Metric::gauge("warren_state_revision", &[], "Mutations applied to the state"),
    Metric::gauge("warren_state_objects", &["kind"], "Objects in the replicated state"),
    Metric::gauge("warren_workspaces", &["phase"], "Workspaces by phase"),
    Metric::gauge("warren_workspaces_queued", &[], "Workspaces no node can hold at the moment"),
    Metric::gauge("warren_workspaces_overdue", &[], "Workspaces past the deadline of their phase"),
    Metric::gauge("warren_nodes", &["liveness"], "Nodes by how this coordinator hears them"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use warren_daemon::metrics::PROCESS;

    use super::*;

    #[test]
    fn the_table_keeps_the_conventions() {
        for metric in METRICS {
            assert_eq!(metric.fault(), None);
        }
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len(), "a name stands there twice");
    }

    #[test]
    fn the_documentation_has_every_row() {
        let text = include_str!("../../../docs/OPERATIONS.md");
        for row in METRICS.iter().chain(PROCESS).map(Metric::row) {
            assert!(text.lines().any(|line| line == row), "docs/OPERATIONS.md lacks\n{row}");
        }
    }
}
