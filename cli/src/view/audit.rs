//! Audit records and what checking them found, as they are printed.

use serde::{Deserialize, Serialize};
use warren_common::Timestamp;
use warren_proto::pb::admin::v1 as pb;

use super::{Moment, filled, moment};
use crate::render::{Tabular, time::rfc3339_seconds};

/// One record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) at: Option<Moment>,
    /// `person/<name>`, `node/<id>` or `coordinator/<number>`.
    pub(crate) actor: String,
    /// The name of a node while it has one.
    pub(crate) actor_name: String,
    pub(crate) request_id: String,
    pub(crate) revision: u64,
    pub(crate) action: String,
    pub(crate) target: Option<String>,
    pub(crate) target_id: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) hash: String,
}

impl From<pb::AuditRecord> for Record {
    fn from(record: pb::AuditRecord) -> Self {
        Self {
            sequence: record.sequence,
            at: moment(record.at_unix_ms),
            actor: record.actor,
            actor_name: record.actor_name,
            request_id: record.request_id,
            revision: record.revision,
            action: record.action,
            target: filled(&record.target),
            target_id: filled(&record.target_id),
            detail: filled(&record.detail),
            hash: record.hash,
        }
    }
}

impl Record {
    /// A person by name; what is none says so.
    fn who(&self) -> String {
        match self.actor.split_once('/') {
            Some(("person", name)) => name.to_owned(),
            Some((kind, _)) => format!("{kind} {}", self.actor_name),
            None => self.actor.clone(),
        }
    }
}

impl Tabular for Record {
    const HEADER: &'static [&'static str] =
        &["AT", "RECORD", "ACTOR", "ACTION", "TARGET", "REQUEST", "DETAIL"];
    const FLEXIBLE: usize = 6;

    fn row(&self, _: Timestamp) -> Vec<String> {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        vec![
            self.at.map_or_else(String::new, |at| rfc3339_seconds(at.0)),
            self.sequence.to_string(),
            self.who(),
            self.action.clone(),
            text(&self.target),
            self.request_id.clone(),
            text(&self.detail),
        ]
    }

    fn address(&self) -> String {
        self.sequence.to_string()
    }
}

/// What checking one coordinator's records found; `warren-coordinator verify-audit` writes the same.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Verified {
    /// None where a folder was checked.
    #[serde(default)]
    pub(crate) coordinator: Option<u64>,
    /// Why it was not checked; the rest is empty then.
    #[serde(default)]
    pub(crate) trouble: Option<String>,
    pub(crate) whole: bool,
    /// The first and the last record there is; none where there are none.
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
    /// How many were checked, up to the break where there is one.
    pub(crate) records: u64,
    pub(crate) segments: u32,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) broken: Option<Break>,
    /// The newest record that the state knows: none where nothing says so.
    pub(crate) head: Option<Head>,
}

/// Records that are not there, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gap {
    pub(crate) from: u64,
    pub(crate) upto: u64,
}

/// The first place where the chain does not hold.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Break {
    pub(crate) record: u64,
    /// The file's name in `<state>/audit`; none where the records end too soon.
    pub(crate) segment: Option<String>,
    pub(crate) line: Option<u32>,
    pub(crate) reason: String,
}

/// A record and its hash.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) record: u64,
    pub(crate) hash: String,
}

impl From<pb::VerifyRecordsResponse> for Verified {
    fn from(verified: pb::VerifyRecordsResponse) -> Self {
        let some = |number: u64| Some(number).filter(|number| *number != 0);
        let head = Head { record: verified.head_sequence, hash: verified.head_hash };
        Self {
            coordinator: some(verified.replica_id),
            trouble: filled(&verified.trouble),
            whole: verified.whole,
            first: some(verified.first_sequence),
            last: some(verified.last_sequence).filter(|_| verified.first_sequence != 0),
            records: verified.records,
            segments: verified.segments,
            gaps: verified.gaps.into_iter().map(Gap::from).collect(),
            broken: verified.broken.map(|broken| Break {
                record: broken.sequence,
                segment: filled(&broken.segment),
                line: Some(broken.line).filter(|line| *line != 0),
                reason: broken.reason,
            }),
            head: Some(head).filter(|head| head.record != 0),
        }
    }
}

impl From<pb::AuditGap> for Gap {
    fn from(gap: pb::AuditGap) -> Self {
        Self { from: gap.from_sequence, upto: gap.upto_sequence }
    }
}

impl Gap {
    /// Names the records.
    pub(crate) fn text(self) -> String {
        match self.from == self.upto {
            true => self.from.to_string(),
            false => format!("{}-{}", self.from, self.upto),
        }
    }
}

impl Break {
    /// Says where and what.
    pub(crate) fn text(&self) -> String {
        let place = match (&self.segment, self.line) {
            (Some(segment), Some(line)) => format!(" ({segment} line {line})"),
            (Some(segment), None) => format!(" ({segment})"),
            (None, _) => String::new(),
        };
        format!("broken at record {}{place}: {}", self.record, self.reason)
    }
}

impl Verified {
    /// Names its records.
    fn range(&self) -> String {
        match (self.first, self.last) {
            (Some(from), Some(upto)) => Gap { from, upto }.text(),
            _ => String::new(),
        }
    }

    fn result(&self) -> String {
        match (&self.trouble, &self.broken) {
            (Some(trouble), _) => format!("not checked: {trouble}"),
            (None, Some(broken)) => broken.text(),
            (None, None) => "whole".to_owned(),
        }
    }
}

impl Tabular for Verified {
    const HEADER: &'static [&'static str] =
        &["COORDINATOR", "RECORDS", "CHECKED", "FILES", "MISSING", "RESULT"];
    const FLEXIBLE: usize = 5;

    fn row(&self, _: Timestamp) -> Vec<String> {
        let missing: Vec<String> = self.gaps.iter().map(|gap| gap.text()).collect();
        let looked = |count: String| if self.trouble.is_none() { count } else { String::new() };
        vec![
            self.address(),
            self.range(),
            looked(self.records.to_string()),
            looked(self.segments.to_string()),
            missing.join(", "),
            self.result(),
        ]
    }

    fn address(&self) -> String {
        self.coordinator.map_or_else(|| "this machine".to_owned(), |number| number.to_string())
    }
}
