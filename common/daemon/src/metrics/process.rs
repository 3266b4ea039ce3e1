//! What every process says of itself, read from `/proc/self` at each scrape.

use std::fs;

use super::Metric;

/// Rows that every daemon serves.
pub const PROCESS: &[Metric] = &[
    Metric::gauge(
        "warren_build_info",
        &["component", "version"],
        "Always 1; the labels name the program and its version",
    ),
    Metric::gauge("warren_process_memory_bytes", &[], "Resident memory of the process"),
    Metric::gauge("warren_process_open_files", &[], "File descriptors the process has open"),
    Metric::gauge("warren_process_threads", &[], "Threads of the process"),
];

/// Sets the gauges; one that cannot be read keeps its value.
pub(super) fn sample() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kib) = field(&status, "VmRSS:") {
        metrics::gauge!("warren_process_memory_bytes").set(kib * 1024.0);
    }
    if let Some(threads) = field(&status, "Threads:") {
        metrics::gauge!("warren_process_threads").set(threads);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // the listing itself is one of them
        let count = u32::try_from(open.count().saturating_sub(1)).unwrap_or(u32::MAX);
        metrics::gauge!("warren_process_open_files").set(f64::from(count));
    }
}

/// Returns the number behind a label of proc_pid_status(5).
fn field(status: &str, label: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_label() {
        let status = "Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(1234.0));
        assert_eq!(field(status, "Threads:"), Some(7.0));
        assert_eq!(field(status, "VmSwap:"), None);
    }
}
