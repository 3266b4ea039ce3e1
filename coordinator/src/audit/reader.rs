//! Reading audit records back: from a number on, or those that fit.

use std::path::Path;

use warren_common::Limits;
use warren_model::AuditRecord;

use super::{
    AuditError,
    segment::{self, Segment, SegmentName},
};

/// Records that are missing here because this replica took a checkpoint instead of the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first one missing.
    pub from: u64,
    /// The last one missing.
    pub upto: u64,
}

/// Which records to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Only records after this one.
    pub after: u64,
    /// Only records before this one.
    pub before: u64,
    /// The newest come last rather than first.
    pub ascending: bool,
    /// At most so many.
    pub limit: usize,
}

/// What one look gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order that was asked for.
    pub records: Vec<AuditRecord>,
    /// Missing where the look went, in the same order.
    pub gaps: Vec<Gap>,
    /// The last record that was looked at; none where there are no more.
    pub next: Option<u64>,
}

/// What becomes of a record that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It is what was looked for.
    Taken,
    /// It is not.
    Passed,
    /// It is not, nor is any that comes after it in this order.
    Over,
}

/// Returns up to `limit` records from number `from` on, in order; fewer where there are no more.
/// Blocks. A record that is being written is left out.
pub fn read(folder: &Path, from: u64, limit: usize) -> Result<Vec<AuditRecord>, AuditError> {
    let names = segment::list(folder)?;
    let start = names.partition_point(|name| name.first <= from).saturating_sub(1);
    let mut found = Vec::new();
    for name in &names[start..] {
        let records = segment::load(&name.path)?.records;
        found.extend(records.into_iter().filter(|record| record.sequence >= from));
        if found.len() >= limit {
            found.truncate(limit);
            break;
        }
    }
    Ok(found)
}

/// Looks for records that fit, through at most [`Limits::AUDIT_SCAN_SEGMENTS`] segments. Blocks.
///
/// # Errors
/// The disk fails, or a segment on the way is damaged or was changed.
pub fn search(
    folder: &Path,
    search: Search,
    mut fit: impl FnMut(&AuditRecord) -> Fit,
) -> Result<Found, AuditError> {
    let names = segment::list(folder)?;
    let mut look = Look { search, at: start(search), found: Found::default() };
    let (mut left, on_way) = (Limits::AUDIT_SCAN_SEGMENTS, on_the_way(&names, search));
    for name in on_way {
        if left == 0 {
            look.found.next = Some(look.at);
            return Ok(look.found);
        }
        left -= 1;
        let newest = names.last().is_some_and(|last| last.path == name.path);
        let segment = whole(name, newest, search)?;
        if !look.through(segment, &mut fit) {
            return Ok(look.found);
        }
    }
    match search.ascending {
        true => look.gap(look.at.saturating_add(1), search.before.saturating_sub(1)),
        false => look.gap(search.after.saturating_add(1), look.at.saturating_sub(1)),
    }
    Ok(look.found)
}

/// Returns where a look begins: beside the first record it may see.
const fn start(search: Search) -> u64 {
    if search.ascending { search.after } else { search.before }
}

/// Returns the segments that may hold what is looked for, in the order of the search.
fn on_the_way(names: &[SegmentName], search: Search) -> Vec<&SegmentName> {
    let wanted = search.after.saturating_add(1);
    let first = names.partition_point(|name| name.first <= wanted).saturating_sub(1);
    let end = names.partition_point(|name| name.first < search.before).max(first);
    let mut way: Vec<&SegmentName> = names[first..end].iter().collect();
    if !search.ascending {
        way.reverse();
    }
    way
}

/// Loads a segment; only what is being written at the end of the newest may be missing of it.
fn whole(name: &SegmentName, newest: bool, search: Search) -> Result<Segment, AuditError> {
    let segment = segment::load(&name.path)?;
    match &segment.bad {
        Some(bad)
            if !newest || !bad.torn || segment.end.sequence.saturating_add(1) < search.before =>
        {
            let (path, line, reason) = (name.path.clone(), bad.line, bad.reason.clone());
            Err(AuditError::Damaged { path, line, reason })
        }
        Some(_) | None => Ok(segment),
    }
}

/// A look under way.
struct Look {
    search: Search,
    /// The last record that was looked at, or beside the first.
    at: u64,
    found: Found,
}

impl Look {
    /// Goes through one segment; false where the look is over.
    fn through(&mut self, segment: Segment, fit: &mut impl FnMut(&AuditRecord) -> Fit) -> bool {
        let Search { after, before, ascending, limit } = self.search;
        let (first, last) = (segment.after.sequence, segment.end.sequence);
        match ascending {
            true => self.gap(self.at.saturating_add(1), first),
            false => self.gap(last.saturating_add(1), self.at.saturating_sub(1)),
        }
        // a page that ends before the first record here begins after the gap next time
        self.at = match ascending {
            true => self.at.max(first),
            false => self.at.min(last.saturating_add(1)),
        };
        let wanted = segment.records.into_iter();
        let wanted = wanted.filter(|one| one.sequence > after && one.sequence < before);
        let wanted: Box<dyn Iterator<Item = AuditRecord>> = match ascending {
            true => Box::new(wanted),
            false => Box::new(wanted.rev()),
        };
        for record in wanted {
            if self.found.records.len() == limit {
                self.found.next = Some(self.at);
                return false;
            }
            self.at = record.sequence;
            match fit(&record) {
                Fit::Taken => self.found.records.push(record),
                Fit::Passed => {}
                Fit::Over => return false,
            }
        }
        self.at = match ascending {
            true => self.at.max(last),
            false => self.at.min(first.saturating_add(1)),
        };
        true
    }

    /// Notes what is missing of the records asked for, both ends included.
    fn gap(&mut self, from: u64, upto: u64) {
        let Search { after, before, .. } = self.search;
        let from = from.max(after.saturating_add(1));
        let upto = upto.min(before.saturating_sub(1));
        if from <= upto && self.found.gaps.len() < Limits::AUDIT_GAPS {
            self.found.gaps.push(Gap { from, upto });
        }
    }
}
