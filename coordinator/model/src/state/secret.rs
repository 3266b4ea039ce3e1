//! Secrets, without their values: what vaults hold, and which value of each is the newest.
//!
//! The values stand in the coordinators' keystore, sealed, and never in a command, a checkpoint or
//! an answer.

use serde::{Deserialize, Serialize};
use warren_common::{ClientId, Revision, Timestamp};

use crate::command::Principal;

/// Where a secret belongs: a workspace gets exactly the shared vault and its client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Vault {
    /// Every client's workspaces get it.
    Shared,
    /// Only this client's do.
    Client(ClientId),
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Counts its values from 1.
    pub version: u64,
    /// Who set the newest.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
    /// The mutation that last changed it.
    pub revision: Revision,
}
