//! The table of a node agent's metrics.

use warren_daemon::metrics::{LATENCIES, Metric, SECONDS};

/// Every metric of a node agent besides [`warren_daemon::metrics::PROCESS`].
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "warren_node_rounds_total",
        &[],
        "Looks at a workspace: each decides at most one step",
    ),
    Metric::counter("warren_node_steps_total", &["step", "result"], "Steps taken for workspaces"),
    Metric::histogram(
        "warren_node_step_seconds",
        SECONDS,
        &["step"],
        "One step, image pulls included",
    ),
    Metric::gauge("warren_node_workspaces", &["state"], "Workspaces by what is seen of them"),
    Metric::gauge("warren_node_homes_full", &[], "Homes of which 95 hundredths are taken"),
    Metric::gauge("warren_node_pool_bytes", &["what"], "What keeps the homes: used, and available"),
    Metric::histogram(
        "warren_engine_call_seconds",
        LATENCIES,
        &["operation"],
        "One call of the container engine",
    ),
    Metric::counter(
        "warren_engine_failures_total",
        &["operation", "code"],
        "Calls of the container engine that failed",
    ),
    Metric::histogram(
        "warren_ledger_write_seconds",
        LATENCIES,
        &[],
        "Making one change of the ledger durable, fsyncs included",
    ),
    Metric::gauge(
        "warren_node_lease_age_seconds",
        &[],
        "Since the renewal was sent that the leader last confirmed; -1 before the first",
    ),
    Metric::gauge(
        "warren_node_registration",
        &[],
        "Number of the registration; 0 before the first",
    ),
    Metric::counter(
        "warren_uplink_registrations_total",
        &[],
        "Registrations with a leader: the first, and one after each lost connection",
    ),
    Metric::counter(
        "warren_uplink_losses_total",
        &["stream"],
        "Streams to coordinators that ended by themselves, control and status",
    ),
    Metric::counter("warren_uplink_documents_total", &["result"], "Documents received"),
    Metric::gauge("warren_node_doors_open", &[], "Sockets of workspaces that are listened on"),
    Metric::gauge("warren_node_streams_open", &[], "Terminals, programs and logs being relayed"),
    Metric::gauge("warren_node_streams_limit", &[], "How many of them there may be"),
    Metric::counter(
        "warren_node_firewall_losses_total",
        &[],
        "Times that the firewall's table was not as it was loaded",
    ),
    Metric::gauge(
        "warren_node_firewall_packets",
        &["counter"],
        "Packets of workspaces that the firewall's table refused, by its counters",
    ),
    Metric::counter(
        "warren_node_dns_questions_total",
        &["result"],
        "Questions of workspaces for names: answered, unanswered, refused, malformed or crowded",
    ),
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
