//! Values on the command line that clap does not know: durations, `key=value`, sessions.

use std::time::Duration;

use warren_common::{
    SessionName, Timestamp,
    spec::{Labels, SessionSpec},
};

/// Reads `90s`, `10m`, `1h30m` or `500ms`; a bare number is seconds.
///
/// # Errors
/// Returns a sentence with examples where it is none of these, or zero.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration: write 90s, 10m or 1h30m");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis = match unit.trim() {
            "" | "s" => 1000,
            "ms" => 1,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(invalid()),
        };
        let part = number.checked_mul(millis).ok_or_else(invalid)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(invalid)?;
        rest = after;
    }
    let most = Duration::from_secs(366 * 24 * 3600);
    if total.is_zero() || total > most { Err(invalid()) } else { Ok(total) }
}

/// Reads a point in time: RFC 3339, a day (its first moment in UTC), or how long before `now`.
///
/// # Errors
/// Returns a sentence with examples where it is none of these.
pub(crate) fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let at = |time: jiff::Timestamp| u64::try_from(time.as_millisecond()).ok().map(Timestamp);
    let day = || {
        // a day with a time and no zone is no point in time
        let day = (text.len() == 10).then(|| text.parse::<jiff::civil::Date>().ok())??;
        day.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|day| day.timestamp())
    };
    let ago = || {
        let ago = u64::try_from(duration(text).ok()?.as_millis()).ok()?;
        now.0.checked_sub(ago).map(Timestamp)
    };
    let found = text.parse::<jiff::Timestamp>().ok().or_else(day).and_then(at).or_else(ago);
    found.ok_or_else(|| {
        format!(
            "{:?} is no point in time: write 2026-11-24T15:00:00Z, 2026-11-24, or how long ago: 90m",
            cut(text)
        )
    })
}

/// Prints a duration the way [`duration`] reads it: `10m`, `1h30m`, `1.5s`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_millis() != 0 {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, 0, 0) => format!("{h}h"),
        (h, m, 0) => format!("{h}h{m}m"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

/// Reads `key=value`.
///
/// # Errors
/// Returns a sentence where there is no `=` or no key.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{:?} is not of the form key=value", cut(text))),
    }
}

/// One change of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LabelChange {
    /// `key=value`.
    Set(String, String),
    /// `key-`.
    Remove(String),
}

/// Reads `key=value`, which sets a label, or `key-`, which takes it away.
///
/// # Errors
/// Returns a sentence where it is neither.
pub(crate) fn label_change(text: &str) -> Result<LabelChange, String> {
    if text.contains('=') {
        return pair(text).map(|(key, value)| LabelChange::Set(key, value));
    }
    match text.strip_suffix('-') {
        Some(key) if !key.is_empty() => Ok(LabelChange::Remove(key.to_owned())),
        Some(_) | None => Err(format!(
            "{:?} is neither key=value, which sets a label, nor key-, which takes it away",
            cut(text)
        )),
    }
}

/// Reads `name` or `name=command`.
///
/// # Errors
/// Returns why the name is none, or that the command is empty.
pub(crate) fn session(text: &str) -> Result<SessionSpec, String> {
    let (name, command) = match text.split_once('=') {
        Some((name, command)) => (name, Some(command.trim())),
        None => (text, None),
    };
    if command.is_some_and(str::is_empty) {
        return Err("the command after = is empty; leave = out for a shell".to_owned());
    }
    let name: SessionName = name.parse().map_err(|error| format!("{error}"))?;
    Ok(SessionSpec { name, command: command.map(str::to_owned) })
}

/// Turns repeated `key=value` into labels.
///
/// # Errors
/// Returns the first key that was given twice.
pub(crate) fn labels(flag: &str, pairs: &[(String, String)]) -> Result<Labels, String> {
    let mut labels = Labels::new();
    for (key, value) in pairs {
        if labels.insert(key.clone(), value.clone()).is_some() {
            return Err(format!("{flag} {:?} was given twice", cut(key)));
        }
    }
    Ok(labels)
}

/// Long values are named by their beginning.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_set_with_a_value_and_taken_away_with_a_dash() {
        let set = |key: &str, value: &str| Ok(LabelChange::Set(key.to_owned(), value.to_owned()));
        assert_eq!(label_change("team=web"), set("team", "web"));
        assert_eq!(label_change("tier-=a=b-"), set("tier-", "a=b-"));
        assert_eq!(label_change("team="), set("team", ""));
        assert_eq!(label_change("my-team-"), Ok(LabelChange::Remove("my-team".to_owned())));
        for odd in ["", "-", "team", "=web"] {
            assert!(label_change(odd).is_err(), "{odd:?} passed");
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("7", 7000),
            ("2m5s", 125_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for odd in ["", "0", "0s", "m", "-5s", "5d", "1.5m", "99999999999999999999s", "9999999h"] {
            assert!(duration(odd).is_err(), "{odd:?} passed");
        }
    }

    #[test]
    fn points_in_time_read_as_people_write_them() {
        let now = Timestamp(1_767_323_045_000);
        for (text, at) in [
            ("2026-01-02T03:04:05Z", 1_767_323_045_000),
            ("2026-01-02T04:04:05.5+01:00", 1_767_323_045_500),
            ("2026-01-02", 1_767_312_000_000),
            ("90m", 1_767_323_045_000 - 5_400_000),
        ] {
            assert_eq!(moment(text, now), Ok(Timestamp(at)), "{text}");
        }
        for odd in ["", "yesterday", "2026-13-01", "1900-01-01", "2026-01-02T03:04:05", "-5m"] {
            assert!(moment(odd, now).is_err(), "{odd:?} passed");
        }
    }

    #[test]
    fn durations_print_as_they_read() {
        for text in ["90s", "10m", "1h30m", "1h1s", "2h"] {
            let read = duration(text).expect("a duration");
            assert_eq!(duration(&show_duration(read)), Ok(read));
        }
        assert_eq!(show_duration(Duration::from_secs(600)), "10m");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1.5s");
    }

    #[test]
    fn pairs_and_sessions() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err());
        assert!(pair("=b").is_err());
        let spec = session("main=claude --model x").expect("a session");
        assert_eq!(spec.command.as_deref(), Some("claude --model x"));
        assert_eq!(session("main").expect("a session").command, None);
        assert!(session("main=").is_err());
        assert!(session("Main").is_err());
        let twice = [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        assert!(labels("--label", &twice).is_err());
    }
}
