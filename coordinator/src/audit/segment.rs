//! Segment files: their names, their order, and what of one can be believed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use warren_model::{AuditHead, AuditRecord, audit::BrokenChain, verify_chain};

use super::{AuditError, row};
use crate::store::StoreError;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// The name of one segment, and the number of the record it begins with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

/// What was read of one segment.
pub(super) struct Segment {
    /// The record it begins after.
    pub(super) after: AuditHead,
    /// The records up to the first line that is none; they form a chain.
    pub(super) records: Vec<AuditRecord>,
    /// The end of that chain.
    pub(super) end: AuditHead,
    /// Bytes up to there.
    pub(super) good_bytes: u64,
    /// What follows there: none, or what is wrong with it.
    pub(super) bad: Option<Fault>,
}

/// A line that is no record, or not the one that belongs there.
#[derive(Debug)]
pub(super) struct Fault {
    /// Which one, from 1.
    pub(super) line: usize,
    /// Why it cannot be read, or does not follow.
    pub(super) reason: String,
    /// Set where it can be read.
    pub(super) broken: Option<BrokenChain>,
    /// It has no line feed: what a crash or a write under way leaves.
    pub(super) torn: bool,
}

/// Returns the file of the segment that begins with record `first`.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{first:020}{SUFFIX}"))
}

/// Returns the segments in `folder`, oldest first.
pub(super) fn list(folder: &Path) -> Result<Vec<SegmentName>, AuditError> {
    let listing = |e| AuditError::Store(StoreError::io("listing", folder, e));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
        if let Some(first) = number.and_then(|number| number.parse().ok()) {
            names.push(SegmentName { first, path: entry.path() });
        }
    }
    names.sort();
    Ok(names)
}

/// Reads one segment and checks its chain. A line that cannot be read ends it; a record that can
/// be read but does not follow is an error.
pub(super) fn load(path: &Path) -> Result<Segment, AuditError> {
    let segment = look(path)?;
    match &segment.bad {
        Some(Fault { broken: Some(broken), .. }) => {
            Err(AuditError::Broken { path: path.to_owned(), broken: broken.clone() })
        }
        Some(_) | None => Ok(segment),
    }
}

/// Reads one segment as far as its chain holds. Only a damaged first line is an error.
pub(super) fn look(path: &Path) -> Result<Segment, AuditError> {
    let content =
        fs::read(path).map_err(|e| AuditError::Store(StoreError::io("reading", path, e)))?;
    let mut lines = content.split_inclusive(|byte| *byte == b'\n').enumerate();
    let damaged =
        |line: usize, reason: String| AuditError::Damaged { path: path.to_owned(), line, reason };
    // The header was renamed into place whole: a bad one is damage, not a torn write.
    let first = lines.next().map_or(&[][..], |(_, line)| line);
    let after = row::read_header(first).map_err(|reason| damaged(1, reason))?;
    let mut segment = Segment {
        after,
        records: Vec::new(),
        end: after,
        good_bytes: first.len() as u64,
        bad: None,
    };
    for (number, line) in lines {
        match follow(segment.end, line) {
            Ok(record) => {
                segment.end = AuditHead { sequence: record.sequence, hash: record.hash };
                segment.good_bytes += line.len() as u64;
                segment.records.push(record);
            }
            Err((reason, broken)) => {
                let torn = !line.ends_with(b"\n");
                segment.bad = Some(Fault { line: number + 1, reason, broken, torn });
                break;
            }
        }
    }
    Ok(segment)
}

/// Reads the record of a line, which must follow the one that ends at `end`.
fn follow(end: AuditHead, line: &[u8]) -> Result<AuditRecord, (String, Option<BrokenChain>)> {
    let unreadable = |reason| (reason, None);
    let whole = line.strip_suffix(b"\n");
    let whole = whole.ok_or_else(|| unreadable("the line is not finished".to_owned()))?;
    let record = row::read(whole).map_err(unreadable)?;
    match verify_chain(end, [&record]) {
        Ok(_) => Ok(record),
        Err(broken) => Err((broken.to_string(), Some(broken))),
    }
}

/// Cuts a segment to its good part, durably.
pub(super) fn cut(path: &Path, good_bytes: u64) -> Result<(), AuditError> {
    let cut = || -> io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(path)?;
        file.set_len(good_bytes)?;
        file.sync_all()
    };
    cut().map_err(|e| AuditError::Store(StoreError::io("cutting the torn end of", path, e)))
}
