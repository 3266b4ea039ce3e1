//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use warren_common::Timestamp;

/// Returns now; the epoch where the clock stands before it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis().try_into().unwrap_or(u64::MAX))
}
