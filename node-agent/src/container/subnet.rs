//! Address ranges of workspace networks: the next free /28 of the node's range.
//!
//! Pure: who is asked for used ranges (the engine's networks, the host's routes) is the engine's
//! business.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// An IPv4 range in CIDR form, its host bits zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    first: u32,
    bits: u8,
}

/// A text that is no IPv4 range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 range such as 10.213.0.0/16")]
pub struct InvalidSubnet(String);

/// Length of the prefix that each workspace gets: 16 addresses.
pub const WORKSPACE_BITS: u8 = 28;

impl Subnet {
    /// Every address.
    pub const ALL: Self = Self { first: 0, bits: 0 };

    /// Returns the range that holds `address` with a prefix of `bits`; none for more than 32.
    pub fn new(address: Ipv4Addr, bits: u8) -> Option<Self> {
        if bits > 32 {
            return None;
        }
        let size = 1u64 << (32 - bits);
        let first = u64::from(u32::from(address)) & !(size - 1);
        Some(Self { first: u32::try_from(first).ok()?, bits })
    }

    /// Returns the number of addresses.
    const fn size(self) -> u64 {
        1 << (32 - self.bits)
    }

    /// Returns whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let (a, b) = (u64::from(self.first), u64::from(other.first));
        a < b + other.size() && b < a + self.size()
    }

    /// Returns the host's address on the bridge: the first after the range's own.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first.saturating_add(1))
    }
}

impl FromStr for Subnet {
    type Err = InvalidSubnet;
    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let invalid = || InvalidSubnet(text.chars().take(64).collect());
        let (address, bits) = text.split_once('/').ok_or_else(invalid)?;
        let address = address.parse().map_err(|_| invalid())?;
        let bits = bits.parse().map_err(|_| invalid())?;
        Self::new(address, bits).ok_or_else(invalid)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.bits)
    }
}

/// Returns the lowest /28 of `range` that shares no address with any of `used`; none where the
/// range is full or smaller than a /28. A default route (`/0`) in `used` is not a use.
pub fn next_free(range: Subnet, used: &[Subnet]) -> Option<Subnet> {
    if range.bits > WORKSPACE_BITS {
        return None;
    }
    let taken = |candidate: Subnet| {
        used.iter().copied().filter(|other| other.bits > 0).find(|other| candidate.overlaps(*other))
    };
    let end = u64::from(range.first) + range.size();
    let mut next = u64::from(range.first);
    while next < end {
        let candidate = Subnet { first: u32::try_from(next).ok()?, bits: WORKSPACE_BITS };
        match taken(candidate) {
            None => return Some(candidate),
            // past the end of what is in the way, at the next multiple of 16
            Some(other) => {
                let past = u64::from(other.first) + other.size();
                next = past.max(next + candidate.size()).next_multiple_of(candidate.size());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("a range")
    }

    #[test]
    fn the_lowest_free_range_is_taken() {
        let range = subnet("10.213.0.0/16");
        assert_eq!(next_free(range, &[]), Some(subnet("10.213.0.0/28")));
        let used = ["10.213.0.0/28", "10.213.0.32/28", "172.17.0.0/16", "0.0.0.0/0"].map(subnet);
        assert_eq!(next_free(range, &used), Some(subnet("10.213.0.16/28")));
        let used = ["10.213.0.0/28", "10.213.0.16/30", "10.213.0.64/26"].map(subnet);
        assert_eq!(next_free(range, &used), Some(subnet("10.213.0.32/28")));
    }

    #[test]
    fn a_full_range_has_none_left() {
        let range = subnet("10.0.0.0/27");
        let used = ["10.0.0.0/28", "10.0.0.16/28"].map(subnet);
        assert_eq!(next_free(range, &used), None);
        assert_eq!(next_free(range, &[subnet("10.0.0.0/8")]), None);
        assert_eq!(next_free(subnet("10.0.0.0/29"), &[]), None);
        assert_eq!(next_free(subnet("255.255.255.240/28"), &[subnet("255.255.255.255/32")]), None);
    }

    #[test]
    fn filling_a_range_never_repeats_or_overlaps() {
        let range = subnet("10.213.4.0/22");
        let mut used = vec![subnet("10.213.5.3/32")];
        while let Some(next) = next_free(range, &used) {
            assert!(used.iter().all(|other| !next.overlaps(*other)), "{next} overlaps");
            used.push(next);
        }
        assert_eq!(used.len(), 64, "64 in the range, one of them in the way, and the one in it");
    }

    #[test]
    fn texts_that_are_no_range_are_refused() {
        for odd in ["", "10.0.0.0", "10.0.0/8", "10.0.0.0/33", "::/0", "10.0.0.0/x"] {
            assert!(odd.parse::<Subnet>().is_err(), "{odd:?} passed");
        }
        assert_eq!(subnet("10.0.0.77/24").to_string(), "10.0.0.0/24");
        assert_eq!(subnet("10.0.0.0/28").gateway().to_string(), "10.0.0.1");
    }
}
