//! Checking a whole folder of audit records: every record, in order, against the head in the state.
//!
//! The first break ends it: what stands behind a break proves nothing. A stretch that the next
//! segment's first line states to be missing is a gap, not a break: a replica that took a
//! checkpoint has no records of before. What a removed file looks like is the same, so gaps are
//! always told.

use std::path::Path;

use warren_common::Limits;
use warren_model::AuditHead;

use super::{
    AuditError, Gap,
    segment::{self, Segment, SegmentName},
    writer::check_anchor,
};

/// What checking all records found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// The first record that is there; zero where none is.
    pub first: u64,
    /// How many records hold: all of them, or those before the break.
    pub records: u64,
    /// The end of the chain, or of the part that holds.
    pub head: AuditHead,
    /// What is missing, oldest first.
    pub gaps: Vec<Gap>,
    /// Files that were read.
    pub segments: usize,
    /// The first break.
    pub broken: Option<Break>,
}

/// Where a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The record, or the one that belongs where something else stands.
    pub sequence: u64,
    /// The file's name; none where the records end too soon.
    pub segment: Option<String>,
    /// Which of its lines, from 1; zero without a file.
    pub line: usize,
    /// What is wrong, for people.
    pub reason: String,
}

/// Checks every record of every segment: sealed, in order, none missing but for stated gaps, and
/// the one that the state knows as its newest the same. Blocks.
///
/// # Errors
/// The disk fails. What the files hold is never an error.
pub fn verify(folder: &Path, known: Option<AuditHead>) -> Result<Verified, AuditError> {
    verify_while(folder, known, || true)
}

/// Does so while somebody waits for it, which is looked at before each segment.
///
/// # Errors
/// The disk fails, or nobody waits any more.
pub fn verify_while(
    folder: &Path,
    known: Option<AuditHead>,
    waited_for: impl Fn() -> bool,
) -> Result<Verified, AuditError> {
    let mut verified = Verified::default();
    let names = segment::list(folder)?;
    let mut compared = false;
    for (at, name) in names.iter().enumerate() {
        if !waited_for() {
            return Err(AuditError::Failed("nobody waits for it any more".to_owned()));
        }
        verified.segments += 1;
        let segment = match segment::look(&name.path) {
            Ok(segment) => segment,
            Err(AuditError::Damaged { line, reason, .. }) => {
                verified.broken = Some(Break::at(name, (name.first, line), reason));
                return Ok(verified);
            }
            Err(error) => return Err(error),
        };
        let last = at + 1 == names.len();
        compared |= known.is_some_and(|known| hash_of(&segment, known.sequence).is_some());
        verified.broken = verified.take(name, &segment, (known, last));
        if verified.broken.is_some() {
            return Ok(verified);
        }
    }
    if let Some(known) = known
        && known.sequence > verified.head.sequence
    {
        let reason = format!("the records end here; the state knows {}", known.sequence);
        let sequence = verified.head.sequence.saturating_add(1);
        verified.broken = Some(Break { sequence, segment: None, line: 0, reason });
    } else if let Some(known) = known.filter(|known| known.sequence > 0 && !compared) {
        let reason = format!(
            "no file holds record {}, which the state knows: what is here cannot be held \
             against it (where a checkpoint has just been taken, it can in a moment)",
            known.sequence
        );
        let sequence = known.sequence;
        verified.broken = Some(Break { sequence, segment: None, line: 0, reason });
    }
    Ok(verified)
}

impl Verified {
    /// Takes over what one segment holds; returns its first break.
    fn take(
        &mut self,
        name: &SegmentName,
        segment: &Segment,
        (known, last): (Option<AuditHead>, bool),
    ) -> Option<Break> {
        let begin = segment.after.sequence.saturating_add(1);
        if let Err(error) = check_anchor(&name.path, Some(self.head), segment.after) {
            return Some(Break::at(name, (begin, 1), error.told()));
        }
        if segment.after.sequence > self.head.sequence && self.gaps.len() < Limits::AUDIT_GAPS {
            let from = self.head.sequence.saturating_add(1);
            self.gaps.push(Gap { from, upto: segment.after.sequence });
        }
        if let Some(known) = known
            && let Some((line, hash)) = hash_of(segment, known.sequence)
            && hash != known.hash
        {
            let reason = format!(
                "record {} is not the one that the state knows: this record or one before it was \
                 changed, and the chain sealed again",
                known.sequence
            );
            return Some(Break::at(name, (known.sequence, line), reason));
        }
        self.records += segment.records.len() as u64;
        if let Some(first) = segment.records.first().filter(|_| self.first == 0) {
            self.first = first.sequence;
        }
        self.head = segment.end;
        let bad = segment.bad.as_ref()?;
        let needed = known.is_some_and(|known| known.sequence > segment.end.sequence);
        if last && bad.torn && !needed {
            return None;
        }
        let sequence = segment.end.sequence.saturating_add(1);
        Some(Break::at(name, (sequence, bad.line), bad.reason.clone()))
    }
}

/// Says what is wrong with the newest record that the state knows, as it stands on disk; none where
/// it stands there, or where the newest file begins after it with its hash, as after a checkpoint.
/// Blocks.
///
/// # Errors
/// The disk fails.
pub fn newest(folder: &Path, known: AuditHead) -> Result<Option<String>, AuditError> {
    let AuditHead { sequence, hash } = known;
    if sequence == 0 {
        return Ok(None);
    }
    let names = segment::list(folder)?;
    let with = names.partition_point(|name| name.first <= sequence.saturating_add(1));
    let Some(name) = with.checked_sub(1).and_then(|at| names.get(at)) else {
        return Ok(Some(format!("record {sequence} is not on disk: no file begins before it")));
    };
    let segment = match segment::look(&name.path) {
        Ok(segment) => segment,
        Err(error @ AuditError::Damaged { .. }) => return Ok(Some(error.to_string())),
        Err(error) => return Err(error),
    };
    Ok(match (hash_of(&segment, sequence), &segment.bad) {
        (Some((_, found)), _) if found == hash => None,
        (Some(_), _) => {
            Some(format!("record {sequence} on disk is not the one that the state knows"))
        }
        (None, Some(bad)) => Some(format!(
            "record {sequence} is not on disk: line {} of the newest file is damaged ({})",
            bad.line, bad.reason
        )),
        (None, None) => Some(format!(
            "record {sequence} is not on disk: the newest file ends with record {}",
            segment.end.sequence
        )),
    })
}

/// Returns the hash that a segment has for a record, and in which line.
fn hash_of(segment: &Segment, sequence: u64) -> Option<(usize, [u8; 32])> {
    if segment.after.sequence == sequence {
        return Some((1, segment.after.hash));
    }
    let at = sequence.checked_sub(segment.after.sequence)?.checked_sub(1)?;
    let at = usize::try_from(at).ok()?;
    segment.records.get(at).map(|record| (at.saturating_add(2), record.hash))
}

impl Break {
    fn at(name: &SegmentName, (sequence, line): (u64, usize), reason: String) -> Self {
        let file = name.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { sequence, segment: Some(file), line, reason }
    }
}
