//! Sessions that people made, stopped or ran again after their workspace was made.

use serde::{Deserialize, Serialize};
use warren_common::Revision;

/// What was asked of one session. One that the spec names has a record once it was stopped,
/// restarted or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Counts the runs that were asked for; zero is the one that the workspace's start made.
    pub run: u64,
    /// It is to be stopped.
    pub stopped: bool,
    /// The mutation that last changed it.
    pub revision: Revision,
}
