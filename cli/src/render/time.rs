//! Points in time for people (ages) and for programs (RFC 3339, UTC).

use std::time::Duration;

use warren_common::Timestamp;

/// Returns the point as RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    match i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        Some(time) => format!("{time:.3}"),
        None => at.to_string(),
    }
}

/// Returns the point as RFC 3339 in UTC without its fraction, for tables and sentences.
pub(crate) fn rfc3339_seconds(at: Timestamp) -> String {
    match i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        Some(time) => format!("{time:.0}"),
        None => at.to_string(),
    }
}

/// Returns how long ago `at` was, in two units at most: `42s`, `5m30s`, `3h12m`, `2d4h`, `40d`.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> String {
    if at.0 == 0 {
        return "-".to_owned();
    }
    spell(now.since(at))
}

/// Returns a duration in two units at most.
pub(crate) fn spell(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..86_400 => format!("{hours}h{}m", minutes % 60),
        86_400..691_200 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_read_rfc_3339() {
        assert_eq!(rfc3339(Timestamp(1_767_323_045_678)), "2026-01-02T03:04:05.678Z");
        assert_eq!(rfc3339_seconds(Timestamp(1_767_323_045_678)), "2026-01-02T03:04:05Z");
        assert!(!rfc3339(Timestamp(u64::MAX)).is_empty(), "no date, but no panic either");
    }

    #[test]
    fn people_read_ages() {
        let ago = |seconds: u64| {
            age(Timestamp(1_000_000_000_000 - seconds * 1000), Timestamp(1_000_000_000_000))
        };
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (150, "2m30s"),
            (180, "3m"),
            (3600, "60m"),
            (11_520, "3h12m"),
            (100_000, "1d3h"),
            (5_000_000, "57d"),
        ] {
            assert_eq!(ago(seconds), text);
        }
        assert_eq!(age(Timestamp(9_000), Timestamp(5_000)), "0s", "a clock ahead of ours");
        assert_eq!(age(Timestamp(0), Timestamp(5)), "-");
    }
}
