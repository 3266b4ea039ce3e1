//! A destination that a client's workspaces may reach although it is closed to all others.
//!
//! Text is the only form, in log, ledger, wire and on the command line: `10.1.2.0/24:5432/tcp`.
//! Reading it checks its shape. Whether it can be allowed at all is [`Destination::allowable`]: what
//! is on record stays readable where that rule grows.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// An IPv4 range, one port and a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    first: Ipv4Addr,
    bits: u8,
    port: u16,
    transport: Transport,
}

/// What a destination is reached over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Returns the word used on the command line and in rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Why a text is no destination, or one that can never be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDestination {
    /// Not of the form.
    #[error("{0:?} is not of the form CIDR:PORT[/tcp|udp], such as 10.1.2.0/24:5432")]
    Shape(String),
    /// IPv6 is off in workspaces.
    #[error("{0:?} is IPv6, which workspaces do not have; name an IPv4 range")]
    Version6(String),
    /// Host bits are set.
    #[error("{given} has bits set beyond its prefix; use {meant}")]
    HostBits {
        /// What was given.
        given: String,
        /// What it probably means.
        meant: String,
    },
    /// Covers what no workspace may ever reach.
    #[error("{destination} covers {range} ({what}), which can never be allowed")]
    Never {
        /// What was given.
        destination: String,
        /// The range in it.
        range: String,
        /// What that is.
        what: &'static str,
    },
}

/// Ranges that no workspace reaches, whatever is allowed: address, prefix, what it is.
pub const NEVER: [(Ipv4Addr, u8, &str); 5] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local and metadata services"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "reserved for names"),
    (Ipv4Addr::new(224, 0, 0, 0), 3, "multicast, reserved and broadcast"),
];

impl Destination {
    /// Returns the range's first address and prefix length.
    pub const fn range(&self) -> (Ipv4Addr, u8) {
        (self.first, self.bits)
    }

    /// Returns the port, never 0.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the protocol.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Checks that it covers nothing of [`NEVER`].
    ///
    /// # Errors
    /// Names the range that it covers.
    pub fn allowable(&self) -> Result<(), InvalidDestination> {
        let overlaps = |first: Ipv4Addr, bits: u8| {
            let bits = bits.min(self.bits);
            mask(u32::from(first), bits) == mask(u32::from(self.first), bits)
        };
        match NEVER.iter().find(|(first, bits, _)| overlaps(*first, *bits)) {
            None => Ok(()),
            Some((first, bits, what)) => Err(InvalidDestination::Never {
                destination: self.to_string(),
                range: format!("{first}/{bits}"),
                what,
            }),
        }
    }
}

const fn mask(address: u32, bits: u8) -> u32 {
    match bits {
        0 => 0,
        bits => address & (u32::MAX << (32 - bits)),
    }
}

impl FromStr for Destination {
    type Err = InvalidDestination;
    fn from_str(text: &str) -> Result<Self, InvalidDestination> {
        let shown = || text.chars().take(64).collect::<String>();
        let shape = || InvalidDestination::Shape(shown());
        if text.starts_with('[') || text.matches(':').count() > 1 {
            return Err(InvalidDestination::Version6(shown()));
        }
        let (range, rest) = text.split_once(':').ok_or_else(shape)?;
        let (port, transport) = match rest.split_once('/') {
            None | Some((_, "tcp")) => (rest.trim_end_matches("/tcp"), Transport::Tcp),
            Some((port, "udp")) => (port, Transport::Udp),
            Some(_) => return Err(shape()),
        };
        let (address, bits) = range.split_once('/').unwrap_or((range, "32"));
        let number = |text: &str, digits: usize| {
            let plain = !text.is_empty() && text.len() <= digits;
            plain && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !number(port, 5) || !number(bits, 2) {
            return Err(shape());
        }
        let given: Ipv4Addr = address.parse().map_err(|_| shape())?;
        let bits: u8 = bits.parse().ok().filter(|bits| *bits <= 32).ok_or_else(shape)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(shape)?;
        let first = Ipv4Addr::from(mask(u32::from(given), bits));
        let meant = Self { first, bits, port, transport };
        if first != given {
            let given = format!("{given}/{bits}:{port}/{}", transport.as_str());
            return Err(InvalidDestination::HostBits { given, meant: meant.to_string() });
        }
        Ok(meant)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}/{}", self.first, self.bits, self.port, self.transport.as_str())
    }
}

impl TryFrom<String> for Destination {
    type Error = InvalidDestination;
    fn try_from(text: String) -> Result<Self, InvalidDestination> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, InvalidDestination> {
        text.parse::<Destination>().map(|destination| destination.to_string())
    }

    #[test]
    fn a_destination_has_one_way_to_be_written() {
        for (text, meant) in [
            ("10.1.2.0/24:5432", "10.1.2.0/24:5432/tcp"),
            ("10.1.2.0/24:5432/tcp", "10.1.2.0/24:5432/tcp"),
            ("10.1.2.3:53/udp", "10.1.2.3/32:53/udp"),
            ("192.168.0.0/16:65535", "192.168.0.0/16:65535/tcp"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(meant), "{text}");
            assert_eq!(read(meant).as_deref(), Ok(meant));
        }
    }

    #[test]
    fn texts_that_are_none_are_refused_with_what_is_meant() {
        for odd in [
            "",
            "10.1.2.3",
            "10.1.2.3:0",
            "10.1.2.3:65536",
            "10.1.2.3:+22",
            "10.1.2.3:22/sctp",
            "10.1.2.3:/tcp",
            "10.1.2.3/33:22",
            "10.1.2.3/:22",
            "10.1.2:22",
            "host:22",
            "10.1.2.3:22/tcp/tcp",
            "10.1.2.3 :22",
        ] {
            assert!(read(odd).is_err(), "{odd:?} passed");
        }
        let error = read("10.1.2.3/24:22").expect_err("host bits").to_string();
        assert!(error.ends_with("use 10.1.2.0/24:22/tcp"), "{error}");
        let error = read("[fd00::1]:22").expect_err("IPv6").to_string();
        assert!(error.contains("IPv6"), "{error}");
    }

    #[test]
    fn loopback_and_metadata_can_never_be_allowed_not_even_in_a_wider_range() {
        let allowable = |text: &str| text.parse::<Destination>().expect(text).allowable();
        for text in ["10.0.0.0/8:443", "8.8.8.8:53/udp", "168.0.0.0/8:1", "192.168.1.7:22"] {
            assert_eq!(allowable(text), Ok(()), "{text}");
        }
        for text in [
            "169.254.169.254:80",
            "169.0.0.0/8:80",
            "127.0.0.1:22",
            "0.0.0.0/0:443",
            "255.255.255.255:9/udp",
            "224.0.0.0/4:5353/udp",
            "198.18.0.1:80",
        ] {
            assert!(allowable(text).is_err(), "{text}");
        }
        let error = allowable("169.254.169.254:80").expect_err("metadata").to_string();
        assert!(error.contains("metadata"), "{error}");
    }
}
