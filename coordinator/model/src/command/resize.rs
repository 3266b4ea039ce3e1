//! Other caps for a workspace.

use serde::{Deserialize, Serialize};
use warren_common::{Bytes, MilliCpus, WorkspaceId, spec::Resources};

/// See [`crate::Command::ResizeWorkspace`]. What is none stays as it is, as the state has it when
/// the command is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeWorkspace {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// The hard memory cap.
    pub memory: Option<Bytes>,
    /// Swap beyond it.
    pub swap: Option<Bytes>,
    /// What placement sets aside; its share of memory stays where only that changes.
    pub reserve: Option<Bytes>,
    /// The hard processor cap; zero takes it away.
    pub cpus: Option<MilliCpus>,
    /// Size of the home.
    pub disk: Option<Bytes>,
}

impl ResizeWorkspace {
    /// Returns a change of nothing.
    pub const fn of(workspace: WorkspaceId) -> Self {
        Self { workspace, memory: None, swap: None, reserve: None, cpus: None, disk: None }
    }

    /// Returns what comes of `current`.
    pub fn applied_to(&self, current: &Resources) -> Resources {
        let memory = self.memory.unwrap_or(current.memory);
        let share = u128::from(current.reserve.0) * u128::from(memory.0)
            / u128::from(current.memory.0.max(1));
        let share = Bytes(u64::try_from(share).unwrap_or(u64::MAX));
        let cpus = match self.cpus {
            None => current.cpus,
            Some(MilliCpus(0)) => None,
            Some(cap) => Some(cap),
        };
        Resources {
            memory,
            swap: self.swap.unwrap_or(current.swap),
            reserve: self.reserve.unwrap_or(share),
            cpus,
            disk: self.disk.unwrap_or(current.disk),
            cpu_weight: current.cpu_weight,
            pids: current.pids,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_and_what_is_reserved_keeps_its_share() {
        let current = Resources::with_memory(Bytes::gib(4));
        let id = "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id");
        let none = ResizeWorkspace::of(id);
        assert_eq!(none.applied_to(&current), current);
        let more = ResizeWorkspace { memory: Some(Bytes::gib(6)), ..none.clone() };
        assert_eq!(more.applied_to(&current).reserve, Bytes::gib(3));
        let both = ResizeWorkspace { reserve: Some(Bytes::gib(1)), ..more };
        let both = both.applied_to(&current);
        assert_eq!((both.memory, both.reserve), (Bytes::gib(6), Bytes::gib(1)));
        let capped = ResizeWorkspace { cpus: Some(MilliCpus(500)), ..none.clone() };
        let capped = capped.applied_to(&current);
        assert_eq!(capped.cpus, Some(MilliCpus(500)));
        let uncapped = ResizeWorkspace { cpus: Some(MilliCpus(0)), ..none };
        assert_eq!(uncapped.applied_to(&capped).cpus, None);
    }
}
