//! What one metric is: its name, its kind, its labels, and what it says to people.

/// Seconds, from a tenth of a millisecond to the longest call: fsyncs, RPCs, engine calls.
pub const LATENCIES: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Seconds, from ten milliseconds to ten minutes: what people wait for.
pub const SECONDS: &[f64] =
    &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// How many were done at once, up to the longest queue.
pub const BATCHES: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only ever rises while the process lives; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts in these buckets, by upper bound.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Returns the word that Prometheus uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One row of a process's table of metrics.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// `warren_<area>_<what>_<unit>`.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Its labels, each with values out of a closed set; `peer` is a coordinator's id.
    pub labels: &'static [&'static str],
    /// What it says, in one line.
    pub help: &'static str,
}

impl Metric {
    /// A counter.
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// A gauge.
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// A histogram with these buckets.
    pub const fn histogram(
        name: &'static str,
        buckets: &'static [f64],
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Histogram(buckets), labels, help }
    }

    /// Returns the row of the documentation's table.
    pub fn row(&self) -> String {
        let labels = match self.labels {
            [] => "-".to_owned(),
            labels => labels.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", "),
        };
        format!("| `{}` | {} | {labels} | {} |", self.name, self.kind.as_str(), self.help)
    }

    /// Tells the recorder what the metric means, and shows it at zero where it has no labels.
    pub(super) fn describe(&self) {
        let Self { name, kind, labels, help } = *self;
        match kind {
            Kind::Counter => metrics::describe_counter!(name, help),
            Kind::Gauge => metrics::describe_gauge!(name, help),
            Kind::Histogram(_) => metrics::describe_histogram!(name, help),
        }
        if !labels.is_empty() {
            return;
        }
        match kind {
            Kind::Counter => metrics::counter!(name).increment(0),
            Kind::Gauge => metrics::gauge!(name).increment(0.0),
            Kind::Histogram(_) => drop(metrics::histogram!(name)),
        }
    }

    /// Returns what is against the conventions; nothing where all is well.
    pub fn fault(&self) -> Option<String> {
        let Self { name, kind, labels, help } = self;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let fault = if !name.starts_with("warren_") || !name.chars().all(plain) {
            "is not of the form warren_<area>_<what>_<unit>"
        } else if name.ends_with("_total") != (*kind == Kind::Counter) {
            "ends in _total although it is no counter, or does not although it is one"
        } else if labels.iter().any(|label| !label.chars().all(plain)) {
            "has a label of odd characters"
        } else if help.is_empty() || help.ends_with('.') || help.contains(['\n', '|']) {
            "has no help of one line without a full stop"
        } else if matches!(kind, Kind::Histogram(buckets) if !buckets.is_sorted()) {
            "has buckets out of order"
        } else {
            return None;
        };
        Some(format!("{name} {fault}"))
    }
}
