//! What is done to secrets: their values stand elsewhere.

use serde::{Deserialize, Serialize};
use warren_common::{SecretName, WorkspaceName};

use crate::state::{
    Vault,
    secret::{ValueId, ValueMark},
};

/// Everything that is done to one secret, as one command. Variants are only ever added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretCommand {
    /// A value is in the keystore, sealed, on a majority of the coordinators: it counts from now on.
    Set(SetSecret),
    /// Takes a secret away.
    Delete(DeleteSecret),
}

impl SecretCommand {
    /// Returns the command's name for logs and counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Set(_) => "set-secret",
            Self::Delete(_) => "delete-secret",
        }
    }

    /// Returns the vault it is about.
    pub const fn vault(&self) -> Vault {
        match self {
            Self::Set(set) => set.vault,
            Self::Delete(delete) => delete.vault,
        }
    }
}

/// See [`SecretCommand::Set`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSecret {
    /// Of which vault.
    pub vault: Vault,
    /// Which secret.
    pub name: SecretName,
    /// The version that the value becomes: one more than the last, or it is refused.
    pub version: u64,
    /// Which value.
    pub value: ValueId,
    /// Tells another value of the same request, and nothing else.
    pub mark: ValueMark,
    /// The workspace that it is set for while that is made, of the vault's client.
    pub made_for: Option<WorkspaceName>,
}

/// See [`SecretCommand::Delete`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteSecret {
    /// Of which vault.
    pub vault: Vault,
    /// Which secret.
    pub name: SecretName,
}
