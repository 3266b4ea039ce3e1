//! Bytes that went through each bridge, from the kernel's one table of devices.
//!
//! The table is that of the network in which the agent stands, as its bridges are.

use std::{collections::HashMap, fs};

/// Bytes by device: received and sent, as the device counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic(HashMap<String, (u64, u64)>);

impl Traffic {
    /// Reads the table; empty where the kernel does not tell.
    pub(super) fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/net/dev").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let device = |line: &str| {
            let (name, counters) = line.split_once(':')?;
            let mut counters = counters.split_ascii_whitespace();
            let received = counters.next()?.parse().ok()?;
            let sent = counters.nth(7)?.parse().ok()?;
            Some((name.trim().to_owned(), (received, sent)))
        };
        // the heads of the columns have no colon
        Self(text.lines().filter_map(device).collect())
    }

    /// Returns what a device received and sent; nothing where it is not there.
    pub(super) fn of(&self, device: &str) -> (u64, u64) {
        self.0.get(device).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_with_both_ways() {
        let text = "Inter-|   Receive                            |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    \
                    lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\n\
                    wrn-deadbeef: 300 3 0 0 0 0 0 0 4000 4 0 0 0 0 0 0\n";
        let traffic = Traffic::parse(text);
        assert_eq!(traffic.of("wrn-deadbeef"), (300, 4000));
        assert_eq!(traffic.of("wrn-0"), (0, 0));
        assert_eq!(Traffic::parse(""), Traffic::default());
    }

    #[test]
    fn this_machine_has_devices() {
        assert!(Traffic::read().0.contains_key("lo"));
    }
}
