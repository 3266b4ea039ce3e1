//! Ids and counters.
//!
//! Ids are opaque 128-bit values minted at the API edge (never inside the model); counters say
//! their own meaning. Names that people type live in [`crate::name`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An id that is not one: the text that was given and what it should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} id (a UUID such as 0199a0b2-7f00-7000-8000-000000000001)")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The lowest in order: never minted, the start of a range.
            pub const MIN: Self = Self(Uuid::nil());

            /// Wraps a value minted by the caller.
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// Returns the 16 bytes, most significant first: the order in which ids compare.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Returns the last eight hex digits: the random tail, short enough for names of
            /// devices and folders.
            pub fn short(&self) -> String {
                let text = self.0.simple().to_string();
                text[text.len() - 8..].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match Uuid::try_parse(text) {
                    Ok(id) => Ok(Self(id)),
                    Err(_) => {
                        let text = text.chars().take(64).collect();
                        Err(InvalidId { kind: $kind, text })
                    }
                }
            }
        }
    };
}

uuid_id!(
    /// One cluster, made by `warren cluster init` and kept across restores.
    ClusterId, "cluster"
);
uuid_id!(
    /// One client: a customer engagement, the isolation unit.
    ClientId, "client"
);
uuid_id!(
    /// One workspace, the same across restarts and moves.
    WorkspaceId, "workspace"
);
uuid_id!(
    /// One node, given when it joins and never reused.
    NodeId, "node"
);
uuid_id!(
    /// One mutation as its caller names it: the same id takes effect once.
    RequestId, "request"
);
uuid_id!(
    /// One join token; the secret itself is only ever stored hashed.
    TokenId, "token"
);
uuid_id!(
    /// One boot of one host's kernel, from `/proc/sys/kernel/random/boot_id`.
    BootId, "boot"
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Returns the next value; saturates at the end, which no cluster reaches.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Counts applied mutations of the whole cluster; every object remembers the one that changed it.
    Revision
);
counter!(
    /// Counts the registrations of one node: a later one supersedes an earlier one.
    NodeEpoch
);
counter!(
    /// One coordinator replica; never reused.
    ReplicaId
);

/// The fencing number of a workspace: raised by each new assignment, never lowered, not even by a
/// restore, because the incarnation fills the upper half.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// Joins a cluster incarnation (upper 32 bits) and a per-workspace counter (lower 32 bits).
    pub const fn new(incarnation: u32, counter: u32) -> Self {
        Self(((incarnation as u64) << 32) | counter as u64)
    }

    /// Returns the cluster incarnation in which this generation was given.
    pub const fn incarnation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the counter within its incarnation.
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }

    /// Returns the next generation in `incarnation`: the counter starts again at 1 in a newer one.
    #[must_use]
    pub const fn next(self, incarnation: u32) -> Self {
        if incarnation > self.incarnation() {
            Self::new(incarnation, 1)
        } else {
            Self(self.0.saturating_add(1))
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation(), self.counter())
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_of_a_newer_incarnation_is_always_higher() {
        let old = Generation::new(7, u32::MAX);
        assert!(old.next(8) > old);
        assert_eq!(old.next(8), Generation::new(8, 1));
        assert_eq!(Generation::new(8, 1).next(8), Generation::new(8, 2));
        assert!(old.next(3) > old, "an older incarnation never lowers it");
    }

    #[test]
    fn an_id_that_is_none_is_named_and_cut() {
        let error = "x".repeat(1000).parse::<NodeId>().expect_err("not a UUID");
        assert!(error.to_string().len() < 200);
        assert!(error.to_string().contains("node id"));
    }
}
