//! What people, and their automation, are to a cluster.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a person, or their automation, is to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    Admin,
    /// Makes, starts, stops and enters workspaces.
    Operator,
    /// Looks, types nothing.
    Viewer,
    /// Reads status.
    Automation,
    /// Reads what was decided and why.
    Auditor,
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role: use admin, operator, viewer, automation or auditor")]
pub struct InvalidRole(String);

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Admin, Self::Operator, Self::Viewer, Self::Automation, Self::Auditor];

    /// Returns the word used in certificates and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Automation => "automation",
            Self::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl FromStr for Role {
    type Err = InvalidRole;
    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| InvalidRole(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_survive_their_word_and_odd_ones_are_cut() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        let error = "Admin".repeat(1000).parse::<Role>().expect_err("no role");
        assert!(error.to_string().len() < 200);
    }
}
