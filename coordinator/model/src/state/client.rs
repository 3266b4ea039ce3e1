//! Clients.

use serde::{Deserialize, Serialize};
use warren_common::{ClientId, ClientName, Revision, Timestamp, spec::Labels};

/// One customer engagement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// Its name, unique in the cluster.
    pub name: ClientName,
    /// The operator's labels.
    pub labels: Labels,
    /// When it was made.
    pub created: Timestamp,
    /// The mutation that last changed it.
    pub revision: Revision,
}
