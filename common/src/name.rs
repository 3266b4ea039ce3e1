//! Names that people type, and the addresses built from them.
//!
//! One rule for all names: 1 to 40 of `a-z`, `0-9` and `-`, starting and ending with a letter or
//! digit. They fit into host names, folders, labels and shell words without quoting.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Limits;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("a {kind} name is empty")]
    Empty {
        /// The noun the name was for.
        kind: &'static str,
    },
    /// Longer than [`Limits::NAME_BYTES`].
    #[error("a {kind} name has at most 40 characters, this one has {length}")]
    TooLong {
        /// The noun the name was for.
        kind: &'static str,
        /// Its length in characters.
        length: usize,
    },
    /// A character outside the rule, or a dash at an end.
    #[error(
        "{text:?} is not a {kind} name: use a-z, 0-9 and '-', with a letter or digit at both ends"
    )]
    Characters {
        /// The noun the name was for.
        kind: &'static str,
        /// What was given.
        text: String,
    },
    /// An address with too few or too many parts.
    #[error("{text:?} is not of the form {form}")]
    Address {
        /// What was given, cut to 200 characters.
        text: String,
        /// The form that was expected.
        form: &'static str,
    },
}

fn validate(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty { kind });
    }
    let length = text.chars().count();
    if length > Limits::NAME_BYTES {
        return Err(InvalidName::TooLong { kind, length });
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let inner = bytes.iter().all(|&byte| plain(byte) || byte == b'-');
    if !inner || !plain(bytes[0]) || !plain(bytes[bytes.len() - 1]) {
        return Err(InvalidName::Characters { kind, text: text.to_owned() });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                validate($kind, text).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                validate($kind, &text).map(|()| Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name!(
    /// A client's name, unique in its cluster.
    ClientName, "client"
);
name!(
    /// A workspace's name, unique within its client.
    WorkspaceName, "workspace"
);
name!(
    /// A session's name, unique within its workspace.
    SessionName, "session"
);
name!(
    /// A secret's name, unique within its vault.
    SecretName, "secret"
);
name!(
    /// A node's name, unique in its cluster.
    NodeName, "node"
);

name!(
    /// A person's name, as their certificate says it.
    PersonName, "person"
);

name!(
    /// A template's name, unique in its cluster.
    TemplateName, "template"
);

/// `client/workspace`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkspaceAddress {
    /// The client the workspace belongs to.
    pub client: ClientName,
    /// Its name there.
    pub workspace: WorkspaceName,
}

impl FromStr for WorkspaceAddress {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parts: Vec<&str> = text.splitn(3, '/').collect();
        let [client, workspace] = parts[..] else {
            return Err(address_error(text, "client/workspace"));
        };
        Ok(Self { client: client.parse()?, workspace: workspace.parse()? })
    }
}

impl fmt::Display for WorkspaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.client, self.workspace)
    }
}

/// `client/workspace/session`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionAddress {
    /// The workspace the session runs in.
    pub workspace: WorkspaceAddress,
    /// Its name there.
    pub session: SessionName,
}

impl FromStr for SessionAddress {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let [client, workspace, session] = parts[..] else {
            return Err(address_error(text, "client/workspace/session"));
        };
        let workspace = WorkspaceAddress { client: client.parse()?, workspace: workspace.parse()? };
        Ok(Self { workspace, session: session.parse()? })
    }
}

impl fmt::Display for SessionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workspace, self.session)
    }
}

fn address_error(text: &str, form: &'static str) -> InvalidName {
    InvalidName::Address { text: text.chars().take(200).collect(), form }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_limit_and_one_past_it() {
        assert!("a".repeat(40).parse::<ClientName>().is_ok());
        let error = "a".repeat(41).parse::<ClientName>().expect_err("too long");
        assert_eq!(error, InvalidName::TooLong { kind: "client", length: 41 });
    }

    #[test]
    fn odd_names_are_refused() {
        for odd in ["", "-a", "a-", "A", "a b", "ä", "a/b", "a\0", "..", "a_b"] {
            assert!(odd.parse::<WorkspaceName>().is_err(), "{odd:?} passed");
        }
    }

    #[test]
    fn addresses_need_every_part() {
        assert_eq!("acme/web".parse::<WorkspaceAddress>().expect("fits").to_string(), "acme/web");
        assert!("web".parse::<WorkspaceAddress>().is_err());
        assert!("a/b/c".parse::<WorkspaceAddress>().is_err());
        assert_eq!("a/b/c".parse::<SessionAddress>().expect("fits").to_string(), "a/b/c");
        assert!("a/b/c/d".parse::<SessionAddress>().is_err());
    }
}
