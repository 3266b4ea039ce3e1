//! What a browser and the processes it started use.

use std::fs;

use warren_common::{Bytes, browser::Weight};

use crate::agent::tree;

/// Bytes of one command line looked at.
const WORDS_BYTES: u64 = 4096;

/// Weighs a browser. Each process takes the kernel about a millisecond, so others run in between.
pub(super) async fn weigh(pid: u32) -> Weight {
    let mut weight = Weight::default();
    for stat in tree::below(pid) {
        let pid = stat.life.pid;
        weight.processes += 1;
        let words = tree::words(pid, "cmdline", WORDS_BYTES);
        weight.renderers += u32::from(words.iter().any(|word| word.contains("--type=renderer")));
        weight.memory = Bytes(weight.memory.0.saturating_add(memory(pid)));
        tokio::task::yield_now().await;
    }
    weight
}

fn memory(pid: u32) -> u64 {
    let shares = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    shares
        .ok()
        .and_then(|text| field(&text, "Pss:"))
        .or_else(|| {
            // shared pages count whole then, which is too much
            field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
        })
        .unwrap_or_default()
}

/// Returns the bytes in a line of this name, which counts in KiB.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_in_shares() {
        let text = "55d0-7ffd ---p 0 0 0 [rollup]\nRss:  9000 kB\nPss:  1234 kB\nPss_Anon: 7 kB\n";
        assert_eq!(field(text, "Pss:"), Some(1234 * 1024));
        assert_eq!(field("Rss: 1 kB", "Pss:"), None);
        assert!(memory(std::process::id()) > 100_000);
    }
}
