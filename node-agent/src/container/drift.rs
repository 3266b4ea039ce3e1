//! Comparing what the engine made with what was planned.
//!
//! An engine translates: defaults, daemon settings, plugins and its own errors can all change what
//! was asked. So the container is read back before it may start, field by field, and anything
//! that differs is a [`Drift`] naming both sides. [`Inspected`] is plain text keyed by field: the
//! engine builds one from the plan (what it meant to ask) and one from the container (what there
//! is), and every field present in either is compared.

use std::{collections::BTreeMap, fmt};

/// One field of a container that is not as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The field in the engine's own words, such as `HostConfig.Memory`.
    pub field: String,
    /// What the plan asks.
    pub planned: String,
    /// What the container has.
    pub actual: String,
}

/// A container's settings as text, by field. Lists are sorted where order means nothing, and a
/// field that is empty, zero or off is left out: engines write those in several ways.
pub type Inspected = BTreeMap<String, String>;

impl Drift {
    /// Returns drifts as one line for people, each value cut to what differs.
    pub fn list(drifts: &[Self]) -> String {
        let lines: Vec<String> = drifts.iter().map(ToString::to_string).collect();
        lines.join("; ")
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actual = without(&self.actual, &self.planned);
        let planned = without(&self.planned, &self.actual);
        write!(f, "{} is {actual:?} instead of {planned:?}", self.field)
    }
}

/// Returns the lines of `text` that `other` has not, cut to 120 characters.
fn without(text: &str, other: &str) -> String {
    let lines = text.lines().filter(|line| !other.lines().any(|known| known == *line));
    lines.collect::<Vec<_>>().join(", ").chars().take(120).collect()
}

/// Returns every field that differs, in the order of field names; empty where nothing does.
/// A field that only one side has counts as different.
pub fn drift(planned: &Inspected, actual: &Inspected) -> Vec<Drift> {
    let mut drifts = Vec::new();
    let fields = planned.keys().chain(actual.keys().filter(|key| !planned.contains_key(*key)));
    for field in fields {
        let want = planned.get(field);
        let have = actual.get(field);
        if want != have {
            let text = |value: Option<&String>| value.cloned().unwrap_or_default();
            drifts.push(Drift { field: field.clone(), planned: text(want), actual: text(have) });
        }
    }
    drifts.sort_by(|a, b| a.field.cmp(&b.field));
    drifts
}

/// The fields that change while a container runs, and one that follows the memory cap it was made
/// with. Whether they are as ordered is a matter of resizing, not of drift.
const CAPS: [&str; 4] =
    ["HostConfig.Memory", "HostConfig.MemorySwap", "HostConfig.NanoCpus", "HostConfig.ShmSize"];

/// Returns the settings without the caps that may differ from an order for a while: for looking at
/// a container again while it runs.
pub fn apart_from_caps(mut facts: Inspected) -> Inspected {
    facts.retain(|field, _| !CAPS.contains(&field.as_str()));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(fields: &[(&str, &str)]) -> Inspected {
        fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_difference_is_named_once() {
        let planned = facts(&[("A", "1"), ("B", "2"), ("C", "3")]);
        assert_eq!(drift(&planned, &planned), []);
        let actual = facts(&[("A", "1"), ("B", "x"), ("D", "4")]);
        let drifts = drift(&planned, &actual);
        let fields: Vec<&str> = drifts.iter().map(|drift| drift.field.as_str()).collect();
        assert_eq!(fields, ["B", "C", "D"]);
        assert_eq!(drifts[2].to_string(), r#"D is "4" instead of """#);
    }

    #[test]
    fn caps_that_are_being_changed_are_no_drift() {
        let planned = facts(&[("HostConfig.Memory", "1"), ("HostConfig.CapDrop", "ALL")]);
        let actual = facts(&[("HostConfig.Memory", "2"), ("HostConfig.ShmSize", "7")]);
        let apart = drift(&apart_from_caps(planned), &apart_from_caps(actual));
        let fields: Vec<&str> = apart.iter().map(|drift| drift.field.as_str()).collect();
        assert_eq!(fields, ["HostConfig.CapDrop"]);
    }

    #[test]
    fn of_a_list_only_what_differs_is_told() {
        let (planned, actual) = (facts(&[("M", "a\nb")]), facts(&[("M", "a\nc\nb")]));
        assert_eq!(Drift::list(&drift(&planned, &actual)), r#"M is "c" instead of """#);
    }
}
