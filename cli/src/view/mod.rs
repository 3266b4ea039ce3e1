//! What the command line prints, as its own stable types.
//!
//! Field names here are the JSON and YAML that scripts read: they only ever gain fields. Wire
//! messages are turned into views here and nowhere else; times become RFC 3339, enums words.

pub(crate) mod agent;
pub(crate) mod as_of;
pub(crate) mod audit;
pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod destination;
pub(crate) mod event;
pub(crate) mod evidence;
pub(crate) mod explanation;
pub(crate) mod measure;
mod meter;
pub(crate) mod node;
pub(crate) mod observed;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod spec;
pub(crate) mod template;
pub(crate) mod top;
pub(crate) mod user;
pub(crate) mod workspace;

use serde::Serialize;
use warren_common::Timestamp;
use warren_proto::pb::admin::v1 as pb;

use crate::render::time::rfc3339;

/// A point in time: RFC 3339 for programs, kept as a number for ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

/// Returns the moment; none for the wire's zero.
pub(crate) fn moment(unix_ms: u64) -> Option<Moment> {
    if unix_ms == 0 { None } else { Some(Moment(Timestamp(unix_ms))) }
}

/// Writes a number that may be above 2^53 as text: readers of JSON round what is above.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(crate) fn digits<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Returns the text; none where it is empty.
pub(crate) fn filled(text: &str) -> Option<String> {
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

/// Returns the time that ages are counted to: the coordinator's own, so that a skewed clock here
/// does no harm.
pub(crate) fn served(freshness: Option<&pb::Freshness>) -> Timestamp {
    match freshness {
        Some(freshness) if freshness.served_unix_ms != 0 => Timestamp(freshness.served_unix_ms),
        _ => warren_daemon::clock::now(),
    }
}

/// Lays out `label: value` lines with the values in one column.
pub(crate) fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 1;
    let mut text = String::new();
    for (label, value) in rows {
        let label = format!("{label}:");
        let value = warren_common::status::clean(value, 4096).replace('\n', " ");
        text.push_str(format!("{label:<width$} {value}").trim_end());
        text.push('\n');
    }
    text
}

/// Returns `a=1 b=2`, or a dash.
pub(crate) fn labels(labels: &warren_common::spec::Labels) -> String {
    if labels.is_empty() {
        return "-".to_owned();
    }
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}
