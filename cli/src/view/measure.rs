//! Measurements as they are printed: pressure, and who was killed for memory.

use serde::Serialize;
use warren_common::Timestamp;
use warren_proto::pb::node::v1 as pb;

use super::{Moment, filled, moment};
use crate::render::time::age;

/// The share of time in which processes waited, per mille.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Pressure {
    /// At least one waited, over 10 s and over a minute.
    pub(crate) some_10: u32,
    pub(crate) some_60: u32,
    /// All waited.
    pub(crate) full_10: u32,
    pub(crate) full_60: u32,
}

/// One process that the kernel killed for memory.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Kill {
    pub(crate) at: Option<Moment>,
    /// `unknown` where nobody named it.
    pub(crate) process: String,
    pub(crate) command: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) pid: Option<u32>,
    /// `kernel log` or `counter`.
    pub(crate) source: &'static str,
    pub(crate) cgroup: Option<String>,
}

impl From<pb::Pressure> for Pressure {
    fn from(pressure: pb::Pressure) -> Self {
        let pb::Pressure { some_10, some_60, full_10, full_60 } = pressure;
        Self { some_10, some_60, full_10, full_60 }
    }
}

impl Kill {
    /// Returns the victim and its command line, as an event tells it.
    pub(crate) fn told(&self) -> String {
        match &self.command {
            Some(command) => format!("{}: {command:?}", self.process),
            None => self.process.clone(),
        }
    }
}

impl From<pb::Kill> for Kill {
    fn from(kill: pb::Kill) -> Self {
        let source = match kill.source() {
            pb::KillSource::Unspecified => "unknown",
            pb::KillSource::KernelLog => "kernel log",
            pb::KillSource::Counter => "counter",
        };
        Self {
            at: moment(kill.at_unix_ms),
            process: kill.process,
            command: filled(&kill.command),
            session: filled(&kill.session),
            pid: kill.pid,
            source,
            cgroup: filled(&kill.cgroup),
        }
    }
}

impl Kill {
    /// Returns `node (main)`, or the name alone where it ran in no session.
    pub(crate) fn victim(&self) -> String {
        match &self.session {
            Some(session) => format!("{} ({session})", self.process),
            None => self.process.clone(),
        }
    }

    /// Returns how long ago it was.
    pub(crate) fn ago(&self, now: Timestamp) -> String {
        self.at.map_or_else(|| "-".to_owned(), |at| age(at.0, now))
    }
}

/// Returns per mille as a share for people: `7.3%`; a dash for none.
pub(crate) fn share(per_mille: u32) -> String {
    match per_mille {
        0 => "-".to_owned(),
        _ => format!("{}.{}%", per_mille / 10, per_mille % 10),
    }
}

/// Returns processors for people: `0.35`.
pub(crate) fn cores(milli: u32) -> String {
    format!("{}.{:02}", milli / 1000, milli % 1000 / 10)
}
