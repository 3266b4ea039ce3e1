//! The wall clock, read at the edges only.

use std::time::{SystemTime, UNIX_EPOCH};

use warren_common::Timestamp;

/// Returns the present by the system's clock; the epoch where the clock stands before it.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
