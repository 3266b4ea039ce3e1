//! Amounts of memory, disk and processor.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of bytes. Reads and prints binary units: `4G` and `4GiB` are 4 · 2³⁰.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    /// Not of the form number and unit.
    #[error("{0:?} is not an amount of bytes: write a number and a unit, such as 512M, 4G or 1.5G")]
    Bytes(String),
    /// Not of the form cores.
    #[error("{0:?} is not a number of cores: write 0.5, 2 or 500m")]
    Cpus(String),
    /// Does not fit into 64 bits.
    #[error("{0:?} is more than any machine has")]
    TooLarge(String),
}

impl Bytes {
    /// 2²⁰ bytes.
    pub const MIB: u64 = 1 << 20;
    /// 2³⁰ bytes.
    pub const GIB: u64 = 1 << 30;

    /// Returns `count` mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count * Self::MIB)
    }

    /// Returns `count` gibibytes.
    pub const fn gib(count: u64) -> Self {
        Self(count * Self::GIB)
    }

    /// Returns the sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the difference, never below zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl FromStr for Bytes {
    type Err = InvalidAmount;
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let shown = || text.chars().take(40).collect::<String>();
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(InvalidAmount::Bytes(shown())),
        };
        let thousandths =
            decimal_thousandths(number).ok_or_else(|| InvalidAmount::Bytes(shown()))?;
        let bytes = (thousandths << shift) / 1000;
        u64::try_from(bytes).map(Self).map_err(|_| InvalidAmount::TooLarge(shown()))
    }
}

/// Reads `12`, `1.5` or `0.125` as thousandths; at most three decimals and 15 digits before them.
fn decimal_thousandths(text: &str) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || part.len() > 3 || !digits(whole) || !digits(part) {
        return None;
    }
    if part.is_empty() && text.contains('.') {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let part: u128 = format!("{part:0<3}").parse().ok()?;
    Some(whole * 1000 + part)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in UNITS {
            let one = 1_u128 << shift;
            let bytes = u128::from(self.0);
            if bytes >= one {
                let tenths = (bytes * 10 + one / 2) / one;
                return match tenths % 10 {
                    0 => write!(f, "{} {unit}", tenths / 10),
                    tenth => write!(f, "{}.{tenth} {unit}", tenths / 10),
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Thousandths of a processor core.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MilliCpus(pub u32);

impl FromStr for MilliCpus {
    type Err = InvalidAmount;
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let invalid = || InvalidAmount::Cpus(text.chars().take(40).collect());
        let milli = match text.trim().strip_suffix('m') {
            Some(milli) => milli.parse::<u32>().map_err(|_| invalid())?,
            None => {
                let thousandths = decimal_thousandths(text.trim()).ok_or_else(invalid)?;
                u32::try_from(thousandths).map_err(|_| invalid())?
            }
        };
        Ok(Self(milli))
    }
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}", self.0 / 1000),
            part => {
                let part = format!("{part:03}");
                write!(f, "{}.{}", self.0 / 1000, part.trim_end_matches('0'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!("4G".parse(), Ok(Bytes::gib(4)));
        assert_eq!("1.5 GiB".parse(), Ok(Bytes::mib(1536)));
        assert_eq!("512m".parse(), Ok(Bytes::mib(512)));
        assert_eq!("10".parse(), Ok(Bytes(10)));
        for odd in ["", "G", "-1G", "4X", "1.", ".5G", "1.2345G", "0x10", "4 4G", "NaN"] {
            assert!(odd.parse::<Bytes>().is_err(), "{odd:?} passed");
        }
        assert!(matches!(
            "99999999999999999999T".parse::<Bytes>(),
            Err(InvalidAmount::TooLarge(_))
        ));
    }

    #[test]
    fn cores_read_and_print() {
        for (text, milli) in [("2", 2000), ("0.5", 500), ("250m", 250), ("1.125", 1125)] {
            assert_eq!(text.parse(), Ok(MilliCpus(milli)));
        }
        assert_eq!(MilliCpus(1500).to_string(), "1.5");
        assert!("two".parse::<MilliCpus>().is_err());
    }

    proptest! {
        #[test]
        fn whole_units_survive_printing(count in 1_u64..1023, shift in 0_u32..4) {
            let bytes = Bytes(count << (shift * 10));
            prop_assert_eq!(bytes.to_string().parse::<Bytes>(), Ok(bytes));
        }
    }
}
