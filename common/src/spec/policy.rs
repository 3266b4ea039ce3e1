//! The words by which templates name what a spec has by kinds.

use std::str::FromStr;

use super::{Failover, IsolationTier, Permissions};

/// A word that names none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("takes {0}")]
pub struct NotOneOf(&'static str);

impl Failover {
    /// Returns the word used on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
        }
    }
}

impl FromStr for IsolationTier {
    type Err = NotOneOf;
    fn from_str(text: &str) -> Result<Self, NotOneOf> {
        let all = [Self::Container, Self::UserNamespace, Self::Gvisor, Self::Dedicated];
        let found = all.into_iter().find(|tier| tier.as_str() == text);
        found.ok_or(NotOneOf("container, userns, gvisor or dedicated"))
    }
}

impl FromStr for Failover {
    type Err = NotOneOf;
    fn from_str(text: &str) -> Result<Self, NotOneOf> {
        let found = [Self::Auto, Self::Manual].into_iter().find(|one| one.as_str() == text);
        found.ok_or(NotOneOf("auto or manual"))
    }
}

impl Permissions {
    /// Returns the word used on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Ask => "ask",
        }
    }
}

impl FromStr for Permissions {
    type Err = NotOneOf;
    fn from_str(text: &str) -> Result<Self, NotOneOf> {
        let found = [Self::Bypass, Self::Ask].into_iter().find(|one| one.as_str() == text);
        found.ok_or(NotOneOf("bypass or ask"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_again_and_no_other_is() {
        for tier in ["container", "userns", "gvisor", "dedicated"] {
            assert_eq!(tier.parse::<IsolationTier>().map(IsolationTier::as_str), Ok(tier));
        }
        assert_eq!("manual".parse(), Ok(Failover::Manual));
        assert_eq!("ask".parse(), Ok(Permissions::Ask));
        let why = "Manual".parse::<Failover>().expect_err("another word").to_string();
        assert_eq!(why, "takes auto or manual");
    }
}
