//! What a client's workspaces may reach.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use warren_common::{ClientId, spec::Destination};

/// See [`crate::Command::ChangeAllowed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeAllowed {
    /// Which client.
    pub client: ClientId,
    /// To allow; one that is allowed already is no fault.
    pub allow: BTreeSet<Destination>,
    /// To close again; each must be allowed. Nothing in both: what a restored cluster allows was
    /// looked at, and stays.
    pub disallow: BTreeSet<Destination>,
}
