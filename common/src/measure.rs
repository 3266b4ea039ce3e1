//! Measurements: how far a group of processes waited for memory, and who was killed for it.
//!
//! Soft state, as everything in [`crate::status`]. Texts come from a workspace and are cut and
//! cleaned by whoever takes them in.

use serde::{Deserialize, Serialize};

use crate::{Limits, SessionName, Timestamp, status::clean};

/// The share of time in which processes waited for one resource, per mille (Linux PSI). All zero
/// where the kernel does not measure it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one waited, over the last 10 s.
    pub some_10: u32,
    /// At least one waited, over the last minute.
    pub some_60: u32,
    /// All waited, over the last 10 s.
    pub full_10: u32,
    /// All waited, over the last minute.
    pub full_60: u32,
}

impl Pressure {
    /// Reads the kernel's own text: lines `some avg10=0.12 avg60=… …` and `full …`. A part that is
    /// missing or odd counts as none.
    pub fn parse(text: &str) -> Self {
        let part = |line: &str, name: &str| -> u32 {
            let fields = text.lines().find(|found| found.split(' ').next() == Some(line));
            let value = fields.and_then(|fields| {
                fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
            });
            value.and_then(per_mille).unwrap_or(0)
        };
        Self {
            some_10: part("some", "avg10"),
            some_60: part("some", "avg60"),
            full_10: part("full", "avg10"),
            full_60: part("full", "avg60"),
        }
    }
}

/// Reads `12.34` per cent as 123 per mille.
fn per_mille(percent: &str) -> Option<u32> {
    let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
    let tenth: u32 = part.get(..1)?.parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(10)?.checked_add(tenth)
}

/// What is not known of a killed process.
pub const UNKNOWN: &str = "unknown";

/// One process that the kernel killed for memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// When it was noticed, by the node's clock.
    pub at: Timestamp,
    /// The process's name; [`UNKNOWN`] where the kernel counted it and nobody named it.
    pub process: String,
    /// Its command line as it was last seen, at most [`Limits::KILL_COMMAND_BYTES`]; empty where it
    /// was never seen.
    pub command: String,
    /// The session it ran in; none where it ran in none, or where that is not known.
    pub session: Option<SessionName>,
    /// Its process id on the host; none where it is not known.
    pub pid: Option<u32>,
    /// Where the name comes from.
    pub source: KillSource,
    /// The cgroup it was killed in, as the kernel names it; empty where it is not known.
    pub cgroup: String,
}

/// Who named a killed process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KillSource {
    /// The kernel's log.
    KernelLog,
    /// Nobody: the cgroup's counter went up, or the engine said so.
    Counter,
}

impl KillSource {
    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KernelLog => "kernel log",
            Self::Counter => "counter",
        }
    }
}

impl Kill {
    /// Returns `node (main)`, or the name alone where it ran in no session.
    pub fn victim(&self) -> String {
        match &self.session {
            Some(session) => format!("{} ({session})", self.process),
            None => self.process.clone(),
        }
    }

    /// Returns a command line fit for screens: one line, cut, control characters taken out.
    pub fn command_line(text: &str) -> String {
        clean(text, Limits::KILL_COMMAND_BYTES).replace(['\n', '\t'], " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_in_per_mille() {
        let text = "some avg10=12.34 avg60=5.00 avg300=0.06 total=11798152\n\
                    full avg10=0.09 avg60=100.00 avg300=0.02 total=7694540\n";
        let wanted = Pressure { some_10: 123, some_60: 50, full_10: 0, full_60: 1000 };
        assert_eq!(Pressure::parse(text), wanted);
        assert_eq!(Pressure::parse("some avg10=x avg60\n"), Pressure::default());
        assert_eq!(Pressure::parse(""), Pressure::default());
    }

    #[test]
    fn a_victim_is_named_with_its_session() {
        let mut kill = Kill {
            at: Timestamp(1),
            process: "node".to_owned(),
            command: Kill::command_line("node\nx\x1b[2J"),
            session: "claude".parse().ok(),
            pid: None,
            source: KillSource::KernelLog,
            cgroup: String::new(),
        };
        assert_eq!((kill.victim().as_str(), kill.command.as_str()), ("node (claude)", "node x[2J"));
        kill.session = None;
        assert_eq!(kill.victim(), "node");
        assert!(Kill::command_line(&"ä".repeat(999)).len() <= Limits::KILL_COMMAND_BYTES);
    }
}
