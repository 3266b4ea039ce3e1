//! What a workspace may use, and what is set aside for it.

use serde::{Deserialize, Serialize};

use crate::{Bytes, Limits, MilliCpus};

/// Caps and weights of one workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resources {
    /// The hard memory cap.
    pub memory: Bytes,
    /// Swap beyond the cap, always explicit; zero means none.
    pub swap: Bytes,
    /// What placement sets aside; at most the cap, half of it by default.
    pub reserve: Bytes,
    /// Share of the processor under contention, 2 to 262,144 (Docker's `cpu-shares`).
    pub cpu_weight: u32,
    /// The hard processor cap; none without it.
    pub cpus: Option<MilliCpus>,
    /// Size of the home volume.
    pub disk: Bytes,
    /// Processes and threads.
    pub pids: u32,
}

/// Caps that no machine could hold or that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResources {
    /// The cap is outside its range.
    #[error("--memory {0} is outside {min} to {max}", min = Limits::MEMORY_MIN, max = Limits::MEMORY_MAX)]
    Memory(Bytes),
    /// More swap than the largest cap.
    #[error("--swap {0} is more than {max}", max = Limits::MEMORY_MAX)]
    Swap(Bytes),
    /// More is set aside than may be used, or nothing.
    #[error("--reserve {reserve} is not between 1 MiB and --memory {memory}")]
    Reserve {
        /// What was asked to be set aside.
        reserve: Bytes,
        /// The cap.
        memory: Bytes,
    },
    /// Docker's range.
    #[error("--cpu-weight {0} is outside 2 to 262144")]
    CpuWeight(u32),
    /// Less than Docker's least.
    #[error("--cpus {0} is outside 0.01 to 1024")]
    Cpus(MilliCpus),
    /// Too small for a checkout.
    #[error("--disk {0} is less than {min}", min = Limits::DISK_MIN)]
    Disk(Bytes),
    /// Outside the kernel's sense.
    #[error("--pids {0} is outside 16 to {max}", max = Limits::PIDS_MAX)]
    Pids(u32),
}

impl Resources {
    /// Returns the defaults around a memory cap: half of it reserved, no swap, 20 GiB of disk,
    /// 1,024 pids, an ordinary processor weight and no processor cap.
    pub const fn with_memory(memory: Bytes) -> Self {
        Self {
            memory,
            swap: Bytes(0),
            reserve: Bytes(memory.0 / 2),
            cpu_weight: 1024,
            cpus: None,
            disk: Bytes::gib(20),
            pids: 1024,
        }
    }

    /// Checks every cap against its range.
    ///
    /// # Errors
    /// Returns the first that is outside.
    pub fn validate(&self) -> Result<(), InvalidResources> {
        if self.memory < Limits::MEMORY_MIN || self.memory > Limits::MEMORY_MAX {
            return Err(InvalidResources::Memory(self.memory));
        }
        if self.swap > Limits::MEMORY_MAX {
            return Err(InvalidResources::Swap(self.swap));
        }
        if self.reserve < Bytes::mib(1) || self.reserve > self.memory {
            return Err(InvalidResources::Reserve { reserve: self.reserve, memory: self.memory });
        }
        if !(2..=262_144).contains(&self.cpu_weight) {
            return Err(InvalidResources::CpuWeight(self.cpu_weight));
        }
        if let Some(cpus) = self.cpus
            && !(10..=1_024_000).contains(&cpus.0)
        {
            return Err(InvalidResources::Cpus(cpus));
        }
        if self.disk < Limits::DISK_MIN {
            return Err(InvalidResources::Disk(self.disk));
        }
        if !(16..=Limits::PIDS_MAX).contains(&self.pids) {
            return Err(InvalidResources::Pids(self.pids));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_caps_are_refused() {
        let good = Resources::with_memory(Bytes::gib(1));
        assert_eq!(good.validate(), Ok(()));
        for memory in [Bytes(0), Bytes::mib(63), Bytes(u64::MAX)] {
            assert!(Resources { memory, ..good.clone() }.validate().is_err(), "{memory} passed");
        }
        assert!(Resources { reserve: Bytes::gib(2), ..good.clone() }.validate().is_err());
        assert!(Resources { cpus: Some(MilliCpus(1)), ..good.clone() }.validate().is_err());
        assert!(Resources { disk: Bytes(1), ..good.clone() }.validate().is_err());
        assert!(Resources { pids: 1, ..good }.validate().is_err());
    }
}
