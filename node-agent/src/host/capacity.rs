//! Memory, swap, processors and disk of this machine.

use std::{fs, io, path::Path, thread};

use warren_common::{Bytes, MilliCpus};

/// What this machine has in all, and what of it workspaces may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Memory for workspaces: all there is less what the host keeps.
    pub allocatable: Bytes,
    /// Swap of the host.
    pub swap: Bytes,
    /// Processors this process may use.
    pub cpus: MilliCpus,
}

/// Room on one filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Its size.
    pub total: Bytes,
    /// What an ordinary user may still take.
    pub available: Bytes,
}

/// Returns what the host keeps of `total` memory where the configuration does not say: a
/// twentieth, at least 256 MiB (a sixteenth of the least server) and at most 2 GiB.
pub fn default_reserve(total: Bytes) -> Bytes {
    Bytes(total.0 / 20).clamp(Bytes::mib(256), Bytes::gib(2))
}

/// Counts this machine; `reserve` is what the host keeps, by default [`default_reserve`].
///
/// # Errors
/// Where the kernel does not tell.
pub fn capacity(reserve: Option<Bytes>) -> io::Result<Capacity> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let total = field(&meminfo, "MemTotal")?;
    Ok(Capacity {
        allocatable: total.minus(reserve.unwrap_or_else(|| default_reserve(total))),
        swap: field(&meminfo, "SwapTotal")?,
        cpus: cores()?,
    })
}

/// Returns the processors this process may use.
///
/// # Errors
/// Where the kernel does not tell.
pub fn cores() -> io::Result<MilliCpus> {
    let cores = u32::try_from(thread::available_parallelism()?.get()).unwrap_or(u32::MAX);
    Ok(MilliCpus(cores.saturating_mul(1000)))
}

/// Returns the memory that can be had without swapping, now.
///
/// # Errors
/// Where the kernel does not tell.
pub fn memory_available() -> io::Result<Bytes> {
    field(&fs::read_to_string("/proc/meminfo")?, "MemAvailable")
}

/// Returns the load average of the last minute, in thousandths; zero where it is not told.
pub fn load_milli() -> u32 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    parse_load(&text).unwrap_or(0)
}

/// Returns the room on the filesystem that holds `path`.
///
/// # Errors
/// Where the path is not there.
pub fn disk(path: &Path) -> io::Result<Disk> {
    let facts = rustix::fs::statvfs(path)?;
    Ok(Disk {
        total: Bytes(facts.f_blocks.saturating_mul(facts.f_frsize)),
        available: Bytes(facts.f_bavail.saturating_mul(facts.f_frsize)),
    })
}

/// Returns whether a path is on a btrfs filesystem.
///
/// # Errors
/// Where the path is not there.
pub fn is_btrfs(path: &Path) -> io::Result<bool> {
    /// `BTRFS_SUPER_MAGIC` of statfs(2).
    const BTRFS: u64 = 0x9123_683E;
    let facts = rustix::fs::statfs(path)?;
    Ok(u64::try_from(facts.f_type) == Ok(BTRFS))
}

/// Reads one field of `/proc/meminfo`, which counts kibibytes.
pub(super) fn field(meminfo: &str, name: &str) -> io::Result<Bytes> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("no {name} in meminfo"));
    number.map(|kib| Bytes(kib.saturating_mul(1024))).ok_or_else(missing)
}

/// Reads `0.52 …` as 520.
fn parse_load(text: &str) -> Option<u32> {
    let (whole, part) = text.split_whitespace().next()?.split_once('.')?;
    let part: u32 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_kibibytes() {
        let text = "MemTotal:        2048 kB\nMemAvailable:     1024 kB\nSwapTotal: 0 kB\n";
        assert_eq!(field(text, "MemTotal").expect("there"), Bytes::mib(2));
        assert_eq!(field(text, "SwapTotal").expect("there"), Bytes(0));
        assert!(field(text, "Mem").is_err(), "a part of a name is no name");
    }

    #[test]
    fn the_host_keeps_a_twentieth_within_bounds() {
        assert_eq!(default_reserve(Bytes::gib(1)), Bytes::mib(256));
        assert_eq!(default_reserve(Bytes::gib(20)), Bytes::gib(1));
        assert_eq!(default_reserve(Bytes::gib(400)), Bytes::gib(2));
    }

    #[test]
    fn load_is_read_in_thousandths() {
        assert_eq!(parse_load("0.52 0.1 0.0 1/2 3"), Some(520));
        assert_eq!(parse_load("12.07 0.1"), Some(12_070));
        assert_eq!(parse_load(""), None);
    }

    #[test]
    fn this_machine_can_be_counted() {
        let all = capacity(Some(Bytes(0))).expect("capacity");
        assert!(all.cpus.0 >= 1000);
        assert!(all.allocatable >= memory_available().expect("memory"));
        let kept = capacity(Some(Bytes(u64::MAX))).expect("capacity");
        assert_eq!(kept.allocatable, Bytes(0), "never below nothing");
        let disk = disk(Path::new("/")).expect("a root");
        assert!(disk.available <= disk.total);
        assert!(super::disk(Path::new("/no/such/path")).is_err());
    }
}
