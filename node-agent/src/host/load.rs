//! What the host as a whole uses and waits for, for each heartbeat.

use std::{fs, path::Path, time::Instant};

use warren_common::measure::Pressure;
use warren_proto::pb::node::v1::{self as pb, NodeUsage};

use super::capacity;

/// Of one second, the kernel's unit in `/proc/stat` on every Linux.
const TICKS: u64 = 100;

/// Reads the host; remembers the processor's time between two readings.
#[derive(Debug, Default)]
pub struct LoadReader {
    last: Option<(u64, Instant)>,
}

impl LoadReader {
    /// Reads what is used and left now, on this machine and on the disk that holds `state_dir`.
    pub fn read(&mut self, state_dir: &Path) -> NodeUsage {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let meminfo = text("/proc/meminfo");
        let amount = |name| capacity::field(&meminfo, name).unwrap_or_default().0;
        let disk = capacity::disk(state_dir).map(|disk| disk.available);
        NodeUsage {
            memory_available_bytes: amount("MemAvailable"),
            disk_available_bytes: disk.unwrap_or_default().0,
            load_milli: capacity::load_milli(),
            memory_total_bytes: amount("MemTotal"),
            swap_total_bytes: amount("SwapTotal"),
            swap_free_bytes: amount("SwapFree"),
            busy_milli_cpus: self.rate(busy(&text("/proc/stat")), Instant::now()),
            memory_pressure: pressure("memory"),
            cpu_pressure: pressure("cpu"),
            io_pressure: pressure("io"),
            // for volumes, walls and the engine to tell
            pool: None,
            firewall: 0,
            images: None,
        }
    }

    fn rate(&mut self, busy: u64, now: Instant) -> u32 {
        let Some((before, at)) = self.last.replace((busy, now)) else { return 0 };
        let passed = u64::try_from(now.duration_since(at).as_millis()).unwrap_or(u64::MAX);
        let used = busy.saturating_sub(before).saturating_mul(1_000_000 / TICKS);
        u32::try_from(used.checked_div(passed).unwrap_or(0)).unwrap_or(u32::MAX)
    }
}

/// Whether the kernel measures how long processes wait.
pub fn measures_pressure() -> bool {
    fs::read("/proc/pressure/memory").is_ok()
}

/// None where the kernel does not measure it.
fn pressure(of: &str) -> Option<pb::Pressure> {
    let text = fs::read_to_string(format!("/proc/pressure/{of}")).ok()?;
    Some(Pressure::parse(&text).into())
}

/// Returns the time in which processors were busy: all but idling and waiting for disks. What
/// guests use is part of what users use.
fn busy(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let fields = line.into_iter().flat_map(str::split_ascii_whitespace).take(8).enumerate();
    let counted = fields.filter(|(index, _)| !matches!(index, 3 | 4));
    counted.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn processors_are_busy_with_all_but_idling_and_waiting() {
        assert_eq!(busy("cpu  10 1 5 900 50 2 3 4 10 0\ncpu0 1 1 1 1 1\n"), 25);
        assert_eq!(busy(""), 0);
        let mut reader = LoadReader::default();
        let begun = Instant::now();
        assert_eq!(reader.rate(100, begun), 0, "nothing to compare with");
        assert_eq!(reader.rate(400, begun + Duration::from_secs(2)), 1500);
        assert_eq!(reader.rate(0, begun + Duration::from_secs(4)), 0, "never below nothing");
    }

    #[test]
    fn this_machine_is_read() {
        let usage = LoadReader::default().read(Path::new("/"));
        assert!(usage.memory_total_bytes >= usage.memory_available_bytes);
        assert!(usage.memory_available_bytes > 0 && usage.disk_available_bytes > 0);
        assert_eq!(usage.memory_pressure.is_some(), measures_pressure());
    }
}
