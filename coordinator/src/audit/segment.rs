//! Segment files: their names, their order, and what of one can be believed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use warren_model::{AuditHead, AuditRecord, verify_chain};

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
    /// What follows there: none, or the line number and what is wrong with it.
    pub(super) bad: Option<(usize, String)>,
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
        let record = match line.strip_suffix(b"\n") {
            Some(whole) => row::read(whole),
            None => Err("the line is not finished".to_owned()),
        };
        match record {
            Ok(record) => {
                segment.end = verify_chain(segment.end, [&record])
                    .map_err(|broken| AuditError::Broken { path: path.to_owned(), broken })?;
                segment.good_bytes += line.len() as u64;
                segment.records.push(record);
            }
            Err(reason) => {
                segment.bad = Some((number + 1, reason));
                break;
            }
        }
    }
    Ok(segment)
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
