//! Measurements. Texts of a killed process come from its workspace: they are cut and cleaned.

use warren_common::{
    Limits, Timestamp,
    measure::{Kill, KillSource, Pressure},
    status::{clean, reason},
};

use super::{InvalidMessage, enumeration, parse, unspecified};
use crate::pb::node::v1 as pb;

impl From<Pressure> for pb::Pressure {
    fn from(pressure: Pressure) -> Self {
        let Pressure { some_10, some_60, full_10, full_60 } = pressure;
        Self { some_10, some_60, full_10, full_60 }
    }
}

impl From<pb::Pressure> for Pressure {
    fn from(pressure: pb::Pressure) -> Self {
        let pb::Pressure { some_10, some_60, full_10, full_60 } = pressure;
        Self { some_10, some_60, full_10, full_60 }
    }
}

impl From<Kill> for pb::Kill {
    fn from(kill: Kill) -> Self {
        let source = match kill.source {
            KillSource::KernelLog => pb::KillSource::KernelLog,
            KillSource::Counter => pb::KillSource::Counter,
        };
        Self {
            at_unix_ms: kill.at.0,
            process: kill.process,
            command: kill.command,
            session: kill.session.map(Into::into).unwrap_or_default(),
            pid: kill.pid,
            source: source.into(),
            cgroup: kill.cgroup,
        }
    }
}

impl TryFrom<pb::Kill> for Kill {
    type Error = InvalidMessage;
    fn try_from(kill: pb::Kill) -> Result<Self, InvalidMessage> {
        let source = match enumeration("source", kill.source)? {
            pb::KillSource::Unspecified => return Err(unspecified("source")),
            pb::KillSource::KernelLog => KillSource::KernelLog,
            pb::KillSource::Counter => KillSource::Counter,
        };
        let process = clean(&kill.process, Limits::NAME_BYTES).replace(['\n', '\t'], " ");
        if process.is_empty() {
            return Err(InvalidMessage::new("process", "is not set"));
        }
        let session = match kill.session.is_empty() {
            true => None,
            false => Some(parse("session", &kill.session)?),
        };
        Ok(Self {
            at: Timestamp(kill.at_unix_ms),
            process,
            command: Self::command_line(&kill.command),
            session,
            pid: kill.pid,
            source,
            cgroup: reason(&kill.cgroup),
        })
    }
}
